//! Topic settings: the table of those that exist, their checks, and the typed form of those that
//! take effect.

use std::collections::BTreeMap;

use esker_protocol::records::{Compression, Target};
use esker_storage::CompactionRules;

use super::Kind;
use super::dynamic::{BrokerSettings, Synonym};

/// What a setting's value must satisfy beyond its type.
#[derive(Debug, Clone, Copy)]
pub enum Check {
    /// Any value of the type.
    Any,
    /// At least this.
    AtLeast(i64),
    /// Between these, both included.
    Between(i64, i64),
    /// 1 to 9, or -1 for the library's default.
    GzipLevel,
    /// A share between 0 and 1.
    Share,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list whose members are among these words.
    ListOf(&'static [&'static str]),
    /// `*`, empty, or `partition:broker` pairs.
    ThrottledReplicas,
}

/// A topic setting.
#[derive(Debug, Clone, Copy)]
pub struct TopicKey {
    /// The setting's name.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// Kafka's default.
    pub default: Option<&'static str>,
    /// What a value must satisfy.
    pub check: Check,
    /// The broker properties that set its default, the first that is set wins; values of the later
    /// ones are in minutes and hours.
    pub synonyms: &'static [&'static str],
}

impl TopicKey {
    /// A value as Kafka writes it back.
    #[must_use]
    pub fn canonical(&self, value: &str) -> String {
        match self.check {
            // The one kind of list whose words may repeat.
            Check::ThrottledReplicas => {
                let words: Vec<&str> = value.trim().split(',').map(str::trim).collect();
                words.join(",")
            }
            _ => self.kind.canonical(value),
        }
    }
}

const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    check: Check,
    synonyms: &'static [&'static str],
) -> TopicKey {
    TopicKey {
        name,
        kind,
        default: Some(default),
        check,
        synonyms,
    }
}

/// The one time that may be without end; every negative default of a broker means that.
const RETENTION_MS: &str = "retention.ms";

/// A setting of Kafka's own tests, which is described only where it is set.
pub const INTERNAL_SEGMENT_BYTES: &str = "internal.segment.bytes";

const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];

