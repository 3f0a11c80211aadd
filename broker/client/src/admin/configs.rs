//! Settings of topics, brokers and groups.

use esker_protocol::messages::{
    DescribeConfigsRequest, IncrementalAlterConfigsRequest, ListConfigResourcesRequest,
    describe_configs_request, describe_configs_response, incremental_alter_configs_request,
};
use esker_protocol::{BrokerId, ErrorCode};
use tokio::time::Instant;

use super::nonsense;
use crate::client::{Client, Retry, Target};
use crate::error::{ClientError, check};

/// What has settings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigResource {
    /// A topic.
    Topic(String),
    /// One broker.
    Broker(BrokerId),
    /// All brokers that do not say otherwise.
    ClusterDefault,
    /// The log levels of one broker.
    BrokerLogger(BrokerId),
    /// A subscription to clients' metrics.
    ClientMetrics(String),
    /// A group.
    Group(String),
}

impl ConfigResource {
    /// `ConfigResource.Type` and the name.
    fn wire(&self) -> (i8, String) {
        match self {
            ConfigResource::Topic(name) => (TOPIC, name.clone()),
            ConfigResource::Broker(id) => (BROKER, id.to_string()),
            ConfigResource::ClusterDefault => (BROKER, String::new()),
            ConfigResource::BrokerLogger(id) => (BROKER_LOGGER, id.to_string()),
            ConfigResource::ClientMetrics(name) => (CLIENT_METRICS, name.clone()),
            ConfigResource::Group(name) => (GROUP, name.clone()),
        }
    }

    /// The resource of a type and a name; `None` where it is of no known type.
    fn of(kind: i8, name: &str) -> Option<ConfigResource> {
        let broker = || name.parse().ok().map(BrokerId);
        match kind {
            TOPIC => Some(ConfigResource::Topic(name.to_owned())),
            BROKER if name.is_empty() => Some(ConfigResource::ClusterDefault),
            BROKER => broker().map(ConfigResource::Broker),
            BROKER_LOGGER => broker().map(ConfigResource::BrokerLogger),
            CLIENT_METRICS => Some(ConfigResource::ClientMetrics(name.to_owned())),
            GROUP => Some(ConfigResource::Group(name.to_owned())),
            _ => None,
        }
    }

    /// The one broker that answers for it, if not every broker does.
    fn broker(&self) -> Option<BrokerId> {
        match self {
            ConfigResource::Broker(id) | ConfigResource::BrokerLogger(id) => Some(*id),
            _ => None,
        }
    }
}

impl std::fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConfigResource::Topic(name) => write!(f, "topic {name}"),
            ConfigResource::Broker(id) => write!(f, "broker {id}"),
            ConfigResource::ClusterDefault => write!(f, "all brokers"),
            ConfigResource::BrokerLogger(id) => write!(f, "the loggers of broker {id}"),
            ConfigResource::ClientMetrics(name) => write!(f, "client metrics {name}"),
            ConfigResource::Group(name) => write!(f, "group {name}"),
        }
    }
}

/// `ConfigResource.Type`
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

/// Where a setting's value comes from: Kafka's `ConfigSource`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigSource {
    /// The topic.
    Topic,
    /// The broker, while it runs.
    Broker,
    /// All brokers, while they run.
    ClusterDefault,
    /// The broker's file.
    BrokerFile,
    /// Nobody set it.
    Default,
    /// The broker's loggers, while it runs.
    BrokerLogger,
    /// The subscription.
    ClientMetrics,
    /// The group.
    Group,
    /// Of no known kind.
    Unknown,
}

impl ConfigSource {
    fn of(code: i8) -> ConfigSource {
        match code {
            1 => ConfigSource::Topic,
            2 => ConfigSource::Broker,
            3 => ConfigSource::ClusterDefault,
            4 => ConfigSource::BrokerFile,
            5 => ConfigSource::Default,
            6 => ConfigSource::BrokerLogger,
            7 => ConfigSource::ClientMetrics,
            8 => ConfigSource::Group,
            _ => ConfigSource::Unknown,
        }
    }

    /// Kafka's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ConfigSource::Topic => "DYNAMIC_TOPIC_CONFIG",
            ConfigSource::Broker => "DYNAMIC_BROKER_CONFIG",
            ConfigSource::ClusterDefault => "DYNAMIC_DEFAULT_BROKER_CONFIG",
            ConfigSource::BrokerFile => "STATIC_BROKER_CONFIG",
            ConfigSource::Default => "DEFAULT_CONFIG",
            ConfigSource::BrokerLogger => "DYNAMIC_BROKER_LOGGER_CONFIG",
            ConfigSource::ClientMetrics => "DYNAMIC_CLIENT_METRICS_CONFIG",
            ConfigSource::Group => "DYNAMIC_GROUP_CONFIG",
            ConfigSource::Unknown => "UNKNOWN",
        }
    }
}

/// A setting as it takes effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its key.
    pub name: String,
    /// Its value; secrets have none.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it cannot be changed while the broker runs.
    pub is_read_only: bool,
    /// Whether it is a secret.
    pub is_sensitive: bool,
    /// Kafka's name of its type.
    pub kind: &'static str,
    /// Keys, values and sources that could have given the value, the one that did first.
    pub synonyms: Vec<(String, Option<String>, ConfigSource)>,
}

/// Kafka's `ConfigType`.
fn kind(code: i8) -> &'static str {
    match code {
        1 => "boolean",
        2 => "string",
        3 => "int",
        4 => "short",
        5 => "long",
        6 => "double",
        7 => "list",
        8 => "class",
        9 => "password",
        _ => "unknown",
    }
}

