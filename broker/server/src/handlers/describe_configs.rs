//! DescribeConfigs of topics, brokers, groups, subscriptions to clients' metrics, and logs.

use std::borrow::Cow;
use std::sync::Arc;

use esker_metadata::Image;
use esker_protocol::ErrorCode;
use esker_protocol::messages::describe_configs_request::DescribeConfigsResource;
use esker_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use esker_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use tracing::level_filters::LevelFilter;

use super::Answer;
use crate::broker::Shared;
use crate::config::client_metrics::CLIENT_METRICS_KEYS;
use crate::config::dynamic::{self, BrokerSettings, Synonym};
use crate::config::group::{self, GROUP_KEYS};
use crate::config::kafka_keys::BROKER_KEYS;
use crate::config::keys::{OWN_KEYS, kafka_key, own_key};
use crate::config::topic::{self, Source, TOPIC_KEYS};
use crate::config::{Durability, Kind, texts};
use crate::configs::{self, Resource};
use crate::connection::Reply;
use crate::topics::{self, Refusal};

pub(super) const RESOURCE_TOPIC: i8 = 2;
pub(super) const RESOURCE_BROKER: i8 = 4;
pub(super) const RESOURCE_BROKER_LOGGER: i8 = 8;
pub(super) const RESOURCE_CLIENT_METRICS: i8 = 16;
pub(super) const RESOURCE_GROUP: i8 = 32;

/// The types of resources that have settings.
pub(super) const RESOURCES: [i8; 5] = [
    RESOURCE_TOPIC,
    RESOURCE_BROKER,
    RESOURCE_BROKER_LOGGER,
    RESOURCE_CLIENT_METRICS,
    RESOURCE_GROUP,
];

/// The one logger whose level can be seen.
pub(super) const ROOT_LOGGER: &str = "root";

/// The type that Kafka gives to what it does not know.
const KIND_UNKNOWN: i8 = 0;

/// The settings that one answer shows at most: resources may be named again and again.
const ROWS_MAX: usize = 500_000;

/// Answers each resource with its settings, their values and where those come from.
pub(crate) fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    request: &DescribeConfigsRequest<'_>,
) -> Reply {
    let unknown = request
        .resources
        .iter()
        .find(|resource| !RESOURCES.contains(&resource.resource_type));
    // One that nobody knows spoils the whole request.
    let spoilt = unknown.map(|resource| {
        let name = &resource.resource_name;
        let message = format!("Unexpected resource type UNKNOWN for resource {name}");
        Refusal::new(ErrorCode::InvalidRequest, message)
    });
    let image = shared.image();
    let view = View {
        shared,
        settings: configs::settings(shared, &image),
        image: &image,
        with_synonyms: request.include_synonyms,
        with_texts: request.include_documentation,
    };
    let mut rows = 0;
    let describe = |resource: &DescribeConfigsResource<'_>| {
        let described = match &spoilt {
            Some(refusal) => Err(Some(refusal.clone())),
            None if rows > ROWS_MAX => {
                let message = format!("The request asks for more than {ROWS_MAX} settings.");
                Err(Some(Refusal::new(ErrorCode::InvalidRequest, message)))
            }
            None => view.describe(resource),
        };
        let result = result(resource, described);
        rows += result.configs.len();
        result
    };
    let results = request.resources.iter().map(describe).collect();
    super::reply(
        &answer,
        &DescribeConfigsResponse {
            results,
            ..Default::default()
        },
    )
}

type Rows<'a> = Vec<DescribeConfigsResourceResult<'a>>;

/// A refusal without words is a topic that is not there.
type Described<'a> = Result<Rows<'a>, Option<Refusal>>;

fn result<'a>(
    resource: &DescribeConfigsResource<'_>,
    described: Described<'a>,
) -> DescribeConfigsResult<'a> {
    let is_wanted = |config: &DescribeConfigsResourceResult<'_>| {
        let keys = resource.configuration_keys.as_ref();
        keys.is_none_or(|keys| keys.is_empty() || keys.contains(&config.name))
    };
    let (code, message, configs) = match described {
        Ok(configs) => {
            let wanted = configs.into_iter().filter(is_wanted).collect();
            (ErrorCode::None, String::new(), wanted)
        }
        Err(Some(refusal)) => (refusal.code, refusal.message, Vec::new()),
        Err(None) => (
            ErrorCode::UnknownTopicOrPartition,
            String::new(),
            Vec::new(),
        ),
    };
    DescribeConfigsResult {
        error_code: code.code(),
        error_message: Some(Cow::Owned(message)),
        resource_type: resource.resource_type,
        resource_name: Cow::Owned(resource.resource_name.to_string()),
        configs,
    }
}

/// A setting, before it is shown.
struct Row {
    name: Cow<'static, str>,
    value: Option<String>,
    kind: Option<Kind>,
    read_only: bool,
    synonyms: Vec<Synonym>,
    text: Option<&'static str>,
}

