//! Accepts the connections of one listener and serves each in a task of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::connection::{self, Apply, Limits};
use crate::environment::{Environment, Listener, Stream};
use crate::metrics::Metrics;

/// How long accepting rests after it failed: out of descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all listeners of a broker share.
#[derive(Clone)]
pub struct Gate {
    /// Limits of each connection.
    pub limits: Limits,
    /// `max.connections`, over all listeners, as it is now.
    pub connections_max: Arc<dyn Fn() -> usize + Send + Sync>,
    /// Those that are open.
    pub open: Arc<AtomicUsize>,
    /// Where they are counted.
    pub metrics: Arc<Metrics>,
}

/// Accepts until `stop`, then waits until the connections have ended.
pub async fn run(
    environment: Environment,
    listener: Box<dyn Listener>,
    apply: Arc<dyn Apply>,
    gate: Gate,
    stop: CancellationToken,
) {
    let tracker = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                admit(&environment, &tracker, stream, peer, &apply, &gate, &stop);
            }
            Err(error) => {
                warn!(%error, "a connection was not accepted");
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
    tracker.close();
    tracker.wait().await;
}

fn admit(
    environment: &Environment,
    tracker: &TaskTracker,
    stream: Box<dyn Stream>,
    peer: SocketAddr,
    apply: &Arc<dyn Apply>,
    gate: &Gate,
    stop: &CancellationToken,
) {
    if gate.open.fetch_add(1, Ordering::AcqRel) >= (gate.connections_max)() {
        gate.open.fetch_sub(1, Ordering::AcqRel);
        gate.metrics.connection_refused();
        return;
    }
    gate.metrics.connection_opened();
    let (apply, gate, stop) = (Arc::clone(apply), gate.clone(), stop.clone());
    environment.spawn(tracker, async move {
        connection::serve(stream, peer, apply, gate.limits.clone(), stop).await;
        gate.open.fetch_sub(1, Ordering::AcqRel);
        gate.metrics.connection_closed();
    });
}
