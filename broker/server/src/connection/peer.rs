//! Who is at the other end of a connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

/// For so many requests a peer is taken to send on: it may by chance have had its answer before the
/// next one.
const SENDS_ON_REQUESTS: u32 = 16;

/// The other end of a connection.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    host: String,
    /// Requests for which it is still taken to send on.
    sends_on: AtomicU32,
}

impl Peer {
    /// The peer at an address.
    #[must_use]
    pub fn at(address: SocketAddr) -> Peer {
        let host = host(address.ip());
        Peer {
            address,
            host,
            sends_on: AtomicU32::new(0),
        }
    }

    /// Notes a request that came, and whether it did while another was not answered yet.
    pub fn note_request(&self, others_wait: bool) {
        let left = match others_wait {
            true => SENDS_ON_REQUESTS,
            false => self.sends_on.load(Ordering::Relaxed).saturating_sub(1),
        };
        self.sends_on.store(left, Ordering::Relaxed);
    }

    /// Whether the peer sends requests while it waits for answers: it is after throughput, and a little
    /// later is early enough for it. One that has nothing on its way but what it waits for does not.
    #[must_use]
    pub fn sends_on(&self) -> bool {
        self.sends_on.load(Ordering::Relaxed) > 0
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
    use super::*;

    #[test]
    fn who_waits_for_each_answer_does_not_send_on() {
        let peer = Peer::at(SocketAddr::from(([127, 0, 0, 1], 9092)));
        for _ in 0..3 {
            peer.note_request(false);
            assert!(!peer.sends_on());
        }
    }

    #[test]
    fn who_has_sent_on_is_taken_to_for_a_while() {
        let peer = Peer::at(SocketAddr::from(([127, 0, 0, 1], 9092)));
        peer.note_request(true);
        for _ in 1..SENDS_ON_REQUESTS {
            peer.note_request(false);
            assert!(peer.sends_on());
        }
        peer.note_request(false);
        assert!(!peer.sends_on());
    }

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
