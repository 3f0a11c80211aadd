//! How a watch walks the history of a store in one process.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::store::{Revision, WatchEvent, WatchLost, WatchSource};

/// What a watch finds when it looks.
pub(crate) enum Look {
    /// An event to deliver.
    Event(WatchEvent),
    /// Nothing before this revision; worth another look when something changes, or at that time.
    Wait(Revision, Option<Instant>),
    /// The watch is over.
    Lost(WatchLost),
}

/// The store's side of a watch.
pub(crate) trait Host: Send + Sync {
    /// Lets happen what is due by now: leases that end, requests that arrive late.
    fn run_due(&self, now: Instant);
    /// Looks for the next event.
    fn look(&self, from: Revision, prefix: &str) -> Look;
}

/// A watch's place in the history. Nothing is queued for it: a slow watch falls out of the history
/// and reads everything again.
pub(crate) struct Cursor<H> {
    host: Arc<H>,
    prefix: String,
    from: Revision,
    changed: watch::Receiver<()>,
}

impl<H: Host> Cursor<H> {
    pub(crate) fn new(
        host: Arc<H>,
        prefix: &str,
        from: Revision,
        changed: watch::Receiver<()>,
    ) -> Cursor<H> {
        Cursor {
            host,
            prefix: prefix.to_owned(),
            from,
            changed,
        }
    }
}

#[async_trait]
impl<H: Host> WatchSource for Cursor<H> {
    async fn next(&mut self) -> Result<WatchEvent, WatchLost> {
        loop {
            // Marked as seen before looking, so that a change in between wakes us again.
            self.changed.mark_unchanged();
            self.host.run_due(Instant::now());
            match self.host.look(self.from, &self.prefix) {
                Look::Event(event) => {
                    self.from = event.revision.next();
                    return Ok(event);
                }
                Look::Lost(lost) => return Err(lost),
                Look::Wait(from, until) => {
                    self.from = from;
                    let due = async {
                        match until {
                            Some(until) => tokio::time::sleep_until(until).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        biased;
                        changed = self.changed.changed() => {
                            if changed.is_err() {
                                return Err(WatchLost::Closed);
                            }
                        }
                        () = due => {}
                    }
                }
            }
        }
    }
}
