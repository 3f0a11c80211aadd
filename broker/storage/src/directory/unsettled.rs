//! The logs of which the journal has more than their files are known to have, and since when.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::log::Log;

/// Whose files are due is counted in parts of a log: a round is due for a fraction of one, mostly.
const PART: u64 = 1 << 20;

/// A pace holds for so large a part of the bytes in which all are to have their turn.
const PACES: u64 = 64;

/// A log that waits for its files to be settled.
#[derive(Debug)]
struct Waiting<L> {
    log: Arc<L>,
    /// What was written to the journal before the first record that its files may lack, in bytes.
    written: u64,
}

/// By age: what the oldest has in the journal keeps all behind it from being overwritten.
#[derive(Debug)]
pub(crate) struct Unsettled<L = Log> {
    /// The first record of each that its files may lack, by the log's id.
    since: BTreeMap<u64, i64>,
    by_age: BTreeMap<(i64, u64), Waiting<L>>,
    /// How many of the oldest could not be settled when it was their turn: others have it now.
    held_up: usize,
    pace: Pace,
}

/// How fast files are settled.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    /// So many logs while so many bytes are written.
    logs: u64,
    bytes: u64,
    /// Up to where in the bytes that were written it holds.
    until: u64,
    /// Up to where its logs are counted.
    counted: u64,
    /// Parts of logs that are due already.
    parts: u64,
}

impl<L> Default for Unsettled<L> {
    fn default() -> Unsettled<L> {
        Unsettled {
            since: BTreeMap::new(),
            by_age: BTreeMap::new(),
            held_up: 0,
            pace: Pace::default(),
        }
    }
}

impl<L> Unsettled<L> {
    pub(crate) fn len(&self) -> usize {
        self.since.len()
    }

    pub(super) fn contains(&self, id: u64) -> bool {
        self.since.contains_key(&id)
    }

    /// The journal is about to have more of the log, in the record of this sequence, with `written` bytes
    /// before it.
    pub(super) fn add(&mut self, id: u64, log: &Arc<L>, sequence: i64, written: u64) {
        if let Entry::Vacant(since) = self.since.entry(id) {
            since.insert(sequence);
            let log = Arc::clone(log);
            self.by_age.insert((sequence, id), Waiting { log, written });
        }
    }

    /// The files of the log have everything, or it is gone.
    pub(super) fn remove(&mut self, id: u64) {
        if let Some(since) = self.since.remove(&id) {
            self.by_age.remove(&(since, id));
        }
        self.held_up = self.held_up.min(self.len());
    }

    pub(super) fn clear(&mut self) {
        self.since.clear();
        self.by_age.clear();
        self.held_up = 0;
    }

    /// The `count` oldest, and in place of those that are held up the next ones, by their ids.
    pub(super) fn oldest(&self, count: usize) -> BTreeMap<u64, Arc<L>> {
        let held_up = if count == 0 { 0 } else { self.held_up };
        let oldest = self.by_age.iter().take(count.saturating_add(held_up));
        oldest
            .map(|((_, id), waiting)| (*id, Arc::clone(&waiting.log)))
            .collect()
    }

    /// A round has settled these, but for some that it could not. Whether it could all.
    pub(super) fn note_turn(&mut self, of: &BTreeSet<u64>) -> bool {
        if !of.is_empty() {
            self.held_up = of.iter().filter(|id| self.contains(**id)).count();
        }
        self.held_up == 0
    }

    /// Up to which record the files have everything, of a journal whose last one is `last`.
    pub(super) fn settled(&self, last: i64) -> i64 {
        let oldest = self.by_age.first_key_value();
        oldest.map_or(last, |((since, _), _)| since - 1)
    }

    /// The files of how many logs are due now that `written` bytes were written to the journal in all: so
    /// many that nobody stays for more than `lap` of them, as evenly as can be, and none much earlier.
    pub(super) fn due(&mut self, written: u64, lap: u64) -> usize {
        let pace = self.pace;
        let bytes = u128::from(written - pace.counted.min(written));
        let parts =
            bytes * u128::from(pace.logs) * u128::from(PART) / u128::from(pace.bytes.max(1));
        let parts = u64::try_from(parts).unwrap_or(u64::MAX);
        // Of what was due and could not be done nothing is left for those who come later.
        let all = PART.saturating_mul(self.len() as u64);
        self.pace.parts = pace.parts.saturating_add(parts).min(all);
        self.pace.counted = written;
        if written >= pace.until {
            (self.pace.logs, self.pace.bytes) = self.pace_now(written, lap);
            self.pace.until = written + lap / PACES;
        }
        let due = self.pace.parts / PART;
        self.pace.parts %= PART;
        usize::try_from(due).unwrap_or(usize::MAX)
    }

