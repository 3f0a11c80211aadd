//! The names of all keys, in one place.
//!
//! Every key is `<prefix>/<what>...`; `design.md` section 3 has the table of what lives where. A key
//! that this version does not know parses to `None`: it belongs to a later one and is left alone.

use std::fmt;

use esker_protocol::{BrokerId, TopicId};

/// The name under which [`ConfigKind::Broker`] holds what all brokers have.
pub const ALL_BROKERS: &str = "default";

/// The prefix that a cluster has where none is configured.
pub const PREFIX_DEFAULT: &str = "/esker";
/// The longest prefix: keys stay readable, and transactions within their bytes.
pub const PREFIX_BYTES_MAX: usize = 256;

/// The key names of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The prefix with its closing slash.
    root: String,
}

/// The prefix can be no prefix of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the metadata prefix {0:?} must begin with / and have 2 to {PREFIX_BYTES_MAX} printable bytes"
)]
pub struct InvalidPrefix(String);

/// A key of ours, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// `cluster`
    Cluster,
    /// `controller`
    Controller,
    /// `brokers/<id>`
    Broker(BrokerId),
    /// `broker-info/<id>`
    BrokerInfo(BrokerId),
    /// `fence/<id>`
    Fence(BrokerId),
    /// `drain/<id>`
    Drain(BrokerId),
    /// `topics/<name>`
    Topic(String),
    /// `topic-names/<normalised>`
    TopicName(String),
    /// `deleted/<topic-id>`
    Deleted(TopicId),
    /// `partitions/<topic-id>/<n>`
    Partition(TopicId, i32),
    /// `tier/<topic-id>/<n>`
    Tier(TopicId, i32),
    /// `config/<kind>/<name>`
    Config(ConfigKind, String),
    /// `producer-ids`
    ProducerIds,
}

/// Whose configuration a `config/` key holds. Topics keep theirs in the topic's own value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigKind {
    /// All brokers (`default`) or the broker with this id.
    Broker,
    /// A client metrics subscription.
    ClientMetrics,
    /// A group.
    Group,
}

impl ConfigKind {
    const ALL: [ConfigKind; 3] = [
        ConfigKind::Broker,
        ConfigKind::ClientMetrics,
        ConfigKind::Group,
    ];

    fn name(self) -> &'static str {
        match self {
            ConfigKind::Broker => "brokers",
            ConfigKind::ClientMetrics => "client-metrics",
            ConfigKind::Group => "groups",
        }
    }
}

impl Default for Keys {
    fn default() -> Keys {
        Keys {
            root: format!("{PREFIX_DEFAULT}/"),
        }
    }
}

