//! AlterConfigs and IncrementalAlterConfigs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use esker_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use esker_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, alter_configs_response, incremental_alter_configs_response,
};
use esker_protocol::{ErrorCode, FixedHashMap, FixedHashSet};

use super::Answer;
use super::describe_configs::{
    RESOURCE_BROKER, RESOURCE_BROKER_LOGGER, RESOURCE_CLIENT_METRICS, RESOURCE_GROUP,
    RESOURCE_TOPIC, ROOT_LOGGER, log_level,
};
use crate::broker::Shared;
use crate::config::change::{Change, Operation};
use crate::configs::{self, Resource};
use crate::connection::Reply;
use crate::topics::Refusal;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Gives each resource the settings that are named, and no others.
pub(crate) async fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    request: &AlterConfigsRequest<'_>,
) -> Reply {
    let resources = request.resources.iter();
    let names = resources.map(|one| (one.resource_type, one.resource_name.as_ref()));
    let counts = counts(names);
    let mut responses = Vec::with_capacity(request.resources.len());
    for wanted in &request.resources {
        let (kind, name) = (wanted.resource_type, wanted.resource_name.as_ref());
        let entries = wanted
            .configs
            .iter()
            .map(|config| (config.name.as_ref(), SET, config.value.as_deref()))
            .collect();
        let resource = (kind, name, counts.get(&(kind, name)).copied());
        let prepared = prepare(shared, resource, entries, Kind::Replace);
        let altered = carry_out(shared, prepared, request.validate_only).await;
        let (code, message) = outcome(altered);
        responses.push(alter_configs_response::AlterConfigsResourceResponse {
            error_code: code,
            error_message: message,
            resource_type: kind,
            resource_name: Cow::Owned(name.to_owned()),
        });
    }
    let response = AlterConfigsResponse {
        responses,
        ..Default::default()
    };
    super::reply(&answer, &response)
}

/// Changes single settings of each resource.
pub(crate) async fn apply_incremental(
    shared: &Arc<Shared>,
    answer: Answer,
    request: &IncrementalAlterConfigsRequest<'_>,
) -> Reply {
    let resources = request.resources.iter();
    let names = resources.map(|one| (one.resource_type, one.resource_name.as_ref()));
    let counts = counts(names);
    let prepare = |wanted: &AlterConfigsResource<'_>| {
        let (kind, name) = (wanted.resource_type, wanted.resource_name.as_ref());
        let entries = wanted.configs.iter().map(|config| {
            let value = config.value.as_deref();
            (config.name.as_ref(), config.config_operation, value)
        });
        let resource = (kind, name, counts.get(&(kind, name)).copied());
        prepare(shared, resource, entries.collect(), Kind::Incremental)
    };
    let mut prepared: Vec<_> = request.resources.iter().map(prepare).collect();
    spoil(&mut prepared);
    let mut responses = Vec::with_capacity(request.resources.len());
    for (wanted, prepared) in request.resources.iter().zip(prepared) {
        let (kind, name) = (wanted.resource_type, wanted.resource_name.as_ref());
        let altered = carry_out(shared, prepared, request.validate_only).await;
        let (code, message) = outcome(altered);
        responses.push(
            incremental_alter_configs_response::AlterConfigsResourceResponse {
                error_code: code,
                error_message: message,
                resource_type: kind,
                resource_name: Cow::Owned(name.to_owned()),
            },
        );
    }
    let response = IncrementalAlterConfigsResponse {
        responses,
        ..Default::default()
    };
    super::reply(&answer, &response)
}

/// Which of the two requests it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Replace,
    Incremental,
}

/// How often each resource is named.
fn counts<'a>(names: impl Iterator<Item = (i8, &'a str)>) -> FixedHashMap<(i8, &'a str), usize> {
    let mut counts = FixedHashMap::default();
    for name in names {
        *counts.entry(name).or_insert(0) += 1;
    }
    counts
}

fn outcome<'a>(altered: Result<(), Refusal>) -> (i16, Option<Cow<'a, str>>) {
    match altered {
        Ok(()) => (ErrorCode::None.code(), None),
        Err(refusal) => (refusal.code.code(), Some(Cow::Owned(refusal.message))),
    }
}

/// What one resource of a request comes to.
#[derive(Debug)]
enum Step {
    Change(Resource, Change),
    /// What is asked for is so already.
    Nothing,
}

/// An operation that nobody knows spoils every change that is left: Kafka's controller stumbles over
/// it, and all that it got in the request fails together.
fn spoil(prepared: &mut [Result<Step, Refusal>]) {
    let is_spoilt = |step: &Result<Step, Refusal>| matches!(step, Err(refusal) if refusal.code == ErrorCode::UnknownServerError);
    let Some(Err(refusal)) = prepared.iter().find(|step| is_spoilt(step)) else {
        return;
    };
    let refusal = refusal.clone();
    let changes = prepared.iter_mut();
    for change in changes.filter(|step| matches!(step, Ok(Step::Change(..)))) {
        *change = Err(refusal.clone());
    }
}

async fn carry_out(
    shared: &Arc<Shared>,
    prepared: Result<Step, Refusal>,
    validate_only: bool,
) -> Result<(), Refusal> {
    // A request may name very many that are refused at once: others get their turn in between.
    tokio::task::consume_budget().await;
    match prepared? {
        Step::Change(resource, change) => {
            configs::alter(shared, &resource, &change, validate_only).await
        }
        Step::Nothing => Ok(()),
    }
}

