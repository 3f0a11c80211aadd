//! Who is at the other end of a connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

/// The other end of a connection.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    host: String,
    only_waits: AtomicBool,
}

impl Peer {
    /// The peer at an address.
    #[must_use]
    pub fn at(address: SocketAddr) -> Peer {
        let host = host(address.ip());
        Peer {
            address,
            host,
            only_waits: AtomicBool::new(true),
        }
    }

    /// Notes whether the peer is expected to send nothing more before it is answered.
    pub fn set_only_waits(&self, only_waits: bool) {
        self.only_waits.store(only_waits, Ordering::Relaxed);
    }

    /// Whether the peer is expected to send nothing more before it is answered: whatever keeps it from
    /// its answers keeps it from everything.
    #[must_use]
    pub fn only_waits(&self) -> bool {
        self.only_waits.load(Ordering::Relaxed)
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
