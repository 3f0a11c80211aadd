//! What can go wrong in a [`super::MemoryStore`], and who decides.

use std::time::Duration;

use crate::store::{LeaseId, Revision, Transaction, WatchLost};

/// Decides what goes wrong, call by call. One that draws from a seeded generator replays.
///
/// Called with the store locked: it must not call the store.
pub trait Faults: Send {
    /// A read of a key, or the list or watch of a prefix, begins.
    fn read(&mut self, _key: &str) -> ReadFault {
        ReadFault::None
    }

    /// A transaction arrives.
    fn transaction(&mut self, _transaction: &Transaction) -> TransactionFault {
        TransactionFault::None
    }

    /// A watch is about to deliver this revision: `Some` ends it instead.
    fn event(&mut self, _prefix: &str, _revision: Revision) -> Option<WatchLost> {
        None
    }

    /// A lease is granted, kept alive or revoked.
    fn lease(&mut self, _lease: LeaseId) -> LeaseFault {
        LeaseFault::None
    }
}

/// Nothing goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFaults;

impl Faults for NoFaults {}

/// What happens to a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFault {
    /// It is answered.
    None,
    /// It is refused.
    Unavailable,
    /// It is answered after this time, with what is true then.
    Delayed(Duration),
}

/// What happens to a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionFault {
    /// It is answered.
    None,
    /// It is refused, and never happens.
    Unavailable,
    /// It is lost on its way; the sender cannot know.
    Lost,
    /// It happens, but its answer is lost.
    LostAnswer,
    /// The sender gives up, and it arrives after this time.
    LostAndLate(Duration),
    /// It arrives after this time, and is answered then.
    Delayed(Duration),
}

/// What happens to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseFault {
    /// Nothing.
    None,
    /// The call is refused, without effect.
    Unavailable,
    /// The lease ends now.
    End,
}