impl Keys {
    /// The names under a configured prefix; slashes at its end do not matter.
    ///
    /// # Errors
    ///
    /// The prefix does not begin with a slash, is empty or too long, or has unprintable characters.
    pub fn new(prefix: &str) -> Result<Keys, InvalidPrefix> {
        let trimmed = prefix.trim_end_matches('/');
        let fits = (2..=PREFIX_BYTES_MAX).contains(&trimmed.len());
        if !fits || !trimmed.starts_with('/') || !trimmed.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(InvalidPrefix(
                prefix.chars().take(PREFIX_BYTES_MAX).collect(),
            ));
        }
        Ok(Keys {
            root: format!("{trimmed}/"),
        })
    }

    /// What all keys of the cluster begin with: the prefix to list and to watch.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The full name of a key.
    #[must_use]
    pub fn name(&self, key: &Key) -> String {
        format!("{}{key}", self.root)
    }

    /// `cluster`: who this cluster is.
    #[must_use]
    pub fn cluster(&self) -> String {
        self.name(&Key::Cluster)
    }

    /// `controller`: the broker that reacts for all.
    #[must_use]
    pub fn controller(&self) -> String {
        self.name(&Key::Controller)
    }

    /// `brokers/<id>`: the broker's registration.
    #[must_use]
    pub fn broker(&self, broker: BrokerId) -> String {
        self.name(&Key::Broker(broker))
    }

    /// `broker-info/<id>`: what outlives the broker's lease.
    #[must_use]
    pub fn broker_info(&self, broker: BrokerId) -> String {
        self.name(&Key::BrokerInfo(broker))
    }

    /// `fence/<id>`: what the controller decided about the broker.
    #[must_use]
    pub fn fence(&self, broker: BrokerId) -> String {
        self.name(&Key::Fence(broker))
    }

    /// `drain/<id>`: what the operator wants of the broker.
    #[must_use]
    pub fn drain(&self, broker: BrokerId) -> String {
        self.name(&Key::Drain(broker))
    }

    /// `topics/<name>`
    #[must_use]
    pub fn topic(&self, name: &str) -> String {
        format!("{}topics/{name}", self.root)
    }

    /// `topic-names/<normalised>`: keeps names apart that differ in `.` and `_` only.
    #[must_use]
    pub fn topic_name(&self, name: &str) -> String {
        format!("{}topic-names/{}", self.root, normalised(name))
    }

    /// `deleted/<topic-id>`: what is left to clean of a deleted topic.
    #[must_use]
    pub fn deleted(&self, topic: TopicId) -> String {
        self.name(&Key::Deleted(topic))
    }

    /// `partitions/<topic-id>/<n>`
    #[must_use]
    pub fn partition(&self, topic: TopicId, partition: i32) -> String {
        self.name(&Key::Partition(topic, partition))
    }

    /// `tier/<topic-id>/<n>`
    #[must_use]
    pub fn tier(&self, topic: TopicId, partition: i32) -> String {
        self.name(&Key::Tier(topic, partition))
    }

    /// `config/<kind>/<name>`
    #[must_use]
    pub fn config(&self, kind: ConfigKind, name: &str) -> String {
        format!("{}config/{}/{name}", self.root, kind.name())
    }

    /// `producer-ids`: the next block of producer ids.
    #[must_use]
    pub fn producer_ids(&self) -> String {
        self.name(&Key::ProducerIds)
    }

    /// Takes a full name apart; `None` for a key of another cluster or a later version.
    #[must_use]
    pub fn parse(&self, name: &str) -> Option<Key> {
        let rest = name.strip_prefix(&self.root)?;
        let Some((kind, rest)) = rest.split_once('/') else {
            return match rest {
                "cluster" => Some(Key::Cluster),
                "controller" => Some(Key::Controller),
                "producer-ids" => Some(Key::ProducerIds),
                _ => None,
            };
        };
        match kind {
            "brokers" => Some(Key::Broker(BrokerId(number(rest)?))),
            "broker-info" => Some(Key::BrokerInfo(BrokerId(number(rest)?))),
            "fence" => Some(Key::Fence(BrokerId(number(rest)?))),
            "drain" => Some(Key::Drain(BrokerId(number(rest)?))),
            "topics" => Some(Key::Topic(rest.to_owned())),
            "topic-names" => Some(Key::TopicName(rest.to_owned())),
            "deleted" => Some(Key::Deleted(topic_id(rest)?)),
            "partitions" | "tier" => {
                let (topic, partition) = rest.split_once('/')?;
                let (topic, partition) = (topic_id(topic)?, number(partition)?);
                Some(match kind {
                    "tier" => Key::Tier(topic, partition),
                    _ => Key::Partition(topic, partition),
                })
            }
            "config" => {
                let (kind, name) = rest.split_once('/')?;
                let kind = ConfigKind::ALL
                    .into_iter()
                    .find(|known| known.name() == kind)?;
                Some(Key::Config(kind, name.to_owned()))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Cluster => f.write_str("cluster"),
            Key::Controller => f.write_str("controller"),
            Key::Broker(broker) => write!(f, "brokers/{broker}"),
            Key::BrokerInfo(broker) => write!(f, "broker-info/{broker}"),
            Key::Fence(broker) => write!(f, "fence/{broker}"),
            Key::Drain(broker) => write!(f, "drain/{broker}"),
            Key::Topic(name) => write!(f, "topics/{name}"),
            Key::TopicName(normalised) => write!(f, "topic-names/{normalised}"),
            Key::Deleted(topic) => write!(f, "deleted/{}", topic.to_hex()),
            Key::Partition(topic, partition) => {
                write!(f, "partitions/{}/{partition}", topic.to_hex())
            }
            Key::Tier(topic, partition) => write!(f, "tier/{}/{partition}", topic.to_hex()),
            Key::Config(kind, name) => write!(f, "config/{}/{name}", kind.name()),
            Key::ProducerIds => f.write_str("producer-ids"),
        }
    }
}

