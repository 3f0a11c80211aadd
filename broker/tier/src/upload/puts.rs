//! What this process knows of its own PUTs: which have ended, and which may still happen.
//!
//! ```text
//! begin -> open -> answered -> keep   verified: a commit may name it   -> forget (committed)
//!           |         |                                                -> give up (refused): ended
//!           |         `-> dropped     ended, and nobody will commit it: collection may take it
//!           `-> dropped               end unknown: the PUT may still arrive, until a later epoch commits
//! ```
//!
//! Invariants
//! - While an upload goes on, and where the end is not known, a path is pending and never ended: what
//!   was answered but is still being verified may be named by the commit (P7).
//! - Dropping an upload at any moment leaves each of its paths in one of the two ends above.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use esker_protocol::{LeaderEpoch, TopicId};
use object_store::path::Path;

use crate::layout::{self, Named};

/// PUTs remembered at most, but for those of uploads that go on. A path that is forgotten counts as
/// neither pending nor ended, which is safe: its object leaks until the leader epoch moves on.
const PUTS_MAX: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its upload goes on.
    Open,
    /// Nobody waits for it any more, and it may still happen.
    Unknown,
    /// It has ended, and nobody will commit it.
    Orphan,
    /// A commit may name it.
    Kept,
}

#[derive(Debug, Default)]
pub(super) struct Puts {
    known: Mutex<BTreeMap<Path, State>>,
}

/// One PUT; dropping it before [`Put::answered`] leaves its end unknown.
pub(super) struct Put<'a> {
    puts: &'a Puts,
    path: Path,
    /// What becomes of it when it is dropped.
    left: State,
}

/// What an upload has kept so far. Dropped before it is handed on, nothing will ever commit it.
pub(super) struct Kept<'a> {
    puts: &'a Puts,
    paths: Vec<Path>,
}

impl Kept<'_> {
    pub(super) fn push(&mut self, path: Path) {
        self.paths.push(path);
    }

    /// The upload is complete: whoever gets the paths decides what becomes of them.
    pub(super) fn into_paths(mut self) -> Vec<Path> {
        std::mem::take(&mut self.paths)
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.puts.give_up(&self.paths);
    }
}

impl Puts {
    pub(super) fn kept(&self) -> Kept<'_> {
        Kept {
            puts: self,
            paths: Vec::new(),
        }
    }

    pub(super) fn begin(&self, path: &Path) -> Put<'_> {
        self.set(path, State::Open);
        Put {
            puts: self,
            path: path.clone(),
            left: State::Unknown,
        }
    }

    pub(super) fn ended(&self) -> BTreeSet<Path> {
        self.paths(|state| state == State::Orphan)
    }

    pub(super) fn pending(&self) -> BTreeSet<Path> {
        self.paths(|state| state != State::Orphan)
    }

    fn paths(&self, wanted: impl Fn(State) -> bool) -> BTreeSet<Path> {
        let known = self.lock();
        let paths = known.iter().filter(|(_, state)| wanted(**state));
        paths.map(|(path, _)| path.clone()).collect()
    }

    pub(super) fn forget(&self, paths: &[Path]) {
        let mut known = self.lock();
        for path in paths {
            known.remove(path);
        }
    }

    pub(super) fn give_up(&self, paths: &[Path]) {
        for path in paths {
            self.set(path, State::Orphan);
        }
    }

    /// A leader of `epoch` has committed: nothing of an earlier one will be named any more, so that
    /// no end needs to be known (P7).
    pub(super) fn outlive(&self, (topic_id, partition): (TopicId, i32), epoch: LeaderEpoch) {
        let outlived = |path: &Path| {
            let (place, made_in) = match layout::parse(path) {
                Some(Named::Object { place, name }) => (place, name.leader_epoch),
                Some(Named::Manifest { place, name }) => (place, name.leader_epoch),
                _ => return false,
            };
            (place.topic_id, place.partition) == (topic_id, partition) && made_in < epoch
        };
        let mut known = self.lock();
        known.retain(|path, state| *state != State::Unknown || !outlived(path));
    }

    fn set(&self, path: &Path, state: State) {
        let mut known = self.lock();
        known.insert(path.clone(), state);
        if known.len() > PUTS_MAX {
            // One whose end is unknown goes first: collection could not take it anyway.
            let find = |wanted| known.iter().find(|(_, state)| **state == wanted);
            let needless = find(State::Unknown).or_else(|| find(State::Orphan));
            if let Some(path) = needless.map(|(path, _)| path.clone()) {
                known.remove(&path);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Path, State>> {
        // Each change is one insertion or removal, so a panic elsewhere leaves it whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Put<'_> {
    /// The store has answered: the PUT will not happen again.
    pub(super) fn answered(&mut self) {
        self.left = State::Orphan;
    }

    /// The object is verified, and this process means to commit it.
    pub(super) fn keep(mut self) {
        self.left = State::Kept;
    }
}

impl Drop for Put<'_> {
    fn drop(&mut self) {
        self.puts.set(&self.path, self.left);
    }
}
