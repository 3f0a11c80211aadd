//! One partition that this broker hosts: its log, its leadership, and its place in the tier.
//!
//! Here, and only here, the local log (`storage`), the object store (`tier`) and the authority
//! (`metadata`) meet.
//!
//! Invariants
//! - A partition appends and answers as leader only between [`Partition::lead`] and
//!   [`Partition::resign`], under the epoch that a committed transaction gave it (P4).
//! - Nothing above the high watermark is shown to consumers or acknowledged with `acks=all` (P5).

pub mod high_watermark;
pub mod read;
pub mod tiering;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};

use bytes::Bytes;
use esker_metadata::Revision;
use esker_protocol::records::{
    self, BuiltBatch, Caps, ProduceError, ProduceRules, ProducedBatch, TimestampType, Validation,
};
use esker_protocol::{LeaderEpoch, Offset, Timestamp, TopicId};
use esker_storage::{AppendError, Appended, ChangeError, Log, LogDirectory};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::commit::{Dirty, Urgency};
use crate::config::topic::TopicConfig;
use high_watermark::Waiters;
use tiering::TierState;

/// A topic's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The settings.
    pub config: Arc<TopicConfig>,
    /// The revision of the topic's key that they were computed from.
    pub revision: Revision,
}

/// A hosted partition.
pub struct Partition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The topic's id.
    pub topic_id: TopicId,
    /// The partition's number.
    pub index: i32,
    /// The local log.
    pub log: Arc<Log>,
    /// The log directory that it lies in.
    pub directory: Arc<LogDirectory>,
    /// What the tier holds of it; see [`tiering`].
    pub tier: TierState,
    settings: RwLock<Settings>,
    /// The epoch under which this broker leads, or `None`.
    leading: RwLock<Option<LeaderEpoch>>,
    high_watermark: AtomicI64,
    waiters: Waiters,
    dirty: Dirty,
    /// Set where the log cannot be trusted, see [`Partition::take_offline`].
    offline: AtomicBool,
    /// Cancelled when the partition is no longer this broker's, for good.
    gone: CancellationToken,
    #[cfg(feature = "planted-bugs")]
    pub(crate) unwritten: crate::planted::Unwritten,
    /// Guards that the high watermark and its waiters move together.
    publishing: Mutex<()>,
}

/// Why a produce to one partition was refused.
#[derive(Debug, thiserror::Error)]
pub enum ProduceFailure {
    /// This broker does not lead the partition.
    #[error("this broker does not lead the partition")]
    NotLeader,
    /// The batch itself is bad.
    #[error(transparent)]
    Invalid(#[from] ProduceError),
    /// The log refused it.
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl Partition {
    /// A partition that leads nothing yet.
    #[must_use]
    pub fn new(
        topic: Arc<str>,
        topic_id: TopicId,
        index: i32,
        log: Arc<Log>,
        settings: Settings,
        (directory, dirty): (Arc<LogDirectory>, Dirty),
    ) -> Partition {
        let high_watermark = AtomicI64::new(log.local_start_offset().0);
        Partition {
            topic,
            topic_id,
            index,
            log,
            directory,
            tier: TierState::default(),
            settings: RwLock::new(settings),
            leading: RwLock::new(None),
            high_watermark,
            waiters: Waiters::default(),
            dirty,
            offline: AtomicBool::new(false),
            gone: CancellationToken::new(),
            #[cfg(feature = "planted-bugs")]
            unwritten: crate::planted::Unwritten::default(),
            publishing: Mutex::new(()),
        }
    }

    /// The topic's settings.
    #[must_use]
    pub fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.settings().config)
    }

    /// Whether sealed segments go to the object store, where there is one. A log from which compaction
    /// has taken records stays local until those segments have gone: objects have no gaps.
    #[must_use]
    pub fn is_tiered(&self) -> bool {
        !crate::topics::is_internal(&self.topic)
            && self.config().is_tiered()
            && self.log.compacted_end() <= self.log.local_start_offset()
    }

    /// The revision of the topic's key from which the settings were computed.
    #[must_use]
    pub fn configured_at(&self) -> Revision {
        self.settings().revision
    }

    fn settings(&self) -> RwLockReadGuard<'_, Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts changed settings in force.
    pub fn configure(&self, settings: Settings) {
        *self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// The epoch under which this broker leads the partition, if it does.
    #[must_use]
    pub fn leading(&self) -> Option<LeaderEpoch> {
        *self.leading.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to lead under an epoch that a committed transaction has given to this process; not
    /// where the partition was let go meanwhile.
    ///
    /// # Errors
    /// The log cannot note the epoch.
    pub fn lead(&self, epoch: LeaderEpoch) -> Result<(), ChangeError> {
        self.log.begin_epoch(epoch)?;
        {
            let mut leading = self.leading.write().unwrap_or_else(PoisonError::into_inner);
            if self.gone.is_cancelled() {
                return Ok(());
            }
            *leading = Some(epoch);
        }
        self.dirty.mark(Urgency::Urgent);
        self.publish();
        Ok(())
    }

    /// Stops leading; whoever waits is told.
    pub fn resign(&self) {
        *self.leading.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.waiters.wake_all();
    }

    /// Lets go of a partition that was deleted, or is another broker's or process's: it leads no
    /// more, and what is being uploaded for it ends.
    pub fn let_go(&self) {
        // In this order: whoever begins to lead at this moment is either refused or resigns.
        self.gone.cancel();
        self.resign();
    }

    /// Waits until the partition is no longer this broker's.
    pub async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Takes the partition out of service until the process ends: its log is not what was
    /// acknowledged, or cannot be known to be.
    pub fn take_offline(&self) {
        self.offline.store(true, Ordering::Release);
        self.resign();
    }

    /// Whether the partition cannot be served.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.offline.load(Ordering::Acquire) || self.log.is_offline()
    }

    /// Whether all that was written is durable, as it is to be before the partition is led.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.log.durable_end() >= self.log.written_end()
    }