/// The name with which a topic's name collides: metrics of Kafka turn `.` into `_`.
#[must_use]
pub fn normalised(topic: &str) -> String {
    topic.replace('.', "_")
}

/// A number exactly as [`Keys`] writes it, so that one thing never has two keys.
fn number(text: &str) -> Option<i32> {
    let number: i32 = text.parse().ok()?;
    (number >= 0 && number.to_string() == text).then_some(number)
}

fn topic_id(text: &str) -> Option<TopicId> {
    let id = TopicId::from_hex(text)?;
    (id.to_hex() == text).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_key() -> Vec<Key> {
        let topic = TopicId([0xab; 16]);
        vec![
            Key::Cluster,
            Key::Controller,
            Key::Broker(BrokerId(0)),
            Key::BrokerInfo(BrokerId(1)),
            Key::Fence(BrokerId(2)),
            Key::Drain(BrokerId(i32::MAX)),
            Key::Topic("orders.v1".into()),
            Key::TopicName("orders_v1".into()),
            Key::Deleted(topic),
            Key::Partition(topic, 0),
            Key::Tier(topic, 99_999),
            Key::Config(ConfigKind::Broker, "default".into()),
            Key::Config(ConfigKind::Group, "a/b".into()),
            Key::ProducerIds,
        ]
    }

    #[test]
    fn every_key_reads_back() {
        let keys = Keys::new("/production/esker/").expect("valid");
        for key in every_key() {
            let name = keys.name(&key);
            assert!(name.starts_with("/production/esker/"), "{name}");
            assert_eq!(keys.parse(&name), Some(key), "{name}");
        }
    }

    #[test]
    fn the_named_functions_agree_with_the_table() {
        let keys = Keys::default();
        let topic = TopicId([0xab; 16]);
        assert_eq!(keys.topic("a.b"), "/esker/topics/a.b");
        assert_eq!(keys.topic_name("a.b"), "/esker/topic-names/a_b");
        assert_eq!(
            keys.partition(topic, 7),
            "/esker/partitions/abababababababababababababababab/7"
        );
        assert_eq!(
            keys.config(ConfigKind::Broker, "1"),
            "/esker/config/brokers/1"
        );
        assert_eq!(
            keys.parse(&keys.topic("a.b")),
            Some(Key::Topic("a.b".into()))
        );
    }

    #[test]
    fn names_that_we_would_not_write_are_not_ours() {
        let keys = Keys::default();
        for name in [
            "/esker",
            "/esker/",
            "/eskers/cluster",
            "/esker/cluster/1",
            "/esker/brokers",
            "/esker/brokers/01",
            "/esker/brokers/-1",
            "/esker/brokers/+1",
            "/esker/brokers/2147483648",
            "/esker/partitions/ABABABABABABABABABABABABABABABAB/1",
            "/esker/partitions/abababababababababababababababab",
            "/esker/tier/ab/1",
            "/esker/config/topics/x",
            "/esker/later/thing",
        ] {
            assert_eq!(keys.parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_prefix_is_checked() {
        assert_eq!(Keys::new("/esker").expect("valid"), Keys::default());
        assert_eq!(Keys::new("/esker//").expect("valid"), Keys::default());
        for prefix in [
            "",
            "/",
            "esker",
            "/a b",
            "/é",
            &format!("/{}", "x".repeat(300)),
        ] {
            assert!(Keys::new(prefix).is_err(), "{prefix}");
        }
    }
}
