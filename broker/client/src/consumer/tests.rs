use esker_protocol::ErrorCode;
use esker_protocol::api::ApiKey;

use super::*;
use crate::produce::Acks;
use crate::testing::{Fault, Network, TOPIC, batch, within};

async fn fill(network: &std::sync::Arc<Network>, count: usize) -> Client {
    let client = network.client();
    for index in 0..count {
        let values = [format!("{}", index * 2), format!("{}", index * 2 + 1)];
        let batch = batch(&[&values[0], &values[1]], None);
        client
            .produce(TOPIC, 0, batch, Acks::All, within(5))
            .await
            .expect("stored");
    }
    client
}

fn values(polled: &[Polled]) -> Vec<i64> {
    let mut values = Vec::new();
    for one in polled {
        one.for_each(|record| {
            let text = std::str::from_utf8(record.value.expect("a value")).expect("text");
            assert_eq!(text, record.offset.to_string());
            values.push(record.offset.0);
        })
        .expect("sound batches");
    }
    values
}

#[test]
fn everything_from_the_wanted_offset_on_is_read_in_order() {
    // By id and by name; in pieces, because the broker cuts its answers.
    for newest in [None, Some(12), Some(4)] {
        let network = Network::new();
        if let Some(newest) = newest {
            network.state().newest.insert(ApiKey::Fetch, newest);
        }
        network.run(async {
            let client = fill(&network, 100).await;
            let fetch = FetchOptions {
                partition_bytes_max: 500,
                ..FetchOptions::default()
            };
            let options = ConsumerOptions {
                fetch,
                ..Default::default()
            };
            let mut consumer = Consumer::new(client, options);
            consumer.assign(TOPIC, 0, Offset(33));
            consumer.assign(TOPIC, 1, Offset(0));
            let mut read = Vec::new();
            let mut polls = 0;
            while consumer.position(TOPIC, 0) != Some(Offset(200)) {
                let polled = consumer.poll(within(5)).await.expect("records");
                assert!(polled.iter().all(|one| one.high_watermark == Offset(200)));
                read.extend(values(&polled));
                polls += 1;
            }
            assert!(polls > 5);
            assert_eq!(read, (33..200).collect::<Vec<_>>());
            assert!(consumer.poll(within(5)).await.expect("nothing").is_empty());
            assert_eq!(consumer.position(TOPIC, 1), Some(Offset(0)));
        });
    }
}

#[test]
fn lost_answers_and_moved_leaders_are_asked_again() {
    let network = Network::new();
    network.run(async {
        let client = fill(&network, 3).await;
        network.fail(
            ApiKey::Fetch,
            [
                Some(Fault::LostAfter),
                Some(Fault::Refused(ErrorCode::NotLeaderOrFollower)),
                Some(Fault::CutAnswer),
                Some(Fault::Silence),
            ],
        );
        let mut consumer = Consumer::new(client, ConsumerOptions::default());
        consumer.assign(TOPIC, 0, Offset(0));
        let polled = consumer.poll(within(60)).await.expect("records");
        assert_eq!(values(&polled), (0..6).collect::<Vec<_>>());
    });
}

#[test]
fn what_cannot_be_mended_is_told_and_moves_nothing() {
    let network = Network::new();
    network.run(async {
        let client = fill(&network, 1).await;
        let mut consumer = Consumer::new(client, ConsumerOptions::default());
        consumer.assign(TOPIC, 0, Offset(99));
        let error = consumer.poll(within(5)).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange));
        assert_eq!(consumer.position(TOPIC, 0), Some(Offset(99)));
        consumer.assign(TOPIC, 0, Offset(0));
        let damaged = {
            let mut damaged = network.state().log[0].to_vec();
            *damaged.last_mut().expect("bytes") ^= 1;
            damaged
        };
        network.state().log[0] = damaged.into();
        let error = consumer.poll(within(5)).await.unwrap_err();
        assert!(matches!(error, ClientError::Batch { .. }), "{error}");
        consumer.unassign(TOPIC, 0);
        assert!(consumer.poll(within(5)).await.expect("nothing").is_empty());
    });
}

#[test]
fn fetch_reads_one_partition() {
    let network = Network::new();
    network.run(async {
        let client = fill(&network, 2).await;
        network.fail(ApiKey::Fetch, [Some(Fault::LostBefore)]);
        let options = FetchOptions::default();
        let fetched = client
            .fetch(TOPIC, 0, Offset(2), &options, within(5))
            .await
            .expect("records");
        assert_eq!(fetched.records, network.state().log[1]);
        assert_eq!(fetched.high_watermark, Offset(4));
    });
}
