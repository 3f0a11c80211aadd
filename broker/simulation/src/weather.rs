//! What goes wrong with the metadata store and the object store, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use esker_metadata::memory::{Faults, LeaseFault, ReadFault, TransactionFault};
use esker_metadata::store::WatchLost;
use esker_metadata::{LeaseId, Revision, Transaction};
use esker_tier::fault::{Fault, FaultStore, Operation, Rates, Rule};

use crate::random::Random;
use crate::trace::Trace;

/// The prefix under which the simulation itself watches: no fault meets it.
pub(crate) const OBSERVED_PREFIX: &str = "/";

/// How bad the metadata store's weather is: faults in a thousand calls.
#[derive(Clone, Default)]
pub(crate) struct MetadataWeather(Arc<AtomicU64>);

impl MetadataWeather {
    pub(crate) fn set(&self, permille: u64) {
        self.0.store(permille, Ordering::Relaxed);
    }

    /// The faults of a store under this weather.
    pub(crate) fn faults(&self, random: Random, trace: Trace) -> Box<dyn Faults> {
        Box::new(SeededFaults {
            weather: self.clone(),
            random,
            trace,
        })
    }
}

struct SeededFaults {
    weather: MetadataWeather,
    random: Random,
    trace: Trace,
}

impl SeededFaults {
    fn strikes(&self, share: u64) -> bool {
        let permille = self.weather.0.load(Ordering::Relaxed);
        permille > 0 && self.random.chance((permille / share).max(1))
    }

    fn delay(&self, most_ms: u64) -> Duration {
        Duration::from_millis(self.random.between(1, most_ms))
    }
}

impl Faults for SeededFaults {
    fn read(&mut self, key: &str) -> ReadFault {
        if key == OBSERVED_PREFIX || !self.strikes(1) {
            return ReadFault::None;
        }
        let fault = match self.random.below(3) {
            0 => ReadFault::Unavailable,
            _ => ReadFault::Delayed(self.delay(800)),
        };
        self.trace
            .note(format_args!("metadata read {key} {fault:?}"));
        fault
    }

    fn transaction(&mut self, transaction: &Transaction) -> TransactionFault {
        let fault = if self.strikes(1) {
            match self.random.below(6) {
                0 => TransactionFault::Unavailable,
                1 => TransactionFault::Lost,
                2 | 3 => TransactionFault::LostAnswer,
                4 => TransactionFault::LostAndLate(self.delay(20_000)),
                _ => TransactionFault::Delayed(self.delay(1_500)),
            }
        } else {
            TransactionFault::None
        };
        self.trace
            .note(format_args!("metadata {transaction:?} {fault:?}"));
        fault
    }

    fn event(&mut self, prefix: &str, revision: Revision) -> Option<WatchLost> {
        if prefix == OBSERVED_PREFIX || !self.strikes(4) {
            return None;
        }
        let lost = match self.random.below(3) {
            0 => WatchLost::Compacted,
            1 => WatchLost::Gap,
            _ => WatchLost::Closed,
        };
        self.trace
            .note(format_args!("metadata watch lost at {revision}: {lost}"));
        Some(lost)
    }

    fn lease(&mut self, lease: LeaseId) -> LeaseFault {
        if !self.strikes(1) {
            return LeaseFault::None;
        }
        let fault = match self.random.below(2) {
            0 => LeaseFault::Unavailable,
            _ => LeaseFault::End,
        };
        self.trace
            .note(format_args!("metadata lease {lease} {fault:?}"));
        fault
    }
}

/// How the object store fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BucketWeather {
    /// Everything goes well.
    Fine,
    /// Anything goes wrong now and then.
    Bad,
    /// Nothing goes well.
    Away,
}

impl BucketWeather {
    /// Puts the weather in force.
    pub(crate) fn set(self, store: &FaultStore, random: &Random) {
        store.heal();
        match self {
            BucketWeather::Fine => {}
            BucketWeather::Bad => {
                let slow = Fault::Slow(Duration::from_millis(random.between(1, 2_000)));
                let permille = vec![
                    (Operation::Put, Fault::Fail, 40),
                    (Operation::Put, Fault::FailAfter, 60),
                    (Operation::Put, Fault::Zombie, 60),
                    (Operation::Put, Fault::HangAfter, 15),
                    (Operation::Put, slow, 100),
                    (Operation::Get, Fault::Fail, 60),
                    (Operation::Get, Fault::Hang, 10),
                    (Operation::Get, Fault::Truncate, 30),
                    (Operation::Get, Fault::Flip, 30),
                    (Operation::Get, slow, 60),
                    (Operation::List, Fault::Fail, 60),
                    (Operation::List, Fault::Stale(3), 100),
                    (Operation::Delete, Fault::Fail, 60),
                    (Operation::Delete, Fault::FailAfter, 60),
                ];
                store.set_rates(Rates { permille }, random.next());
            }
            BucketWeather::Away => {
                for operation in [
                    Operation::Put,
                    Operation::Start,
                    Operation::Part,
                    Operation::Complete,
                    Operation::Get,
                    Operation::List,
                    Operation::Delete,
                ] {
                    store.add(Rule::next(operation, Fault::Fail).times(usize::MAX));
                }
            }
        }
    }
}
