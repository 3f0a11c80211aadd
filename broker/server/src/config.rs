//! The broker's configuration: values, parsed and checked before anything opens.
//!
//! Keys are Kafka's where Kafka has one. A key that Kafka knows and that has no effect here is
//! accepted with one warning; a key that neither knows is an error that names the nearest.
//! Components (disk, network, stores) are not here: see [`crate::environment`].

pub mod change;
pub mod client_metrics;
pub mod dynamic;
pub mod group;
pub mod kafka_keys;
pub mod keys;
pub mod kind;
pub mod properties;
pub mod texts;
pub mod topic;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use esker_coordinator::view::MigrationPolicy;
use esker_protocol::BrokerId;

pub use kind::Kind;

/// Everything a broker is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// `node.id`.
    pub node_id: BrokerId,
    /// `cluster.id`: the 22-character id the broker must find, or `None` to take what is there.
    pub cluster_id: Option<String>,
    /// `log.dirs`, or `log.dir`.
    pub log_dirs: Vec<PathBuf>,
    /// `listeners`.
    pub listeners: Vec<Endpoint>,
    /// `advertised.listeners`; a listener without an entry advertises what it bound.
    pub advertised_listeners: Vec<Endpoint>,
    /// `http.listener`: metrics and health.
    pub http_listener: Option<HostPort>,
    /// `object.store.url`; `None` is no tier.
    pub object_store_url: Option<String>,
    /// `metadata.store`.
    pub metadata_store: MetadataStoreUrl,
    /// `log.durability`.
    pub durability: Durability,
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// `num.partitions`.
    pub partitions_default: i32,
    /// `default.replication.factor`.
    pub replication_factor_default: i16,
    /// `socket.request.max.bytes`.
    pub request_bytes_max: usize,
    /// `queued.max.request.bytes`: the budget that requests being served share. Where it is not set
    /// (Kafka's -1) it is 256 MiB, never unbounded.
    pub requests_bytes_max: usize,
    /// `queued.max.response.bytes`: the budget that responses not yet written share.
    pub responses_bytes_max: usize,
    /// `connections.max.idle.ms`.
    pub connection_idle: Duration,
    /// `max.connections`.
    pub connections_max: usize,
    /// The connections that the process can bear, whatever `max.connections` says.
    pub sockets_max: usize,
    /// `fetch.max.bytes`.
    pub fetch_bytes_max: usize,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_sessions_max: usize,
    /// `max.request.partition.size.limit`: partitions of one DescribeTopicPartitions.
    pub page_partitions_max: i32,
    /// `remote.fetch.max.wait.ms`.
    pub remote_fetch_wait_max: Duration,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `log.cleaner.*`: how logs are compacted.
    pub cleaner: Cleaner,
    /// `offload.min.bytes`: a smaller object waits for its successors.
    pub offload_bytes_min: u64,
    /// `offload.max.age.ms`: how long it waits at most.
    pub offload_age_max: Duration,
    /// `log.dir.reserve.bytes`: space that a log directory keeps free.
    pub reserve_bytes: u64,
    /// `remote.cache.bytes`: memory for frames read from the tier.
    pub remote_cache_bytes: usize,
    /// `manifest.retention.ms`.
    pub manifest_retention: Duration,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration: Duration,
    /// `shutdown.timeout.ms`: how long a stop waits for requests.
    pub shutdown_timeout: Duration,
    /// The `group.` and `offset` keys: what coordinators are told.
    pub groups: Arc<esker_coordinator::Settings>,
    /// How `__consumer_offsets` is created.
    pub offsets_topic: OffsetsTopic,
    /// `offsets.commit.timeout.ms`: how long a coordinator's answer waits for its commit.
    pub offsets_commit_timeout: Duration,
    /// How long what a group coordinator has appended may wait for more before it is made durable; `None`
    /// for no longer than there is more at once.
    pub coordinator_append_linger: Option<Duration>,
    /// `offsets.load.buffer.size`: how much of a coordinator's log is read at a time.
    pub offsets_load_bytes: usize,
    /// Access to an `s3:` store.
    pub s3: S3Access,
    /// The bug that a build with `planted-bugs` has; always `None` otherwise.
    pub planted_bug: Option<PlantedBug>,
    /// Every property as given, for DescribeConfigs and the defaults of topics.
    pub properties: BTreeMap<String, String>,
}

