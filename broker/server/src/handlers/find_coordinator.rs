//! FindCoordinator: advertised because librdkafka ties lz4 to it; there are no coordinators yet.
//!
//! Every key is answered COORDINATOR_NOT_AVAILABLE, which clients retry, and no topic is created.

use std::borrow::Cow;

use esker_protocol::ErrorCode;
use esker_protocol::messages::find_coordinator_response::Coordinator;
use esker_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

use super::Answer;
use crate::connection::Reply;

/// The first version that asks for several keys at once.
const BATCH_VERSION_MIN: i16 = 4;

/// The first version that knows share groups, key type 2.
const SHARE_VERSION_MIN: i16 = 6;

/// Answers that no coordinator is there.
pub(crate) fn apply(answer: Answer, request: &FindCoordinatorRequest<'_>) -> Reply {
    let known_type = match request.key_type {
        0 | 1 => true,
        2 => answer.version >= SHARE_VERSION_MIN,
        _ => false,
    };
    let (code, message) = if known_type {
        (
            ErrorCode::CoordinatorNotAvailable,
            "The coordinator is not available.",
        )
    } else {
        (ErrorCode::InvalidRequest, "Unknown coordinator type.")
    };
    let response = if answer.version >= BATCH_VERSION_MIN {
        FindCoordinatorResponse {
            coordinators: request
                .coordinator_keys
                .iter()
                .map(|key| Coordinator {
                    key: key.clone(),
                    node_id: -1,
                    host: Cow::Borrowed(""),
                    port: -1,
                    error_code: code.code(),
                    error_message: Some(Cow::Borrowed(message)),
                })
                .collect(),
            ..FindCoordinatorResponse::default()
        }
    } else {
        FindCoordinatorResponse {
            error_code: code.code(),
            error_message: Some(Cow::Borrowed(message)),
            node_id: -1,
            port: -1,
            ..FindCoordinatorResponse::default()
        }
    };
    super::reply(&answer, &response)
}
