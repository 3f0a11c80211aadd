//! LeaveGroup: members leave a classic group.

use std::sync::Arc;

use esker_coordinator::{Request, Response};
use esker_protocol::ErrorCode;
use esker_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::Answer;
use super::groups::{self, Caller};
use crate::broker::Shared;
use crate::connection::Reply;

/// Answers with what the group's coordinator says.
pub(crate) fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    caller: &Caller<'_>,
    request: LeaveGroupRequest<'_>,
) -> Reply {
    if request.group_id.is_empty() {
        let response = LeaveGroupResponse {
            error_code: ErrorCode::InvalidGroupId.code(),
            ..LeaveGroupResponse::default()
        };
        return super::reply(&answer, &response);
    }
    let group_id = request.group_id.to_string();
    let request = Request::LeaveGroup(request);
    groups::submit(
        shared,
        answer,
        &group_id,
        &request,
        &caller.context(),
        |r| match r {
            Response::LeaveGroup(response) => Some(response),
            _ => None,
        },
    )
}
