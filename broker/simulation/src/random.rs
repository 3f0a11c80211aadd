//! The seed's randomness: small generators that are split by purpose, so that one part drawing more
//! does not change what another draws.

use std::sync::{Arc, Mutex, PoisonError};

/// A generator; clones share its state.
#[derive(Debug, Clone)]
pub(crate) struct Random(Arc<Mutex<u64>>);

impl Random {
    /// The generator of one purpose under a seed.
    pub(crate) fn new(seed: u64, purpose: u64) -> Random {
        // Neighbouring seeds must not give neighbouring states.
        let state = mix(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ mix(purpose));
        Random(Arc::new(Mutex::new(state)))
    }

    /// The next number (SplitMix64).
    pub(crate) fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(*state)
    }

    /// A number below `bound`; 0 where the bound is 0.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// A number from `least` to `most`, both included.
    pub(crate) fn between(&self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    /// True so many times in a thousand.
    pub(crate) fn chance(&self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// 32 bytes, to seed a generator of another kind.
    pub(crate) fn seed32(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        for part in seed.chunks_exact_mut(8) {
            part.copy_from_slice(&self.next().to_be_bytes());
        }
        seed
    }
}

fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
