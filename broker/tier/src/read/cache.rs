//! A bounded cache: what was used longest ago goes first, and every byte is accounted.

use std::collections::BTreeMap;

#[derive(Debug)]
struct Slot<V> {
    value: V,
    bytes: usize,
    used: u64,
}

/// Values by key, of at most a given number of bytes in all.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    slots: BTreeMap<K, Slot<V>>,
    by_use: BTreeMap<u64, K>,
    clock: u64,
    bytes: usize,
    bytes_max: usize,
}

impl<K: Ord + Clone, V: Clone> Cache<K, V> {
    pub(super) fn new(bytes_max: usize) -> Cache<K, V> {
        Cache {
            slots: BTreeMap::new(),
            by_use: BTreeMap::new(),
            clock: 0,
            bytes: 0,
            bytes_max,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.slots.contains_key(key)
    }

    /// The value of a key, which counts as its use.
    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        let slot = self.slots.get_mut(key)?;
        self.by_use.remove(&slot.used);
        self.clock += 1;
        slot.used = self.clock;
        self.by_use.insert(slot.used, key.clone());
        Some(slot.value.clone())
    }

    /// Keeps a value, unless it alone is too large.
    pub(super) fn insert(&mut self, key: K, value: V, bytes: usize) {
        self.remove(&key);
        if bytes > self.bytes_max {
            return;
        }
        while self.bytes + bytes > self.bytes_max {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                break;
            };
            if let Some(slot) = self.slots.remove(&oldest) {
                self.bytes -= slot.bytes;
            }
        }
        self.clock += 1;
        self.bytes += bytes;
        self.by_use.insert(self.clock, key.clone());
        self.slots.insert(
            key,
            Slot {
                value,
                bytes,
                used: self.clock,
            },
        );
    }

    pub(super) fn remove(&mut self, key: &K) {
        if let Some(slot) = self.slots.remove(key) {
            self.by_use.remove(&slot.used);
            self.bytes -= slot.bytes;
        }
    }
}
