//! Produce: appends batches and answers when they are as safe as the client asked for.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use esker_protocol::messages::produce_request::PartitionProduceData;
use esker_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use esker_protocol::messages::{ProduceRequest, ProduceResponse};
use esker_protocol::primitive::Blob;
use esker_protocol::records::{self, ProduceError, ProduceErrorKind, ProduceRules};
use esker_protocol::{ErrorCode, Offset, TopicId};
use esker_storage::{AppendError, Appended};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Answer;
use super::groups::Caller;
use crate::broker::Shared;
use crate::commit::Urgency;
use crate::connection::Reply;
use crate::environment::Work;
use crate::partition::{Partition, ProduceFailure};
use crate::topics;

/// The first version that may carry zstd batches.
const ZSTD_VERSION_MIN: i16 = 7;

/// The client that may write to internal topics, in Kafka too: what repairs them.
const ADMIN_CLIENT_ID: &str = "__admin_client";

/// The first version that names topics by id.
const TOPIC_ID_VERSION_MIN: i16 = 13;

struct TopicOutcome {
    name: String,
    id: TopicId,
    partitions: Vec<PartitionOutcome>,
}

struct PartitionOutcome {
    index: i32,
    result: Result<Accepted, Refused>,
}

struct Accepted {
    partition: Arc<Partition>,
    base_offset: Offset,
    end: Offset,
    log_append_time_ms: i64,
    log_start_offset: Offset,
}

#[derive(Clone)]
struct Refused {
    code: ErrorCode,
    message: Option<String>,
    record_errors: Vec<(i32, Option<String>)>,
    log_start_offset: Offset,
}

impl Refused {
    fn new(code: ErrorCode) -> Refused {
        Refused {
            code,
            message: None,
            record_errors: Vec::new(),
            log_start_offset: Offset(-1),
        }
    }

    fn with_message(code: ErrorCode, message: impl ToString) -> Refused {
        Refused {
            message: Some(message.to_string()),
            ..Refused::new(code)
        }
    }
}

/// Applies the request: every batch is appended, or refused, before this returns.
pub(crate) async fn apply(
    shared: &Arc<Shared>,
    answer: Answer,
    caller: &Caller<'_>,
    frame: &Bytes,
    request: ProduceRequest<'_>,
) -> Reply {
    let acks = request.acks;
    let outcomes = match refused_whole(&request) {
        Some(refused) => refuse_all(&request, &refused),
        None => append_all(shared, answer.version, caller.client_id, frame, &request).await,
    };
    // Only now, and once for a directory: a round that begins between two appends of a request takes one
    // of them, and who calls is counted.
    let mut called: Vec<&Partition> = Vec::new();
    for outcome in outcomes.iter().flat_map(|topic| &topic.partitions) {
        if let Ok(accepted) = &outcome.result {
            let partition = &*accepted.partition;
            let is_same = |other: &&Partition| Arc::ptr_eq(&other.directory, &partition.directory);
            if !called.iter().any(is_same) {
                partition.ask_for_commit(urgency(acks, caller.only_waits));
                called.push(partition);
            }
        }
    }
    if acks == 0 {
        // There is no response to carry an error, so that an error closes the connection.
        let failed = outcomes
            .iter()
            .flat_map(|t| &t.partitions)
            .any(|p| p.result.is_err());
        return if failed { Reply::Close } else { Reply::Nothing };
    }
    if acks == 1 {
        return super::reply(&answer, &response(&outcomes));
    }
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    if outcomes
        .iter()
        .all(|topic| topic.partitions.iter().all(is_settled))
    {
        return super::reply(&answer, &response(&outcomes));
    }
    Reply::Later(Box::pin(async move {
        let outcomes = wait_for_all(outcomes, Instant::now() + timeout).await;
        super::respond(&answer, &response(&outcomes)).map(Into::into)
    }))
}

/// How urgent the commit of what a request appends is. With less than `acks=all` its sender does not
/// wait for it.
fn urgency(acks: i16, only_waits: bool) -> Urgency {
    match acks == -1 && only_waits {
        true => Urgency::Urgent,
        false => Urgency::CanWait,
    }
}

fn is_settled(outcome: &PartitionOutcome) -> bool {
    match &outcome.result {
        Ok(accepted) => accepted.partition.high_watermark() >= accepted.end,
        Err(_) => true,
    }
}

