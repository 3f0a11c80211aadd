//! Which leader epoch began at which offset (P4).
//!
//! Invariants: epochs and start offsets both rise strictly. Entries are kept from log start on, not
//! from local start: truncation and the tier need the lineage of what is no longer here.

use esker_protocol::{LeaderEpoch, Offset};

/// The epochs of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LeaderEpochs {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl LeaderEpochs {
    /// Epochs from a list; entries that do not rise are dropped in favour of later ones.
    pub(crate) fn new(entries: impl IntoIterator<Item = (LeaderEpoch, Offset)>) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::default();
        for (epoch, start) in entries {
            epochs.begin(epoch, start);
        }
        epochs
    }

    /// Notes that `epoch` begins at `start`, unless it has begun. Whether anything changed.
    pub(crate) fn begin(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if epoch <= self.latest() {
            return false;
        }
        // An epoch that ends where it began holds no batch and says nothing.
        while self.entries.last().is_some_and(|&(_, last)| last >= start) {
            self.entries.pop();
        }
        self.entries.push((epoch, start));
        true
    }

    pub(crate) fn latest(&self) -> LeaderEpoch {
        self.entries
            .last()
            .map_or(LeaderEpoch::NONE, |&(epoch, _)| epoch)
    }

    pub(crate) fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    /// The epoch of the batch that holds `offset`.
    pub(crate) fn at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let count = self.entries.partition_point(|&(_, start)| start <= offset);
        count
            .checked_sub(1)
            .and_then(|index| self.entries.get(index))
            .map(|&(epoch, _)| epoch)
    }

    /// Where `epoch` ends in a log that ends at `end`, with the largest known epoch that is not above
    /// it (KIP-101, KIP-279). An epoch below all known ones ends where these begin; nothing is known
    /// of one above them.
    pub(crate) fn end_offset(
        &self,
        epoch: LeaderEpoch,
        end: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        if epoch == LeaderEpoch::NONE || epoch > self.latest() {
            return None;
        }
        let count = self.entries.partition_point(|&(entry, _)| entry <= epoch);
        let found = count
            .checked_sub(1)
            .and_then(|index| self.entries.get(index));
        let next = self.entries.get(count).map(|&(_, start)| start);
        match found {
            Some(&(found, _)) => Some((found, next.unwrap_or(end))),
            None => Some((epoch, next?)),
        }
    }

    /// The entries that say something about `start..end`.
    pub(crate) fn range(&self, start: Offset, end: Offset) -> Vec<(LeaderEpoch, Offset)> {
        let first = self
            .entries
            .partition_point(|&(_, begins)| begins <= start)
            .saturating_sub(1);
        let entries = self.entries.get(first..).unwrap_or_default();
        entries
            .iter()
            .copied()
            .take_while(|&(_, begins)| begins < end)
            .collect()
    }

    /// Forgets epochs that begin at `end` or later. Whether anything changed.
    pub(crate) fn truncate_from(&mut self, end: Offset) -> bool {
        let before = self.entries.len();
        self.entries.retain(|&(_, start)| start < end);
        self.entries.len() != before
    }

    /// Forgets epochs that ended before `start`; the one that holds it begins there. Whether
    /// anything changed.
    pub(crate) fn forget_before(&mut self, start: Offset) -> bool {
        let keep = self
            .entries
            .partition_point(|&(_, begins)| begins <= start)
            .saturating_sub(1);
        let mut changed = keep > 0;
        self.entries.drain(..keep);
        if let Some((_, begins)) = self.entries.first_mut()
            && *begins < start
        {
            *begins = start;
            changed = true;
        }
        changed
    }

    /// The text of `leader-epoch-checkpoint`.
    pub(crate) fn encode(&self) -> String {
        let lines = self
            .entries
            .iter()
            .map(|(epoch, start)| format!("{epoch} {start}\n"));
        format!("0\n{}\n{}", self.entries.len(), lines.collect::<String>())
    }

    /// Reads the text back; `None` when it is not what [`LeaderEpochs::encode`] or Kafka writes.
    pub(crate) fn decode(text: &str) -> Option<LeaderEpochs> {
        if text.is_empty() {
            return Some(LeaderEpochs::default());
        }
        let mut lines = text.lines();
        (lines.next()? == "0").then_some(())?;
        let count: usize = lines.next()?.parse().ok()?;
        let mut epochs = LeaderEpochs::default();
        for line in lines {
            let (epoch, start) = line.split_once(' ')?;
            let start = Offset(start.parse().ok()?);
            let rises = epochs.entries.last().is_none_or(|&(_, last)| last < start);
            let begun = epochs.begin(LeaderEpoch(epoch.parse().ok()?), start);
            (rises && begun).then_some(())?;
        }
        (epochs.entries.len() == count).then_some(epochs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        LeaderEpochs::new(
            entries
                .iter()
                .map(|&(epoch, start)| (LeaderEpoch(epoch), Offset(start))),
        )
    }

    #[test]
    fn an_epoch_without_batches_gives_way_to_the_next() {
        assert_eq!(
            epochs(&[(0, 0), (1, 5), (2, 5), (3, 9)]),
            epochs(&[(0, 0), (2, 5), (3, 9)])
        );
        let mut log = epochs(&[(4, 10)]);
        assert!(!log.begin(LeaderEpoch(4), Offset(20)));
        assert!(!log.begin(LeaderEpoch(3), Offset(20)));
        assert_eq!(log, epochs(&[(4, 10)]));
    }

    #[test]
    fn an_epoch_ends_where_the_next_known_one_begins() {
        let log = epochs(&[(1, 0), (3, 10), (5, 20)]);
        let end = |epoch| {
            log.end_offset(LeaderEpoch(epoch), Offset(30))
                .map(|(epoch, end)| (epoch.0, end.0))
        };
        assert_eq!(end(-1), None);
        // No epoch is that low, and it is below all known ones nevertheless.
        assert_eq!(end(-5), Some((-5, 0)));
        assert_eq!(end(0), Some((0, 0)));
        assert_eq!(end(1), Some((1, 10)));
        assert_eq!(end(2), Some((1, 10)));
        assert_eq!(end(3), Some((3, 20)));
        assert_eq!(end(5), Some((5, 30)));
        assert_eq!(end(9), None);
        for epoch in [-5, 0] {
            assert_eq!(
                LeaderEpochs::default().end_offset(LeaderEpoch(epoch), Offset(0)),
                None
            );
        }
    }

    #[test]
    fn lookups_and_cuts_follow_the_entries() {
        let log = epochs(&[(1, 5), (3, 10), (5, 20)]);
        assert_eq!(log.at(Offset(4)), None);
        assert_eq!(log.at(Offset(10)), Some(LeaderEpoch(3)));
        assert_eq!(log.at(Offset(99)), Some(LeaderEpoch(5)));
        let range: Vec<i32> = log
            .range(Offset(12), Offset(20))
            .iter()
            .map(|(epoch, _)| epoch.0)
            .collect();
        assert_eq!(range, [3]);
        let mut cut = log.clone();
        assert!(cut.truncate_from(Offset(10)));
        assert_eq!(cut, epochs(&[(1, 5)]));
        let mut later = log.clone();
        assert!(later.forget_before(Offset(12)));
        assert_eq!(later, epochs(&[(3, 12), (5, 20)]));
        assert!(!later.forget_before(Offset(12)));
    }

    #[test]
    fn the_checkpoint_reads_back_and_damage_is_noticed() {
        let log = epochs(&[(1, 5), (3, 10)]);
        assert_eq!(log.encode(), "0\n2\n1 5\n3 10\n");
        assert_eq!(LeaderEpochs::decode(&log.encode()), Some(log));
        assert_eq!(LeaderEpochs::decode(""), Some(LeaderEpochs::default()));
        for bad in [
            "1\n0\n",
            "0\n2\n1 5\n",
            "0\n1\n1 x\n",
            "0\n2\n3 5\n1 9\n",
            "0\n2\n1 9\n2 5\n",
        ] {
            assert_eq!(LeaderEpochs::decode(bad), None, "{bad:?}");
        }
    }
}
