//! ListGroups: the groups whose coordinator is this broker.

use std::sync::Arc;

use esker_coordinator::{Request, Response};
use esker_protocol::ErrorCode;
use esker_protocol::messages::{ListGroupsRequest, ListGroupsResponse};

use super::Answer;
use super::groups::{self, Caller};
use crate::broker::Shared;
use crate::connection::Reply;

/// Answers with the groups that pass the filters, of all shards; or with an error where one of them
/// is not loaded.
pub(crate) fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    caller: &Caller<'_>,
    request: &ListGroupsRequest<'_>,
) -> Reply {
    let refuse = |code: ErrorCode| ListGroupsResponse {
        error_code: code.code(),
        ..ListGroupsResponse::default()
    };
    let submitted = shared.coordinators.submit_to_all(
        shared,
        &Request::ListGroups(request.clone()),
        &caller.context(),
    );
    let submitted = match submitted {
        Ok(submitted) => submitted,
        Err(code) => return super::reply(&answer, &refuse(code)),
    };
    Reply::Later(Box::pin(async move {
        let mut response = ListGroupsResponse::default();
        for one in groups::all(submitted).await.unwrap_or_default() {
            match one {
                Response::ListGroups(Ok(groups)) => response.groups.extend(groups),
                Response::ListGroups(Err(code)) => {
                    response = refuse(code);
                    break;
                }
                _ => return None,
            }
        }
        super::respond(&answer, &response).map(Into::into)
    }))
}
