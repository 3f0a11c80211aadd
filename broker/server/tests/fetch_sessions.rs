//! Fetch sessions through the socket: requests that name what changes, answers with what is new.

mod common;

use std::borrow::Cow;

use common::{Stores, Wire, batch, create, produce_request};
use esker_protocol::ErrorCode;
use esker_protocol::TopicId;
use esker_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use esker_protocol::messages::*;
use esker_protocol::primitive::Blob;

const NOW: i64 = 1_700_000_000_000;

/// Fetches with version 12; returns code, session, and (topic, partition, code, bytes) of what is
/// answered.
async fn fetch(
    wire: &mut Wire,
    version: i16,
    session: (i32, i32),
    listed: &[(&str, i32, i64)],
    forgotten: &[(&str, i32)],
) -> (i16, i32, Vec<(String, i32, i16, usize)>) {
    let request = FetchRequest {
        max_wait_ms: 0,
        max_bytes: 1 << 20,
        session_id: session.0,
        session_epoch: session.1,
        topics: listed
            .iter()
            .map(|(topic, partition, offset)| FetchTopic {
                topic: Cow::Borrowed(*topic),
                topic_id: TopicId::ZERO,
                partitions: vec![FetchPartition {
                    partition: *partition,
                    fetch_offset: *offset,
                    partition_max_bytes: 1 << 20,
                    ..FetchPartition::default()
                }],
            })
            .collect(),
        forgotten_topics_data: forgotten
            .iter()
            .map(|(topic, partition)| ForgottenTopic {
                topic: Cow::Borrowed(*topic),
                partitions: vec![*partition],
                ..ForgottenTopic::default()
            })
            .collect(),
        ..FetchRequest::default()
    };
    wire.call(version, &request, |r: FetchResponse<'_>| {
        let mut answered = Vec::new();
        for topic in &r.responses {
            for one in &topic.partitions {
                let records = one.records.as_ref().map(Blob::to_bytes).unwrap_or_default();
                let row = (
                    topic.topic.to_string(),
                    one.partition_index,
                    one.error_code,
                    records.len(),
                );
                answered.push(row);
            }
        }
        (r.error_code, r.session_id, answered)
    })
    .await
}

async fn produce_to(wire: &mut Wire, topic: &str, partition: i32) -> usize {
    let records = batch(&[b"value"], NOW);
    let bytes = records.len();
    let mut request = produce_request(topic, records, -1);
    request.topic_data[0].partition_data[0].index = partition;
    let code = wire
        .call(12, &request, |r: ProduceResponse<'_>| {
            r.responses[0].partition_responses[0].error_code
        })
        .await;
    assert_eq!(code, 0);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_names_what_changes_and_is_answered_what_is_new() {
    let broker = common::start(&Stores::new(), &[]).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "a", 2, &[]).await;
    create(&mut wire, "b", 1, &[]).await;
    let row = |topic: &str, partition, bytes| (topic.to_owned(), partition, 0, bytes);
    let all = [("a", 0, 0), ("a", 1, 0), ("b", 0, 0)];
    let (code, id, answered) = fetch(&mut wire, 12, (0, 0), &all, &[]).await;
    assert_eq!(code, 0);
    assert!(id > 0);
    assert_eq!(answered, [row("a", 0, 0), row("a", 1, 0), row("b", 0, 0)]);
    assert_eq!(
        fetch(&mut wire, 12, (id, 1), &[], &[]).await,
        (0, id, vec![])
    );

    let bytes = produce_to(&mut wire, "a", 1).await;
    assert_eq!(
        fetch(&mut wire, 12, (id, 2), &[], &[]).await,
        (0, id, vec![row("a", 1, bytes)])
    );
    // The client goes on behind it; another partition is forgotten, and gets records unseen.
    produce_to(&mut wire, "b", 0).await;
    assert_eq!(
        fetch(&mut wire, 12, (id, 3), &[("a", 1, 1)], &[("b", 0)]).await,
        (0, id, vec![])
    );
    // Whoever got records last comes last.
    produce_to(&mut wire, "a", 0).await;
    produce_to(&mut wire, "a", 1).await;
    let (_, _, answered) = fetch(&mut wire, 12, (id, 4), &[], &[]).await;
    assert_eq!(answered, [row("a", 0, bytes), row("a", 1, bytes)]);
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    let missing = [("missing", 0, 0), ("a", 0, 1), ("a", 1, 2)];
    assert_eq!(
        fetch(&mut wire, 12, (id, 5), &missing, &[]).await,
        (0, id, vec![("missing".to_owned(), 0, unknown, 0)])
    );
    // It is resolved again, and told when it is there.
    create(&mut wire, "missing", 1, &[]).await;
    assert_eq!(
        fetch(&mut wire, 12, (id, 6), &[], &[]).await,
        (0, id, vec![row("missing", 0, 0)])
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_refused_with_kafkas_codes() {
    let slots = [("max.incremental.fetch.session.cache.slots", "1")];
    let broker = common::start(&Stores::new(), &slots).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "a", 1, &[]).await;
    let all = [("a", 0, 0)];
    let (_, id, _) = fetch(&mut wire, 12, (0, 0), &all, &[]).await;
    assert!(id > 0);
    let not_found = ErrorCode::FetchSessionIdNotFound.code();
    let wrong_epoch = ErrorCode::InvalidFetchSessionEpoch.code();
    let topic_ids = ErrorCode::FetchSessionTopicIdError.code();
    for (version, session, code) in [
        (12, (id, 2), wrong_epoch),
        (12, (id.wrapping_add(1).max(1), 1), not_found),
        (12, (0, 1), not_found),
        (13, (id, 1), topic_ids),
    ] {
        let refused = fetch(&mut wire, version, session, &[], &[]).await;
        assert_eq!(refused, (code, 0, vec![]), "{session:?}");
    }
    // There is one slot, and its session is not old: a full answer without a session.
    let (code, second, answered) = fetch(&mut wire, 12, (0, 0), &all, &[]).await;
    assert_eq!((code, second, answered.len()), (0, 0, 1));
    // Closed, its slot is free.
    let (code, closed, answered) = fetch(&mut wire, 12, (id, -1), &all, &[]).await;
    assert_eq!((code, closed, answered.len()), (0, 0, 1));
    assert!(fetch(&mut wire, 12, (0, 0), &all, &[]).await.1 > 0);
    broker.stop().await;
}
