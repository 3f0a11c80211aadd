//! DescribeConfigs of topics and brokers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use esker_protocol::ErrorCode;
use esker_protocol::messages::describe_configs_request::DescribeConfigsResource;
use esker_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use esker_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use super::Answer;
use crate::broker::Shared;
use crate::config::kafka_keys::BROKER_KEYS;
use crate::config::keys::OWN_KEYS;
use crate::config::topic::{self, Source, TOPIC_KEYS};
use crate::config::{Durability, Kind};
use crate::connection::Reply;
use crate::topics;

const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_BROKER: i8 = 4;

/// Answers each resource with its settings, their values and where those come from.
pub(crate) fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    request: &DescribeConfigsRequest<'_>,
) -> Reply {
    let results = request
        .resources
        .iter()
        .map(|resource| describe(shared, resource, request.include_synonyms))
        .collect();
    super::reply(
        &answer,
        &DescribeConfigsResponse {
            results,
            ..Default::default()
        },
    )
}

fn describe<'a>(
    shared: &Shared,
    resource: &DescribeConfigsResource<'_>,
    with_synonyms: bool,
) -> DescribeConfigsResult<'a> {
    let name = resource.resource_name.as_ref();
    let described = match resource.resource_type {
        RESOURCE_TOPIC => describe_topic(shared, name, with_synonyms),
        RESOURCE_BROKER => describe_broker(shared, name, with_synonyms),
        other => Err((
            ErrorCode::InvalidRequest,
            format!("Resources of type {other} have no settings here."),
        )),
    };
    let is_wanted = |config: &DescribeConfigsResourceResult<'_>| {
        resource
            .configuration_keys
            .as_ref()
            .is_none_or(|keys| keys.contains(&config.name))
    };
    let (code, message, configs) = match described {
        Ok(configs) => (
            ErrorCode::None,
            None,
            configs.into_iter().filter(is_wanted).collect(),
        ),
        Err((code, message)) => (code, Some(Cow::Owned(message)), Vec::new()),
    };
    DescribeConfigsResult {
        error_code: code.code(),
        error_message: message,
        resource_type: resource.resource_type,
        resource_name: Cow::Owned(name.to_owned()),
        configs,
    }
}

type Described<'a> = Result<Vec<DescribeConfigsResourceResult<'a>>, (ErrorCode, String)>;

fn describe_topic<'a>(shared: &Shared, name: &str, with_synonyms: bool) -> Described<'a> {
    topics::check_name(name)
        .map_err(|problem| (ErrorCode::InvalidTopicException, problem.to_string()))?;
    let image = shared.image();
    let topic = image.topic(name).ok_or_else(|| {
        let message = "This server does not host this topic-partition.".to_owned();
        (ErrorCode::UnknownTopicOrPartition, message)
    })?;
    let broker = &shared.config.properties;
    // Where nobody set it, tiering is on for whatever can be tiered and a store is there for.
    let overrides = &topic.value.configs;
    let config = topic::TopicConfig::new(overrides, broker);
    let tiered = shared.environment.object_store.is_some() && config.is_tiered();
    Ok(TOPIC_KEYS
        .iter()
        .filter(|key| key.name != "internal.segment.bytes" || overrides.contains_key(key.name))
        .map(|key| {
            let mut effective = topic::effective(key.name, overrides, broker);
            if key.name == "remote.storage.enable" && effective.value.is_none() {
                effective.value = Some(tiered.to_string());
            }
            DescribeConfigsResourceResult {
                name: Cow::Borrowed(key.name),
                value: effective.value.map(Cow::Owned),
                read_only: false,
                config_source: effective.source as i8,
                is_sensitive: false,
                synonyms: if with_synonyms {
                    topic_synonyms(key, overrides, broker)
                } else {
                    Vec::new()
                },
                config_type: key.kind.number(),
                documentation: None,
            }
        })
        .collect())
}

fn topic_synonyms<'a>(
    key: &topic::TopicKey,
    overrides: &BTreeMap<String, String>,
    broker: &BTreeMap<String, String>,
) -> Vec<DescribeConfigsSynonym<'a>> {
    let mut synonyms = Vec::new();
    if let Some(value) = overrides.get(key.name) {
        synonyms.push(synonym(key.name, Some(value.clone()), Source::Topic));
    }
    let without = topic::effective(key.name, &BTreeMap::new(), broker);
    if let Some(name) = without.synonym {
        synonyms.push(synonym(
            name,
            broker.get(name).cloned(),
            Source::StaticBroker,
        ));
    }
    if let Some(name) = key.synonyms.first() {
        synonyms.push(synonym(
            name,
            key.default.map(str::to_owned),
            Source::Default,
        ));
    }
    synonyms
}

fn synonym<'a>(
    name: &'static str,
    value: Option<String>,
    source: Source,
) -> DescribeConfigsSynonym<'a> {
    DescribeConfigsSynonym {
        name: Cow::Borrowed(name),
        value: value.map(Cow::Owned),
        source: source as i8,
    }
}

fn describe_broker<'a>(shared: &Shared, name: &str, with_synonyms: bool) -> Described<'a> {
    if !name.is_empty() && name != shared.config.node_id.0.to_string() {
        let own = shared.config.node_id;
        let message = format!("Unexpected broker id, expected {own}, but received {name}");
        return Err((ErrorCode::InvalidRequest, message));
    }
    // The empty name asks for the defaults of the whole cluster that were set while running: none.
    if name.is_empty() {
        return Ok(Vec::new());
    }
    let given = &shared.config.properties;
    let row = |name: &'static str, kind: Kind, default: Option<&'static str>| {
        let own = given.get(name);
        let source = if own.is_some() {
            Source::StaticBroker
        } else {
            Source::Default
        };
        let value = match (kind, name) {
            (Kind::Password, _) => None,
            (_, "log.durability") => Some(match shared.config.durability {
                Durability::Durable => "durable".to_owned(),
                Durability::Relaxed => "relaxed".to_owned(),
            }),
            _ => own.cloned().or_else(|| default.map(str::to_owned)),
        };
        let mut synonyms = Vec::new();
        if with_synonyms {
            if own.is_some() {
                synonyms.push(synonym(name, value.clone(), Source::StaticBroker));
            }
            if default.is_some() {
                let default = default.map(str::to_owned);
                synonyms.push(synonym(name, default, Source::Default));
            }
        }
        DescribeConfigsResourceResult {
            name: Cow::Borrowed(name),
            value: value.map(Cow::Owned),
            // Nothing of a broker can be altered while it runs, so far.
            read_only: true,
            config_source: source as i8,
            is_sensitive: kind == Kind::Password,
            synonyms,
            config_type: kind.number(),
            documentation: None,
        }
    };
    let kafkas = BROKER_KEYS
        .iter()
        .map(|key| row(key.name, key.kind, key.default));
    let ours = OWN_KEYS
        .iter()
        .map(|key| row(key.name, key.kind, key.default));
    Ok(kafkas.chain(ours).collect())
}
