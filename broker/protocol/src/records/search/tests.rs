use super::*;
use crate::records::{BatchBuilder, BatchOptions, Compression, golden};

const TIMES: [i64; 6] = [5, 9, 3, 12, 12, 4];

fn batch_of(codec: Compression) -> bytes::Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        compression: codec,
        base_offset: Offset(100),
        ..BatchOptions::default()
    });
    for time in TIMES {
        builder
            .append(Timestamp(time), None, Some(b"v"), &[])
            .unwrap();
    }
    builder.build().unwrap()
}

#[test]
fn the_first_record_at_or_after_agrees_with_a_scan() {
    for codec in Compression::ALL {
        let bytes = batch_of(codec);
        let (batch, _) = Batch::parse(&bytes).unwrap();
        for target in -2..15 {
            let scanned = (100..)
                .zip(TIMES)
                .find(|(_, time)| *time >= target)
                .map(|(offset, time)| (Offset(offset), Timestamp(time)));
            let found = first_at_or_after(&batch, Timestamp(target), &Caps::DEFAULT).unwrap();
            assert_eq!(found, scanned, "{codec} {target}");
        }
        let max = first_of_max_timestamp(&batch, &Caps::DEFAULT).unwrap();
        assert_eq!(max, Some((Offset(103), Timestamp(12))), "{codec}");
    }
}

#[test]
fn with_log_append_time_the_first_record_is_found() {
    let bytes = golden::batch("transactional");
    let (batch, _) = Batch::parse(&bytes).unwrap();
    let first = Some((Offset(77), Timestamp(golden::NOW)));
    assert_eq!(
        first_of_max_timestamp(&batch, &Caps::DEFAULT).unwrap(),
        first
    );
    let target = Timestamp(golden::NOW);
    assert_eq!(
        first_at_or_after(&batch, target, &Caps::DEFAULT).unwrap(),
        first
    );
    let later = Timestamp(golden::NOW + 1);
    assert_eq!(
        first_at_or_after(&batch, later, &Caps::DEFAULT).unwrap(),
        None
    );
}

#[test]
fn a_batch_that_does_not_decompress_is_an_error() {
    let bytes = batch_of(Compression::Zstd);
    let (batch, _) = Batch::parse(&bytes).unwrap();
    let caps = Caps {
        output_bytes_max: 10,
        ratio_max: 1,
        free_bytes: 0,
    };
    assert!(first_of_max_timestamp(&batch, &caps).is_err());
}