    /// The steepest way to the time of each: so many logs in so many bytes.
    fn pace_now(&self, written: u64, lap: u64) -> (u64, u64) {
        // Who is late goes soon, and not all at once.
        let soon = (lap / PACES).max(1);
        let left = |one: &Waiting<L>| (one.written + lap).saturating_sub(written).max(soon);
        let left = self.by_age.values().map(left);
        let ways = (1..).zip(left);
        ways.fold((0, 1), |steepest: (u64, u64), (logs, left)| {
            let is_steeper = u128::from(logs) * u128::from(steepest.1)
                > u128::from(steepest.0) * u128::from(left);
            if is_steeper { (logs, left) } else { steepest }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Logs = Unsettled<()>;

    fn add(unsettled: &mut Logs, id: u64, sequence: i64, written: u64) {
        unsettled.add(id, &Arc::new(()), sequence, written);
    }

    fn oldest(unsettled: &Logs, count: usize) -> Vec<u64> {
        unsettled.oldest(count).into_keys().collect()
    }

    #[test]
    fn the_oldest_says_how_far_the_files_are() {
        let mut unsettled = Logs::default();
        assert_eq!(unsettled.settled(7), 7);
        for (id, sequence) in [(5, 8), (3, 9), (4, 9), (5, 10)] {
            add(&mut unsettled, id, sequence, 0);
        }
        assert_eq!((unsettled.settled(10), unsettled.len()), (7, 3));
        assert_eq!(oldest(&unsettled, 2), [3, 5]);
        unsettled.remove(5);
        unsettled.remove(6);
        assert_eq!((unsettled.settled(10), unsettled.len()), (8, 2));
        // What comes again is as young as that.
        add(&mut unsettled, 5, 11, 0);
        assert_eq!(oldest(&unsettled, 2), [3, 4]);
        unsettled.clear();
        assert_eq!((unsettled.settled(11), unsettled.len()), (11, 0));
    }

    #[test]
    fn who_is_held_up_takes_nobodys_turn() {
        let mut unsettled = Logs::default();
        (1..6).for_each(|id| add(&mut unsettled, id, 1, 0));
        assert_eq!(oldest(&unsettled, 1), [1]);
        assert!(!unsettled.note_turn(&BTreeSet::from([1])));
        // A round in which nothing was due says nothing.
        unsettled.note_turn(&BTreeSet::new());
        assert_eq!(oldest(&unsettled, 0), [0; 0]);
        assert_eq!(oldest(&unsettled, 1), [1, 2]);
        unsettled.remove(2);
        assert!(!unsettled.note_turn(&BTreeSet::from([1, 2])));
        assert_eq!(oldest(&unsettled, 2), [1, 3, 4]);
        [1, 3, 4].iter().for_each(|id| unsettled.remove(*id));
        assert!(unsettled.note_turn(&BTreeSet::from([1, 3, 4])));
        assert_eq!(oldest(&unsettled, 1), [5]);
        // One that goes meanwhile holds nobody up.
        assert!(!unsettled.note_turn(&BTreeSet::from([5])));
        unsettled.remove(5);
        assert!(unsettled.note_turn(&BTreeSet::new()));
    }

    const LAP: u64 = 48 << 20;
    const RECORD: u64 = 16 << 10;

    /// Writes so many bytes, with each record something of the hot logs, and settles what is due. Returns
    /// the largest share of a lap that anybody stayed, and the most that were due at a time.
    fn write(unsettled: &mut Logs, written: &mut u64, bytes: u64, hot: u64) -> (f64, usize) {
        let (mut longest, mut most) = (0_u64, 0);
        for _ in 0..bytes / RECORD {
            let sequence = i64::try_from(*written / RECORD).unwrap() + 1;
            let due = unsettled.due(*written, LAP);
            most = most.max(due);
            for id in oldest(unsettled, due) {
                let waiting = &unsettled.by_age[&(unsettled.since[&id], id)];
                longest = longest.max(*written - waiting.written);
                unsettled.remove(id);
            }
            (0..hot).for_each(|id| add(unsettled, id, sequence, *written));
            *written += RECORD;
        }
        let stays = unsettled.by_age.values();
        let stays = stays.map(|waiting| *written - waiting.written);
        (
            longest.max(stays.max().unwrap_or(0)) as f64 / LAP as f64,
            most,
        )
    }

    #[test]
    fn everybody_has_a_turn_in_a_lap_and_nobody_many() {
        for hot in [1, 6, 50, 400] {
            let (mut unsettled, mut written) = (Logs::default(), 0);
            write(&mut unsettled, &mut written, LAP, hot);
            let (longest, most) = write(&mut unsettled, &mut written, 4 * LAP, hot);
            assert!(longest < 1.05, "{hot}: {longest}");
            // Not in vain either.
            assert!(longest > 0.6, "{hot}: {longest}");
            assert!(most <= 2, "{hot}: {most}");
        }
    }

    #[test]
    fn many_that_come_at_once_and_fall_silent_are_settled_evenly() {
        for before in [0, 5, 10, 19] {
            let (mut unsettled, mut written) = (Logs::default(), 0);
            write(&mut unsettled, &mut written, LAP / 20 * before, 1);
            let sequence = i64::try_from(written / RECORD).unwrap() + 1;
            (100..600).for_each(|id| add(&mut unsettled, id, sequence, written));
            let (longest, most) = write(&mut unsettled, &mut written, 2 * LAP, 1);
            assert!(longest < 1.05, "{before}: {longest}");
            assert!(most <= 2, "{before}: {most}");
            assert_eq!(unsettled.len(), 1, "{before}");
        }
    }
}
