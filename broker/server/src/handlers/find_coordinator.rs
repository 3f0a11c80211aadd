//! FindCoordinator: which broker coordinates a group.
//!
//! The first question creates `__consumer_offsets`. There are no coordinators of transactions and
//! share groups yet: their keys are answered COORDINATOR_NOT_AVAILABLE, which clients retry, and no
//! topic is created for them.

use std::borrow::Cow;
use std::sync::Arc;

use esker_protocol::ErrorCode;
use esker_protocol::messages::find_coordinator_response::Coordinator;
use esker_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

use super::Answer;
use crate::broker::{LiveBroker, Shared};
use crate::connection::Reply;
use crate::coordinators;

/// The first version that asks for several keys at once.
const BATCH_VERSION_MIN: i16 = 4;

/// The first version that knows share groups, key type 2.
const SHARE_VERSION_MIN: i16 = 6;

/// The key type of groups.
const GROUP: i8 = 0;

/// Answers with the leaders of the keys' partitions.
pub(crate) async fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    listener: &str,
    request: &FindCoordinatorRequest<'_>,
) -> Reply {
    let known_type = match request.key_type {
        GROUP | 1 => true,
        2 => answer.version >= SHARE_VERSION_MIN,
        _ => false,
    };
    let topic = if request.key_type != GROUP {
        Err(if known_type {
            ErrorCode::CoordinatorNotAvailable
        } else {
            ErrorCode::InvalidRequest
        })
    } else {
        coordinators::ensure_topic(shared).await.map_err(|refusal| {
            tracing::warn!(reason = %refusal.message, "__consumer_offsets cannot be created");
            ErrorCode::CoordinatorNotAvailable
        })
    };
    let brokers = shared.live_brokers(listener);
    let find = |key: &str| -> Result<&LiveBroker, ErrorCode> {
        let (id, partitions) = topic?;
        let index = coordinators::partition_of(key, partitions);
        let leader = shared.leader_of(id, index).map(|(leader, _)| leader);
        brokers
            .iter()
            .find(|broker| Some(broker.id.0) == leader)
            .ok_or(ErrorCode::CoordinatorNotAvailable)
    };
    let response = if answer.version >= BATCH_VERSION_MIN {
        FindCoordinatorResponse {
            coordinators: request
                .coordinator_keys
                .iter()
                .map(|key| coordinator(key, find(key)))
                .collect(),
            ..FindCoordinatorResponse::default()
        }
    } else {
        match find(&request.key) {
            Ok(broker) => FindCoordinatorResponse {
                error_code: ErrorCode::None.code(),
                error_message: Some(Cow::Borrowed("NONE")),
                node_id: broker.id.0,
                host: Cow::Owned(broker.address.host.clone()),
                port: i32::from(broker.address.port),
                ..FindCoordinatorResponse::default()
            },
            Err(code) => FindCoordinatorResponse {
                error_code: code.code(),
                error_message: Some(Cow::Borrowed(message(code))),
                node_id: -1,
                port: -1,
                ..FindCoordinatorResponse::default()
            },
        }
    };
    super::reply(&answer, &response)
}

fn coordinator<'a>(key: &Cow<'a, str>, found: Result<&LiveBroker, ErrorCode>) -> Coordinator<'a> {
    match found {
        Ok(broker) => Coordinator {
            key: key.clone(),
            node_id: broker.id.0,
            host: Cow::Owned(broker.address.host.clone()),
            port: i32::from(broker.address.port),
            error_code: ErrorCode::None.code(),
            error_message: Some(Cow::Borrowed("")),
        },
        Err(code) => Coordinator {
            key: key.clone(),
            node_id: -1,
            host: Cow::Borrowed(""),
            port: -1,
            error_code: code.code(),
            error_message: Some(Cow::Borrowed(message(code))),
        },
    }
}

fn message(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::InvalidRequest => "Unknown coordinator type.",
        _ => "The coordinator is not available.",
    }
}
