//! Settings of brokers that administrators change while the brokers run.
//!
//! Each layer wins over the next:
//!
//!   this broker's, changed while running -> all brokers', changed while running
//!     -> the properties that the broker was given -> Kafka's default
//!
//! Some settings have several names (`log.retention.ms`, `.minutes`, `.hours`); a name in a higher
//! layer hides all of them in the lower ones.

use std::collections::BTreeMap;
use std::time::Duration;

use super::keys::{kafka_key, own_key};
use super::topic::Source;
use super::{Config, Kind, topic};

/// The keys that may be changed while a broker runs, beside the brokers' names of topic settings;
/// sorted.
#[rustfmt::skip]
pub const DYNAMIC_KEYS: &[&str] = &[
    "background.threads",
    "config.providers",
    "cordoned.log.dirs",
    "follower.fetch.last.tiered.offset.enable",
    "follower.replication.throttled.rate",
    "group.consumer.assignment.interval.ms",
    "group.coordinator.cached.buffer.max.bytes",
    "group.share.assignment.interval.ms",
    "group.streams.assignment.interval.ms",
    "leader.replication.throttled.rate",
    "listener.security.protocol.map",
    "listeners",
    "log.cleaner.backoff.ms",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.io.buffer.load.factor",
    "log.cleaner.io.buffer.size",
    "log.cleaner.io.max.bytes.per.second",
    "log.cleaner.threads",
    "max.connection.creation.rate",
    "max.connections",
    "max.connections.per.ip",
    "max.connections.per.ip.overrides",
    "metric.reporters",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
    "principal.builder.class",
    "producer.id.expiration.ms",
    "remote.fetch.max.wait.ms",
    "remote.list.offsets.request.timeout.ms",
    "remote.log.index.file.cache.total.size.bytes",
    "remote.log.manager.copier.thread.pool.size",
    "remote.log.manager.copy.max.bytes.per.second",
    "remote.log.manager.expiration.thread.pool.size",
    "remote.log.manager.fetch.max.bytes.per.second",
    "remote.log.manager.follower.thread.pool.size",
    "remote.log.reader.threads",
    "replica.alter.log.dirs.io.max.bytes.per.second",
    "sasl.enabled.mechanisms",
    "sasl.jaas.config",
    "sasl.kerberos.kinit.cmd",
    "sasl.kerberos.min.time.before.relogin",
    "sasl.kerberos.principal.to.local.rules",
    "sasl.kerberos.service.name",
    "sasl.kerberos.ticket.renew.jitter",
    "sasl.kerberos.ticket.renew.window.factor",
    "sasl.login.refresh.buffer.seconds",
    "sasl.login.refresh.min.period.seconds",
    "sasl.login.refresh.window.factor",
    "sasl.login.refresh.window.jitter",
    "sasl.mechanism.inter.broker.protocol",
    "share.coordinator.cached.buffer.max.bytes",
    "ssl.cipher.suites",
    "ssl.client.auth",
    "ssl.enabled.protocols",
    "ssl.endpoint.identification.algorithm",
    "ssl.engine.factory.class",
    "ssl.key.password",
    "ssl.keymanager.algorithm",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
    "ssl.protocol",
    "ssl.provider",
    "ssl.secure.random.implementation",
    "ssl.trustmanager.algorithm",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.truststore.type",
    "transaction.partition.verification.enable",
];

/// The dynamic keys that take effect here as soon as they change, beside the names of topic settings.
pub const CHANGED_AT_ONCE: &[&str] = &[
    "max.connections",
    "producer.id.expiration.ms",
    "remote.fetch.max.wait.ms",
];

/// Dynamic keys that a broker's properties cannot hold.
const DYNAMIC_ONLY_KEYS: [&str; 3] = [
    "follower.replication.throttled.rate",
    "leader.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
];

/// Secrets of TLS: only with a listener's prefix.
const LISTENER_ONLY_KEYS: [&str; 10] = [
    "ssl.key.password",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.truststore.type",
];

/// Keys of listeners that may be set for all brokers at once.
const CLUSTER_LISTENER_KEYS: [&str; 3] = [
    "max.connection.creation.rate",
    "max.connections",
    "num.network.threads",
];