/// Every topic setting of Kafka 4.3.0, sorted by name, and ours.
#[rustfmt::skip]
pub const TOPIC_KEYS: &[TopicKey] = &[
    key("cleanup.policy", Kind::List, "delete", Check::ListOf(&["compact", "delete"]), &["log.cleanup.policy"]),
    key("compression.gzip.level", Kind::Int, "-1", Check::GzipLevel, &["compression.gzip.level"]),
    key("compression.lz4.level", Kind::Int, "9", Check::Between(1, 17), &["compression.lz4.level"]),
    key("compression.type", Kind::String, "producer", Check::OneOf(CODECS), &["compression.type"]),
    key("compression.zstd.level", Kind::Int, "3", Check::Between(-131_072, 22), &["compression.zstd.level"]),
    key("delete.retention.ms", Kind::Long, "86400000", Check::AtLeast(0), &["log.cleaner.delete.retention.ms"]),
    key("file.delete.delay.ms", Kind::Long, "60000", Check::AtLeast(0), &["log.segment.delete.delay.ms"]),
    key("flush.messages", Kind::Long, "9223372036854775807", Check::AtLeast(1), &["log.flush.interval.messages"]),
    key("flush.ms", Kind::Long, "9223372036854775807", Check::AtLeast(0), &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"]),
    key("follower.replication.throttled.replicas", Kind::List, "", Check::ThrottledReplicas, &[]),
    key("index.interval.bytes", Kind::Int, "4096", Check::AtLeast(0), &["log.index.interval.bytes"]),
    TopicKey { name: INTERNAL_SEGMENT_BYTES, kind: Kind::Int, default: None, check: Check::AtLeast(61), synonyms: &[] },
    key("leader.replication.throttled.replicas", Kind::List, "", Check::ThrottledReplicas, &[]),
    key("local.retention.bytes", Kind::Long, "-2", Check::AtLeast(-2), &["log.local.retention.bytes"]),
    key("local.retention.ms", Kind::Long, "-2", Check::AtLeast(-2), &["log.local.retention.ms"]),
    key("max.compaction.lag.ms", Kind::Long, "9223372036854775807", Check::AtLeast(1), &["log.cleaner.max.compaction.lag.ms"]),
    key("max.message.bytes", Kind::Int, "1048588", Check::AtLeast(0), &["message.max.bytes"]),
    key("message.timestamp.after.max.ms", Kind::Long, "3600000", Check::AtLeast(0), &["log.message.timestamp.after.max.ms"]),
    key("message.timestamp.before.max.ms", Kind::Long, "9223372036854775807", Check::AtLeast(0), &["log.message.timestamp.before.max.ms"]),
    key("message.timestamp.type", Kind::String, "CreateTime", Check::OneOf(&["CreateTime", "LogAppendTime"]), &["log.message.timestamp.type"]),
    key("min.cleanable.dirty.ratio", Kind::Double, "0.5", Check::Share, &["log.cleaner.min.cleanable.ratio"]),
    key("min.compaction.lag.ms", Kind::Long, "0", Check::AtLeast(0), &["log.cleaner.min.compaction.lag.ms"]),
    key("min.insync.replicas", Kind::Int, "1", Check::AtLeast(1), &["min.insync.replicas"]),
    key("preallocate", Kind::Boolean, "false", Check::Any, &["log.preallocate"]),
    key("remote.log.copy.disable", Kind::Boolean, "false", Check::Any, &[]),
    key("remote.log.delete.on.disable", Kind::Boolean, "false", Check::Any, &[]),
    TopicKey { name: "remote.storage.enable", kind: Kind::Boolean, default: None, check: Check::Any, synonyms: &[] },
    key("retention.bytes", Kind::Long, "-1", Check::Any, &["log.retention.bytes"]),
    key("retention.ms", Kind::Long, "604800000", Check::AtLeast(-1), &["log.retention.ms", "log.retention.minutes", "log.retention.hours"]),
    key("segment.bytes", Kind::Int, "1073741824", Check::AtLeast(1_048_576), &["log.segment.bytes"]),
    key("segment.index.bytes", Kind::Int, "10485760", Check::AtLeast(4), &["log.index.size.max.bytes"]),
    key("segment.jitter.ms", Kind::Long, "0", Check::AtLeast(0), &["log.roll.jitter.ms", "", "log.roll.jitter.hours"]),
    key("segment.ms", Kind::Long, "604800000", Check::AtLeast(1), &["log.roll.ms", "", "log.roll.hours"]),
    key("unclean.leader.election.enable", Kind::Boolean, "false", Check::Any, &["unclean.leader.election.enable"]),
    key("validation", Kind::String, "default", Check::OneOf(&["default", "full"]), &["validation"]),
];

/// The setting of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static TopicKey> {
    TOPIC_KEYS.iter().find(|key| key.name == name)
}

/// A setting that cannot be accepted; the text goes to the client with `INVALID_CONFIG`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicConfigError {
    /// Kafka knows no such setting.
    #[error("Unknown topic config name: {0}")]
    Unknown(String),
    /// The value is of another type or outside its range.
    #[error("Invalid value {value} for configuration {name}: {problem}")]
    Invalid {
        /// The setting.
        name: String,
        /// What was given.
        value: String,
        /// What it must be.
        problem: String,
    },
    /// Two settings contradict each other.
    #[error("{0}")]
    Conflict(String),
}

/// Checks one setting by itself.
///
/// # Errors
/// The name is unknown, or the value is none of its type and range.
pub fn check(name: &str, value: &str) -> Result<(), TopicConfigError> {
    let key = find(name).ok_or_else(|| TopicConfigError::Unknown(name.to_owned()))?;
    let invalid = |problem: String| TopicConfigError::Invalid {
        name: name.to_owned(),
        value: value.to_owned(),
        problem,
    };
    key.kind
        .check(value)
        .map_err(|problem| invalid(problem.to_owned()))?;
    let number = || value.trim().parse::<i64>().unwrap_or_default();
    let satisfied = match key.check {
        Check::Any => Ok(()),
        Check::AtLeast(least) if number() < least => Err(format!("Value must be at least {least}")),
        Check::Between(least, most) if !(least..=most).contains(&number()) => {
            Err(format!("Value must be between {least} and {most}"))
        }
        Check::GzipLevel if number() != -1 && !(1..=9).contains(&number()) => {
            Err("Value must be between 1 and 9 or equal to -1".to_owned())
        }
        Check::Share
            if !value
                .trim()
                .parse::<f64>()
                .is_ok_and(|share| (0.0..=1.0).contains(&share)) =>
        {
            Err("Value must be between 0 and 1".to_owned())
        }
        Check::OneOf(words) if !words.contains(&value.trim()) => {
            Err(format!("String must be one of: {}", words.join(", ")))
        }
        Check::ListOf(words)
            if !value.trim().is_empty()
                && value.split(',').any(|word| !words.contains(&word.trim())) =>
        {
            Err(format!("String must be one of: {}", words.join(", ")))
        }
        Check::ThrottledReplicas if !is_replica_list(value) => {
            Err("must be *, empty, or partition:broker pairs".to_owned())
        }
        _ => Ok(()),
    };
    satisfied.map_err(invalid)
}

