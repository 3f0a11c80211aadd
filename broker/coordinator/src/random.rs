//! Member ids: the only randomness of a shard, from a seed.

use std::fmt::Write;

/// A small generator (xoshiro256**): the same seed gives the same ids. Not for secrets.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    state: [u64; 4],
}

impl Random {
    pub(crate) fn new(seed: [u8; 32]) -> Random {
        // The state must not be all zeros; one round of SplitMix64 also spreads a sparse seed.
        let mut mixed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut state = [0; 4];
        for (word, bytes) in state.iter_mut().zip(seed.chunks_exact(8)) {
            let bytes = bytes
                .iter()
                .fold(0, |word, byte| (word << 8) | u64::from(*byte));
            mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ bytes;
            let mut z = mixed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *word = z ^ (z >> 31);
        }
        if state == [0; 4] {
            state[0] = 1;
        }
        Random { state }
    }

    pub(crate) fn next(&mut self) -> u64 {
        let result = self.state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = self.state[1] << 17;
        self.state[2] ^= self.state[0];
        self.state[3] ^= self.state[1];
        self.state[1] ^= self.state[2];
        self.state[0] ^= self.state[3];
        self.state[2] ^= shifted;
        self.state[3] = self.state[3].rotate_left(45);
        result
    }

    /// 16 bytes of a version 4 UUID.
    pub(crate) fn uuid_bytes(&mut self) -> [u8; 16] {
        let value = (u128::from(self.next()) << 64) | u128::from(self.next());
        let mut bytes = value.to_be_bytes();
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        bytes
    }

    /// A version 4 UUID as `java.util.UUID` prints it.
    pub(crate) fn uuid(&mut self) -> String {
        let mut text = String::with_capacity(36);
        for (index, byte) in self.uuid_bytes().iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            // Writing into a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn one_seed_gives_one_row_of_version_4_uuids() {
        let mut one = Random::new([0; 32]);
        let mut other = Random::new([0; 32]);
        let ids: Vec<String> = (0..100).map(|_| one.uuid()).collect();
        assert!(ids.iter().all(|id| *id == other.uuid()));
        for id in &ids {
            assert_eq!(id.len(), 36);
            assert_eq!(&id[14..15], "4");
            assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"));
        }
        let distinct: std::collections::BTreeSet<&String> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
        assert_ne!(Random::new([1; 32]).uuid(), ids[0]);
    }
}
