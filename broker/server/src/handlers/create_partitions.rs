//! CreatePartitions.

use std::borrow::Cow;
use std::sync::Arc;

use esker_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use esker_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use esker_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use esker_protocol::{BrokerId, ErrorCode, FixedHashMap};
use tokio::time::Instant;

use super::Answer;
use crate::broker::Shared;
use crate::connection::Reply;
use crate::topics::{self, Refusal};

/// Gives each topic more partitions and answers when this broker serves them.
pub(crate) async fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    request: &CreatePartitionsRequest<'_>,
) -> Reply {
    let deadline = topics::deadline(request.timeout_ms);
    let mut counts: FixedHashMap<&str, usize> = FixedHashMap::default();
    for topic in &request.topics {
        *counts.entry(topic.name.as_ref()).or_insert(0) += 1;
    }
    let mut results = Vec::with_capacity(counts.len());
    for topic in &request.topics {
        let name = topic.name.as_ref();
        // A name that is given twice is answered once.
        let grown = match (counts.remove(name), deadline) {
            (None, _) => continue,
            (Some(_), None) => Err(timed_out()),
            (Some(1), Some(deadline)) => grow(shared, topic, request.validate_only, deadline).await,
            (Some(_), Some(_)) => {
                let message = "Duplicate topic name.";
                Err(Refusal::new(ErrorCode::InvalidRequest, message))
            }
        };
        let (code, message) = match grown {
            Ok(()) => (ErrorCode::None, None),
            Err(refusal) => {
                let message = (!refusal.message.is_empty()).then_some(refusal.message);
                (refusal.code, message)
            }
        };
        results.push(CreatePartitionsTopicResult {
            name: Cow::Owned(name.to_owned()),
            error_code: code.code(),
            error_message: message.map(Cow::Owned),
        });
    }
    super::reply(
        &answer,
        &CreatePartitionsResponse {
            results,
            ..Default::default()
        },
    )
}

async fn grow(
    shared: &Arc<Shared>,
    topic: &CreatePartitionsTopic<'_>,
    validate_only: bool,
    deadline: Instant,
) -> Result<(), Refusal> {
    let assignment: Option<Vec<Vec<BrokerId>>> = topic.assignments.as_ref().map(|partitions| {
        let brokers = |ids: &Vec<i32>| ids.iter().map(|id| BrokerId(*id)).collect();
        partitions
            .iter()
            .map(|partition| brokers(&partition.broker_ids))
            .collect()
    });
    let name = topic.name.as_ref();
    let grown = topics::grow(
        shared,
        name,
        topic.count,
        assignment.as_deref(),
        validate_only,
    );
    match tokio::time::timeout_at(deadline, grown).await {
        Ok(grown) => grown,
        // The partitions may yet come: what was committed stays committed.
        Err(_) => Err(timed_out()),
    }
}

fn timed_out() -> Refusal {
    let message = "The growth is not done in the time that the request leaves.";
    Refusal::new(ErrorCode::RequestTimedOut, message)
}
