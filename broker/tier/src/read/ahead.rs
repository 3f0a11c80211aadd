//! Who reads on from where they stopped, and how far ahead of them to read: pure.

use std::collections::BTreeMap;

use esker_protocol::{Offset, TopicId};

/// Readers remembered at most; the one that read longest ago is forgotten.
const READERS_MAX: usize = 1024;
/// The window of a reader that came back once.
const WINDOW_BYTES_MIN: u64 = 2 << 20;

/// A partition by the names that readers share.
pub(super) type Place = (TopicId, i32);

#[derive(Debug)]
pub(super) struct Readers {
    /// Where a reader will go on, and its window.
    expected: BTreeMap<(Place, Offset), (u64, u64)>,
    by_use: BTreeMap<u64, (Place, Offset)>,
    clock: u64,
    window_bytes_max: u64,
}

impl Readers {
    pub(super) fn new(window_bytes_max: u64) -> Readers {
        Readers {
            expected: BTreeMap::new(),
            by_use: BTreeMap::new(),
            clock: 0,
            window_bytes_max,
        }
    }

    /// A read from `offset` ended at `next`; gives how many bytes to read ahead from there. One
    /// read says nothing; each that goes on where the one before ended doubles the window.
    pub(super) fn observe(&mut self, place: Place, offset: Offset, next: Offset) -> u64 {
        let window = match self.expected.remove(&(place, offset)) {
            None => 0,
            Some((window, used)) => {
                self.by_use.remove(&used);
                (window * 2)
                    .max(WINDOW_BYTES_MIN)
                    .min(self.window_bytes_max)
            }
        };
        self.clock += 1;
        let key = (place, next);
        if let Some((_, used)) = self.expected.insert(key, (window, self.clock)) {
            self.by_use.remove(&used);
        }
        self.by_use.insert(self.clock, key);
        if self.by_use.len() > READERS_MAX
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.expected.remove(&oldest);
        }
        window
    }
}