/// Checks what a broker is given as the default of a setting, under the first of the setting's broker
/// names.
///
/// # Errors
/// The value is none that the setting could have.
pub fn check_default(key: &TopicKey, value: &str) -> Result<(), TopicConfigError> {
    match value.trim().parse::<i64>() {
        Ok(0) if key.name == RETENTION_MS => Err(TopicConfigError::Invalid {
            name: key.name.to_owned(),
            value: value.to_owned(),
            problem: "must be unlimited (-1) or, equal or greater than 1".to_owned(),
        }),
        Ok(i64::MIN..0) if key.name == RETENTION_MS => Ok(()),
        _ => check(key.name, value),
    }
}

fn is_replica_list(value: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_pair = |text: &str| {
        let pair = text.split_once(':');
        pair.is_some_and(|(partition, broker)| is_number(partition) && is_number(broker))
    };
    let mut words = value.split(',').map(str::trim);
    value.trim() == "*" || words.all(|word| word.is_empty() || is_pair(word))
}

/// The settings of one topic in typed form: its overrides over the broker's defaults over Kafka's.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    /// `cleanup.policy` holds `compact`.
    pub compact: bool,
    /// When and how a compacted log is compacted.
    pub compaction: CompactionRules,
    /// `cleanup.policy` holds `delete`.
    pub delete: bool,
    /// `compression.type` and its level; `None` is `producer`.
    pub compression: Option<Target>,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: i64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// `local.retention.bytes`, with -2 replaced by `retention.bytes`; -1 is no limit.
    pub local_retention_bytes: i64,
    /// `local.retention.ms`, with -2 replaced by `retention.ms`; -1 is no limit.
    pub local_retention_ms: i64,
    /// `max.message.bytes`.
    pub message_bytes_max: u32,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_ms_max: i64,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_ms_max: i64,
    /// `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `min.insync.replicas`.
    pub min_insync_replicas: u32,
    /// `remote.log.copy.disable`.
    pub remote_copy_disabled: bool,
    /// `remote.storage.enable`, or `None` where nobody set it: then a configured store decides.
    pub remote_storage: Option<bool>,
    /// `retention.bytes`; -1 is no limit.
    pub retention_bytes: i64,
    /// `retention.ms`; -1 is no limit.
    pub retention_ms: i64,
    /// `segment.bytes`.
    pub segment_bytes: u32,
    /// `segment.index.bytes`.
    pub segment_index_bytes: u32,
    /// `segment.jitter.ms`.
    pub segment_jitter_ms: i64,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `validation` is `full`.
    pub validate_fully: bool,
}

/// The codec of a `compression.type`; `None` where batches keep their producer's.
fn target_codec(name: &str) -> Option<Compression> {
    match name {
        "uncompressed" => Some(Compression::None),
        name => name.parse().ok(),
    }
}

/// The setting for a codec's level, where it has levels.
fn level_key(codec: Compression) -> Option<&'static str> {
    match codec {
        Compression::Gzip => Some("compression.gzip.level"),
        Compression::Lz4 => Some("compression.lz4.level"),
        Compression::Zstd => Some("compression.zstd.level"),
        Compression::None | Compression::Snappy => None,
    }
}

