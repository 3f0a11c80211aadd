//! ConsumerGroupHeartbeat: a member of a consumer group joins, lives, reports and leaves (KIP-848).

use std::sync::Arc;

use esker_coordinator::{Request, Response};
use esker_metadata::features;
use esker_protocol::ErrorCode;
use esker_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::Answer;
use super::groups::{self, Caller};
use crate::broker::Shared;
use crate::connection::Reply;

/// Answers with what the group's coordinator says.
pub(crate) fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    caller: &Caller<'_>,
    request: ConsumerGroupHeartbeatRequest<'_>,
) -> Reply {
    let levels = features::finalized(&shared.image());
    let is_finalized = levels
        .get(features::GROUP_VERSION)
        .is_some_and(|level| *level >= 1);
    if !is_finalized || !shared.config.groups.consumer_enabled {
        let response = ConsumerGroupHeartbeatResponse {
            error_code: ErrorCode::UnsupportedVersion.code(),
            ..ConsumerGroupHeartbeatResponse::default()
        };
        return super::reply(&answer, &response);
    }
    let group_id = request.group_id.to_string();
    let request = Request::ConsumerGroupHeartbeat(request);
    groups::submit(
        shared,
        answer,
        &group_id,
        &request,
        &caller.context(),
        |r| match r {
            Response::ConsumerGroupHeartbeat(response) => Some(response),
            _ => None,
        },
    )
}
