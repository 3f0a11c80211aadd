//! Who is at the other end of a connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The other end of a connection.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    host: String,
}

impl Peer {
    /// The peer at an address.
    #[must_use]
    pub fn at(address: SocketAddr) -> Peer {
        let host = host(address.ip());
        Peer { address, host }
    }

    /// Its address as Kafka shows it. Made once: many a request is about to note it.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(formatter)
    }
}

/// An address as Kafka shows it: Java writes all groups of an IPv6 address.
fn host(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => format!("/{ip}"),
        IpAddr::V6(ip) => {
            let groups = ip.segments().map(|group| format!("{group:x}"));
            format!("/{}", groups.join(":"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn addresses_are_shown_as_java_shows_them() {
        for (ip, shown) in [
            ("127.0.0.1", "/127.0.0.1"),
            ("::ffff:10.0.0.7", "/10.0.0.7"),
            ("::1", "/0:0:0:0:0:0:0:1"),
        ] {
            assert_eq!(host(ip.parse().expect("an address")), shown);
        }
    }
}