/// How logs are compacted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cleaner {
    /// `log.cleaner.threads`: partitions that are compacted side by side; 0 where
    /// `log.cleaner.enable` is off.
    pub threads: usize,
    /// `log.cleaner.dedupe.buffer.size`: memory for the keys of all of them.
    pub map_bytes: usize,
    /// `log.cleaner.io.buffer.load.factor`: the share of it that is filled.
    pub load_factor: f64,
    /// `log.cleaner.io.max.bytes.per.second`: read and written, over all of them.
    pub bytes_per_second_max: f64,
    /// `log.cleaner.backoff.ms`: the pause where nothing is dirty enough.
    pub backoff: Duration,
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address; empty for all addresses.
    pub host: String,
    /// The port; 0 takes a free one.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = String;
    fn from_str(text: &str) -> Result<HostPort, String> {
        let wanted = || format!("{text:?} is not HOST:PORT");
        let (host, port) = text.trim().rsplit_once(':').ok_or_else(wanted)?;
        let host = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        let port = port.parse().map_err(|_| wanted())?;
        Ok(HostPort {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A named listener: `NAME://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name, in capitals.
    pub name: String,
    /// Where it is.
    pub address: HostPort,
}

impl FromStr for Endpoint {
    type Err = String;
    fn from_str(text: &str) -> Result<Endpoint, String> {
        let (name, address) = text
            .trim()
            .split_once("://")
            .ok_or_else(|| format!("{text:?} is not NAME://HOST:PORT"))?;
        Ok(Endpoint {
            name: name.to_ascii_uppercase(),
            address: address.parse()?,
        })
    }
}

/// `metadata.store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataStoreUrl {
    /// A database in the first log directory.
    Embedded,
    /// A database at this path.
    EmbeddedAt(PathBuf),
}

/// `log.durability`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// An acknowledged record is on the disk.
    Durable,
    /// An acknowledged record is in the page cache: a crash of the machine may lose it.
    Relaxed,
}

/// How `__consumer_offsets` is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetsTopic {
    /// `offsets.topic.num.partitions`.
    pub partitions: i32,
    /// `offsets.topic.replication.factor`; no more than there are brokers.
    pub replication_factor: i16,
    /// `offsets.topic.segment.bytes`.
    pub segment_bytes: u32,
}

/// How an `s3:` store is reached.
#[derive(Debug, Clone, Default)]
pub struct S3Access {
    /// `object.store.s3.endpoint`; AWS where it is not set.
    pub endpoint: Option<String>,
    /// `object.store.s3.region`.
    pub region: Option<String>,
    /// `object.store.s3.access.key`, or the environment's `AWS_ACCESS_KEY_ID`.
    pub access_key: Option<String>,
    /// `object.store.s3.secret.key`, or the environment's `AWS_SECRET_ACCESS_KEY`.
    pub secret_key: Option<String>,
}

/// A bug planted on purpose, to prove that the tests catch it. Only builds with the feature
/// `planted-bugs` accept `planted.bug`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// Produce is acknowledged before it is written.
    AckBeforeWrite,
    /// One batch in the middle is cut at recovery.
    CutBatch,
    /// A truncated tail is kept at recovery.
    KeepTruncatedTail,
}

