//! Commits at a rate, whatever the answers do.
//!
//! A thread of its own tells when each is due: the runtime's timers ring on whole milliseconds only, and all
//! that is due within one would be asked for at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

/// When the commit of this number is due, from the beginning: `rate` of them a second, evenly.
pub(crate) fn due(number: u64, rate: u32) -> Duration {
    let nanos = u128::from(number) * 1_000_000_000 / u128::from(rate);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Gives each connection in turn a permit when its commit is due, from `began` on. At the end no more
/// permits are taken; those that are left were missed, since the connection still waited for an answer.
#[expect(
    clippy::disallowed_methods,
    reason = "the clients' own clock, finer than the runtime's"
)]
pub(crate) fn start(connections: Vec<Arc<Semaphore>>, began: Instant, rate: u32, until: Instant) {
    std::thread::spawn(move || {
        for (number, permits) in (0..).zip(connections.iter().cycle()) {
            let at = began + due(number, rate);
            if at >= until {
                break;
            }
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            permits.add_permits(1);
        }
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        connections.iter().for_each(|permits| permits.close());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_due_evenly() {
        let times: Vec<Duration> = (0..1000).map(|number| due(number, 500)).collect();
        let steps = (0..1000).map(|number| Duration::from_millis(2) * number);
        assert_eq!(times, steps.collect::<Vec<_>>());
        assert_eq!(due(u64::MAX, 1), Duration::from_nanos(u64::MAX));
    }
}
