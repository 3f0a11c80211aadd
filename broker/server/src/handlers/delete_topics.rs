//! DeleteTopics.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use esker_protocol::messages::delete_topics_request::DeleteTopicState;
use esker_protocol::messages::delete_topics_response::DeletableTopicResult;
use esker_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use esker_protocol::{ErrorCode, TopicId};

use super::Answer;
use crate::broker::Shared;
use crate::connection::Reply;
use crate::topics;

/// The first version with structured topics, which may be named by id.
const STRUCTURED_VERSION_MIN: i16 = 6;

/// Deletes each topic; its name is free when this answers.
pub(crate) async fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    request: &DeleteTopicsRequest<'_>,
) -> Reply {
    let named: Vec<DeleteTopicState<'_>>;
    let wanted = if answer.version >= STRUCTURED_VERSION_MIN {
        request.topics.as_slice()
    } else {
        let names = request.topic_names.iter();
        let by_name = |name: &Cow<'_, str>| DeleteTopicState {
            name: Some(Cow::Owned(name.to_string())),
            topic_id: TopicId::ZERO,
        };
        named = names.map(by_name).collect();
        named.as_slice()
    };
    let timed_out = |name: Option<&str>, id| {
        let message = "The deletion is not done in the time that the request leaves.";
        refused(name, id, ErrorCode::RequestTimedOut, message)
    };
    let Some(deadline) = topics::deadline(request.timeout_ms) else {
        let topics = wanted.iter();
        let responses = topics.map(|topic| timed_out(topic.name.as_deref(), topic.topic_id));
        return answer_with(&answer, responses.collect());
    };
    let Plan {
        doomed,
        refused: mut responses,
    } = {
        let image = shared.image();
        let id_of = |name: &str| image.topic(name).map(|topic| topic.value.topic_id);
        let name_of = |id| image.topic_by_id(id).map(|(name, _)| name.to_owned());
        plan(wanted, id_of, name_of)
    };
    for (id, name) in doomed {
        let deleted = topics::delete(shared, &name, id);
        responses.push(match tokio::time::timeout_at(deadline, deleted).await {
            Ok(Ok(())) => DeletableTopicResult {
                name: Some(Cow::Owned(name)),
                topic_id: id,
                error_code: ErrorCode::None.code(),
                error_message: None,
            },
            Ok(Err(refusal)) => refused(Some(&name), id, refusal.code, refusal.message),
            // The topic may yet go: what was committed stays committed.
            Err(_) => timed_out(Some(&name), id),
        });
    }
    answer_with(&answer, responses)
}

fn answer_with(answer: &Answer, responses: Vec<DeletableTopicResult<'_>>) -> Reply {
    let response = DeleteTopicsResponse {
        responses,
        ..Default::default()
    };
    super::reply(answer, &response)
}

/// What a request comes to.
struct Plan {
    /// The topics to delete, and what they are called.
    doomed: BTreeMap<TopicId, String>,
    /// The answers for what is not to be deleted.
    refused: Vec<DeletableTopicResult<'static>>,
}

