//! DeleteTopics.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use esker_protocol::messages::delete_topics_response::DeletableTopicResult;
use esker_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use esker_protocol::{ErrorCode, TopicId};
use tokio::time::Instant;

use super::Answer;
use crate::broker::Shared;
use crate::connection::Reply;
use crate::topics::{self, Refusal};

/// The first version with structured topics, which may be named by id.
const STRUCTURED_VERSION_MIN: i16 = 6;

/// Deletes each topic; its name is free when this answers.
pub(crate) async fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    request: &DeleteTopicsRequest<'_>,
) -> Reply {
    let deadline = Instant::now()
        + Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or_default());
    let mut wanted: Vec<(Option<String>, TopicId)> = Vec::new();
    if answer.version >= STRUCTURED_VERSION_MIN {
        for topic in &request.topics {
            wanted.push((topic.name.as_ref().map(ToString::to_string), topic.topic_id));
        }
    } else {
        for name in &request.topic_names {
            wanted.push((Some(name.to_string()), TopicId::ZERO));
        }
    }
    let mut responses = Vec::with_capacity(wanted.len());
    for (name, id) in wanted {
        let (name, outcome) = delete(shared, name, id, deadline).await;
        let (code, message, id) = match outcome {
            Ok(id) => (ErrorCode::None, None, id),
            Err(refusal) => (refusal.code, Some(Cow::Owned(refusal.message)), id),
        };
        responses.push(DeletableTopicResult {
            name: name.map(Cow::Owned),
            topic_id: id,
            error_code: code.code(),
            error_message: message,
        });
    }
    super::reply(
        &answer,
        &DeleteTopicsResponse {
            responses,
            ..Default::default()
        },
    )
}

async fn delete(
    shared: &Arc<Shared>,
    name: Option<String>,
    id: TopicId,
    deadline: Instant,
) -> (Option<String>, Result<TopicId, Refusal>) {
    let name = match (name, id) {
        (Some(name), TopicId::ZERO) => name,
        (None, id) if id != TopicId::ZERO => match shared.topic_name(id) {
            Some(name) => name,
            None => {
                let message = "This server does not host this topic ID.";
                return (None, Err(Refusal::new(ErrorCode::UnknownTopicId, message)));
            }
        },
        (name, _) => {
            let message = "Exactly one of topic name and topic ID must be given.";
            return (name, Err(Refusal::new(ErrorCode::InvalidRequest, message)));
        }
    };
    let outcome = match tokio::time::timeout_at(deadline, topics::delete(shared, &name)).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let message = "The deletion is still under way.";
            Err(Refusal::new(ErrorCode::RequestTimedOut, message))
        }
    };
    (Some(name), outcome)
}
