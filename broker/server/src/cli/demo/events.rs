//! The clickstream of a shop that does not exist. The same partition gives the same events.

use std::fmt::Write;

use esker_protocol::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What one partition's visitors do, in order.
pub(super) struct Events {
    random: StdRng,
    partition: u64,
    partitions: u64,
    start: Timestamp,
    step_ms: i64,
    count: i64,
}

/// One event: a record to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) timestamp: Timestamp,
    /// The user, so that all events of one user lie in one partition, in order.
    pub(super) key: String,
    /// JSON.
    pub(super) value: String,
}

/// Visitors of all partitions together.
const USERS: u64 = 20_000;

/// What visitors do, and how often of a hundred times.
const ACTIONS: [(&str, u64); 5] = [
    ("view", 68),
    ("search", 14),
    ("add_to_cart", 10),
    ("checkout", 5),
    ("purchase", 3),
];
const SECTIONS: [&str; 8] = [
    "maps", "boots", "tents", "ropes", "stoves", "lamps", "packs", "books",
];
const REFERRERS: [&str; 5] = [
    "https://search.example/",
    "https://news.example/outdoors",
    "https://mail.example/campaign/autumn",
    "https://social.example/post/88213",
    "direct",
];
const COUNTRIES: [&str; 8] = ["DE", "FR", "US", "BR", "IN", "JP", "SE", "ZA"];
const DEVICES: [&str; 4] = ["phone", "laptop", "tablet", "desktop"];
const BROWSERS: [&str; 4] = ["Firefox 142.0", "Chrome 139.0", "Safari 18.6", "Edge 139.0"];

impl Events {
    /// The events of one of so many partitions, the first at `start`, the next `step_ms` later.
    pub(super) fn new(partition: u64, partitions: u64, start: Timestamp, step_ms: i64) -> Events {
        let random = StdRng::seed_from_u64(partition);
        Events {
            random,
            partition,
            partitions,
            start,
            step_ms,
            count: 0,
        }
    }

    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.random.next_u64() % bound.max(1)
    }

    fn one_of(&mut self, choices: &'static [&'static str]) -> &'static str {
        let index = self.below(choices.len() as u64);
        usize::try_from(index)
            .ok()
            .and_then(|index| choices.get(index))
            .copied()
            .unwrap_or_default()
    }

    fn action(&mut self) -> &'static str {
        let mut left = self.below(100);
        for (action, weight) in ACTIONS {
            if left < weight {
                return action;
            }
            left -= weight;
        }
        "view"
    }

    /// A user of this partition; a few come often, most come seldom.
    fn user(&mut self) -> u64 {
        let share = USERS / self.partitions.max(1);
        let (one, other) = (self.below(share), self.below(share));
        one.min(other) * self.partitions + self.partition
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let timestamp = Timestamp(self.start.0.saturating_add(self.count * self.step_ms));
        self.count += 1;
        let user = self.user();
        let action = self.action();
        let section = self.one_of(&SECTIONS);
        // The session and the device are the user's own for a while, as they are in life.
        let session = (user << 20) ^ (u64::try_from(self.count).unwrap_or(0) / 4096);
        let mut value = String::with_capacity(256);
        let written = write!(
            value,
            r#"{{"event":"{action}","user":"user-{user:05}","session":"{session:012x}","page":"/{section}/{item}","referrer":"{referrer}","country":"{country}","device":"{device}","browser":"{browser}","load_ms":{load_ms}"#,
            item = self.below(900) + 100,
            referrer = self.one_of(&REFERRERS),
            country = COUNTRIES[(user % 8) as usize],
            device = DEVICES[(user / 8 % 4) as usize],
            browser = BROWSERS[(user / 32 % 4) as usize],
            load_ms = self.below(900) + 20,
        );
        let written = match action {
            "purchase" => {
                let cents = self.below(20_000) + 500;
                let amount = (cents / 100, cents % 100);
                written.and(write!(
                    value,
                    r#","amount":"{}.{:02}","currency":"EUR"}}"#,
                    amount.0, amount.1
                ))
            }
            _ => written.and(write!(value, "}}")),
        };
        written.expect("writing to a string cannot fail");
        Some(Event {
            timestamp,
            key: format!("user-{user:05}"),
            value,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn events_are_json_of_their_partitions_own_users_in_the_order_of_time() {
        let mut last = Timestamp(0);
        for event in Events::new(1, 4, Timestamp(1000), 3).take(500) {
            let value: Value = serde_json::from_str(&event.value).unwrap();
            assert_eq!(value["user"], Value::String(event.key.clone()));
            let user: u64 = event.key.trim_start_matches("user-").parse().unwrap();
            assert_eq!(user % 4, 1);
            assert!(event.timestamp > last);
            last = event.timestamp;
        }
    }

    #[test]
    fn the_same_partition_gives_the_same_events() {
        let events = |partition| {
            Events::new(partition, 4, Timestamp(0), 1)
                .take(50)
                .collect::<Vec<_>>()
        };
        assert_eq!(events(2), events(2));
        assert_ne!(events(2), events(3));
    }
}