/// What a request asks about, and how much it wants to know.
struct View<'a> {
    shared: &'a Shared,
    image: &'a Image,
    settings: Arc<BrokerSettings>,
    with_synonyms: bool,
    with_texts: bool,
}

impl View<'_> {
    fn describe<'a>(&self, resource: &DescribeConfigsResource<'_>) -> Described<'a> {
        let name = resource.resource_name.as_ref();
        let rows = match resource.resource_type {
            RESOURCE_TOPIC => self.topic(name)?,
            RESOURCE_BROKER if name.is_empty() => self.all_brokers(),
            RESOURCE_BROKER => {
                check_broker(self.shared, name, "or empty string, ")?;
                self.broker()
            }
            RESOURCE_BROKER_LOGGER => return self.logger(name),
            RESOURCE_CLIENT_METRICS => self.client_metrics(name)?,
            RESOURCE_GROUP => self.group(name)?,
            other => {
                let message = format!("Unsupported resource type: {other}");
                return Err(Some(Refusal::new(ErrorCode::InvalidRequest, message)));
            }
        };
        Ok(rows.into_iter().map(|row| self.show(row)).collect())
    }

    fn show<'a>(&self, row: Row) -> DescribeConfigsResourceResult<'a> {
        // What has no type may be a secret.
        let is_sensitive = row.kind.is_none_or(|kind| kind == Kind::Password);
        let source = row.synonyms.first().map_or(Source::Default, |s| s.source);
        let shown = |value: String| (!is_sensitive).then_some(Cow::Owned(value));
        let synonyms = row
            .synonyms
            .into_iter()
            .filter(|_| self.with_synonyms)
            .map(|synonym| DescribeConfigsSynonym {
                name: Cow::Owned(synonym.name),
                value: shown(synonym.value),
                source: synonym.source as i8,
            })
            .collect();
        DescribeConfigsResourceResult {
            name: row.name,
            value: row.value.and_then(shown),
            read_only: row.read_only,
            config_source: source as i8,
            is_sensitive,
            synonyms,
            config_type: row.kind.map_or(KIND_UNKNOWN, Kind::number),
            documentation: row.text.filter(|_| self.with_texts).map(Cow::Borrowed),
        }
    }

    fn topic(&self, name: &str) -> Result<Vec<Row>, Option<Refusal>> {
        topics::check_name(name).map_err(|problem| {
            Some(Refusal::new(
                ErrorCode::InvalidTopicException,
                problem.to_string(),
            ))
        })?;
        let topic = self.image.visible_topic(name);
        let overrides = &topic.ok_or(None)?.value.configs;
        let broker = self.settings.merged();
        // Where nobody set it, tiering is on for whatever can be tiered and a store is there for.
        let config = topic::TopicConfig::new(overrides, broker);
        let is_tiered = self.shared.environment.object_store.is_some() && config.is_tiered();
        let keys = TOPIC_KEYS.iter().filter(|key| {
            key.name != topic::INTERNAL_SEGMENT_BYTES || overrides.contains_key(key.name)
        });
        Ok(keys
            .map(|key| {
                let value = topic::effective(key.name, overrides, broker).or_else(|| {
                    (key.name == "remote.storage.enable").then(|| is_tiered.to_string())
                });
                Row {
                    name: Cow::Borrowed(key.name),
                    value: value.map(|value| key.canonical(&value)),
                    kind: Some(key.kind),
                    read_only: false,
                    synonyms: topic::synonyms(key, overrides, &self.settings),
                    text: texts::of_topic(key.name),
                }
            })
            .collect())
    }

    /// What was changed for all brokers.
    fn all_brokers(&self) -> Vec<Row> {
        self.settings
            .cluster
            .iter()
            .map(|(name, value)| Row {
                name: Cow::Owned(name.clone()),
                value: Some(value.clone()),
                kind: dynamic::kind_of(name),
                read_only: !dynamic::is_dynamic(name),
                synonyms: self
                    .settings
                    .synonyms(name)
                    .into_iter()
                    .filter(|synonym| synonym.source == Source::DynamicDefault)
                    .collect(),
                text: texts::of_broker(name),
            })
            .collect()
    }

    fn broker(&self) -> Vec<Row> {
        let merged = self.settings.merged();
        let row = |name: &'static str, kind: Kind, default: Option<&'static str>| {
            let value = match name {
                "log.durability" => Some(match self.shared.config.durability {
                    Durability::Durable => "durable".to_owned(),
                    Durability::Relaxed => "relaxed".to_owned(),
                }),
                _ => {
                    let value = merged.get(name).map(String::as_str).or(default);
                    value.map(|value| kind.canonical(value))
                }
            };
            Row {
                name: Cow::Borrowed(name),
                value,
                kind: Some(kind),
                read_only: !dynamic::is_dynamic(name),
                synonyms: self.settings.synonyms(name),
                text: texts::of_broker(name),
            }
        };
        let kafkas = BROKER_KEYS.iter();
        let kafkas = kafkas.map(|key| row(key.name, key.kind, key.default));
        let ours = OWN_KEYS.iter();
        let ours = ours.map(|key| row(key.name, key.kind, key.default));
        let is_listed = |name: &str| kafka_key(name).is_some() || own_key(name).is_some();
        // What is set and in no table: for one listener, dynamic only, or of nobody here.
        let others = merged.iter().filter(|(name, _)| !is_listed(name));
        let others = others.map(|(name, value)| Row {
            name: Cow::Owned(name.clone()),
            value: Some(value.clone()),
            kind: dynamic::kind_of(name),
            read_only: !dynamic::is_dynamic(name),
            synonyms: self.settings.synonyms(name),
            text: texts::of_broker(name),
        });
        kafkas.chain(ours).chain(others).collect()
    }

    /// The level of the broker's log, which is one for all of it.
    fn logger<'a>(&self, name: &str) -> Described<'a> {
        check_logger(self.shared, name)?;
        Ok(vec![DescribeConfigsResourceResult {
            name: Cow::Borrowed(ROOT_LOGGER),
            value: Some(Cow::Borrowed(log_level())),
            read_only: false,
            config_source: Source::BrokerLogger as i8,
            is_sensitive: false,
            synonyms: Vec::new(),
            config_type: KIND_UNKNOWN,
            documentation: Some(Cow::Borrowed("")),
        }])
    }

    fn client_metrics(&self, name: &str) -> Result<Vec<Row>, Option<Refusal>> {
        if name.is_empty() {
            let message = "Client metrics subscription name must not be empty";
            return Err(Some(Refusal::new(ErrorCode::InvalidRequest, message)));
        }
        let resource = Resource::ClientMetrics(name.to_owned());
        let (own, _) = configs::current(self.shared, self.image, &resource);
        let rows = CLIENT_METRICS_KEYS
            .iter()
            .map(|(name, kind, default, text)| {
                let set = own.get(*name);
                let value = set.map_or(*default, String::as_str);
                let set = set
                    .map(|value| Synonym::new(name, &kind.canonical(value), Source::ClientMetrics));
                Row {
                    name: Cow::Borrowed(*name),
                    value: Some(kind.canonical(value)),
                    kind: Some(*kind),
                    read_only: false,
                    synonyms: set.into_iter().collect(),
                    text: Some(*text),
                }
            });
        Ok(rows.collect())
    }

    fn group(&self, name: &str) -> Result<Vec<Row>, Option<Refusal>> {
        if name.is_empty() {
            let message = "Group name must not be empty";
            return Err(Some(Refusal::new(ErrorCode::InvalidRequest, message)));
        }
        let own = configs::group_overrides(self.image, name);
        let rows = GROUP_KEYS.iter().map(|key| {
            let set = own.get(key.name);
            let set =
                set.map(|value| Synonym::new(key.name, &key.kind.canonical(value), Source::Group));
            let inherited = match key.synonym {
                Some(name) => self.settings.synonyms(name),
                None => vec![Synonym::new(key.name, key.default, Source::Default)],
            };
            let value = group::effective(key, &own, self.settings.merged());
            Row {
                name: Cow::Borrowed(key.name),
                value: Some(key.kind.canonical(&value)),
                kind: Some(key.kind),
                read_only: false,
                synonyms: set.into_iter().chain(inherited).collect(),
                text: Some(key.text),
            }
        });
        Ok(rows.collect())
    }
}