/// Why a request is refused as a whole: Kafka looks for batches of transactions, which need an id,
/// before it looks at partitions, and comes no further than the first that it cannot read.
fn refused_whole(request: &ProduceRequest<'_>) -> Option<Refused> {
    for data in request.topic_data.iter().flat_map(|t| &t.partition_data) {
        let Some(Blob::Borrowed(bytes)) = &data.records else {
            continue;
        };
        match records::is_transactional(bytes) {
            Ok(false) => {}
            Ok(true) if request.transactional_id.is_some() => return None,
            Ok(true) => return Some(Refused::new(ErrorCode::TransactionalIdAuthorizationFailed)),
            Err(error) => return Some(Refused::with_message(ErrorCode::CorruptMessage, error)),
        }
    }
    None
}

/// The partitions of each topic. One that is named twice is written once, with what is named last.
fn by_topic<'r>(
    request: &'r ProduceRequest<'_>,
) -> Vec<((&'r str, TopicId), Vec<&'r PartitionProduceData<'r>>)> {
    let all = request.topic_data.iter().flat_map(|topic| {
        let key = (topic.name.as_ref(), topic.topic_id);
        topic.partition_data.iter().map(move |data| (key, data))
    });
    super::grouped(super::once_each(all, |(topic, data)| (*topic, data.index)))
}

fn refuse_all(request: &ProduceRequest<'_>, refused: &Refused) -> Vec<TopicOutcome> {
    let refused = |data: &PartitionProduceData<'_>| PartitionOutcome {
        index: data.index,
        result: Err(refused.clone()),
    };
    by_topic(request)
        .into_iter()
        .map(|((name, id), partitions)| TopicOutcome {
            name: name.to_owned(),
            id,
            partitions: partitions.into_iter().map(refused).collect(),
        })
        .collect()
}

async fn append_all(
    shared: &Arc<Shared>,
    version: i16,
    client_id: &str,
    frame: &Bytes,
    request: &ProduceRequest<'_>,
) -> Vec<TopicOutcome> {
    let has_acks = (-1..=1).contains(&request.acks);
    let mut outcomes = Vec::with_capacity(request.topic_data.len());
    for ((name, topic_id), asked) in by_topic(request) {
        let by_id = version >= TOPIC_ID_VERSION_MIN;
        let id = if by_id {
            shared.topic_name(topic_id).map(|_| topic_id)
        } else {
            shared.topic_id(name)
        };
        let mut partitions = Vec::with_capacity(asked.len());
        for data in asked {
            let result = match id {
                Some(id) if !has_acks => {
                    let code = ErrorCode::InvalidRequiredAcks;
                    Err(refused_untried(shared, version, id, data, code))
                }
                Some(id) if !may_write(shared, id, client_id) => {
                    let code = ErrorCode::InvalidTopicException;
                    Err(refused_untried(shared, version, id, data, code))
                }
                Some(id) => {
                    append_one(
                        shared,
                        version,
                        frame,
                        id,
                        data.index,
                        data.records.as_ref(),
                    )
                    .await
                }
                None if by_id => Err(Refused::new(ErrorCode::UnknownTopicId)),
                None => Err(Refused::new(ErrorCode::UnknownTopicOrPartition)),
            };
            partitions.push(PartitionOutcome {
                index: data.index,
                result,
            });
        }
        outcomes.push(TopicOutcome {
            name: name.to_owned(),
            id: topic_id,
            partitions,
        });
    }
    outcomes
}

/// Whether this client may write to the topic: to those that hold a coordinator's state only the one
/// may that Kafka lets.
fn may_write(shared: &Shared, id: TopicId, client_id: &str) -> bool {
    client_id == ADMIN_CLIENT_ID
        || !shared
            .image()
            .topic_by_id(id)
            .is_some_and(|(name, _)| topics::is_internal(name))
}

/// How a batch is refused that is not even tried: with `code`, if its partition exists and it is a
/// batch at all.
fn refused_untried(
    shared: &Shared,
    version: i16,
    id: TopicId,
    data: &PartitionProduceData<'_>,
    code: ErrorCode,
) -> Refused {
    if shared.image().partition(id, data.index).is_none() {
        return Refused::new(ErrorCode::UnknownTopicOrPartition);
    }
    let bytes = match &data.records {
        Some(Blob::Borrowed(bytes)) => *bytes,
        _ => &[],
    };
    match records::inspect(bytes, version >= ZSTD_VERSION_MIN) {
        Err(error) if error.is_before_the_log() => {
            Refused::with_message(code_of(error.kind()), error)
        }
        _ => Refused::new(code),
    }
}