impl TopicConfig {
    /// Computes the typed form from checked texts.
    ///
    /// `overrides` are the topic's own settings, `broker` the properties that the broker was given.
    #[must_use]
    pub fn new(
        overrides: &BTreeMap<String, String>,
        broker: &BTreeMap<String, String>,
    ) -> TopicConfig {
        let text = |name| effective(name, overrides, broker).map(|text| text.trim().to_owned());
        let number = |name| {
            text(name)
                .and_then(|v| v.trim().parse::<i64>().ok())
                .unwrap_or(-1)
        };
        let size = |name| u32::try_from(number(name)).unwrap_or(0);
        let flag = |name| text(name).map(|value| value.trim().eq_ignore_ascii_case("true"));
        let has = |word| {
            text("cleanup.policy").is_some_and(|v| v.split(',').any(|part| part.trim() == word))
        };
        let retention_bytes = number("retention.bytes");
        let retention_ms = number("retention.ms");
        let local = |name, whole| match number(name) {
            -2 => whole,
            own => own,
        };
        let segment_bytes = match overrides.get(INTERNAL_SEGMENT_BYTES) {
            Some(_) => size(INTERNAL_SEGMENT_BYTES),
            None => size("segment.bytes"),
        };
        TopicConfig {
            compact: has("compact"),
            compression: text("compression.type")
                .as_deref()
                .and_then(target_codec)
                .map(|codec| Target {
                    codec,
                    level: level_key(codec).and_then(|key| i32::try_from(number(key)).ok()),
                }),
            compaction: CompactionRules {
                dirty_ratio_min: text("min.cleanable.dirty.ratio")
                    .and_then(|v| v.trim().parse().ok())
                    .unwrap_or(0.5),
                lag_ms_min: number("min.compaction.lag.ms"),
                lag_ms_max: number("max.compaction.lag.ms"),
                delete_retention_ms: number("delete.retention.ms"),
            },
            delete: has("delete"),
            file_delete_delay_ms: number("file.delete.delay.ms"),
            index_interval_bytes: size("index.interval.bytes"),
            local_retention_bytes: local("local.retention.bytes", retention_bytes),
            local_retention_ms: local("local.retention.ms", retention_ms),
            message_bytes_max: size("max.message.bytes"),
            timestamp_after_ms_max: number("message.timestamp.after.max.ms"),
            timestamp_before_ms_max: number("message.timestamp.before.max.ms"),
            log_append_time: text("message.timestamp.type").as_deref() == Some("LogAppendTime"),
            min_insync_replicas: size("min.insync.replicas"),
            remote_copy_disabled: flag("remote.log.copy.disable").unwrap_or(false),
            remote_storage: flag("remote.storage.enable"),
            retention_bytes,
            retention_ms,
            segment_bytes,
            segment_index_bytes: size("segment.index.bytes"),
            segment_jitter_ms: number("segment.jitter.ms"),
            segment_ms: number("segment.ms"),
            validate_fully: text("validation").as_deref() == Some("full"),
        }
    }

    /// The span of record time in a segment: what must be compacted in time must be sealed in time.
    #[must_use]
    pub fn segment_ms_max(&self) -> i64 {
        match self.compaction.lag_ms_max {
            lag_ms @ 1.. if self.compact => self.segment_ms.min(lag_ms),
            _ => self.segment_ms,
        }
    }

    /// Whether sealed segments of the topic go to the object store, where there is one.
    ///
    /// Tiering is on by default; compacted topics stay local.
    #[must_use]
    pub fn is_tiered(&self) -> bool {
        self.remote_storage.unwrap_or(true) && !self.compact
    }
}

/// Where the value of a setting comes from, by Kafka's numbers in DescribeConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The topic's own setting.
    Topic = 1,
    /// The broker's, changed while it runs.
    DynamicBroker = 2,
    /// All brokers', changed while they run.
    DynamicDefault = 3,
    /// The broker's properties.
    StaticBroker = 4,
    /// Kafka's default.
    Default = 5,
    /// The level of a broker's log.
    BrokerLogger = 6,
    /// A subscription's own setting.
    ClientMetrics = 7,
    /// A group's own setting.
    Group = 8,
}