/// Checks that the name is this broker's id.
pub(super) fn check_broker(shared: &Shared, name: &str, or: &str) -> Result<(), Option<Refusal>> {
    let refuse = |message| Err(Some(Refusal::new(ErrorCode::InvalidRequest, message)));
    let own = shared.config.node_id;
    match name.parse::<i32>() {
        Ok(id) if id == own.0 => Ok(()),
        Ok(_) => refuse(format!(
            "Unexpected broker id, expected {own} {or}but received {name}"
        )),
        Err(_) => refuse(format!("Broker id must be an integer, but it is: {name}")),
    }
}

/// Checks that the name of a logger's resource is this broker's id.
fn check_logger(shared: &Shared, name: &str) -> Result<(), Option<Refusal>> {
    if name.is_empty() {
        let message = "Broker id must not be empty";
        return Err(Some(Refusal::new(ErrorCode::InvalidRequest, message)));
    }
    check_broker(shared, name, "")
}

/// The level of the broker's log, in Kafka's words.
pub(super) fn log_level() -> &'static str {
    match LevelFilter::current() {
        LevelFilter::OFF => "OFF",
        LevelFilter::ERROR => "ERROR",
        LevelFilter::WARN => "WARN",
        LevelFilter::INFO => "INFO",
        LevelFilter::DEBUG => "DEBUG",
        _ => "TRACE",
    }
}
