//! Random valid messages, for tests: a [`Reader`] that makes values up instead of reading them, so
//! that the code that decodes a message is also the model of what is valid.

use crate::primitive::{Decode, Reader};

/// A random value of `version`, with nulls, empty arrays and tagged fields now and then.
///
/// # Panics
/// The message has no such version.
#[must_use]
pub fn message<T: Decode<'static>>(random: &mut Random, version: i16) -> T {
    let mut reader = Reader::sampling(Random::new(random.next_u64()));
    T::decode(&mut reader, version).expect("what is made up is valid")
}

/// What sampled strings and bytes are cut from; longer than the longest of them, and than the least
/// bytes that the longest array needs.
pub(crate) const TEXT: &str = include_str!("sample.rs");

const ELEMENTS_MAX: u64 = 3;
const TAGS: u32 = 16;

/// A small reproducible generator (xorshift).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The generator of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        // Spread the seed over all bits; the state may not be zero.
        Random((seed ^ 0x5851_f42d_4c95_7f2d).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next_u64() >> 11) % bound
    }

    pub(crate) fn fixed<const N: usize>(&mut self) -> [u8; N] {
        match self.below(4) {
            0 => [0; N],
            1 => [0xff; N],
            _ => std::array::from_fn(|_| self.below(256) as u8),
        }
    }

    pub(crate) fn length(&mut self, nullable: bool) -> Option<usize> {
        if nullable && self.below(4) == 0 {
            return None;
        }
        Some(self.below(ELEMENTS_MAX + 1) as usize)
    }

    pub(crate) fn tags(&mut self) -> Vec<u32> {
        (0..TAGS).filter(|_| self.below(2) == 0).collect()
    }
}