/// Thread pools, which Kafka lets grow and shrink by a factor of two at most.
const POOL_KEYS: [&str; 9] = [
    "background.threads",
    "log.cleaner.threads",
    "num.io.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
    "remote.log.manager.copier.thread.pool.size",
    "remote.log.manager.expiration.thread.pool.size",
    "remote.log.manager.follower.thread.pool.size",
    "remote.log.reader.threads",
];

/// The least value of dynamic keys that are numbers; of the others any number is accepted.
const LEAST: [(&str, i64); 17] = [
    ("background.threads", 1),
    ("follower.replication.throttled.rate", 0),
    ("group.consumer.assignment.interval.ms", 0),
    ("group.coordinator.cached.buffer.max.bytes", 512 << 10),
    ("group.share.assignment.interval.ms", 0),
    ("group.streams.assignment.interval.ms", 0),
    ("leader.replication.throttled.rate", 0),
    ("log.cleaner.backoff.ms", 0),
    ("log.cleaner.io.buffer.size", 0),
    ("max.connection.creation.rate", 0),
    ("max.connections", 0),
    ("max.connections.per.ip", 0),
    ("num.network.threads", 1),
    ("producer.id.expiration.ms", 1),
    ("remote.fetch.max.wait.ms", 1),
    ("remote.list.offsets.request.timeout.ms", 1),
    ("replica.alter.log.dirs.io.max.bytes.per.second", 0),
];

/// Settings with several names, in the order in which they win.
const NAMES: [&[&str]; 4] = [
    &["log.roll.ms", "log.roll.hours"],
    &["log.roll.jitter.ms", "log.roll.jitter.hours"],
    &[
        "log.retention.ms",
        "log.retention.minutes",
        "log.retention.hours",
    ],
    &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
];

/// All names of the setting with this name; the name alone where it has no other.
#[must_use]
pub fn names_of(name: &str) -> Vec<&str> {
    let several = NAMES.iter().find(|names| match names.first() {
        // The scheduler's interval is the default of the other, and no name for it.
        Some(&"log.flush.interval.ms") => name == "log.flush.interval.ms",
        _ => names.contains(&name),
    });
    if let Some(names) = several {
        return names.to_vec();
    }
    match base_name(name) {
        Some(base) => vec![name, base],
        None => vec![name],
    }
}

/// The key that `listener.name.<listener>.<key>` sets for one listener.
#[must_use]
pub fn base_name(name: &str) -> Option<&str> {
    name.strip_prefix("listener.name.")?
        .split_once('.')
        .map(|(_, key)| key)
}

/// Whether the key may be changed while a broker runs.
#[must_use]
pub fn is_dynamic(name: &str) -> bool {
    DYNAMIC_KEYS.binary_search(&name).is_ok()
        || topic::TOPIC_KEYS
            .iter()
            .any(|key| key.synonyms.first() == Some(&name))
}

/// Whether the key can be set for one broker only.
fn is_per_broker(name: &str) -> bool {
    let of_listener = |key: &str| {
        ["ssl.", "sasl."]
            .iter()
            .any(|prefix| key.starts_with(prefix))
            || [
                "listeners",
                "listener.security.protocol.map",
                "principal.builder.class",
            ]
            .contains(&key)
    };
    match base_name(name) {
        Some(base) => !CLUSTER_LISTENER_KEYS.contains(&base),
        None => name == "cordoned.log.dirs" || (of_listener(name) && is_dynamic(name)),
    }
}

/// The type of a broker's key; `None` where nobody knows the key.
#[must_use]
pub fn kind_of(name: &str) -> Option<Kind> {
    let known = |name: &str| {
        kafka_key(name)
            .map(|key| key.kind)
            .or_else(|| own_key(name).map(|key| key.kind))
            .or_else(|| DYNAMIC_ONLY_KEYS.contains(&name).then_some(Kind::Long))
    };
    known(name).or_else(|| {
        let base = base_name(name)?;
        // Of a mechanism, `<mechanism>.<key>`.
        known(base).or_else(|| known(base.split_once('.')?.1))
    })
}

/// A value that a setting has in some layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synonym {
    /// The name under which it is set there.
    pub name: String,
    /// The value.
    pub value: String,
    /// The layer.
    pub source: Source,
}

