//! The latest changes of a store in one process, for watches: bounded, in memory.

use std::collections::VecDeque;

use crate::store::{Revision, WatchEvent, WatchLost};

/// The most revisions that are kept.
pub(crate) const HISTORY_EVENTS_MAX: usize = 10_000;
/// The most bytes of keys and values that are kept, beyond the latest revision.
pub(crate) const HISTORY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Consecutive revisions up to the store's own.
#[derive(Debug, Clone)]
pub(crate) struct History {
    /// The revision of the first event, or the one that comes next where there is none.
    first: Revision,
    events: VecDeque<WatchEvent>,
    bytes: usize,
}

/// What a watch that has come to some revision finds.
#[derive(Debug)]
pub(crate) enum Found {
    /// The next event with a change under its prefix.
    Event(WatchEvent),
    /// Nothing before this revision, which has not happened yet.
    Nothing(Revision),
    /// The watch cannot go on.
    Lost(WatchLost),
}

impl History {
    /// A history that begins after this revision.
    pub(crate) fn new(after: Revision) -> History {
        History {
            first: after.next(),
            events: VecDeque::new(),
            bytes: 0,
        }
    }

    /// The revision that comes next.
    fn end(&self) -> Revision {
        Revision(self.first.0 + self.events.len() as u64)
    }

    /// Adds the next revision.
    pub(crate) fn push(&mut self, event: WatchEvent) {
        assert_eq!(event.revision, self.end(), "revisions are consecutive");
        self.bytes += weight(&event);
        self.events.push_back(event);
        while self.events.len() > HISTORY_EVENTS_MAX
            || (self.bytes > HISTORY_BYTES_MAX && self.events.len() > 1)
        {
            self.drop_first();
        }
    }

    /// Forgets everything up to now.
    pub(crate) fn compact(&mut self) {
        while !self.events.is_empty() {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.bytes -= weight(&event);
            self.first = event.revision.next();
        }
    }

    /// The first event at `from` or later that changes a key under `prefix`.
    pub(crate) fn find(&self, from: Revision, prefix: &str) -> Found {
        if from < self.first {
            return Found::Lost(WatchLost::Compacted);
        }
        // The watch has seen revisions that this store has not: the store went back in time.
        if from > self.end() {
            return Found::Lost(WatchLost::Gap);
        }
        let index = usize::try_from(from.0 - self.first.0).unwrap_or(usize::MAX);
        for event in self.events.iter().skip(index) {
            let changes: Vec<_> = event
                .changes
                .iter()
                .filter(|(key, _)| key.starts_with(prefix))
                .cloned()
                .collect();
            if !changes.is_empty() {
                return Found::Event(WatchEvent {
                    revision: event.revision,
                    changes,
                });
            }
        }
        Found::Nothing(self.end())
    }
}

fn weight(event: &WatchEvent) -> usize {
    let changes = event.changes.iter();
    changes
        .map(|(key, entry)| key.len() + entry.as_ref().map_or(0, |e| e.value.len()))
        .sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::Entry;

    fn event(revision: u64, key: &str, bytes: usize) -> WatchEvent {
        let entry = Entry {
            key: key.to_owned(),
            value: Bytes::from(vec![0; bytes]),
            mod_revision: Revision(revision),
            create_revision: Revision(revision),
            lease: None,
        };
        WatchEvent {
            revision: Revision(revision),
            changes: vec![(key.to_owned(), Some(entry))],
        }
    }

    #[test]
    fn the_history_is_bounded_in_events_and_bytes() {
        let mut history = History::new(Revision(1));
        for revision in 2..=HISTORY_EVENTS_MAX as u64 + 10 {
            history.push(event(revision, "a", 0));
        }
        assert_eq!(history.events.len(), HISTORY_EVENTS_MAX);
        let oldest = history.first;
        assert!(matches!(history.find(oldest, ""), Found::Event(e) if e.revision == oldest));
        let older = Revision(oldest.0 - 1);
        assert!(matches!(
            history.find(older, ""),
            Found::Lost(WatchLost::Compacted)
        ));

        let mut history = History::new(Revision(1));
        for revision in 2..8 {
            history.push(event(revision, "a", HISTORY_BYTES_MAX / 2));
        }
        assert!(history.bytes <= HISTORY_BYTES_MAX, "{}", history.bytes);
        history.push(event(8, "a", HISTORY_BYTES_MAX * 2));
        assert_eq!(history.events.len(), 1, "the latest revision always stays");
    }

    #[test]
    fn a_watch_from_the_future_has_a_gap_and_other_prefixes_are_skipped() {
        let mut history = History::new(Revision(1));
        history.push(event(2, "a/1", 0));
        history.push(event(3, "b/1", 0));
        assert!(matches!(
            history.find(Revision(2), "b/"),
            Found::Event(e) if e.revision == Revision(3)
        ));
        assert!(matches!(
            history.find(Revision(3), "a/"),
            Found::Nothing(Revision(4))
        ));
        assert!(matches!(
            history.find(Revision(4), ""),
            Found::Nothing(Revision(4))
        ));
        assert!(matches!(
            history.find(Revision(5), ""),
            Found::Lost(WatchLost::Gap)
        ));
    }
}
