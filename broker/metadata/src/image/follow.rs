//! How images are made: read everything once, then apply what the watch delivers (P1).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Image;
use crate::keys::Keys;
use crate::store::{MetadataStore, StoreError, WatchEvent, WatchLost};
use crate::values::ValueError;

/// The first pause before a store that failed is asked again.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause: the pause doubles up to here.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);

/// What to do with what the watch delivered.
#[derive(Debug)]
pub enum Step {
    /// This is the image now.
    Publish(Arc<Image>),
    /// The watch proves nothing any more: read everything again.
    Reload(ReloadReason),
}

/// Why everything is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReloadReason {
    /// The watch ended.
    #[error(transparent)]
    Lost(#[from] WatchLost),
    /// The store delivered a revision that the image already has: it went back in time.
    #[error("the store delivered an older revision")]
    Older,
}

/// Decides what follows from the watch's next word.
///
/// # Errors
///
/// A value of ours cannot be read.
pub fn step(image: &Image, next: Result<&WatchEvent, WatchLost>) -> Result<Step, ValueError> {
    match next {
        Err(lost) => Ok(Step::Reload(ReloadReason::Lost(lost))),
        Ok(event) if event.revision <= image.revision() => Ok(Step::Reload(ReloadReason::Older)),
        Ok(event) => Ok(Step::Publish(Arc::new(image.apply(event)?))),
    }
}

/// Why nobody can follow the store any longer. The process must end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// A value cannot be read, so that what this broker believes would no longer be true.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The store has failed.
    #[error(transparent)]
    Store(StoreError),
}

/// Keeps `images` at the store's latest revision, for as long as that is possible.
///
/// The caller spawns it and drops it; it may be dropped at any time.
pub async fn follow(
    store: Arc<dyn MetadataStore>,
    keys: Keys,
    images: watch::Sender<Arc<Image>>,
) -> FollowError {
    let mut pause = RETRY_PAUSE_MIN;
    loop {
        let error = match follow_once(store.as_ref(), &keys, &images, &mut pause).await {
            Ok(reason) => reason.to_string(),
            Err(FollowError::Store(error)) if error.is_retriable() => error.to_string(),
            Err(error) => return error,
        };
        tracing::warn!(
            error,
            pause_ms = pause.as_millis(),
            "metadata is read again"
        );
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_PAUSE_MAX);
    }
}

/// Reads everything and follows the watch until it is lost.
async fn follow_once(
    store: &dyn MetadataStore,
    keys: &Keys,
    images: &watch::Sender<Arc<Image>>,
    pause: &mut Duration,
) -> Result<ReloadReason, FollowError> {
    let (entries, revision) = store.list(keys.root()).await.map_err(FollowError::Store)?;
    let mut image = Arc::new(Image::load(keys.clone(), &entries, revision)?);
    drop(entries);
    images.send_replace(Arc::clone(&image));
    let watch = store.watch(keys.root(), revision.next()).await;
    let mut watch = watch.map_err(FollowError::Store)?;
    loop {
        let next = watch.next().await;
        match step(&image, next.as_ref().map_err(|lost| *lost))? {
            Step::Reload(reason) => return Ok(reason),
            Step::Publish(next) => {
                image = next;
                images.send_replace(Arc::clone(&image));
                *pause = RETRY_PAUSE_MIN;
            }
        }
    }
}