/// A configuration that cannot be used. The text is one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Neither Kafka nor Esker knows the key.
    #[error("unknown configuration key {key:?}{}", nearest.as_ref().map(|n| format!("; did you mean {n:?}?")).unwrap_or_default())]
    UnknownKey {
        /// The key.
        key: String,
        /// The known key most like it.
        nearest: Option<String>,
    },
    /// A value is not what its key wants.
    #[error("{key}={value}: {problem}")]
    Invalid {
        /// The key.
        key: String,
        /// The value; secrets are not shown.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The properties file cannot be read.
    #[error(transparent)]
    Properties(#[from] properties::PropertiesError),
}

/// The longest time for which what a coordinator has appended waits for more.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// Memory for requests being served, where `queued.max.request.bytes` is not set.
const REQUESTS_BYTES_MAX: usize = 256 << 20;

impl Config {
    /// Reads and checks properties; returns the configuration and a warning for each key that has
    /// no effect. Later pairs win over earlier ones.
    ///
    /// # Errors
    /// A key is unknown, or a value cannot be used.
    pub fn from_properties(
        pairs: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Config, Vec<String>), ConfigError> {
        let mut properties: BTreeMap<String, String> = pairs.into_iter().collect();
        let warnings = keys::check_all(&properties)?;
        name_node(&mut properties)?;
        let values = Values(&properties);

        let listeners = values.list::<Endpoint>("listeners", "PLAINTEXT://127.0.0.1:9092")?;
        for endpoint in &listeners {
            let protocols = properties.get("listener.security.protocol.map");
            let is_plaintext = endpoint.name == "PLAINTEXT"
                || protocols.is_some_and(|map| {
                    map.split(',').any(|pair| {
                        pair.trim().split_once(':').is_some_and(|(name, protocol)| {
                            name.eq_ignore_ascii_case(&endpoint.name) && protocol == "PLAINTEXT"
                        })
                    })
                });
            if !is_plaintext {
                return Err(values.invalid(
                    "listeners",
                    format!(
                        "listener {} is not PLAINTEXT, the only protocol so far",
                        endpoint.name
                    ),
                ));
            }
        }
        if listeners.is_empty() {
            return Err(values.invalid("listeners", "no listener".to_owned()));
        }

        let log_dirs = properties
            .get("log.dirs")
            .or_else(|| properties.get("log.dir"))
            .map_or("/var/lib/esker", String::as_str)
            .split(',')
            .map(|path| PathBuf::from(path.trim()))
            .collect();

        let config = Config {
            node_id: BrokerId(values.number("node.id", 0, i64::from(i32::MAX), Some("1"))? as i32),
            cluster_id: values.cluster_id()?,
            log_dirs,
            listeners,
            advertised_listeners: values.list("advertised.listeners", "")?,
            http_listener: values.optional::<HostPort>("http.listener")?,
            object_store_url: values.object_store_url()?,
            metadata_store: values.metadata_store()?,
            durability: values.word(
                "log.durability",
                &[
                    ("durable", Durability::Durable),
                    ("relaxed", Durability::Relaxed),
                ],
            )?,
            auto_create_topics: values.flag("auto.create.topics.enable")?,
            partitions_default: values.number("num.partitions", 1, 100_000, None)? as i32,
            replication_factor_default: values.number(
                "default.replication.factor",
                1,
                32_767,
                None,
            )? as i16,
            request_bytes_max: values.size("socket.request.max.bytes", 1, None)?,
            requests_bytes_max: match values.number(
                "queued.max.request.bytes",
                -1,
                i64::MAX,
                Some("-1"),
            )? {
                ..1 => REQUESTS_BYTES_MAX,
                bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
            },
            responses_bytes_max: values.size("queued.max.response.bytes", 1, None)?,
            connection_idle: values.millis("connections.max.idle.ms", None)?,
            connections_max: values.size("max.connections", 0, None)?,
            sockets_max: usize::MAX,
            fetch_bytes_max: values.size("fetch.max.bytes", 1024, None)?,
            fetch_sessions_max: values.size(
                "max.incremental.fetch.session.cache.slots",
                0,
                None,
            )?,
            page_partitions_max: values.number(
                "max.request.partition.size.limit",
                1,
                i64::from(i32::MAX),
                None,
            )? as i32,
            remote_fetch_wait_max: values.millis("remote.fetch.max.wait.ms", Some("500"))?,
            retention_check_interval: values.millis("log.retention.check.interval.ms", None)?,
            cleaner: values.cleaner()?,
            offload_bytes_min: values.number("offload.min.bytes", 0, i64::MAX, None)? as u64,
            offload_age_max: values.millis("offload.max.age.ms", None)?,
            reserve_bytes: values.number("log.dir.reserve.bytes", 0, i64::MAX, None)? as u64,
            remote_cache_bytes: values.size("remote.cache.bytes", 0, None)?,
            manifest_retention: values.millis("manifest.retention.ms", None)?,
            producer_id_expiration: values.millis("producer.id.expiration.ms", None)?,
            shutdown_timeout: values.millis("shutdown.timeout.ms", None)?,
            groups: Arc::new(values.groups()?),
            offsets_topic: OffsetsTopic {
                partitions: values.number("offsets.topic.num.partitions", 1, 10_000, None)? as i32,
                replication_factor: values.number(
                    "offsets.topic.replication.factor",
                    1,
                    32_767,
                    None,
                )? as i16,
                segment_bytes: values.number(
                    "offsets.topic.segment.bytes",
                    1_048_576,
                    i64::from(i32::MAX),
                    None,
                )? as u32,
            },
            offsets_commit_timeout: values.millis("offsets.commit.timeout.ms", None)?,
            coordinator_append_linger: values.coordinator_append_linger()?,
            offsets_load_bytes: values.size("offsets.load.buffer.size", 1, None)?,
            s3: S3Access {
                endpoint: properties.get("object.store.s3.endpoint").cloned(),
                region: properties.get("object.store.s3.region").cloned(),
                access_key: properties.get("object.store.s3.access.key").cloned(),
                secret_key: properties.get("object.store.s3.secret.key").cloned(),
            },
            planted_bug: values.planted_bug()?,
            properties: properties.clone(),
        };
        Ok((config, warnings))
    }
}

/// Gives the node's id under both its names: `broker.id` is the older one.
fn name_node(properties: &mut BTreeMap<String, String>) -> Result<(), ConfigError> {
    const NAMES: [&str; 2] = ["node.id", "broker.id"];
    let [node, broker] = NAMES.map(|name| properties.get(name).cloned());
    match (node, broker) {
        (Some(node), Some(broker)) if node.trim() != broker.trim() => Err(ConfigError::Invalid {
            key: "broker.id".to_owned(),
            value: broker,
            problem: format!("is not what node.id says, {node}"),
        }),
        (Some(id), None) | (None, Some(id)) => {
            properties.extend(NAMES.map(|name| (name.to_owned(), id.clone())));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Typed access to properties, with the defaults of the key tables.
struct Values<'a>(&'a BTreeMap<String, String>);

impl Values<'_> {
    fn invalid(&self, key: &str, problem: String) -> ConfigError {
        let value = self.0.get(key).cloned().unwrap_or_default();
        ConfigError::Invalid {
            key: key.to_owned(),
            value,
            problem,
        }
    }

    fn text(&self, key: &str, default: Option<&str>) -> Option<String> {
        self.0
            .get(key)
            .map(String::as_str)
            .or(default)
            .or_else(|| keys::default_of(key))
            .map(str::to_owned)
    }

    fn optional<T: FromStr<Err = String>>(&self, key: &str) -> Result<Option<T>, ConfigError> {
        match self.0.get(key).map(|value| value.trim()) {
            None | Some("" | "none") => Ok(None),
            Some(value) => value
                .parse()
                .map(Some)
                .map_err(|problem| self.invalid(key, problem)),
        }
    }

    fn list<T: FromStr<Err = String>>(
        &self,
        key: &str,
        default: &str,
    ) -> Result<Vec<T>, ConfigError> {
        let text = self.0.get(key).map_or(default, String::as_str);
        text.split(',')
            .filter(|part| !part.trim().is_empty())
            .map(|part| part.parse().map_err(|problem| self.invalid(key, problem)))
            .collect()
    }

    fn number(
        &self,
        key: &str,
        least: i64,
        most: i64,
        default: Option<&str>,
    ) -> Result<i64, ConfigError> {
        let text = self.text(key, default).unwrap_or_default();
        match text.trim().parse::<i64>() {
            Ok(value) if (least..=most).contains(&value) => Ok(value),
            Ok(_) if most == i64::MAX => {
                Err(self.invalid(key, format!("must be at least {least}")))
            }
            Ok(_) => Err(self.invalid(key, format!("must be between {least} and {most}"))),
            Err(_) => Err(self.invalid(key, "is not a number".to_owned())),
        }
    }

    fn size(&self, key: &str, least: i64, default: Option<&str>) -> Result<usize, ConfigError> {
        let value = self.number(key, least, i64::MAX, default)?;
        Ok(usize::try_from(value).unwrap_or(usize::MAX))
    }

    fn millis(&self, key: &str, default: Option<&str>) -> Result<Duration, ConfigError> {
        let value = self.number(key, 0, i64::MAX, default)?;
        // A century is as good as never, and keeps sums of times from overflowing.
        const MILLIS_MAX: u64 = 100 * 366 * 86_400_000;
        Ok(Duration::from_millis(
            u64::try_from(value).unwrap_or(0).min(MILLIS_MAX),
        ))
    }

    fn real(&self, key: &str, least: f64, most: f64) -> Result<f64, ConfigError> {
        let text = self.text(key, None).unwrap_or_default();
        match text.trim().parse::<f64>() {
            Ok(value) if (least..=most).contains(&value) => Ok(value),
            Ok(_) => Err(self.invalid(key, format!("must be between {least} and {most}"))),
            Err(_) => Err(self.invalid(key, "is not a number".to_owned())),
        }
    }

    fn cleaner(&self) -> Result<Cleaner, ConfigError> {
        let threads = self.size("log.cleaner.threads", 0, None)?;
        Ok(Cleaner {
            threads: match self.flag("log.cleaner.enable")? {
                true => threads,
                false => 0,
            },
            map_bytes: self.size("log.cleaner.dedupe.buffer.size", 1, None)?,
            load_factor: self.real("log.cleaner.io.buffer.load.factor", 0.0, 1.0)?,
            bytes_per_second_max: self.real(
                "log.cleaner.io.max.bytes.per.second",
                1.0,
                f64::MAX,
            )?,
            backoff: self.millis("log.cleaner.backoff.ms", None)?,
        })
    }

    fn flag(&self, key: &str) -> Result<bool, ConfigError> {
        let text = self.text(key, None).unwrap_or_default();
        Kind::Boolean
            .check(&text)
            .map_err(|problem| self.invalid(key, problem.to_owned()))?;
        Ok(text.trim().eq_ignore_ascii_case("true"))
    }

    /// The time, where it is one: -1 says that it goes by the load, 0 that there is none. More than a second
    /// would only make clients give up.
    fn coordinator_append_linger(&self) -> Result<Option<Duration>, ConfigError> {
        let most = i64::from(i32::MAX);
        let millis = self.number("group.coordinator.append.linger.ms", -1, most, None)?;
        let linger = u64::try_from(millis).ok().map(Duration::from_millis);
        let linger = linger.filter(|linger| !linger.is_zero());
        Ok(linger.map(|linger| linger.min(LINGER_MAX)))
    }

    /// What coordinators are told; bounds that contradict each other are refused as Kafka does.
    fn groups(&self) -> Result<esker_coordinator::Settings, ConfigError> {
        let number = |key: &str| {
            let value = self.number(key, 1, i64::from(i32::MAX), None)?;
            Ok::<i32, ConfigError>(value as i32)
        };
        let bounded = |key: &str, least: &str, most: &str| {
            let (value, min, max) = (number(key)?, number(least)?, number(most)?);
            if (min..=max).contains(&value) {
                Ok(value)
            } else {
                let problem = format!("must be between {least} ({min}) and {most} ({max})");
                Err(self.invalid(key, problem))
            }
        };
        let (min, max) = (
            number("group.min.session.timeout.ms")?,
            number("group.max.session.timeout.ms")?,
        );
        if max < min {
            let problem = format!("must be at least group.min.session.timeout.ms ({min})");
            return Err(self.invalid("group.max.session.timeout.ms", problem));
        }
        let session = bounded(
            "group.consumer.session.timeout.ms",
            "group.consumer.min.session.timeout.ms",
            "group.consumer.max.session.timeout.ms",
        )?;
        let heartbeat = bounded(
            "group.consumer.heartbeat.interval.ms",
            "group.consumer.min.heartbeat.interval.ms",
            "group.consumer.max.heartbeat.interval.ms",
        )?;
        if heartbeat >= session {
            let problem =
                format!("must be less than group.consumer.session.timeout.ms ({session})");
            return Err(self.invalid("group.consumer.heartbeat.interval.ms", problem));
        }
        let assignors: Vec<String> = self
            .text("group.consumer.assignors", None)
            .unwrap_or_default()
            .split(',')
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        let are_known = assignors
            .iter()
            .all(|name| name == "uniform" || name == "range");
        if assignors.is_empty() || !are_known {
            let problem = "must be a list of uniform and range".to_owned();
            return Err(self.invalid("group.consumer.assignors", problem));
        }
        let protocols = self
            .text("group.coordinator.rebalance.protocols", None)
            .unwrap_or_default();
        let policy = self
            .text("group.consumer.migration.policy", None)
            .unwrap_or_default()
            .to_ascii_lowercase();
        let migration = match policy.trim() {
            "bidirectional" => MigrationPolicy::Bidirectional,
            "upgrade" => MigrationPolicy::Upgrade,
            "downgrade" => MigrationPolicy::Downgrade,
            "disabled" => MigrationPolicy::Disabled,
            _ => {
                let problem = "must be bidirectional, upgrade, downgrade or disabled".to_owned();
                return Err(self.invalid("group.consumer.migration.policy", problem));
            }
        };
        let any = |key: &str| {
            let value = self.number(key, 0, i64::from(i32::MAX), None)?;
            Ok::<i32, ConfigError>(value as i32)
        };
        Ok(esker_coordinator::Settings {
            session_timeout_ms_min: min,
            session_timeout_ms_max: max,
            initial_rebalance_delay_ms: any("group.initial.rebalance.delay.ms")?,
            classic_members_max: number("group.max.size")?,
            consumer_members_max: number("group.consumer.max.size")?,
            consumer_assignors: assignors,
            consumer_migration: migration,
            consumer_enabled: protocols.split(',').any(|word| word.trim() == "consumer"),
            group: esker_coordinator::GroupSettings {
                consumer_session_timeout_ms: session,
                consumer_heartbeat_interval_ms: heartbeat,
                consumer_assignment_interval_ms: self.number(
                    "group.consumer.assignment.interval.ms",
                    0,
                    15_000,
                    None,
                )? as i32,
            },
            offset_metadata_bytes_max: self.size("offset.metadata.max.bytes", 0, None)?,
            offsets_retention_ms: self.number(
                "offsets.retention.minutes",
                1,
                i64::from(i32::MAX),
                None,
            )? * 60_000,
            offsets_retention_check_interval_ms: self.number(
                "offsets.retention.check.interval.ms",
                1,
                i64::MAX,
                None,
            )?,
            ..esker_coordinator::Settings::default()
        })
    }

    fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Result<T, ConfigError> {
        let text = self
            .text(key, words.first().map(|(word, _)| *word))
            .unwrap_or_default();
        words
            .iter()
            .find(|(word, _)| *word == text.trim())
            .map(|(_, value)| *value)
            .ok_or_else(|| {
                let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                self.invalid(key, format!("must be one of {}", all.join(", ")))
            })
    }

    fn cluster_id(&self) -> Result<Option<String>, ConfigError> {
        let Some(text) = self.0.get("cluster.id") else {
            return Ok(None);
        };
        match text.trim().parse::<esker_protocol::TopicId>() {
            Ok(id) => Ok(Some(id.to_string())),
            Err(error) => Err(self.invalid("cluster.id", error.to_string())),
        }
    }

    fn object_store_url(&self) -> Result<Option<String>, ConfigError> {
        match self.0.get("object.store.url").map(|url| url.trim()) {
            None | Some("" | "none") => Ok(None),
            Some(url)
                if url.starts_with("s3://") || url.starts_with("file://") || url == "memory:" =>
            {
                Ok(Some(url.to_owned()))
            }
            Some(_) => Err(self.invalid(
                "object.store.url",
                "must be s3://bucket/prefix, file:///path, memory: or none".to_owned(),
            )),
        }
    }

    fn metadata_store(&self) -> Result<MetadataStoreUrl, ConfigError> {
        let text = self.text("metadata.store", None).unwrap_or_default();
        match text.trim().strip_prefix("embedded:") {
            Some("") => Ok(MetadataStoreUrl::Embedded),
            Some(path) => Ok(MetadataStoreUrl::EmbeddedAt(PathBuf::from(path))),
            None if text.starts_with("etcd://") => Err(self.invalid(
                "metadata.store",
                "clusters on etcd are not part of this version; use embedded:".to_owned(),
            )),
            None => Err(self.invalid("metadata.store", "must be embedded: or etcd://…".to_owned())),
        }
    }

    #[cfg(feature = "planted-bugs")]
    fn planted_bug(&self) -> Result<Option<PlantedBug>, ConfigError> {
        if !self.0.contains_key("planted.bug") {
            return Ok(None);
        }
        let bugs = [
            ("ack-before-write", PlantedBug::AckBeforeWrite),
            ("cut-batch", PlantedBug::CutBatch),
            ("keep-truncated-tail", PlantedBug::KeepTruncatedTail),
        ];
        self.word("planted.bug", &bugs).map(Some)
    }

    #[cfg(not(feature = "planted-bugs"))]
    #[expect(
        clippy::unnecessary_wraps,
        reason = "the build with planted bugs can fail here"
    )]
    fn planted_bug(&self) -> Result<Option<PlantedBug>, ConfigError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
