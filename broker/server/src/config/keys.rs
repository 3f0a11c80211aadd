//! Which keys exist, and which of them take effect.

use std::collections::BTreeMap;

use super::kafka_keys::{BROKER_KEYS, KafkaKey};
use super::{ConfigError, Kind, topic};

/// A key of ours: Kafka has none like it.
#[derive(Debug, Clone, Copy)]
pub struct OwnKey {
    /// The key.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// Its default.
    pub default: Option<&'static str>,
    /// What it does, for `docs/config.md`.
    pub text: &'static str,
}

/// Our keys, sorted by name.
#[rustfmt::skip]
pub const OWN_KEYS: &[OwnKey] = &[
    OwnKey { name: "cluster.id", kind: Kind::String, default: None, text: "The 22-character id of the cluster. A data directory, metadata store or bucket of another cluster is refused; without it the id that is there is taken, or a new one made." },
    OwnKey { name: "http.listener", kind: Kind::String, default: None, text: "HOST:PORT of `/metrics`, `/healthz` and `/readyz`; `none` or unset for no such listener." },
    OwnKey { name: "log.dir.reserve.bytes", kind: Kind::Long, default: Some("268435456"), text: "Space that each log directory keeps free. Near it, tiered local copies go, oldest first; then produce is refused with a retriable error." },
    OwnKey { name: "log.durability", kind: Kind::String, default: Some("durable"), text: "`durable`: a record is acknowledged with acks=all once it is synced to disk. `relaxed`: once it is written to the page cache, so that a crash of the machine (not of the process) may lose acknowledged records." },
    OwnKey { name: "manifest.retention.ms", kind: Kind::Long, default: Some("604800000"), text: "How long superseded manifests, and the objects that only they name, are kept." },
    OwnKey { name: "metadata.store", kind: Kind::String, default: Some("embedded:"), text: "Where metadata lives: `embedded:` for a database in the first log directory, `embedded:/path` for one elsewhere." },
    OwnKey { name: "object.store.s3.access.key", kind: Kind::Password, default: None, text: "Access key of an s3 store; `AWS_ACCESS_KEY_ID` of the environment where unset." },
    OwnKey { name: "object.store.s3.endpoint", kind: Kind::String, default: None, text: "URL of an S3-compatible store; AWS where unset. `http://` is allowed." },
    OwnKey { name: "object.store.s3.region", kind: Kind::String, default: None, text: "Region of the bucket; `AWS_REGION` of the environment, or us-east-1, where unset." },
    OwnKey { name: "object.store.s3.secret.key", kind: Kind::Password, default: None, text: "Secret key of an s3 store; `AWS_SECRET_ACCESS_KEY` of the environment where unset." },
    OwnKey { name: "object.store.url", kind: Kind::String, default: None, text: "Where sealed segments go: `s3://bucket/prefix`, `file:///path`, `memory:` (tests only), or `none`." },
    OwnKey { name: "offload.max.age.ms", kind: Kind::Long, default: Some("600000"), text: "How long a sealed segment under `offload.min.bytes` waits for its successors before it is offloaded." },
    OwnKey { name: "offload.min.bytes", kind: Kind::Long, default: Some("1048576"), text: "Sealed segments are bundled until an object has this many bytes." },
    OwnKey { name: "queued.max.response.bytes", kind: Kind::Long, default: Some("268435456"), text: "Memory for fetch responses that are not yet written, over all connections. Where it gets scarce, because many consumers read slowly, fetches are answered with less data, and at last wait." },
    OwnKey { name: "remote.cache.bytes", kind: Kind::Long, default: Some("134217728"), text: "Memory for data read from the object store." },
    OwnKey { name: "shutdown.timeout.ms", kind: Kind::Long, default: Some("10000"), text: "How long a stop waits for requests in flight and open connections." },
    OwnKey { name: "validation", kind: Kind::String, default: Some("default"), text: "Default of the topic setting `validation`: `default` checks the header and CRC of a produced batch, `full` walks its records as Kafka does." },
];

/// Kafka's broker keys that take effect here, beside the defaults of topic settings.
pub const EFFECTIVE_KEYS: &[&str] = &[
    "advertised.listeners",
    "auto.create.topics.enable",
    "broker.id",
    "connections.max.idle.ms",
    "default.replication.factor",
    "fetch.max.bytes",
    "group.consumer.assignment.interval.ms",
    "group.consumer.assignors",
    "group.consumer.heartbeat.interval.ms",
    "group.consumer.max.heartbeat.interval.ms",
    "group.consumer.max.session.timeout.ms",
    "group.consumer.max.size",
    "group.consumer.migration.policy",
    "group.consumer.min.heartbeat.interval.ms",
    "group.consumer.min.session.timeout.ms",
    "group.consumer.session.timeout.ms",
    "group.coordinator.append.linger.ms",
    "group.coordinator.rebalance.protocols",
    "group.initial.rebalance.delay.ms",
    "group.max.session.timeout.ms",
    "group.max.size",
    "group.min.session.timeout.ms",
    "listener.security.protocol.map",
    "listeners",
    "log.cleaner.backoff.ms",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.enable",
    "log.cleaner.io.buffer.load.factor",
    "log.cleaner.io.max.bytes.per.second",
    "log.cleaner.threads",
    "log.dir",
    "log.dirs",
    "log.retention.check.interval.ms",
    "max.connections",
    "max.incremental.fetch.session.cache.slots",
    "max.request.partition.size.limit",
    "node.id",
    "num.partitions",
    "offset.metadata.max.bytes",
    "offsets.commit.timeout.ms",
    "offsets.load.buffer.size",
    "offsets.retention.check.interval.ms",
    "offsets.retention.minutes",
    "offsets.topic.num.partitions",
    "offsets.topic.replication.factor",
    "offsets.topic.segment.bytes",
    "producer.id.expiration.ms",
    "queued.max.request.bytes",
    "remote.fetch.max.wait.ms",
    "socket.request.max.bytes",
];

