//! What this process knows of its own PUTs: which have ended, and which may still happen.
//!
//! ```text
//! begin -> ended -> keep     verified: a commit may name it     -> forget (committed)
//!   |        |                                                  -> give up (refused): ended
//!   |        `-> dropped     an orphan whose PUT has ended: collection may take it
//!   `-> dropped              unknown: the PUT may still arrive; only a later epoch's commit ends it
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use object_store::path::Path;

/// Ended orphans remembered at most; what is forgotten leaks until the leader epoch moves on.
const ORPHANS_MAX: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Orphan,
    Kept,
}

#[derive(Debug, Default)]
pub(super) struct Puts {
    known: Mutex<BTreeMap<Path, State>>,
}

/// One PUT; dropping it before [`Put::ended`] leaves its end unknown.
pub(super) struct Put<'a> {
    puts: &'a Puts,
    path: Path,
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
        Put {
            puts: self,
            path: path.clone(),
        }
    }

    pub(super) fn ended(&self) -> BTreeSet<Path> {
        self.paths(State::Orphan)
    }

    pub(super) fn pending(&self) -> BTreeSet<Path> {
        self.paths(State::Kept)
    }

    fn paths(&self, wanted: State) -> BTreeSet<Path> {
        let known = self.lock();
        let paths = known.iter().filter(|(_, state)| **state == wanted);
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

    fn set(&self, path: &Path, state: State) {
        let mut known = self.lock();
        known.insert(path.clone(), state);
        if known.len() > ORPHANS_MAX {
            let oldest = known.iter().find(|(_, state)| **state == State::Orphan);
            if let Some(path) = oldest.map(|(path, _)| path.clone()) {
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
    pub(super) fn ended(&self) {
        self.puts.set(&self.path, State::Orphan);
    }

    /// The object is verified, and this process means to commit it.
    pub(super) fn keep(self) {
        self.puts.set(&self.path, State::Kept);
    }
}
