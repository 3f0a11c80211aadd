use esker_protocol::ErrorCode;
use esker_protocol::api::ApiKey;
use esker_protocol::records::Batches;
use futures::future::join_all;

use super::*;
use crate::testing::{Fault, Network, TOPIC, within};

fn record(value: &str) -> NewRecord<'_> {
    NewRecord {
        timestamp: Timestamp(1),
        key: None,
        value: Some(value.as_bytes()),
        headers: &[],
    }
}

/// The values in the log, checked for dense offsets and sequences.
fn stored(network: &Network) -> Vec<String> {
    let log: Vec<u8> = network.state().log.concat();
    let mut values = Vec::new();
    for batch in Batches::new(&log) {
        let batch = batch.expect("a batch");
        assert_eq!(batch.header().base_offset.0, values.len() as i64);
        assert_eq!(batch.header().base_sequence as usize, values.len());
        let records = batch.records(&Default::default()).expect("records");
        for record in &records {
            let value = record.expect("a record").value.expect("a value");
            values.push(String::from_utf8(value.to_vec()).expect("text"));
        }
    }
    values
}

#[test]
fn records_are_stored_once_and_in_order_whatever_is_lost() {
    for compression in Compression::ALL {
        let network = Network::new();
        let faults = [
            Some(Fault::LostAfter),
            None,
            Some(Fault::LostBefore),
            Some(Fault::Silence),
            Some(Fault::CutAnswer),
            None,
            Some(Fault::Refused(ErrorCode::NotLeaderOrFollower)),
        ];
        network.fail(ApiKey::Produce, faults.into_iter().cycle().take(40));
        network.run(async {
            let options = ProducerOptions {
                compression,
                ..Default::default()
            };
            let producer = Producer::new(network.client(), options, within(5))
                .await
                .expect("an id");
            let values: Vec<String> = (0..30).map(|n| format!("value {n}")).collect();
            // All at once: they take turns in the order of their calls.
            let sends = values.chunks(2).map(|pair| {
                let records = [record(&pair[0]), record(&pair[1])];
                let producer = &producer;
                async move { producer.send(TOPIC, 0, &records, within(600)).await }
            });
            let offsets: Vec<i64> = join_all(sends)
                .await
                .into_iter()
                .map(|sent| sent.expect("stored").base_offset.expect("an offset").0)
                .collect();
            assert_eq!(offsets, (0..30).step_by(2).collect::<Vec<_>>());
            assert_eq!(stored(&network), values);
        });
    }
}

#[test]
fn a_batch_in_doubt_is_settled_before_the_next() {
    let network = Network::new();
    network.run(async {
        let client = network.client();
        let producer = Producer::new(client, ProducerOptions::default(), within(5))
            .await
            .expect("an id");
        // Stored, but nobody hears of it before the deadline.
        network.fail(ApiKey::Produce, [Some(Fault::Silence); 3]);
        let doubt = producer
            .send(TOPIC, 0, &[record("one")], within(3))
            .await
            .unwrap_err();
        assert!(
            matches!(doubt, ClientError::OutcomeUnknown { .. }),
            "{doubt}"
        );
        let second = producer
            .send(TOPIC, 0, &[record("two")], within(60))
            .await
            .expect("stored");
        assert_eq!(second.base_offset.map(|offset| offset.0), Some(1));
        // Dropped after it was sent: the same.
        network.fail(ApiKey::Produce, [Some(Fault::Silence)]);
        {
            let records = [record("three")];
            let send = producer.send(TOPIC, 0, &records, within(60));
            let dropped = tokio::time::timeout(std::time::Duration::from_secs(1), send).await;
            assert!(dropped.is_err());
        }
        producer
            .send(TOPIC, 0, &[record("four")], within(60))
            .await
            .expect("stored");
        assert_eq!(stored(&network), ["one", "two", "three", "four"]);
    });
}

#[test]
fn a_refused_batch_leaves_its_sequence_to_the_next() {
    let network = Network::new();
    network.run(async {
        let client = network.client();
        let producer = Producer::new(client, ProducerOptions::default(), within(5))
            .await
            .expect("an id");
        network.fail(
            ApiKey::Produce,
            [Some(Fault::Refused(ErrorCode::MessageTooLarge))],
        );
        let refused = producer
            .send(TOPIC, 0, &[record("large")], within(5))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::MessageTooLarge));
        let empty = producer.send(TOPIC, 0, &[], within(5)).await.unwrap_err();
        assert!(matches!(empty, ClientError::Batch { .. }));
        producer
            .send(TOPIC, 0, &[record("small")], within(5))
            .await
            .expect("stored");
        assert_eq!(stored(&network), ["small"]);
    });
}