impl ConfigEntry {
    fn of(entry: &describe_configs_response::DescribeConfigsResourceResult<'_>) -> ConfigEntry {
        let synonyms = entry.synonyms.iter().map(|synonym| {
            let value = synonym.value.as_deref().map(str::to_owned);
            let source = ConfigSource::of(synonym.source);
            (synonym.name.to_string(), value, source)
        });
        ConfigEntry {
            name: entry.name.to_string(),
            value: entry.value.as_deref().map(str::to_owned),
            source: ConfigSource::of(entry.config_source),
            is_read_only: entry.read_only,
            is_sensitive: entry.is_sensitive,
            kind: kind(entry.config_type),
            synonyms: synonyms.collect(),
        }
    }
}

/// What becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// It gets this value.
    Set(String, String),
    /// Its own value goes, and whatever is behind it takes effect.
    Delete(String),
}

/// `AlterConfigOp.OpType`
const SET: i8 = 0;
const DELETE: i8 = 1;
/// The first version of ListConfigResources that lists more than client metrics.
const LIST_ALL_FROM: i16 = 1;

impl Client {
    /// The settings of a resource, in the order of their keys.
    pub async fn describe_config(
        &self,
        resource: &ConfigResource,
        deadline: Instant,
    ) -> Result<Vec<ConfigEntry>, ClientError> {
        let what = || format!("describing the settings of {resource}");
        let (resource_type, name) = resource.wire();
        let request = DescribeConfigsRequest {
            resources: vec![describe_configs_request::DescribeConfigsResource {
                resource_type,
                resource_name: name.into(),
                configuration_keys: None,
            }],
            include_synonyms: true,
            ..DescribeConfigsRequest::default()
        };
        let target = self.target(resource, Target::Any, what, deadline).await?;
        let answer = self.call(target, None, &request, true, deadline).await?;
        let response = answer.body().map_err(|error| nonsense(&what(), &error))?;
        let result = response
            .results
            .first()
            .ok_or_else(|| ClientError::Nonsense {
                what: what(),
                reason: "the resource is missing".to_owned(),
            })?;
        check(result.error_code, result.error_message.as_deref(), what)?;
        let mut entries: Vec<ConfigEntry> = result.configs.iter().map(ConfigEntry::of).collect();
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    /// Changes settings of a resource, all or none; with `validate_only` says whether they could be.
    pub async fn alter_config(
        &self,
        resource: &ConfigResource,
        changes: &[ConfigChange],
        validate_only: bool,
        deadline: Instant,
    ) -> Result<(), ClientError> {
        let what = || format!("changing the settings of {resource}");
        let (resource_type, name) = resource.wire();
        let configs = changes.iter().map(|change| {
            let (name, config_operation, value) = match change {
                ConfigChange::Set(name, value) => (name, SET, Some(value.as_str().into())),
                ConfigChange::Delete(name) => (name, DELETE, None),
            };
            incremental_alter_configs_request::AlterableConfig {
                name: name.as_str().into(),
                config_operation,
                value,
            }
        });
        let request = IncrementalAlterConfigsRequest {
            resources: vec![incremental_alter_configs_request::AlterConfigsResource {
                resource_type,
                resource_name: name.into(),
                configs: configs.collect(),
            }],
            validate_only,
        };
        let target = self
            .target(resource, Target::Controller, what, deadline)
            .await?;
        let mut retry = Retry::new(deadline);
        loop {
            // Setting a value again, or deleting what is gone, changes nothing.
            let answer = self.call(target, None, &request, true, deadline).await?;
            let response = answer.body().map_err(|error| nonsense(&what(), &error))?;
            let result = response
                .responses
                .first()
                .ok_or_else(|| ClientError::Nonsense {
                    what: what(),
                    reason: "the resource is missing".to_owned(),
                })?;
            let outcome = check(result.error_code, result.error_message.as_deref(), what);
            match outcome {
                Ok(()) => {
                    if let ConfigResource::Topic(topic) = resource {
                        self.forget_topic(topic);
                    }
                    return Ok(());
                }
                // It names what does not exist: asking again would only take time.
                Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {
                    return Err(error);
                }
                Err(error) => retry.pause(what, error).await?,
            }
        }
    }

    /// What has settings of its own, sorted; resources of unknown types are left out.
    pub async fn list_config_resources(
        &self,
        deadline: Instant,
    ) -> Result<Vec<ConfigResource>, ClientError> {
        let what = || "listing what has settings".to_owned();
        let request = ListConfigResourcesRequest::default();
        let answer = self
            .call(Target::Any, None, &request, true, deadline)
            .await?;
        let response = answer.body().map_err(|error| nonsense(&what(), &error))?;
        check(response.error_code, None, what)?;
        let resources = response.config_resources.iter();
        let mut resources: Vec<ConfigResource> = resources
            .filter_map(|one| {
                let kind = if answer.version() < LIST_ALL_FROM {
                    CLIENT_METRICS
                } else {
                    one.resource_type
                };
                ConfigResource::of(kind, &one.resource_name)
            })
            .collect();
        resources.sort();
        Ok(resources)
    }

    /// Whom to ask about a resource: its own broker, or else whoever is as good.
    async fn target(
        &self,
        resource: &ConfigResource,
        others: Target,
        what: impl Fn() -> String,
        deadline: Instant,
    ) -> Result<Target, ClientError> {
        let Some(id) = resource.broker() else {
            return Ok(others);
        };
        let metadata = self.metadata(Some(&[]), deadline).await?;
        if metadata.brokers.contains_key(&id) {
            return Ok(Target::Broker(id));
        }
        Err(ClientError::Kafka {
            what: what(),
            code: ErrorCode::BrokerNotAvailable,
            message: Some(format!("there is no broker {id}, or it is away")),
        })
    }
}
