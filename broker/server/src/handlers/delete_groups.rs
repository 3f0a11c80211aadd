//! DeleteGroups: groups without members go, and their offsets with them.

use std::borrow::Cow;
use std::sync::Arc;

use esker_coordinator::{Request, Response};
use esker_protocol::FixedHashSet;
use esker_protocol::messages::delete_groups_response::DeletableGroupResult;
use esker_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::Answer;
use super::groups::{self, Caller};
use crate::broker::Shared;
use crate::connection::Reply;

/// Answers for each group with what its coordinator says.
pub(crate) fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    caller: &Caller<'_>,
    request: &DeleteGroupsRequest<'_>,
) -> Reply {
    let context = caller.context();
    let mut names: Vec<String> = Vec::with_capacity(request.groups_names.len());
    let mut submitted = Vec::with_capacity(request.groups_names.len());
    let mut seen = FixedHashSet::default();
    for group_id in &request.groups_names {
        // A name that is given twice is answered once.
        if !seen.insert(group_id) {
            continue;
        }
        let one = Request::DeleteGroup(group_id);
        submitted.push(shared.coordinators.submit(shared, group_id, &one, &context));
        names.push(group_id.to_string());
    }
    Reply::Later(Box::pin(async move {
        let responses = groups::all(submitted).await?;
        let results = names.into_iter().zip(responses);
        let results = results.filter_map(|(name, response)| match response {
            Response::DeleteGroup(code) => Some(DeletableGroupResult {
                group_id: Cow::Owned(name),
                error_code: code.code(),
            }),
            _ => None,
        });
        let response = DeleteGroupsResponse {
            results: results.collect(),
            ..DeleteGroupsResponse::default()
        };
        super::respond(&answer, &response).map(Into::into)
    }))
}