impl Synonym {
    /// A value in a layer.
    #[must_use]
    pub fn new(name: &str, value: &str, source: Source) -> Synonym {
        Synonym {
            name: name.to_owned(),
            value: value.to_owned(),
            source,
        }
    }
}

/// The settings of one broker, layer by layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerSettings {
    /// What was changed for this broker.
    pub own: BTreeMap<String, String>,
    /// What was changed for all brokers.
    pub cluster: BTreeMap<String, String>,
    /// What the broker was given.
    pub given: BTreeMap<String, String>,
    /// What is in force.
    merged: BTreeMap<String, String>,
}

impl BrokerSettings {
    /// Joins the layers.
    ///
    /// The minimal ISR always stands among the settings of all brokers: replicas count by it, and it
    /// cannot differ from broker to broker.
    #[must_use]
    pub fn new(
        given: &BTreeMap<String, String>,
        cluster: BTreeMap<String, String>,
        own: BTreeMap<String, String>,
    ) -> BrokerSettings {
        const MIN_ISR: &str = "min.insync.replicas";
        let mut cluster = cluster;
        cluster.entry(MIN_ISR.to_owned()).or_insert_with(|| {
            let given = given.get(MIN_ISR).map(String::as_str);
            given.unwrap_or("1").to_owned()
        });
        let mut merged = given.clone();
        overlay(&mut merged, &cluster);
        overlay(&mut merged, &own);
        BrokerSettings {
            own,
            cluster,
            given: given.clone(),
            merged,
        }
    }

    /// The properties in force, as if the broker had been given them.
    #[must_use]
    pub fn merged(&self) -> &BTreeMap<String, String> {
        &self.merged
    }

    /// Where the value of `name` comes from, and what it would be without: the winner first. A name
    /// that has no value of its own in any layer has none of these.
    #[must_use]
    pub fn synonyms(&self, name: &str) -> Vec<Synonym> {
        let names = names_of(name);
        let layers = [
            (&self.own, Source::DynamicBroker),
            (&self.cluster, Source::DynamicDefault),
            (&self.given, Source::StaticBroker),
        ];
        let mut synonyms = Vec::new();
        for (layer, source) in layers {
            for name in &names {
                if let Some(value) = layer.get(*name) {
                    synonyms.push(Synonym::new(name, value, source));
                }
            }
        }
        for name in &names {
            if let Some(value) = super::keys::default_of(name) {
                synonyms.push(Synonym::new(name, value, Source::Default));
            }
        }
        // As Kafka shows it: what stands before the setting's own name is left out.
        let first = synonyms.iter().position(|synonym| synonym.name == name);
        synonyms.split_off(first.unwrap_or(synonyms.len()))
    }

    /// The value of a key that was changed while running.
    fn changed(&self, name: &str) -> Option<&str> {
        let value = self.own.get(name).or_else(|| self.cluster.get(name))?;
        Some(value.trim())
    }

    /// `max.connections`; `given` is what the broker started with.
    #[must_use]
    pub fn connections_max(&self, given: usize) -> usize {
        self.changed("max.connections")
            .and_then(|text| text.parse().ok())
            .unwrap_or(given)
    }

    /// `remote.fetch.max.wait.ms`.
    #[must_use]
    pub fn remote_fetch_wait_max(&self, given: Duration) -> Duration {
        self.millis("remote.fetch.max.wait.ms", given)
    }

    /// `producer.id.expiration.ms`.
    #[must_use]
    pub fn producer_id_expiration(&self, given: Duration) -> Duration {
        self.millis("producer.id.expiration.ms", given)
    }

    fn millis(&self, name: &str, given: Duration) -> Duration {
        self.changed(name)
            .and_then(|text| text.parse().ok())
            .map_or(given, Duration::from_millis)
    }
}

fn overlay(under: &mut BTreeMap<String, String>, over: &BTreeMap<String, String>) {
    for (name, value) in over {
        if base_name(name).is_none() {
            for other in names_of(name) {
                under.remove(other);
            }
        }
        under.insert(name.clone(), value.clone());
    }
}

