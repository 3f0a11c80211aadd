//! What can be seen of a run from outside, in order, with simulated time.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::executor::Executor;

/// Lines of one run that are kept for people; the hash covers all.
const LINES_MAX: usize = 100_000;

/// The trace of one run; clones are the same one.
#[derive(Clone)]
pub(crate) struct Trace {
    inner: Arc<Mutex<Inner>>,
    executor: Executor,
    started: Instant,
    prints: bool,
}

#[derive(Default)]
struct Inner {
    lines: Vec<String>,
    hash: u64,
    violations: Vec<String>,
}

impl Trace {
    /// An empty trace that begins now.
    pub(crate) fn new(executor: Executor, prints: bool) -> Trace {
        Trace {
            inner: Arc::default(),
            executor,
            started: Instant::now(),
            prints,
        }
    }

    /// Notes an event. The count of polls stands beside it: two runs that differ only in the order
    /// of their tasks differ in their traces.
    #[expect(
        clippy::print_stderr,
        reason = "whoever runs one seed by hand asks for it"
    )]
    pub(crate) fn note(&self, event: impl Display) {
        let line = format!(
            "{:>8} ms {:>8} {event}",
            self.now_ms(),
            self.executor.polls()
        );
        if self.prints {
            eprintln!("{line}");
        }
        let mut inner = self.lock();
        inner.hash = (u64::from(esker_protocol::records::crc32c(line.as_bytes())) << 32)
            ^ inner
                .hash
                .rotate_left(7)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if inner.lines.len() < LINES_MAX {
            inner.lines.push(line);
        }
    }

    /// Notes that something is not as it must be.
    pub(crate) fn violation(&self, what: impl Display) {
        self.note(format_args!("VIOLATION {what}"));
        let text = format!("at {} ms: {what}", self.now_ms());
        self.lock().violations.push(text);
    }

    /// Milliseconds since the run began.
    pub(crate) fn now_ms(&self) -> u128 {
        self.started.elapsed().as_millis()
    }

    /// Whether anything was wrong so far.
    pub(crate) fn has_violations(&self) -> bool {
        !self.lock().violations.is_empty()
    }

    /// The lines, the hash over all of them, and what was wrong.
    pub(crate) fn take(&self) -> (Vec<String>, u64, Vec<String>) {
        let inner = std::mem::take(&mut *self.lock());
        (inner.lines, inner.hash, inner.violations)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Each change is whole in itself.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
