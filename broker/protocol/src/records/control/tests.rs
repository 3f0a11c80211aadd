use super::*;
use crate::records::{Batch, Caps, golden};

fn only_record(bytes: &[u8], look: impl FnOnce(&Record<'_>)) {
    let (batch, _) = Batch::parse(bytes).expect("a batch");
    assert!(batch.crc_is_valid());
    assert!(batch.header().attributes.is_control());
    let records = batch.records(&Caps::DEFAULT).expect("not compressed");
    let mut records = records.iter();
    look(&records.next().expect("one record").expect("well formed"));
    assert!(records.next().is_none());
}

#[test]
fn markers_are_byte_for_byte_kafkas() {
    for (name, commit, base_offset) in [("commit", true, 1000), ("abort", false, 1001)] {
        let golden = golden::batch(name);
        let marker = EndTransactionMarker {
            commit,
            coordinator_epoch: 9,
        };
        let ours = marker.to_batch(
            ProducerId(4242),
            ProducerEpoch(3),
            Timestamp(golden::NOW),
            Offset(base_offset),
            LeaderEpoch(6),
        );
        assert_eq!(ours, golden);
        assert_eq!(ours.len(), EndTransactionMarker::BATCH_BYTES);
        only_record(&golden, |record| {
            assert_eq!(EndTransactionMarker::decode(record), Ok(Some(marker)));
        });
    }
}

#[test]
fn unknown_types_are_no_markers_and_short_ones_are_refused() {
    only_record(&golden::batch("commit"), |record| {
        let with = |key: &'static [u8], value: &'static [u8]| {
            EndTransactionMarker::decode(&Record {
                key: Some(key),
                value: Some(value),
                ..*record
            })
        };
        assert_eq!(with(&[0, 0, 0, 2], &[]), Ok(None));
        // A later version of a known type is read as the newest known one.
        assert_eq!(
            with(&[0, 9, 0, 1], &[0, 3, 0, 0, 0, 7, 1, 1]),
            Ok(Some(EndTransactionMarker {
                commit: true,
                coordinator_epoch: 7
            }))
        );
        assert_eq!(with(&[0, 0, 0], &[]), Err(ControlError::Key(record.offset)));
        assert_eq!(
            with(&[0xff, 0xff, 0, 1], &[]),
            Err(ControlError::Key(record.offset))
        );
        assert_eq!(
            with(&[0, 0, 0, 1], &[0, 0, 0]),
            Err(ControlError::Value(record.offset))
        );
    });
}