/// Deletes what is named exactly once: who names a topic twice, by name, by id or by both, may have
/// meant another, and deletes neither.
fn plan(
    wanted: &[DeleteTopicState<'_>],
    id_of: impl Fn(&str) -> Option<TopicId>,
    name_of: impl Fn(TopicId) -> Option<String>,
) -> Plan {
    let invalid = ErrorCode::InvalidRequest;
    let mut refusals = Vec::new();
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut ids: BTreeMap<TopicId, usize> = BTreeMap::new();
    for topic in wanted {
        match (topic.name.as_deref(), topic.topic_id) {
            (None, TopicId::ZERO) => {
                let message = "Neither topic name nor id were specified.";
                refusals.push(refused(None, TopicId::ZERO, invalid, message));
            }
            (None, id) => *ids.entry(id).or_insert(0) += 1,
            (Some(name), TopicId::ZERO) => *names.entry(name).or_insert(0) += 1,
            (name, id) => {
                let message = "You may not specify both topic name and topic id.";
                refusals.push(refused(name, id, invalid, message));
            }
        }
    }
    let mut doomed = BTreeMap::new();
    for (&id, &count) in &ids {
        if count > 1 {
            refusals.push(refused(None, id, invalid, "Duplicate topic id."));
        } else if let Some(name) = name_of(id) {
            doomed.insert(id, name);
        } else {
            let message = "This server does not host this topic ID.";
            refusals.push(refused(None, id, ErrorCode::UnknownTopicId, message));
        }
    }
    for (name, count) in names {
        if count > 1 {
            let message = "Duplicate topic name.";
            refusals.push(refused(Some(name), TopicId::ZERO, invalid, message));
        } else if let Some(id) = id_of(name) {
            if ids.contains_key(&id) {
                doomed.remove(&id);
                let message = "The provided topic name maps to an ID that was already supplied.";
                refusals.push(refused(Some(name), id, invalid, message));
            } else {
                doomed.insert(id, name.to_owned());
            }
        } else {
            let code = ErrorCode::UnknownTopicOrPartition;
            let message = "This server does not host this topic-partition.";
            refusals.push(refused(Some(name), TopicId::ZERO, code, message));
        }
    }
    Plan {
        doomed,
        refused: refusals,
    }
}

fn refused(
    name: Option<&str>,
    topic_id: TopicId,
    code: ErrorCode,
    message: impl Into<String>,
) -> DeletableTopicResult<'static> {
    DeletableTopicResult {
        name: name.map(|name| Cow::Owned(name.to_owned())),
        topic_id,
        error_code: code.code(),
        error_message: Some(Cow::Owned(message.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: TopicId = TopicId([1; 16]);
    const TWO: TopicId = TopicId([2; 16]);
    const NOBODYS: TopicId = TopicId([3; 16]);
    const TOPICS: [(&str, TopicId); 2] = [("one", ONE), ("two", TWO)];

    fn named(name: &'static str) -> DeleteTopicState<'static> {
        DeleteTopicState {
            name: Some(name.into()),
            topic_id: TopicId::ZERO,
        }
    }

    fn with_id(topic_id: TopicId) -> DeleteTopicState<'static> {
        DeleteTopicState {
            name: None,
            topic_id,
        }
    }

    /// The names that would be deleted, and the code for each refusal.
    fn check(wanted: &[DeleteTopicState<'_>], doomed: &[&str], codes: &[ErrorCode]) {
        let id_of = |name: &str| TOPICS.iter().find(|one| one.0 == name).map(|one| one.1);
        let name_of = |id| {
            let found = TOPICS.iter().find(|one| one.1 == id);
            found.map(|one| one.0.to_owned())
        };
        let plan = plan(wanted, id_of, name_of);
        assert_eq!(plan.doomed.into_values().collect::<Vec<_>>(), doomed);
        let refused = plan.refused.iter().map(|refused| refused.error_code);
        let codes: Vec<i16> = codes.iter().map(|code| code.code()).collect();
        assert_eq!(refused.collect::<Vec<_>>(), codes);
    }

    #[test]
    fn names_and_ids_are_found() {
        check(&[named("two"), with_id(ONE)], &["one", "two"], &[]);
        let codes = [
            ErrorCode::UnknownTopicId,
            ErrorCode::UnknownTopicOrPartition,
        ];
        check(&[named("three"), with_id(NOBODYS)], &[], &codes);
    }

    #[test]
    fn a_topic_that_is_named_twice_stays() {
        let invalid = ErrorCode::InvalidRequest;
        for twice in [
            [named("one"), named("one"), named("one")].as_slice(),
            &[with_id(ONE), with_id(ONE)],
            &[named("one"), with_id(ONE)],
        ] {
            check(twice, &[], &[invalid]);
            let mut more = twice.to_vec();
            more.push(named("two"));
            check(&more, &["two"], &[invalid]);
        }
        let both = [with_id(ONE), with_id(ONE), named("one")];
        check(&both, &[], &[invalid, invalid]);
    }

    #[test]
    fn a_topic_is_named_in_one_way() {
        let both = DeleteTopicState {
            name: Some("one".into()),
            topic_id: ONE,
        };
        let invalid = ErrorCode::InvalidRequest;
        check(&[both, with_id(TopicId::ZERO)], &[], &[invalid, invalid]);
    }
}