/// Checks what a broker (`per_broker`), or all of them, would have after a change.
///
/// # Errors
/// Why that cannot be, in words for the client.
pub fn check(
    wanted: &BTreeMap<String, String>,
    current: &BrokerSettings,
    per_broker: bool,
) -> Result<(), String> {
    let refuse_some = |text: &str, is_refused: &dyn Fn(&str) -> bool| {
        let names: Vec<&str> = wanted
            .keys()
            .map(String::as_str)
            .filter(|name| is_refused(name))
            .collect();
        match names.is_empty() {
            true => Ok(()),
            false => Err(format!("{text}: [{}]", names.join(", "))),
        }
    };
    refuse_some("Cannot update these configs dynamically", &|name| {
        kind_of(name).is_some() && base_name(name).is_none() && !is_dynamic(name)
    })?;
    refuse_some(
        "These security configs can be dynamically updated only per-listener using the listener prefix",
        &|name| LISTENER_ONLY_KEYS.contains(&name),
    )?;
    for (name, value) in wanted {
        check_value(name, value)?;
    }
    if !per_broker {
        refuse_some(
            "Cannot update these configs at default cluster level, broker id must be specified",
            &is_per_broker,
        )?;
    }
    let (cluster, own) = match per_broker {
        true => (current.cluster.clone(), wanted.clone()),
        false => (wanted.clone(), current.own.clone()),
    };
    let next = BrokerSettings::new(&current.given, cluster, own);
    check_change(current, &next)?;
    // What the broker would refuse at its start it refuses now.
    let checked = next
        .merged
        .iter()
        .filter(|(name, _)| kind_of(name).is_some() && !DYNAMIC_ONLY_KEYS.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()));
    Config::from_properties(checked).map_err(|error| error.to_string())?;
    topic::check_all(&BTreeMap::new(), &next.merged).map_err(|error| error.to_string())
}

fn check_value(name: &str, value: &str) -> Result<(), String> {
    let Some(kind) = kind_of(name) else {
        return Ok(());
    };
    let invalid =
        |problem: &str| format!("Invalid value {value} for configuration {name}: {problem}");
    kind.check(value).map_err(invalid)?;
    let least = LEAST.iter().find(|(of, _)| *of == name);
    if let Some((_, least)) = least
        && value
            .trim()
            .parse::<i64>()
            .is_ok_and(|number| number < *least)
    {
        return Err(invalid(&format!("Value must be at least {least}")));
    }
    let setting = topic::TOPIC_KEYS
        .iter()
        .find(|key| key.synonyms.first() == Some(&name));
    match setting.map(|setting| topic::check_default(setting, value)) {
        Some(Err(topic::TopicConfigError::Invalid { problem, .. })) => Err(invalid(&problem)),
        Some(Err(other)) => Err(other.to_string()),
        Some(Ok(())) | None => Ok(()),
    }
}

