//! DescribeGroups: classic groups, their members and assignments.

use std::sync::Arc;

use esker_coordinator::{Request, Response};
use esker_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};

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
    request: &DescribeGroupsRequest<'_>,
) -> Reply {
    let context = caller.context();
    let asked = request.groups.iter();
    let asked = asked.map(|group_id| (group_id.to_string(), Request::DescribeGroup(group_id)));
    let submitted = groups::submit_each(shared, &context, asked);
    let with_operations = request.include_authorized_operations;
    Reply::Later(Box::pin(async move {
        let responses = groups::all(submitted).await?;
        let groups = responses.into_iter().filter_map(|response| match response {
            Response::DescribeGroup(mut group) => {
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
        let response = DescribeGroupsResponse {
            groups: groups.collect(),
            ..DescribeGroupsResponse::default()
        };
        super::respond(&answer, &response).map(Into::into)
    }))
}
