//! CRC-32C (Castagnoli), the checksum of record batches and of every file format of ours.

use crc_fast::{CrcAlgorithm, Digest, checksum, checksum_combine};

/// `crc-fast` computes every CRC in 64 bits; the upper half of a 32-bit one is zero.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a 32-bit CRC in a 64-bit word"
)]
const fn low_half(crc: u64) -> u32 {
    crc as u32
}

/// The CRC-32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    low_half(checksum(CrcAlgorithm::Crc32Iscsi, bytes))
}

/// A CRC-32C over bytes that lie in several slices.
#[derive(Debug, Clone)]
pub struct Crc32c(Digest);

impl Crc32c {
    /// The checksum of nothing so far.
    #[must_use]
    pub fn new() -> Crc32c {
        Crc32c(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    /// Adds the bytes that follow.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes added.
    #[must_use]
    pub fn finish(&self) -> u32 {
        low_half(self.0.finalize())
    }
}

impl Default for Crc32c {
    fn default() -> Crc32c {
        Crc32c::new()
    }
}

/// The checksum of two byte strings laid end to end, from their checksums.
#[must_use]
pub fn crc32c_combine(first: u32, second: u32, second_bytes: usize) -> u32 {
    low_half(checksum_combine(
        CrcAlgorithm::Crc32Iscsi,
        u64::from(first),
        u64::from(second),
        second_bytes as u64,
    ))
}

/// The checksum after the front of a byte string was replaced by another front of the same length.
///
/// `whole` is the checksum before, `tail_bytes` the length of what stays. The tail is not read, so
/// a tail that never agreed with `whole` does not agree with the result either: patching a header
/// cannot bless a damaged payload.
#[must_use]
pub fn crc32c_replace_front(whole: u32, front: u32, new_front: u32, tail_bytes: usize) -> u32 {
    // With F the front's share of the whole, whole = F ^ crc(tail): the same shift that combine
    // applies to the first checksum.
    let tail = whole ^ crc32c_combine(front, 0, tail_bytes);
    crc32c_combine(new_front, tail, tail_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_value_is_the_published_one() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn slices_and_combination_agree_with_the_whole() {
        let bytes: Vec<u8> = (0..5000u32).map(|n| (n * 31 % 251) as u8).collect();
        for split in [0, 1, 40, 61, 4096, 4999, 5000] {
            let (first, second) = bytes.split_at(split);
            let mut digest = Crc32c::new();
            digest.update(first);
            digest.update(second);
            assert_eq!(digest.finish(), crc32c(&bytes), "{split}");
            let combined = crc32c_combine(crc32c(first), crc32c(second), second.len());
            assert_eq!(combined, crc32c(&bytes), "{split}");
        }
    }

    #[test]
    fn replacing_the_front_gives_the_checksum_of_the_new_bytes() {
        for tail_bytes in [0usize, 1, 3, 17, 1000, 100_000] {
            let tail = vec![0xa7; tail_bytes];
            let whole = |front: &[u8]| crc32c(&[front, &tail].concat());
            let replaced = crc32c_replace_front(
                whole(b"old front"),
                crc32c(b"old front"),
                crc32c(b"new front"),
                tail_bytes,
            );
            assert_eq!(replaced, whole(b"new front"), "{tail_bytes}");
        }
    }
}
