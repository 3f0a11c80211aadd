//! Brings what this broker hosts and leads in line with the image.
//!
//! A pass takes a partition through `hosting` (its log is opened or put aside) to `leading` (its
//! epoch is raised), and looks only at what the image says has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use esker_metadata::controller as decide;
use esker_metadata::values::{DirectoryId, ProcessId};
use esker_metadata::{Image, Revision};
use esker_protocol::{LeaderEpoch, TopicId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::broker::Shared;
use crate::membership::MembershipError;

mod hosting;
mod leading;

/// How long a pass that failed waits before the next.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause, where passes do not help.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// What the proof of P6 rests on: facts read before this process registered.
#[derive(Debug, Default)]
pub struct Proof {
    /// The incarnation that registered last, if any ever did.
    pub last_incarnation: Option<ProcessId>,
    /// The directories that list it.
    pub directories: Vec<DirectoryId>,
    /// The directories that may lack what it acknowledged: it was relaxed, or what was recorded of
    /// their logs is lost, and they have no clean-shutdown file of it.
    pub unclean: Vec<DirectoryId>,
}

impl Proof {
    /// Whether leading from this directory is an unclean election: as the sole replica it is elected
    /// all the same, but visibly.
    fn is_unclean(&self, directory: DirectoryId) -> bool {
        self.unclean.contains(&directory)
    }

    fn covers(&self, directory: DirectoryId) -> bool {
        self.last_incarnation.is_none() || self.directories.contains(&directory)
    }
}

/// Tells those who wait for a partition to be led that something has changed.
#[derive(Debug)]
pub struct Replicas {
    passes: watch::Sender<u64>,
    /// Partitions whose logs are damaged; they stay offline until they are repaired and the process
    /// is started again.
    damaged: Mutex<BTreeSet<(TopicId, i32)>>,
    /// Partitions of which the log has said that they were set aside.
    aside: Mutex<BTreeSet<(TopicId, i32)>>,
    /// Epochs that this process has raised: where leading fails after that, it is tried again under
    /// the same epoch.
    raised: Mutex<BTreeMap<(TopicId, i32), LeaderEpoch>>,
}

impl Default for Replicas {
    fn default() -> Replicas {
        Replicas {
            passes: watch::channel(0).0,
            damaged: Mutex::default(),
            aside: Mutex::default(),
            raised: Mutex::default(),
        }
    }
}

impl Replicas {
    /// Waits until this broker leads the partition, or has found that it cannot, or does not have
    /// to any more.
    pub async fn wait_until_led(&self, shared: &Shared, topic: TopicId, index: i32) {
        let mut passes = self.passes.subscribe();
        loop {
            let is_settled = match shared.partitions.get(topic, index) {
                Some(partition) => partition.leading().is_some() || partition.is_offline(),
                None => {
                    self.is_damaged(topic, index)
                        || shared.image().partition(topic, index).is_none()
                }
            };
            if is_settled || passes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Changes after every pass: partitions may have begun or ceased to be led.
    #[must_use]
    pub fn passes(&self) -> watch::Receiver<u64> {
        self.passes.subscribe()
    }

    /// Waits until the settings of all hosted partitions, or of one topic's, are those of this
    /// revision or a later one.
    pub async fn wait_until_configured(
        &self,
        shared: &Shared,
        topic: Option<TopicId>,
        revision: Revision,
    ) {
        let mut passes = self.passes.subscribe();
        loop {
            let hosted = shared.partitions.all();
            let is_settled = hosted
                .iter()
                .filter(|one| topic.is_none_or(|topic| one.topic_id == topic))
                .all(|one| one.configured_at() >= revision);
            if is_settled || passes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether the partition's log was found damaged.
    #[must_use]
    pub fn is_damaged(&self, topic: TopicId, index: i32) -> bool {
        let damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        damaged.contains(&(topic, index))
    }

    fn raised(&self, topic: TopicId, index: i32) -> Option<LeaderEpoch> {
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        raised.get(&(topic, index)).copied()
    }

    fn note_raised(&self, topic: TopicId, index: i32, epoch: LeaderEpoch) {
        let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        raised.insert((topic, index), epoch);
    }

    fn note_damaged(&self, topic: TopicId, index: i32) {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        damaged.insert((topic, index));
    }

    /// Notes that a partition's log was set aside. Whether that is news.
    fn note_aside(&self, topic: TopicId, index: i32) -> bool {
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        aside.insert((topic, index))
    }

    fn passed(&self) {
        self.passes
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// Follows the image until `stop`. `settled` is the image that everything is in line with, if there
/// is one.
///
/// Ends with the reason when another process has become this broker: this one must end.
pub async fn run(
    shared: Arc<Shared>,
    proof: Proof,
    mut settled: Option<Arc<Image>>,
    stop: CancellationToken,
) -> Option<MembershipError> {
    let mut images = shared.images();
    let mut pause = RETRY_PAUSE;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            changed = images.changed() => {
                if changed.is_err() {
                    return None;
                }
                pause = RETRY_PAUSE;
            }
            // What is left may be left for long, and a pass looks at everything.
            () = tokio::time::sleep(pause), if settled.is_none() => {
                pause = (pause * 2).min(RETRY_PAUSE_MAX);
            }
        }
        images.mark_unchanged();
        settled = match reconcile(&shared, &proof, settled.as_deref()).await {
            Ok(settled) => settled,
            Err(replaced) => return Some(replaced),
        };
    }
}

/// One pass: over what has changed since the image that everything was in line with, or over
/// everything where there is no such image. Returns the image that everything is in line with now,
/// or `None` where something is left that another pass helps.
///
/// # Errors
/// Another process has become this broker; nothing else.
pub async fn reconcile(
    shared: &Arc<Shared>,
    proof: &Proof,
    settled: Option<&Image>,
) -> Result<Option<Arc<Image>>, MembershipError> {
    let image = shared.image();
    let own = shared.config.node_id;
    // What the image gives to the broker is the other process's then.
    if decide::is_replaced(&image, own, shared.registration.incarnation) {
        return Err(MembershipError::Replaced(own));
    }
    let touched = settled
        .and_then(|settled| image.partitions_changed_since(settled))
        .unwrap_or_else(|| everything(shared, &image));
    let are_hosted = hosting::reconcile(shared, &image, &touched, proof).await;
    let are_led = leading::reconcile(shared, &image, &touched, proof).await?;
    shared.replicas.passed();
    Ok((are_hosted && are_led).then_some(image))
}

/// The partitions that a pass looks at, sorted.
type Touched = BTreeSet<(TopicId, i32)>;

/// What the image knows, and what is hosted and no longer in it.
fn everything(shared: &Shared, image: &Image) -> Touched {
    let hosted = shared.partitions.all();
    let hosted = hosted
        .iter()
        .map(|partition| (partition.topic_id, partition.index));
    let known = image
        .all_partitions()
        .map(|(topic, index, _)| (topic, index));
    known.chain(hosted).collect()
}