    /// Asks for a commit round of the log's directory.
    pub fn ask_for_commit(&self, urgency: Urgency) {
        self.dirty.mark(urgency);
    }

    /// The end of what consumers may see.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// The end of what `read_committed` consumers may see.
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        self.log.last_stable_offset(self.high_watermark())
    }

    /// The first offset that exists, in whatever tier.
    #[must_use]
    pub fn start_offset(&self) -> Offset {
        self.tier
            .log_start()
            .unwrap_or(Offset::ZERO)
            .max(self.log.start_offset())
    }

    /// Moves the high watermark to what has become durable and wakes those who wait.
    pub fn publish(&self) {
        let _publishing = self
            .publishing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if self.leading().is_none() {
            return;
        }
        let current = self.high_watermark();
        // This broker is the only replica: the maximal ISR is itself.
        let next = high_watermark::advance(current, [self.log.durable_end()], 1, 1);
        if next > current {
            self.high_watermark.store(next.0, Ordering::Release);
            self.waiters.wake(next);
        }
    }

    /// Sets the high watermark of a log that starts anew at `offset` (P8).
    pub fn restart_at(&self, offset: Offset) {
        let _publishing = self
            .publishing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.high_watermark.store(offset.0, Ordering::Release);
    }

    /// Wakes `wake` when the high watermark passes `above`, or something else changes. The caller
    /// looks again after registering.
    pub fn wake_above(&self, above: Offset, wake: Weak<Notify>) {
        self.waiters.register(above, wake);
    }

    /// The rules for what is produced now.
    #[must_use]
    pub fn produce_rules(&self, now: Timestamp, zstd_allowed: bool) -> ProduceRules {
        let config = self.config();
        ProduceRules {
            message_bytes_max: config.message_bytes_max,
            timestamp_type: if config.log_append_time {
                TimestampType::LogAppendTime
            } else {
                TimestampType::CreateTime
            },
            before_ms_max: config.timestamp_before_ms_max,
            after_ms_max: config.timestamp_after_ms_max,
            now,
            compacted: config.compact,
            validation: if config.validate_fully {
                Validation::Full
            } else {
                Validation::Default
            },
            zstd_allowed,
            target: config.compression,
            caps: Caps::DEFAULT,
        }
    }

    /// Validates one produced batch and appends it. Blocks for as long as the page cache takes. Who
    /// calls asks for a commit when all is appended that belongs together: one round then takes it.
    ///
    /// # Errors
    /// The batch is refused; nothing was written.
    pub fn append(&self, batch: Bytes, rules: &ProduceRules) -> Result<Appended, ProduceFailure> {
        // Nothing is looked at for a partition that would refuse it.
        self.leading().ok_or(ProduceFailure::NotLeader)?;
        self.append_valid(&records::validate(batch, rules)?, rules)
    }

    /// As [`Partition::append`], for a batch of this broker's own.
    ///
    /// # Errors
    /// The batch is refused; nothing was written.
    pub fn append_built(
        &self,
        batch: BuiltBatch,
        rules: &ProduceRules,
    ) -> Result<Appended, ProduceFailure> {
        self.leading().ok_or(ProduceFailure::NotLeader)?;
        self.append_valid(&records::validate_built(batch, rules)?, rules)
    }

    /// Appends a batch that was validated by these rules, as [`Partition::append`] does.
    ///
    /// # Errors
    /// The batch is refused; nothing was written.
    pub fn append_valid(
        &self,
        batch: &ProducedBatch,
        rules: &ProduceRules,
    ) -> Result<Appended, ProduceFailure> {
        if batch.header.attributes.is_transactional() {
            // Transactions are not served: no producer can have opened one (see InitProducerId).
            let producer = batch.header.producer_id;
            return Err(AppendError::InvalidTransactionState { producer }.into());
        }
        // Held over the append: a resignation waits for it, and no append follows one.
        let leading = self.leading.read().unwrap_or_else(PoisonError::into_inner);
        let epoch = leading.ok_or(ProduceFailure::NotLeader)?;
        let log_append_time = rules.timestamp_type == TimestampType::LogAppendTime;
        let appended = self
            .log
            .append_as_leader(batch, epoch, rules.now, log_append_time);
        drop(leading);
        // A directory that has failed is noticed by its commit loop.
        let appended = appended.inspect_err(|_| self.dirty.mark(Urgency::CanWait))?;
        // In relaxed mode what is written counts as durable at once.
        self.publish();
        Ok(appended)
    }
}
