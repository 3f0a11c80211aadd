//! JoinGroup: a member of a classic group joins, and waits until all have.

use std::sync::Arc;

use esker_coordinator::{Request, Response};
use esker_protocol::ErrorCode;
use esker_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

use super::Answer;
use super::groups::{self, Caller};
use crate::broker::Shared;
use crate::connection::Reply;

/// The first version whose protocol name may be null.
const NULLABLE_PROTOCOL_VERSION_MIN: i16 = 7;

/// Answers when the rebalance that the member takes part in is complete.
pub(crate) fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    caller: &Caller<'_>,
    request: JoinGroupRequest<'_>,
) -> Reply {
    let settings = &shared.config.groups;
    let session_timeouts = settings.session_timeout_ms_min..=settings.session_timeout_ms_max;
    let problem = if request.group_id.is_empty() {
        Some(ErrorCode::InvalidGroupId)
    } else if !session_timeouts.contains(&request.session_timeout_ms) {
        Some(ErrorCode::InvalidSessionTimeout)
    } else {
        None
    };
    if let Some(code) = problem {
        let response = JoinGroupResponse {
            error_code: code.code(),
            member_id: request.member_id,
            protocol_name: (answer.version < NULLABLE_PROTOCOL_VERSION_MIN).then(|| "".into()),
            ..JoinGroupResponse::default()
        };
        return super::reply(&answer, &response);
    }
    let group_id = request.group_id.to_string();
    let request = Request::JoinGroup(request);
    groups::submit(
        shared,
        answer,
        &group_id,
        &request,
        &caller.context(),
        move |r| match r {
            Response::JoinGroup(mut response) => {
                if response.error_code != 0 {
                    // Kafka names no protocol then; the older versions cannot say so.
                    let is_nullable = answer.version >= NULLABLE_PROTOCOL_VERSION_MIN;
                    response.protocol_name = (!is_nullable).then(|| "".into());
                }
                Some(response)
            }
            _ => None,
        },
    )
}
