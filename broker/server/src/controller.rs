//! Carries out the controller's decisions while this broker holds the controller's key (P3).
//!
//! The decisions are pure (`esker_metadata::controller`); here is only the loop, and what must be
//! gone before a deleted topic's last key may go: directories and objects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_metadata::Image;
use esker_metadata::controller as decide;
use esker_protocol::TopicId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::authority::{Commit, commit};
use crate::broker::Shared;
use crate::config::topic::TopicConfig;
use crate::environment::Work;

/// How long a pass that did not finish its work waits before the next.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How long after a topic's deletion objects of it may still arrive.
const LATE_PUT_MAX: Duration = esker_tier::remote::PUT_DEADLINE;

/// Follows the image until `stop`.
pub async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut images = shared.images();
    loop {
        images.mark_unchanged();
        let is_settled = pass(&shared).await;
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = images.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY_PAUSE), if !is_settled => {}
        }
    }
}

/// One pass. Returns whether nothing is left to do.
async fn pass(shared: &Arc<Shared>) -> bool {
    let image = shared.image();
    if !is_controller(shared, &image) {
        return true;
    }
    let settings = decide::PlanSettings {
        min_isr_default: min_isr_default(shared),
    };
    let plan = decide::plan(&image, settings);
    for transaction in plan {
        match commit(shared.environment.metadata.as_ref(), transaction).await {
            // Each pass acts on an image that has the outcome of the one before.
            Ok(Commit::Done(_)) => {}
            Ok(Commit::Refused | Commit::Moved) => return false,
            Err(error) => {
                warn!(%error, "a decision of the controller was not committed");
                return false;
            }
        }
    }
    true
}

/// Cleans up after deleted topics, apart from [`run`]: a store that is away, or a topic of many
/// objects, must not keep others from being created.
pub async fn clean(shared: Arc<Shared>, stop: CancellationToken) {
    let mut images = shared.images();
    let mut cleaned = BTreeMap::new();
    loop {
        images.mark_unchanged();
        let again_at = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            again_at = clean_all(&shared, &mut cleaned) => again_at,
        };
        let again = async {
            match again_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = images.changed() => if changed.is_err() { return },
            () = again => {}
        }
    }
}

/// Cleans up after every deleted topic as far as that can be done now; `cleaned` says when each was
/// found clean for the first time. Returns when another pass is due, if one is.
async fn clean_all(
    shared: &Arc<Shared>,
    cleaned: &mut BTreeMap<TopicId, Instant>,
) -> Option<Instant> {
    let image = shared.image();
    if !is_controller(shared, &image) {
        cleaned.clear();
        return None;
    }
    cleaned.retain(|id, _| image.deleted().any(|(deleted, _)| deleted == *id));
    let mut due: Vec<Instant> = Vec::new();
    for (id, deleted) in image.deleted() {
        let Some(transaction) = decide::forget_topic(&image, id) else {
            continue;
        };
        // A PUT that was under way when the topic went may arrive until its deadline has passed:
        // only what a listing after that finds is all that there will ever be (P7).
        let listed_again_at = cleaned.get(&id).map(|at| *at + LATE_PUT_MAX);
        if let Some(at) = listed_again_at.filter(|at| *at > Instant::now()) {
            due.push(at);
            continue;
        }
        if !is_gone(shared, id, &deleted.value.topic).await {
            due.push(Instant::now() + RETRY_PAUSE);
            continue;
        }
        if listed_again_at.is_none() && shared.tiering.uploader().is_some() {
            let now = Instant::now();
            cleaned.insert(id, now);
            due.push(now + LATE_PUT_MAX);
            continue;
        }
        if let Err(error) = commit(shared.environment.metadata.as_ref(), transaction).await {
            warn!(%error, "a deleted topic was not forgotten");
            due.push(Instant::now() + RETRY_PAUSE);
        }
    }
    due.into_iter().min()
}

fn is_controller(shared: &Shared, image: &Image) -> bool {
    image
        .controller()
        .is_some_and(|controller| controller.value.broker == shared.config.node_id)
}

fn min_isr_default(shared: &Shared) -> i32 {
    let config = TopicConfig::new(&BTreeMap::new(), shared.settings().merged());
    i32::try_from(config.min_insync_replicas).unwrap_or(i32::MAX)
}

/// Removes what is left of a deleted topic: directories, then objects. Returns whether all is gone.
async fn is_gone(shared: &Arc<Shared>, id: TopicId, name: &str) -> bool {
    let still_hosted = shared
        .partitions
        .all()
        .iter()
        .any(|partition| partition.topic_id == id);
    if still_hosted {
        return false;
    }
    for (directory, _) in &shared.directories {
        let removing = Arc::clone(directory);
        let removed = shared
            .environment
            .run(Work::Blocking, move || removing.remove_deleted())
            .await;
        if let Err(error) = removed {
            warn!(topic = name, %error, "a deleted log's files are still there");
            return false;
        }
    }
    match shared.tiering.delete_topic(id).await {
        Ok(0) => true,
        Ok(count) => {
            info!(
                topic = name,
                objects = count,
                "objects of a deleted topic removed"
            );
            shared.metrics.deleted_objects(count);
            true
        }
        Err(error) => {
            warn!(topic = name, %error, "objects of a deleted topic are still there");
            false
        }
    }
}