/// Topic settings that are stored and described and have no effect so far.
pub const STORED_TOPIC_KEYS: &[&str] = &[
    "compression.lz4.level",
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "leader.replication.throttled.replicas",
    "preallocate",
    "remote.log.delete.on.disable",
    "unclean.leader.election.enable",
];

/// Ours first: Kafka's default where it has the key.
#[must_use]
pub fn default_of(name: &str) -> Option<&'static str> {
    match own_key(name) {
        Some(key) => key.default,
        None => kafka_key(name)?.default,
    }
}

/// Our key of this name.
#[must_use]
pub fn own_key(name: &str) -> Option<&'static OwnKey> {
    let index = OWN_KEYS.binary_search_by(|key| key.name.cmp(name)).ok()?;
    OWN_KEYS.get(index)
}

/// Kafka's key of this name.
#[must_use]
pub fn kafka_key(name: &str) -> Option<&'static KafkaKey> {
    let found = BROKER_KEYS.binary_search_by(|key| key.name.cmp(name));
    BROKER_KEYS.get(found.ok()?)
}

/// Whether setting this broker key changes anything.
#[must_use]
pub fn takes_effect(name: &str) -> bool {
    EFFECTIVE_KEYS.contains(&name)
        || OWN_KEYS.iter().any(|key| key.name == name)
        || topic::TOPIC_KEYS
            .iter()
            .any(|key| key.synonyms.contains(&name) && !STORED_TOPIC_KEYS.contains(&key.name))
}

/// Checks that every key is known and every value of its type; returns one warning for each key
/// that has no effect.
///
/// # Errors
/// The first key that is unknown or has a value of another type.
pub fn check_all(properties: &BTreeMap<String, String>) -> Result<Vec<String>, ConfigError> {
    let mut warnings = Vec::new();
    for (name, value) in properties {
        let Some(kind) = kind_of(name) else {
            return Err(ConfigError::UnknownKey {
                key: name.clone(),
                nearest: nearest(name),
            });
        };
        kind.check(value).map_err(|problem| ConfigError::Invalid {
            key: name.clone(),
            value: if kind == Kind::Password {
                "[hidden]".to_owned()
            } else {
                value.clone()
            },
            problem: problem.to_owned(),
        })?;
        let setting = topic::TOPIC_KEYS
            .iter()
            .find(|key| key.synonyms.contains(&name.as_str()));
        // The first synonym has the setting's own unit and range; minutes and hours have not.
        if let Some(setting) = setting.filter(|key| key.synonyms.first() == Some(&name.as_str())) {
            topic::check_default(setting, value).map_err(|error| ConfigError::Invalid {
                key: name.clone(),
                value: value.clone(),
                problem: match error {
                    topic::TopicConfigError::Invalid { problem, .. } => problem,
                    other => other.to_string(),
                },
            })?;
        }
        if !takes_effect(name) {
            warnings.push(format!(
                "{name} is a key of Kafka that has no effect in Esker"
            ));
        }
    }
    Ok(warnings)
}

fn kind_of(name: &str) -> Option<Kind> {
    if name == "planted.bug" && cfg!(feature = "planted-bugs") {
        return Some(Kind::String);
    }
    own_key(name)
        .map(|key| key.kind)
        .or_else(|| kafka_key(name).map(|key| key.kind))
        .or_else(|| is_listener_override(name).then_some(Kind::String))
}

/// `listener.name.<listener>.<key>` overrides a key for one listener.
fn is_listener_override(name: &str) -> bool {
    name.strip_prefix("listener.name.")
        .and_then(|rest| rest.split_once('.'))
        .is_some_and(|(_, key)| BROKER_KEYS.iter().any(|known| key.ends_with(known.name)))
}

/// The known key most like `name`, if any is like it at all.
fn nearest(name: &str) -> Option<String> {
    const LIKENESS_MIN: f64 = 0.8;
    OWN_KEYS
        .iter()
        .map(|key| key.name)
        .chain(BROKER_KEYS.iter().map(|key| key.name))
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known.to_owned())
}
