//! SyncGroup: the leader hands out the assignment, and every member gets its own.

use std::sync::Arc;

use esker_coordinator::{Request, Response};
use esker_protocol::ErrorCode;
use esker_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::Answer;
use super::groups::{self, Caller};
use crate::broker::Shared;
use crate::connection::Reply;

/// The first version that must repeat the protocol.
const PROTOCOL_VERSION_MIN: i16 = 5;

/// Answers when the leader's assignment is there.
pub(crate) fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    caller: &Caller<'_>,
    request: SyncGroupRequest<'_>,
) -> Reply {
    let lacks_protocol = answer.version >= PROTOCOL_VERSION_MIN
        && (request.protocol_type.is_none() || request.protocol_name.is_none());
    let problem = if lacks_protocol {
        Some(ErrorCode::InconsistentGroupProtocol)
    } else if request.group_id.is_empty() {
        Some(ErrorCode::InvalidGroupId)
    } else {
        None
    };
    if let Some(code) = problem {
        let response = SyncGroupResponse {
            error_code: code.code(),
            ..SyncGroupResponse::default()
        };
        return super::reply(&answer, &response);
    }
    let group_id = request.group_id.to_string();
    let request = Request::SyncGroup(request);
    groups::submit(
        shared,
        answer,
        &group_id,
        &request,
        &caller.context(),
        |r| match r {
            Response::SyncGroup(response) => Some(response),
            _ => None,
        },
    )
}
