//! Heartbeat: a member of a classic group lives.

use std::sync::Arc;

use esker_coordinator::{Request, Response};
use esker_protocol::ErrorCode;
use esker_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::Answer;
use super::groups::{self, Caller};
use crate::broker::Shared;
use crate::connection::Reply;

/// Answers with what the group's coordinator says.
pub(crate) fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    caller: &Caller<'_>,
    request: HeartbeatRequest<'_>,
) -> Reply {
    if request.group_id.is_empty() {
        let response = HeartbeatResponse {
            error_code: ErrorCode::InvalidGroupId.code(),
            ..HeartbeatResponse::default()
        };
        return super::reply(&answer, &response);
    }
    let group_id = request.group_id.to_string();
    let request = Request::Heartbeat(request);
    groups::submit(
        shared,
        answer,
        &group_id,
        &request,
        &caller.context(),
        |r| match r {
            Response::Heartbeat(response) => Some(response),
            _ => None,
        },
    )
}