async fn append_one(
    shared: &Arc<Shared>,
    version: i16,
    frame: &Bytes,
    id: TopicId,
    index: i32,
    records: Option<&Blob<'_>>,
) -> Result<Accepted, Refused> {
    let Some(partition) = shared.partitions.get(id, index) else {
        return Err(Refused::new(
            if shared.image().partition(id, index).is_some() {
                ErrorCode::NotLeaderOrFollower
            } else {
                ErrorCode::UnknownTopicOrPartition
            },
        ));
    };
    let batch = match records {
        Some(Blob::Borrowed(bytes)) if !bytes.is_empty() => frame.slice_ref(bytes),
        _ => {
            return Err(Refused::with_message(
                ErrorCode::InvalidRecord,
                "Produce requests must have exactly one record batch per partition",
            ));
        }
    };
    let batch_bytes = batch.len();
    #[cfg(feature = "planted-bugs")]
    if shared.config.planted_bug == Some(crate::config::PlantedBug::AckBeforeWrite)
        && let Some(appended) =
            crate::planted::acknowledge_before_write(shared, &partition, batch.clone())
    {
        return Ok(Accepted {
            partition,
            base_offset: appended.base_offset,
            end: appended.end,
            log_append_time_ms: -1,
            log_start_offset: appended.log_start_offset,
        });
    }
    let now = shared.environment.now();
    let rules = partition.produce_rules(now, version >= ZSTD_VERSION_MIN);
    let appended = append(shared, &partition, batch, rules).await;
    match appended {
        Ok(appended) => {
            shared
                .metrics
                .produced(batch_bytes, appended.end - appended.base_offset);
            if appended.rolled {
                shared.tiering.wake();
            }
            Ok(Accepted {
                partition,
                base_offset: appended.base_offset,
                end: appended.end,
                log_append_time_ms: appended.log_append_time.map_or(-1, |time| time.0),
                log_start_offset: appended.log_start_offset,
            })
        }
        Err(failure) => {
            shared.metrics.produce_refused();
            Err(refusal(&partition, &failure))
        }
    }
}

/// Validates a batch and appends it. What is compressed anew is so by a thread that nobody waits for,
/// and still in the order in which the connection sent it: the next request is applied after this.
async fn append(
    shared: &Arc<Shared>,
    partition: &Arc<Partition>,
    batch: Bytes,
    rules: ProduceRules,
) -> Result<Appended, ProduceFailure> {
    let is_work = partition.leading().is_some()
        && records::inspect(&batch, rules.zstd_allowed)
            .is_ok_and(|header| rules.recompresses(&header));
    let of = Arc::clone(partition);
    if !is_work {
        let work = move || of.append(batch, &rules);
        return shared.environment.run(Work::PageCache, work).await;
    }
    let validate = move || records::validate(batch, &rules);
    let valid = shared.environment.run(Work::Compute, validate).await?;
    let work = move || of.append_valid(&valid, &rules);
    shared.environment.run(Work::PageCache, work).await
}

fn code_of(kind: ProduceErrorKind) -> ErrorCode {
    match kind {
        ProduceErrorKind::InvalidRecord => ErrorCode::InvalidRecord,
        ProduceErrorKind::MessageTooLarge => ErrorCode::MessageTooLarge,
        ProduceErrorKind::CorruptMessage => ErrorCode::CorruptMessage,
        ProduceErrorKind::InvalidTimestamp => ErrorCode::InvalidTimestamp,
        ProduceErrorKind::UnsupportedCompressionType => ErrorCode::UnsupportedCompressionType,
        ProduceErrorKind::Undecodable => ErrorCode::UnknownServerError,
    }
}

/// Kafka's code for a failure, and whether the reply shows the real log start: it does where the
/// log's validation refused the batch.
fn refusal(partition: &Partition, failure: &ProduceFailure) -> Refused {
    let log_start_offset = partition.start_offset();
    match failure {
        ProduceFailure::NotLeader => Refused::new(ErrorCode::NotLeaderOrFollower),
        ProduceFailure::Invalid(error) => {
            let code = code_of(error.kind());
            let shows_start = !error.is_before_the_log()
                && !matches!(code, ErrorCode::MessageTooLarge | ErrorCode::CorruptMessage);
            let record_errors: Vec<(i32, String)> = error
                .record_errors()
                .map(|record| {
                    let mut message = record.message.clone();
                    if record.names_partition {
                        message += &format!("{}-{}", partition.topic, partition.index);
                    }
                    (record.batch_index, message)
                })
                .collect();
            let message = match error {
                ProduceError::Rejected {
                    by_timestamp,
                    count,
                    ..
                } => rejection(*by_timestamp, *count, &record_errors),
                other => other.to_string(),
            };
            let record_errors = record_errors.into_iter();
            Refused {
                code,
                message: Some(message),
                record_errors: record_errors
                    .map(|(index, message)| (index, Some(message)))
                    .collect(),
                log_start_offset: if shows_start {
                    log_start_offset
                } else {
                    Offset(-1)
                },
            }
        }
        ProduceFailure::Append(error) => {
            let (code, shows_start) = match error {
                AppendError::Fenced { .. } => (ErrorCode::NotLeaderOrFollower, false),
                AppendError::OutOfOrder { .. } => (ErrorCode::OutOfOrderSequenceNumber, true),
                AppendError::InvalidProducerEpoch { .. } => (ErrorCode::InvalidProducerEpoch, true),
                AppendError::InvalidTransactionState { .. } => (ErrorCode::InvalidTxnState, true),
                AppendError::BatchLargerThanSegment { .. } => {
                    (ErrorCode::RecordListTooLarge, false)
                }
                // Retriable: the same batch may succeed once the tier or retention has made room.
                AppendError::NoSpace => (ErrorCode::KafkaStorageError, false),
                _ => (ErrorCode::KafkaStorageError, false),
            };
            Refused {
                log_start_offset: if shows_start {
                    log_start_offset
                } else {
                    Offset(-1)
                },
                ..Refused::with_message(code, error)
            }
        }
    }
}