/// Checks what needs no more than the request.
fn prepare(
    shared: &Shared,
    (kind, name, count): (i8, &str, Option<usize>),
    entries: Vec<(&str, i8, Option<&str>)>,
    how: Kind,
) -> Result<Step, Refusal> {
    let refuse = |message: String| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    if count.is_none_or(|count| count > 1) {
        return refuse("Each resource must appear at most once.".to_owned());
    }
    let mut names = FixedHashSet::default();
    if !entries.iter().all(|(name, ..)| names.insert(*name)) {
        return refuse("Error due to duplicate config keys".to_owned());
    }
    let without: Vec<&str> = entries
        .iter()
        .filter(|(_, operation, value)| *operation != DELETE && value.is_none())
        .map(|(name, ..)| *name)
        .collect();
    if !without.is_empty() {
        return refuse(format!(
            "Null value not supported for : {}",
            without.join(", ")
        ));
    }
    let resource = match kind {
        RESOURCE_TOPIC => Resource::Topic(name.to_owned()),
        RESOURCE_BROKER if name.is_empty() => Resource::AllBrokers,
        RESOURCE_BROKER => {
            check_node(shared, name)?;
            Resource::Broker
        }
        RESOURCE_GROUP => Resource::Group(name.to_owned()),
        RESOURCE_CLIENT_METRICS => Resource::ClientMetrics(name.to_owned()),
        RESOURCE_BROKER_LOGGER if how == Kind::Incremental => {
            check_node(shared, name)?;
            return check_loggers(&entries).map(|()| Step::Nothing);
        }
        other => return refuse(format!("Unknown resource type {other}")),
    };
    let change = match how {
        Kind::Replace => Change::Replace(
            entries
                .iter()
                .filter_map(|(name, _, value)| Some(((*name).to_owned(), (*value)?.to_owned())))
                .collect::<BTreeMap<_, _>>(),
        ),
        Kind::Incremental => Change::Each(
            entries
                .iter()
                .map(|(name, operation, value)| {
                    let value = value.unwrap_or_default().to_owned();
                    let operation = match *operation {
                        SET => Operation::Set(value),
                        DELETE => Operation::Delete,
                        APPEND => Operation::Append(value),
                        SUBTRACT => Operation::Subtract(value),
                        other => {
                            let code = match resource {
                                Resource::Broker | Resource::AllBrokers => {
                                    ErrorCode::InvalidRequest
                                }
                                _ => ErrorCode::UnknownServerError,
                            };
                            let message = format!("Unknown operations type {other}");
                            return Err(Refusal::new(code, message));
                        }
                    };
                    Ok(((*name).to_owned(), operation))
                })
                .collect::<Result<_, Refusal>>()?,
        ),
    };
    Ok(Step::Change(resource, change))
}

fn check_node(shared: &Shared, name: &str) -> Result<(), Refusal> {
    let refuse = |message| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let own = shared.config.node_id;
    match name.parse::<i32>() {
        Ok(id) if id == own.0 => Ok(()),
        Ok(_) => refuse(format!(
            "Unexpected broker id, expected {own}, but received {name}"
        )),
        Err(_) => refuse(format!("Node id must be an integer, but it is: {name}")),
    }
}

/// The log has one level, which is set at the start: what it has already may be asked for.
fn check_loggers(entries: &[(&str, i8, Option<&str>)]) -> Result<(), Refusal> {
    const LEVELS: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
    let invalid = |message| Err(Refusal::new(ErrorCode::InvalidConfig, message));
    for (name, operation, value) in entries {
        let value = value.unwrap_or_default();
        if *name != ROOT_LOGGER {
            return invalid(format!("Logger {name} does not exist!"));
        }
        match *operation {
            SET if !LEVELS.contains(&value) => {
                return invalid(format!(
                    "Cannot set the log level of {name} to {value} as it is not a supported log level. Valid log levels are {}",
                    LEVELS.join(", ")
                ));
            }
            SET if value == log_level() => {}
            SET => {
                return invalid(format!(
                    "The level of {name} is {} until the broker is started with another.",
                    log_level()
                ));
            }
            DELETE => {
                let message = "Removing the log level of the root logger is not allowed".to_owned();
                return Err(Refusal::new(ErrorCode::InvalidRequest, message));
            }
            other => {
                let message = format!("Unknown log level operation type {other}");
                return Err(Refusal::new(ErrorCode::InvalidRequest, message));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str) -> Result<Step, Refusal> {
        let resource = Resource::Topic(name.to_owned());
        Ok(Step::Change(resource, Change::Each(Vec::new())))
    }

    fn refused(code: ErrorCode) -> Result<Step, Refusal> {
        Err(Refusal::new(code, "refused"))
    }

    fn codes(prepared: &[Result<Step, Refusal>]) -> Vec<i16> {
        let code = |step: &Result<Step, Refusal>| match step {
            Ok(_) => 0,
            Err(refusal) => refusal.code.code(),
        };
        prepared.iter().map(code).collect()
    }

    #[test]
    fn an_unknown_operation_spoils_the_changes_beside_it() {
        let mut prepared = [
            change("a"),
            refused(ErrorCode::InvalidRequest),
            refused(ErrorCode::UnknownServerError),
            Ok(Step::Nothing),
        ];
        spoil(&mut prepared);
        assert_eq!(codes(&prepared), [-1, 42, -1, 0]);
    }

    #[test]
    fn other_refusals_spoil_nothing() {
        let mut prepared = [change("a"), refused(ErrorCode::InvalidRequest)];
        spoil(&mut prepared);
        assert_eq!(codes(&prepared), [0, 42]);
    }
}
