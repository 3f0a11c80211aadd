use super::*;
use crate::records::{Compression, golden};

fn three_batches() -> Vec<u8> {
    ["three-none", "three-zstd", "transactional"]
        .map(golden::batch)
        .concat()
}

#[test]
fn batches_come_back_to_back() {
    let bytes = three_batches();
    let batches: Vec<_> = Batches::new(&bytes)
        .collect::<Result<_, _>>()
        .expect("three whole batches");
    assert_eq!(batches.len(), 3);
    assert_eq!(batches.iter().flat_map(Batch::bytes).count(), bytes.len());
    assert!(batches.iter().all(Batch::crc_is_valid));
    assert_eq!(
        batches[1].header().attributes.compression(),
        Ok(Compression::Zstd)
    );
}

#[test]
fn a_partial_tail_is_ignored_or_refused_at_every_length() {
    let bytes = three_batches();
    let borders: Vec<usize> = Batches::new(&bytes)
        .scan(0, |end, batch| {
            *end += batch.expect("whole").bytes().len();
            Some(*end)
        })
        .collect();
    for length in 0..bytes.len() {
        let cut = &bytes[..length];
        let whole = borders.iter().filter(|border| **border <= length).count();
        let mut tolerant = Batches::with_partial_tail(cut);
        assert_eq!(
            tolerant.by_ref().filter(Result::is_ok).count(),
            whole,
            "{length}"
        );
        let end = whole.checked_sub(1).map_or(0, |last| borders[last]);
        assert_eq!(tolerant.rest().len(), length - end, "{length}");
        assert_eq!(whole_batches(cut), 0..end);
        let strict: Result<Vec<_>, _> = Batches::new(cut).collect();
        assert_eq!(strict.is_ok(), length == end, "{length}");
    }
}

#[test]
fn a_flipped_bit_under_the_checksum_is_noticed() {
    let good = golden::batch("three-none");
    for position in CRC_COVERS_FROM..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[position] ^= 1 << bit;
            let valid = Batch::parse(&bad).is_ok_and(|(batch, _)| batch.crc_is_valid());
            assert!(!valid, "byte {position} bit {bit}");
        }
    }
}
