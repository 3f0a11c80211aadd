//! ConsumerGroupDescribe: consumer groups, their members and assignments (KIP-848).

use std::sync::Arc;

use esker_coordinator::{Request, Response};
use esker_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};

use super::Answer;
use super::describe_cluster::OPERATIONS_NOT_ASKED;
use super::groups::{self, Caller, GROUP_OPERATIONS};
use crate::broker::Shared;
use crate::connection::Reply;

/// Answers for each group with what its coordinator says.
pub(crate) fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    caller: &Caller<'_>,
    request: &ConsumerGroupDescribeRequest<'_>,
) -> Reply {
    let context = caller.context();
    let asked = request.group_ids.iter();
    let asked = asked.map(|group_id| {
        let one = Request::ConsumerGroupDescribe(group_id);
        (group_id.to_string(), one)
    });
    let submitted = groups::submit_each(shared, &context, asked);
    let with_operations = request.include_authorized_operations;
    Reply::Later(Box::pin(async move {
        let responses = groups::all(submitted).await?;
        let groups = responses.into_iter().filter_map(|response| match response {
            Response::ConsumerGroupDescribe(mut group) => {
                let asked = with_operations && group.error_code == 0;
                group.authorized_operations = if asked {
                    GROUP_OPERATIONS
                } else {
                    OPERATIONS_NOT_ASKED
                };
                Some(group)
            }
            _ => None,
        });
        let response = ConsumerGroupDescribeResponse {
            groups: groups.collect(),
            ..ConsumerGroupDescribeResponse::default()
        };
        super::respond(&answer, &response).map(Into::into)
    }))
}
