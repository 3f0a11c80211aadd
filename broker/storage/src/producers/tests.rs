use esker_protocol::LeaderEpoch;
use esker_protocol::records::{BatchBuilder, BatchOptions};

use super::*;

struct Sent {
    producer: i64,
    epoch: i16,
    sequence: i32,
    records: i32,
    transactional: bool,
}

const PLAIN: Sent = Sent {
    producer: 1,
    epoch: 0,
    sequence: 0,
    records: 2,
    transactional: false,
};

fn header(sent: &Sent, base: i64) -> BatchHeader {
    let mut builder = BatchBuilder::new(BatchOptions {
        base_offset: Offset(base),
        producer_id: ProducerId(sent.producer),
        producer_epoch: ProducerEpoch(sent.epoch),
        base_sequence: sent.sequence,
        transactional: sent.transactional,
        ..BatchOptions::default()
    });
    for _ in 0..sent.records {
        builder.append(Timestamp(base), None, None, &[]).unwrap();
    }
    BatchHeader::parse(&builder.build().unwrap()).unwrap()
}

fn marker(
    producers: &mut Producers,
    producer: i64,
    commit: bool,
    at: i64,
) -> Option<AbortedTransaction> {
    let marker = EndTransactionMarker {
        commit,
        coordinator_epoch: 3,
    };
    let id = ProducerId(producer);
    let bytes = marker.to_batch(
        id,
        ProducerEpoch(0),
        Timestamp(at),
        Offset(at),
        LeaderEpoch(0),
    );
    let (batch, _) = Batch::parse(&bytes).unwrap();
    producers.replay(&batch)
}

#[test]
fn sequences_continue_and_any_of_the_last_five_is_a_duplicate() {
    let mut producers = Producers::default();
    for index in 0..7 {
        let header = header(
            &Sent {
                sequence: index * 2,
                ..PLAIN
            },
            i64::from(index) * 2,
        );
        assert_eq!(producers.check(&header).unwrap(), Verdict::New);
        producers.apply(&header);
    }
    for index in 2..7 {
        let again = header(
            &Sent {
                sequence: index * 2,
                ..PLAIN
            },
            100,
        );
        let Verdict::Duplicate(original) = producers.check(&again).unwrap() else {
            panic!("batch {index} is a duplicate");
        };
        assert_eq!(original.base_offset(), Offset(i64::from(index) * 2));
    }
    for sequence in [0, 2, 13, 15, 16] {
        let refused = producers.check(&header(&Sent { sequence, ..PLAIN }, 100));
        assert!(
            matches!(refused, Err(AppendError::OutOfOrder { expected: 14, .. })),
            "{sequence}"
        );
    }
}

#[test]
fn sequences_wrap_at_the_end_of_their_range() {
    let mut producers = Producers::default();
    producers.apply(&header(
        &Sent {
            sequence: i32::MAX - 1,
            records: 3,
            ..PLAIN
        },
        0,
    ));
    let next = header(
        &Sent {
            sequence: 1,
            ..PLAIN
        },
        3,
    );
    assert_eq!(producers.check(&next).unwrap(), Verdict::New);
    let again = header(
        &Sent {
            sequence: i32::MAX - 1,
            records: 3,
            ..PLAIN
        },
        3,
    );
    assert!(matches!(
        producers.check(&again).unwrap(),
        Verdict::Duplicate(_)
    ));
}

#[test]
fn a_new_epoch_begins_at_zero_and_fences_the_old() {
    let mut producers = Producers::default();
    producers.apply(&header(&PLAIN, 0));
    let late = producers.check(&header(
        &Sent {
            epoch: 1,
            sequence: 2,
            ..PLAIN
        },
        2,
    ));
    assert!(matches!(
        late,
        Err(AppendError::OutOfOrder { expected: 0, .. })
    ));
    let first = header(&Sent { epoch: 1, ..PLAIN }, 2);
    assert_eq!(producers.check(&first).unwrap(), Verdict::New);
    producers.apply(&first);
    let old = producers.check(&header(
        &Sent {
            sequence: 2,
            ..PLAIN
        },
        4,
    ));
    assert!(matches!(old, Err(AppendError::InvalidProducerEpoch { .. })));
}

#[test]
fn without_state_any_sequence_begins() {
    let producers = Producers::default();
    let header = header(
        &Sent {
            sequence: 77,
            ..PLAIN
        },
        0,
    );
    assert_eq!(producers.check(&header).unwrap(), Verdict::New);
}