/// The value in force for the setting `name`; `None` where it has none.
#[must_use]
pub fn effective(
    name: &str,
    overrides: &BTreeMap<String, String>,
    broker: &BTreeMap<String, String>,
) -> Option<String> {
    if let Some(value) = overrides.get(name) {
        return Some(value.clone());
    }
    let key = find(name)?;
    for (index, synonym) in key.synonyms.iter().enumerate() {
        let Some(value) = broker.get(*synonym) else {
            continue;
        };
        // The second and third synonyms of the time settings count minutes and hours.
        let factor = if name.ends_with(".ms") && key.synonyms.len() > 2 {
            [1, 60_000, 3_600_000].get(index).copied().unwrap_or(1)
        } else {
            1
        };
        return Some(match value.trim().parse::<i64>() {
            Ok(count) if name == RETENTION_MS && count < 0 => "-1".to_owned(),
            Ok(count) if factor > 1 && count > 0 => count.saturating_mul(factor).to_string(),
            _ => value.clone(),
        });
    }
    key.default.map(str::to_owned)
}

/// Where the value of a topic's setting comes from, and what it would be without: the winner first.
#[must_use]
pub fn synonyms(
    key: &TopicKey,
    overrides: &BTreeMap<String, String>,
    broker: &BrokerSettings,
) -> Vec<Synonym> {
    let own = overrides.get(key.name);
    let own = own.map(|value| Synonym::new(key.name, &key.canonical(value), Source::Topic));
    let of_broker = key.synonyms.first().map(|name| broker.synonyms(name));
    own.into_iter()
        .chain(of_broker.unwrap_or_default())
        .collect()
}

