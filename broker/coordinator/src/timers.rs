//! Deadlines by key: setting one replaces the key's earlier one.

use std::collections::{BTreeMap, BTreeSet};

/// Deadlines of a monotonic clock, in milliseconds.
#[derive(Debug, Clone)]
pub struct Timers<K> {
    by_key: BTreeMap<K, i64>,
    by_time: BTreeSet<(i64, K)>,
}

impl<K> Default for Timers<K> {
    fn default() -> Timers<K> {
        Timers {
            by_key: BTreeMap::new(),
            by_time: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Clone> Timers<K> {
    /// Sets the key's deadline.
    pub fn set(&mut self, key: K, due_ms: i64) {
        if let Some(before) = self.by_key.insert(key.clone(), due_ms) {
            if before == due_ms {
                return;
            }
            self.by_time.remove(&(before, key.clone()));
        }
        self.by_time.insert((due_ms, key));
    }

    /// Takes the key's deadline away. Whether there was one.
    pub fn cancel(&mut self, key: &K) -> bool {
        match self.by_key.remove(key) {
            Some(due_ms) => self.by_time.remove(&(due_ms, key.clone())),
            None => false,
        }
    }

    /// The key's deadline.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<i64> {
        self.by_key.get(key).copied()
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next_due(&self) -> Option<i64> {
        self.by_time.first().map(|(due_ms, _)| *due_ms)
    }

    /// Takes out the earliest key whose deadline is not after `now_ms`; of one moment's keys the
    /// least first.
    pub fn pop_due(&mut self, now_ms: i64) -> Option<K> {
        let (due_ms, _) = self.by_time.first()?;
        if *due_ms > now_ms {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }

    /// How many deadlines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Timers;

    #[test]
    fn a_key_rings_once_at_its_latest_deadline() {
        let mut timers = Timers::default();
        timers.set("a", 10);
        timers.set("b", 5);
        timers.set("a", 20);
        assert_eq!(timers.next_due(), Some(5));
        assert_eq!(timers.pop_due(19), Some("b"));
        assert_eq!(timers.pop_due(19), None);
        assert_eq!(timers.pop_due(20), Some("a"));
        assert!(timers.is_empty());
    }

    #[test]
    fn a_cancelled_key_does_not_ring() {
        let mut timers = Timers::default();
        timers.set("a", 10);
        assert!(timers.cancel(&"a"));
        assert!(!timers.cancel(&"a"));
        assert_eq!(timers.pop_due(100), None);
    }
}