/// Checks what depends on the value that a setting has now.
fn check_change(current: &BrokerSettings, next: &BrokerSettings) -> Result<(), String> {
    let in_force = |settings: &BrokerSettings, name: &str| -> Option<String> {
        let value = settings.merged.get(name).cloned();
        value.or_else(|| super::keys::default_of(name).map(str::to_owned))
    };
    for name in POOL_KEYS {
        let count =
            |settings| in_force(settings, name).and_then(|value| value.trim().parse::<i64>().ok());
        let (Some(old), Some(new)) = (count(current), count(next)) else {
            continue;
        };
        let failed = format!("Dynamic thread count update validation failed for {name}={new}");
        if new == old {
            continue;
        }
        if new < 1 {
            return Err(format!("{failed}, value should be at least 1"));
        }
        if new < old / 2 {
            return Err(format!(
                "{failed}, value should be at least half the current value {old}"
            ));
        }
        if new > old.saturating_mul(2) {
            return Err(format!(
                "{failed}, value should not be greater than double the current value {old}"
            ));
        }
    }
    for name in ["listeners", "listener.security.protocol.map"] {
        if in_force(current, name) != in_force(next, name) {
            return Err(format!("{name} takes effect at the start of a broker only"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn every_dynamic_key_is_known_and_the_list_is_sorted() {
        assert!(DYNAMIC_KEYS.windows(2).all(|pair| pair[0] < pair[1]));
        for name in DYNAMIC_KEYS {
            assert!(kind_of(name).is_some(), "{name}");
        }
        for (name, least) in LEAST {
            assert!(is_dynamic(name), "{name}");
            let default = super::super::keys::default_of(name).and_then(|d| d.parse::<i64>().ok());
            assert!(default.is_none_or(|default| default >= least), "{name}");
        }
        for name in POOL_KEYS {
            assert!(is_dynamic(name), "{name}");
        }
    }

    #[test]
    fn a_layer_hides_all_names_of_a_setting_in_the_layers_below() {
        let given = map(&[("log.retention.ms", "1"), ("log.segment.bytes", "2097152")]);
        let settings = BrokerSettings::new(
            &given,
            map(&[("log.retention.hours", "3")]),
            map(&[("log.segment.bytes", "3145728")]),
        );
        let config = topic::TopicConfig::new(&BTreeMap::new(), settings.merged());
        assert_eq!(config.retention_ms, 3 * 3_600_000);
        assert_eq!(config.segment_bytes, 3 << 20);
        assert_eq!(settings.merged().get("log.retention.ms"), None);
    }

    #[test]
    fn what_cannot_change_while_running_is_refused_by_name() {
        let current = BrokerSettings::new(&map(&[]), map(&[]), map(&[]));
        for (name, value, per_broker, expected) in [
            (
                "node.id",
                "2",
                true,
                "Cannot update these configs dynamically: [node.id]",
            ),
            (
                "log.dirs",
                "/x",
                false,
                "Cannot update these configs dynamically: [log.dirs]",
            ),
            (
                "log.retention.ms",
                "soon",
                true,
                "Invalid value soon for configuration log.retention.ms: Not a number of type LONG",
            ),
            (
                "message.max.bytes",
                "-1",
                true,
                "Invalid value -1 for configuration message.max.bytes: Value must be at least 0",
            ),
            (
                "ssl.keystore.password",
                "x",
                true,
                "These security configs can be dynamically updated only per-listener using the listener prefix: [ssl.keystore.password]",
            ),
            (
                "sasl.enabled.mechanisms",
                "PLAIN",
                false,
                "Cannot update these configs at default cluster level, broker id must be specified: [sasl.enabled.mechanisms]",
            ),
            (
                "num.io.threads",
                "100",
                true,
                "Dynamic thread count update validation failed for num.io.threads=100, value should not be greater than double the current value 8",
            ),
            (
                "num.io.threads",
                "3",
                true,
                "Dynamic thread count update validation failed for num.io.threads=3, value should be at least half the current value 8",
            ),
            (
                "listeners",
                "PLAINTEXT://:1",
                true,
                "listeners takes effect at the start of a broker only",
            ),
        ] {
            let refused = check(&map(&[(name, value)]), &current, per_broker);
            assert_eq!(refused, Err(expected.to_owned()), "{name}={value}");
        }
    }

    #[test]
    fn what_may_change_is_accepted() {
        let current = BrokerSettings::new(&map(&[]), map(&[]), map(&[]));
        for (name, value, per_broker) in [
            ("log.retention.ms", "60000", false),
            ("max.connections", "10", true),
            ("num.io.threads", "16", true),
            ("leader.replication.throttled.rate", "1000", true),
            ("listener.name.external.max.connections", "5", false),
            ("some.plugins.key", "x", true),
            ("validation", "full", false),
        ] {
            let accepted = check(&map(&[(name, value)]), &current, per_broker);
            assert_eq!(accepted, Ok(()), "{name}={value}");
        }
    }

    #[test]
    fn changed_values_are_in_force_and_the_given_ones_otherwise() {
        let given = map(&[("max.connections", "5")]);
        let settings = BrokerSettings::new(&given, map(&[]), map(&[]));
        assert_eq!(settings.connections_max(5), 5);
        let settings = BrokerSettings::new(
            &given,
            map(&[("max.connections", "7"), ("remote.fetch.max.wait.ms", "9")]),
            map(&[("max.connections", "8")]),
        );
        assert_eq!(settings.connections_max(5), 8);
        let wait = settings.remote_fetch_wait_max(Duration::from_secs(1));
        assert_eq!(wait, Duration::from_millis(9));
    }
}