/// Checks the settings of one topic together, as creation and alteration do.
///
/// # Errors
/// A setting is unknown or out of range, or two contradict each other.
pub fn check_all(
    overrides: &BTreeMap<String, String>,
    broker: &BTreeMap<String, String>,
) -> Result<(), TopicConfigError> {
    for (name, value) in overrides {
        check(name, value)?;
    }
    let number = |name: &str| number(name, overrides, broker);
    let lags = (
        number("min.compaction.lag.ms"),
        number("max.compaction.lag.ms"),
    );
    if let (Some(least), Some(most)) = lags
        && least > most
    {
        return Err(TopicConfigError::Conflict(format!(
            "conflict topic config setting min.compaction.lag.ms ({least}) > max.compaction.lag.ms ({most})"
        )));
    }
    let config = TopicConfig::new(overrides, broker);
    if config.remote_storage == Some(true) && config.compact {
        return Err(TopicConfigError::Conflict(
            "Remote log storage only supports topics with cleanup.policy=delete or cleanup.policy being an empty list.".to_owned(),
        ));
    }
    if config.compaction.lag_ms_min > config.compaction.lag_ms_max {
        return Err(TopicConfigError::Conflict(
            "Value of min.compaction.lag.ms must not exceed that of max.compaction.lag.ms"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Checks, for a topic that goes to the object store, that it keeps no more locally than at all. As
/// in Kafka, a topic that does not may say what it likes.
///
/// # Errors
/// The local bounds exceed the whole ones.
pub fn check_local_retention(
    overrides: &BTreeMap<String, String>,
    broker: &BTreeMap<String, String>,
) -> Result<(), TopicConfigError> {
    let number = |name: &str| number(name, overrides, broker);
    for (name, whole) in [
        ("local.retention.bytes", "retention.bytes"),
        ("local.retention.ms", "retention.ms"),
    ] {
        let (Some(local), Some(total)) = (number(name), number(whole)) else {
            continue;
        };
        let problem = if !overrides.contains_key(name) || total < 0 {
            continue;
        } else if local == -1 {
            format!("Value must not be -1 as {whole} value is set as {total}.")
        } else if local > total {
            format!("Value must not be more than {whole} property value: {total}")
        } else {
            continue;
        };
        return Err(TopicConfigError::Invalid {
            name: name.to_owned(),
            value: local.to_string(),
            problem,
        });
    }
    Ok(())
}

/// The value in force of a numeric setting.
fn number(
    name: &str,
    overrides: &BTreeMap<String, String>,
    broker: &BTreeMap<String, String>,
) -> Option<i64> {
    let value = effective(name, overrides, broker)?;
    value.trim().parse().ok()
}

/// Checks what depends on the settings that the topic had.
///
/// # Errors
/// The change is refused.
pub fn check_alteration(
    current: &BTreeMap<String, String>,
    next: &BTreeMap<String, String>,
) -> Result<(), TopicConfigError> {
    let is_true = |configs: &BTreeMap<String, String>, name: &str| {
        configs
            .get(name)
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
    };
    let was_tiered = is_true(current, "remote.storage.enable");
    if was_tiered
        && !is_true(next, "remote.storage.enable")
        && !is_true(next, "remote.log.delete.on.disable")
    {
        return Err(TopicConfigError::Conflict(
            "It is invalid to disable remote storage without deleting remote data. If you want to keep the remote data and turn to read only, please set `remote.storage.enable=true,remote.log.copy.disable=true`. If you want to disable remote storage and delete all remote data, please set `remote.storage.enable=false,remote.log.delete.on.disable=true`.".to_owned(),
        ));
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
    fn every_default_passes_its_own_check() {
        for key in TOPIC_KEYS {
            if let Some(default) = key.default {
                assert_eq!(check(key.name, default), Ok(()), "{}", key.name);
            }
        }
    }

    #[test]
    fn values_outside_their_range_are_refused() {
        for (name, value) in [
            ("retention.ms", "-2"),
            ("retention.ms", "soon"),
            ("segment.bytes", "100"),
            ("segment.bytes", "3000000000"),
            ("cleanup.policy", "shrink"),
            ("cleanup.policy", "delete,"),
            ("compression.type", "brotli"),
            ("min.cleanable.dirty.ratio", "1.5"),
            ("min.cleanable.dirty.ratio", "NaN"),
            ("preallocate", "yes"),
            ("compression.gzip.level", "0"),
            ("leader.replication.throttled.replicas", "0:x"),
            ("leader.replication.throttled.replicas", "0:1,*"),
            ("no.such", "1"),
        ] {
            assert!(check(name, value).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn overrides_win_over_the_broker_and_the_broker_over_defaults() {
        let broker = map(&[
            ("log.retention.hours", "2"),
            ("log.segment.bytes", "2097152"),
        ]);
        let config = TopicConfig::new(&map(&[("segment.bytes", "1048576")]), &broker);
        assert_eq!(config.retention_ms, 7_200_000);
        assert_eq!(config.local_retention_ms, 7_200_000);
        assert_eq!(config.segment_bytes, 1_048_576);
        let config = TopicConfig::new(
            &map(&[]),
            &map(&[("log.retention.ms", "5"), ("log.retention.hours", "2")]),
        );
        assert_eq!(config.retention_ms, 5);
    }

    #[test]
    fn every_negative_default_of_the_retention_is_without_end_and_none_is_zero() {
        let key = find(RETENTION_MS).expect("a setting");
        for (value, is_fine) in [
            ("-7", true),
            ("-1", true),
            ("0", false),
            ("1", true),
            ("x", false),
        ] {
            assert_eq!(check_default(key, value).is_ok(), is_fine, "{value}");
        }
        for name in ["log.retention.ms", "log.retention.hours"] {
            let config = TopicConfig::new(&map(&[]), &map(&[(name, "-7")]));
            assert_eq!(config.retention_ms, -1);
        }
        assert!(check(RETENTION_MS, "-7").is_err());
        assert_eq!(check(RETENTION_MS, "0"), Ok(()));
    }

    #[test]
    fn words_are_trimmed() {
        let given = map(&[
            ("compression.type", " gzip "),
            ("message.timestamp.type", " LogAppendTime"),
        ]);
        assert_eq!(check_all(&given, &map(&[])), Ok(()));
        let config = TopicConfig::new(&given, &map(&[]));
        assert_eq!(
            config.compression.map(|target| target.codec),
            Some(Compression::Gzip)
        );
        assert!(config.log_append_time);
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let none = BTreeMap::new();
        let tiered = map(&[
            ("cleanup.policy", "compact"),
            ("remote.storage.enable", "true"),
        ]);
        assert!(check_all(&tiered, &none).is_err());
        let lags = map(&[
            ("min.compaction.lag.ms", "10"),
            ("max.compaction.lag.ms", "9"),
        ]);
        assert!(check_all(&lags, &none).is_err());
    }

    #[test]
    fn the_local_bounds_of_a_tiered_topic_are_within_the_whole_ones() {
        let none = BTreeMap::new();
        for (local, fits) in [("2000", false), ("-1", false), ("-2", true), ("1000", true)] {
            let both = map(&[("retention.ms", "1000"), ("local.retention.ms", local)]);
            assert_eq!(check_local_retention(&both, &none).is_ok(), fits, "{local}");
            assert_eq!(check_all(&both, &none), Ok(()));
        }
    }
}