/// What a batch with refused records is refused for, in Kafka's words.
fn rejection(by_timestamp: bool, count: usize, records: &[(i32, String)]) -> String {
    /// The records that the message shows.
    const SHOWN_MAX: usize = 3;
    if by_timestamp {
        return "One or more records have been rejected due to invalid timestamp".to_owned();
    }
    let shown = records.iter().take(SHOWN_MAX);
    let shown: Vec<String> = shown
        .map(|(index, message)| format!("RecordError(batchIndex={index}, message='{message}')"))
        .collect();
    format!(
        "One or more records have been rejected due to {count} record errors in total, and only showing the first three errors at most: [{}]",
        shown.join(", ")
    )
}

/// Waits until every accepted batch is below the high watermark, its partition is no longer led
/// here, or the deadline has passed.
async fn wait_for_all(mut outcomes: Vec<TopicOutcome>, deadline: Instant) -> Vec<TopicOutcome> {
    for outcome in outcomes.iter_mut().flat_map(|topic| &mut topic.partitions) {
        let Ok(accepted) = &outcome.result else {
            continue;
        };
        if let Err(code) = wait_for(accepted, deadline).await {
            outcome.result = Err(Refused::new(code));
        }
    }
    outcomes
}

async fn wait_for(accepted: &Accepted, deadline: Instant) -> Result<(), ErrorCode> {
    let wake = Arc::new(Notify::new());
    loop {
        let partition = &accepted.partition;
        // The end is exclusive: all of the batch is shown once the high watermark has reached it.
        partition.wake_above(accepted.end + -1, Arc::downgrade(&wake));
        if partition.high_watermark() >= accepted.end {
            return Ok(());
        }
        if partition.is_offline() {
            return Err(ErrorCode::KafkaStorageError);
        }
        if partition.leading().is_none() {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        if tokio::time::timeout_at(deadline, wake.notified())
            .await
            .is_err()
        {
            return Err(ErrorCode::RequestTimedOut);
        }
    }
}

fn response(outcomes: &[TopicOutcome]) -> ProduceResponse<'_> {
    ProduceResponse {
        responses: outcomes
            .iter()
            .map(|topic| TopicProduceResponse {
                name: Cow::Borrowed(&topic.name),
                topic_id: topic.id,
                partition_responses: topic.partitions.iter().map(partition_response).collect(),
            })
            .collect(),
        ..ProduceResponse::default()
    }
}

fn partition_response(outcome: &PartitionOutcome) -> PartitionProduceResponse<'_> {
    let base = PartitionProduceResponse {
        index: outcome.index,
        ..PartitionProduceResponse::default()
    };
    match &outcome.result {
        Ok(accepted) => PartitionProduceResponse {
            base_offset: accepted.base_offset.0,
            log_append_time_ms: accepted.log_append_time_ms,
            log_start_offset: accepted.log_start_offset.0,
            ..base
        },
        Err(refused) => PartitionProduceResponse {
            error_code: refused.code.code(),
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: refused.log_start_offset.0,
            error_message: refused.message.as_deref().map(Cow::Borrowed),
            record_errors: refused
                .record_errors
                .iter()
                .map(|(index, message)| BatchIndexAndErrorMessage {
                    batch_index: *index,
                    batch_index_error_message: message.as_deref().map(Cow::Borrowed),
                })
                .collect(),
            ..base
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_waits_for_all_and_does_nothing_else_is_in_a_hurry() {
        assert_eq!(urgency(-1, true), Urgency::Urgent);
        assert_eq!(urgency(-1, false), Urgency::CanWait);
        assert_eq!(urgency(1, true), Urgency::CanWait);
        assert_eq!(urgency(0, true), Urgency::CanWait);
    }
}
