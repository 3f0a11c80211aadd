use esker_protocol::api::ApiKey;
use esker_protocol::{ErrorCode, ProducerId};

use super::*;
use crate::testing::{Fault, Network, TOPIC, batch, within};

const PRODUCER: ProducerId = ProducerId(5);

#[test]
fn batches_are_stored_and_their_offsets_told() {
    // By id and by name.
    for newest in [None, Some(12), Some(3)] {
        let network = Network::new();
        if let Some(newest) = newest {
            network.state().newest.insert(ApiKey::Produce, newest);
        }
        network.run(async {
            let client = network.client();
            for (acks, offset) in [
                (Acks::All, Some(0)),
                (Acks::None, None),
                (Acks::Leader, Some(4)),
            ] {
                let batch = batch(&["one", "two"], None);
                let produced = client.produce(TOPIC, 0, batch, acks, within(5)).await;
                assert_eq!(produced.expect("stored").base_offset, offset.map(Offset));
            }
            assert_eq!(network.state().end(), 6);
        });
    }
}

#[test]
fn a_repeated_batch_with_a_producer_is_stored_once() {
    for fault in [
        Fault::LostBefore,
        Fault::LostAfter,
        Fault::CutAnswer,
        Fault::Silence,
        Fault::Refused(ErrorCode::NotLeaderOrFollower),
        Fault::Refused(ErrorCode::NotEnoughReplicasAfterAppend),
    ] {
        let network = Network::new();
        network.fail(ApiKey::Produce, [Some(fault), None, Some(fault)]);
        network.run(async {
            let client = network.client();
            for sequence in 0..3 {
                let batch = batch(&["v"], Some((PRODUCER, sequence)));
                let produced = client.produce(TOPIC, 0, batch, Acks::All, within(60)).await;
                let offset = Some(Offset(i64::from(sequence)));
                assert_eq!(produced.expect("stored").base_offset, offset, "{fault:?}");
            }
            assert_eq!(network.state().end(), 3, "{fault:?}");
        });
    }
}

#[test]
fn a_batch_without_a_producer_is_not_repeated_once_it_may_be_stored() {
    for fault in [Fault::LostAfter, Fault::CutAnswer, Fault::Silence] {
        let network = Network::new();
        network.fail(ApiKey::Produce, [Some(fault)]);
        network.run(async {
            let client = network.client();
            let produced = client
                .produce(TOPIC, 0, batch(&["v"], None), Acks::All, within(60))
                .await;
            let error = produced.unwrap_err();
            assert!(
                matches!(error, ClientError::OutcomeUnknown { .. }),
                "{fault:?}: {error}"
            );
            assert_eq!(network.state().end(), 1);
        });
    }
}

#[test]
fn a_clean_refusal_is_tried_again_or_told() {
    let network = Network::new();
    let refused = |code| Some(Fault::Refused(code));
    network.fail(ApiKey::Produce, [refused(ErrorCode::NotEnoughReplicas)]);
    network.run(async {
        let client = network.client();
        let send = || client.produce(TOPIC, 0, batch(&["v"], None), Acks::All, within(60));
        send().await.expect("stored at the second try");
        network.fail(ApiKey::Produce, [refused(ErrorCode::MessageTooLarge)]);
        let error = send().await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::MessageTooLarge));
        assert_eq!(network.state().end(), 1);
        let nonsense = client.produce(TOPIC, 0, Bytes::from_static(b"x"), Acks::All, within(1));
        assert!(matches!(nonsense.await, Err(ClientError::Batch { .. })));
    });
}
