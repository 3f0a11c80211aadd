//! What the handlers of the group APIs share: who asks, and how an answer is waited for.

use std::sync::Arc;

use esker_coordinator::{Request, RequestContext, Response, Shard};
use esker_protocol::ErrorCode;
use esker_protocol::frame::RequestFrame;
use esker_protocol::primitive::Response as ResponseMessage;

use super::Answer;
use crate::broker::Shared;
use crate::connection::{Peer, Reply};
use crate::coordinators::Submitted;

/// The bits of the operations that exist on a group: read, delete, describe, describe configs, alter
/// configs. Without an authoriser all are allowed.
pub(crate) const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

/// Who asks.
pub(crate) struct Caller<'a> {
    /// The client's id, or nothing.
    pub(crate) client_id: &'a str,
    host: &'a str,
    version: i16,
    /// Whether it is expected to send nothing more before it is answered.
    pub(crate) only_waits: bool,
}

impl<'a> Caller<'a> {
    /// The sender of a request.
    pub(crate) fn of(request: &'a RequestFrame<'_>, peer: &'a Peer) -> Caller<'a> {
        Caller {
            client_id: request.client_id.as_deref().unwrap_or_default(),
            host: peer.host(),
            version: request.version,
            only_waits: peer.only_waits(),
        }
    }

    /// As coordinators see it.
    pub(crate) fn context(&self) -> RequestContext<'_> {
        RequestContext {
            version: self.version,
            client_id: self.client_id,
            client_host: self.host,
        }
    }
}

/// Hands the request to its group's coordinator and answers with what `encode` makes of the
/// response; `None` closes the connection.
pub(crate) fn submit<B: ResponseMessage>(
    shared: &Arc<Shared>,
    answer: Answer,
    group_id: &str,
    request: &Request<'_>,
    context: &RequestContext<'_>,
    encode: impl FnOnce(Response) -> Option<B> + Send + 'static,
) -> Reply {
    match shared
        .coordinators
        .submit(shared, group_id, request, context)
    {
        Submitted::Ready(response) => match encode(response) {
            Some(body) => super::reply(&answer, &body),
            None => Reply::Close,
        },
        Submitted::Waiting(response, _) => Reply::Later(Box::pin(async move {
            let body = encode(response.await?)?;
            super::respond(&answer, &body).map(Into::into)
        })),
    }
}

/// What the answers to one request may take in memory, in bytes. A group's name is short, and it may
/// be named over and over.
const ANSWERS_BYTES_MAX: usize = 64 << 20;

/// Hands requests for several groups to their coordinators. Where the answers become too large
/// together, the rest is refused: a client may ask again for fewer.
pub(crate) fn submit_each<'a>(
    shared: &Arc<Shared>,
    context: &RequestContext<'_>,
    requests: impl Iterator<Item = (String, Request<'a>)>,
) -> Vec<Submitted> {
    let mut bytes = 0;
    let mut submitted = Vec::new();
    for (group_id, request) in requests {
        let one = if bytes <= ANSWERS_BYTES_MAX {
            let coordinators = &shared.coordinators;
            coordinators.submit(shared, &group_id, &request, context)
        } else {
            let code = ErrorCode::CoordinatorNotAvailable;
            Submitted::Ready(Shard::refuse(&request, context.version, code))
        };
        bytes += one.bytes();
        submitted.push(one);
    }
    submitted
}

/// Waits for all of several answers, in order. `None` where one of them is lost.
pub(crate) async fn all(submitted: Vec<Submitted>) -> Option<Vec<Response>> {
    let mut responses = Vec::with_capacity(submitted.len());
    for one in submitted {
        responses.push(match one {
            Submitted::Ready(response) => response,
            Submitted::Waiting(response, _) => response.await?,
        });
    }
    Some(responses)
}