#[test]
fn open_and_unreplicated_transactions_hold_the_last_stable_offset() {
    let mut producers = Producers::default();
    producers.apply(&header(
        &Sent {
            producer: 1,
            transactional: true,
            ..PLAIN
        },
        10,
    ));
    producers.apply(&header(
        &Sent {
            producer: 2,
            transactional: true,
            ..PLAIN
        },
        12,
    ));
    assert_eq!(producers.last_stable_offset(Offset(14)), Offset(10));
    let aborted = marker(&mut producers, 1, false, 14).unwrap();
    assert_eq!(
        (aborted.first_offset, aborted.last_offset),
        (Offset(10), Offset(14))
    );
    assert_eq!(aborted.last_stable_offset, Offset(12));
    // The marker is not below the high watermark yet.
    assert_eq!(producers.last_stable_offset(Offset(14)), Offset(10));
    assert_eq!(producers.last_stable_offset(Offset(15)), Offset(12));
    assert_eq!(marker(&mut producers, 2, true, 15), None);
    assert_eq!(producers.last_stable_offset(Offset(16)), Offset(16));
    // A transaction without records here leaves nothing to abort.
    assert_eq!(marker(&mut producers, 2, false, 16), None);
}

#[test]
fn an_open_transaction_refuses_what_is_outside_it_and_old_coordinators() {
    let mut producers = Producers::default();
    producers.apply(&header(
        &Sent {
            transactional: true,
            ..PLAIN
        },
        0,
    ));
    let outside = producers.check(&header(
        &Sent {
            sequence: 2,
            ..PLAIN
        },
        2,
    ));
    assert!(matches!(
        outside,
        Err(AppendError::InvalidTransactionState { .. })
    ));
    marker(&mut producers, 1, true, 2);
    let old = EndTransactionMarker {
        commit: true,
        coordinator_epoch: 2,
    };
    let refused = producers.check_marker(ProducerId(1), ProducerEpoch(0), &old);
    assert!(matches!(
        refused,
        Err(AppendError::CoordinatorFenced {
            given: 2,
            current: 3
        })
    ));
}

#[test]
fn idle_producers_expire_unless_a_transaction_is_open() {
    let mut producers = Producers::default();
    producers.apply(&header(&PLAIN, 1000));
    producers.apply(&header(
        &Sent {
            producer: 2,
            transactional: true,
            ..PLAIN
        },
        1000,
    ));
    // Records of long ago: it is the clock that counts, from the first look on.
    assert!(!producers.expire(Timestamp(900_000), 1000));
    assert!(!producers.expire(Timestamp(900_999), 1000));
    producers.apply(&header(&PLAIN, 1000));
    assert!(!producers.expire(Timestamp(901_000), 1000));
    assert!(producers.expire(Timestamp(902_000), 1000));
    let left: Vec<i64> = producers
        .snapshot()
        .entries
        .iter()
        .map(|entry| entry.producer_id.0)
        .collect();
    assert_eq!(left, [2]);
}

#[test]
fn a_snapshot_reads_back_whole() {
    let mut producers = Producers::default();
    for index in 0..4 {
        producers.apply(&header(
            &Sent {
                sequence: index * 2,
                ..PLAIN
            },
            i64::from(index) * 2,
        ));
    }
    producers.apply(&header(
        &Sent {
            producer: 2,
            transactional: true,
            ..PLAIN
        },
        8,
    ));
    marker(&mut producers, 1, true, 10);
    let snapshot = producers.snapshot();
    let bytes = snapshot.encode();
    assert_eq!(ProducerSnapshot::decode(&bytes), Ok(snapshot.clone()));
    assert_eq!(Producers::from_snapshot(&snapshot).snapshot(), snapshot);
    for length in 0..bytes.len() {
        assert!(
            ProducerSnapshot::decode(&bytes[..length]).is_err(),
            "{length}"
        );
    }
    for position in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[position] ^= 1;
        assert!(ProducerSnapshot::decode(&damaged).is_err(), "{position}");
    }
}

#[test]
fn one_producer_with_one_batch_takes_kafkas_fifty_six_bytes() {
    let mut producers = Producers::default();
    producers.apply(&header(&PLAIN, 0));
    assert_eq!(producers.snapshot().encode().len(), 56);
}
