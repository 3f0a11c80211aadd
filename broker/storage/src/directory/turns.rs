//! Whose turn it is in a commit round that cannot sync all (P6).
//!
//! Logs with records go before those where only names, checkpoints or a log start wait, and each kind
//! goes by turns: a log that is always dirty keeps nobody waiting for ever. A share of every round is the
//! others', so that they do not wait either while records keep coming.
//!
//! Logs that a round left out for want of space take their turns like everybody, but that they wait
//! again calls for no round: one that follows at once would find the disk as full.

use std::collections::BTreeSet;

/// Of so many places in a round one at least is the others'.
const OTHERS_SHARE: usize = 4;

/// The turns of a directory's logs, by their ids.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    with_records: Turn,
    others: Turn,
    /// Left out since the last pause, and not taken since.
    in_want: BTreeSet<u64>,
}

impl Turns {
    /// Whether the log was left out, and no pause or round has mended that.
    pub(super) fn is_in_want(&self, id: u64) -> bool {
        self.in_want.contains(&id)
    }

    /// A round takes the log.
    pub(super) fn take(&mut self, id: u64) {
        self.in_want.remove(&id);
    }

    /// The round left it out.
    pub(super) fn leave_out(&mut self, id: u64) {
        self.in_want.insert(id);
    }

    /// Another try is worth it from here on.
    pub(super) fn pause(&mut self) {
        self.in_want.clear();
    }

    /// Gives a turn to some of the logs, whose ids are ascending, and returns those that wait: `most` are
    /// done, or a share more where both kinds wait.
    pub(super) fn leave_waiting(
        &mut self,
        with_records: Vec<u64>,
        others: Vec<u64>,
        most: usize,
    ) -> Vec<u64> {
        let most = most.max(1);
        let left = most.saturating_sub(with_records.len());
        let share = left.max((most / OTHERS_SHARE).max(1));
        let mut waiting = self.with_records.pass(with_records, most);
        waiting.extend(self.others.pass(others, share));
        waiting
    }
}

/// How far the turn has gone round.
#[derive(Debug, Default)]
struct Turn {
    last: Option<u64>,
}

impl Turn {
    /// Those of `ids` that come after the next `count`.
    fn pass(&mut self, mut ids: Vec<u64>, count: usize) -> Vec<u64> {
        if ids.len() > count {
            let first = ids.partition_point(|id| Some(*id) <= self.last);
            ids.rotate_left(first);
        }
        let waiting = ids.split_off(count.min(ids.len()));
        self.last = ids.last().copied().or(self.last);
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(range: std::ops::Range<u64>) -> Vec<u64> {
        range.collect()
    }

    #[test]
    fn everybody_has_a_turn_in_as_many_rounds_as_it_takes() {
        let mut turns = Turns::default();
        let mut done = [0; 40];
        for _ in 0..10 {
            let waiting = turns.leave_waiting(ids(0..40), Vec::new(), 16);
            assert_eq!(waiting.len(), 24);
            for id in ids(0..40).iter().filter(|id| !waiting.contains(id)) {
                done[usize::try_from(*id).unwrap()] += 1;
            }
        }
        assert_eq!(done, [4; 40]);
    }

    #[test]
    fn others_have_a_share_beside_records_and_what_records_leave() {
        let mut turns = Turns::default();
        let mut waiting = ids(100..110);
        for left in [6, 2, 0] {
            waiting = turns.leave_waiting(ids(0..20), waiting, 16);
            waiting.retain(|id| *id >= 100);
            assert_eq!(waiting.len(), left);
        }
        assert_eq!(turns.leave_waiting(ids(0..2), ids(100..120), 16).len(), 6);
        // A round of one log does one of each kind.
        assert_eq!(turns.leave_waiting(ids(0..2), ids(100..102), 1).len(), 2);
        assert_eq!(turns.leave_waiting(ids(0..2), Vec::new(), 0).len(), 1);
    }

    #[test]
    fn want_ends_with_a_turn_or_a_pause() {
        let mut turns = Turns::default();
        ids(1..3).into_iter().for_each(|id| turns.leave_out(id));
        assert_eq!(
            [0, 1, 2].map(|id| turns.is_in_want(id)),
            [false, true, true]
        );
        turns.take(0);
        turns.take(1);
        assert_eq!(
            [0, 1, 2].map(|id| turns.is_in_want(id)),
            [false, false, true]
        );
        turns.pause();
        assert!(!turns.is_in_want(2));
    }
}
