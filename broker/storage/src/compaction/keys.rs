//! The last offsets of keys, in bounded memory.
//!
//! A key is known by 128 bits of a keyed hash: that two differ and agree in it happens to nobody, and
//! nobody who writes keys can bring it about. A table of open addressing, 24 bytes a slot.

use std::hash::Hasher as _;

use esker_protocol::Offset;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// Hash and offset.
const SLOT_BYTES: usize = 24;
/// An empty slot: offsets are never negative.
const EMPTY: i64 = -1;
/// Fewer slots are not worth a table.
const SLOTS_MIN: usize = 16;

#[derive(Debug)]
pub(crate) struct OffsetMap {
    hasher: SipHasher13,
    hashes: Vec<u128>,
    offsets: Vec<i64>,
    count: usize,
    count_max: usize,
    /// Everything from the first dirty offset up to here, exclusive, has been mapped.
    end: Offset,
}

impl OffsetMap {
    /// A map of at most `map_bytes`, and of no more than `records_max` records need.
    pub(crate) fn new(
        map_bytes: usize,
        load_factor: f64,
        records_max: u64,
        hash_key: &[u8; 16],
        start: Offset,
    ) -> OffsetMap {
        let load_factor = load_factor.clamp(0.01, 0.95);
        let wanted = usize::try_from(records_max).unwrap_or(usize::MAX);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a table need not be exact to the slot"
        )]
        let needed = (wanted as f64 / load_factor) as usize;
        let allowed = map_bytes / SLOT_BYTES;
        let slots = needed.saturating_add(2).min(allowed).max(SLOTS_MIN);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a table need not be exact to the slot"
        )]
        let count_max = ((slots as f64 * load_factor) as usize).clamp(1, slots - 1);
        OffsetMap {
            hasher: SipHasher13::new_with_key(hash_key),
            hashes: vec![0; slots],
            offsets: vec![EMPTY; slots],
            count: 0,
            count_max,
            end: start,
        }
    }

    /// The memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.hashes.len() * SLOT_BYTES
    }

    /// Notes that `key` was last seen at `offset`; offsets rise. Whether there was room.
    pub(crate) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let (slot, hash) = self.slot(key);
        let (Some(hashes), Some(offsets)) = (self.hashes.get_mut(slot), self.offsets.get_mut(slot))
        else {
            return false;
        };
        if *offsets == EMPTY {
            if self.count >= self.count_max {
                return false;
            }
            self.count += 1;
            *hashes = hash;
        }
        *offsets = offset.0.max(*offsets);
        true
    }

    /// Where the key was last seen.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Offset> {
        let (slot, _) = self.slot(key);
        let offset = self.offsets.get(slot).copied();
        offset.filter(|offset| *offset != EMPTY).map(Offset)
    }

    /// The slot of a key, or the empty one that would be its.
    fn slot(&self, key: &[u8]) -> (usize, u128) {
        let mut hasher = self.hasher;
        hasher.write(key);
        let hash = hasher.finish128().as_u128();
        let slots = self.hashes.len();
        let mut slot = usize::try_from(hash % slots as u128).unwrap_or(0);
        // There is always an empty slot, so this ends.
        while let (Some(&found), Some(&offset)) = (self.hashes.get(slot), self.offsets.get(slot)) {
            if offset == EMPTY || found == hash {
                break;
            }
            slot = (slot + 1) % slots;
        }
        (slot, hash)
    }

    /// The end of what has been mapped whole.
    pub(crate) fn end(&self) -> Offset {
        self.end
    }

    /// Everything below `end` has been mapped.
    pub(crate) fn advance(&mut self, end: Offset) {
        self.end = self.end.max(end);
    }
}
