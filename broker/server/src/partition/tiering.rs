//! Where a partition's local log meets its tier: claim, offload, retention, and a log that is
//! shorter than its tier (P7, P8).
//!
//!   put object -> verify -> put manifest -> commit the pointer -> only then local copies may go
//!
//! Invariants
//! - The pointer in memory is one that was committed; it only moves by a transaction of this
//!   broker, or by reading the key linearisably.
//! - Nothing is committed and no object deleted before this leader epoch has claimed the key.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use esker_metadata::values::{PartitionValue, TierValue, Unknown, Value, ValueError};
use esker_metadata::{Entry, Image, Revision, StoreError, Transaction};
use esker_protocol::{LeaderEpoch, Offset, Timestamp};
use esker_storage::{
    ChangeError, ProducedRange, ProducerSnapshot, SegmentInfo, retention as local,
};
use esker_tier::collect::{self, CollectError};
use esker_tier::manifest::Head;
use esker_tier::plan::{SealedSegment, plan_offload};
use esker_tier::pointer::{self, BatchBefore, Fenced, LogFacts, Pointer};
use esker_tier::read::ReadError as TierReadError;
use esker_tier::source::{AbortedTransaction, ProducerEntry, SegmentSource};
use esker_tier::upload::{Progress, Request, UploadError};
use tracing::{info, warn};

use super::Partition;
use crate::authority::{Commit, commit};
use crate::broker::Shared;
use crate::configs;
use crate::environment::Work;
use crate::retention::limits;

/// What is known of a partition's tier.
#[derive(Debug, Default)]
pub struct TierState {
    known: Mutex<Option<Known>>,
    /// When each sealed segment was first seen sealed: what waits for its successors waits from
    /// then on. A restart starts the waiting anew.
    sealed_at: Mutex<BTreeMap<Offset, Timestamp>>,
}

#[derive(Debug, Clone)]
struct Known {
    pointer: Pointer,
    unknown: Unknown,
    revision: Revision,
    head: Option<Arc<Head>>,
}

impl TierState {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> Option<Known> {
        self.lock().clone()
    }

    /// The sealed ones of these segments.
    fn sealed(&self, segments: &[SegmentInfo], now: Timestamp) -> Vec<SealedSegment> {
        let mut sealed_at = self
            .sealed_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let tier_end = self.end().map_or(Offset::ZERO, |(end, _)| end);
        sealed_at.retain(|base, _| *base >= tier_end);
        segments
            .iter()
            .filter(|segment| segment.sealed && segment.end > tier_end)
            .map(|segment| SealedSegment {
                base: segment.base,
                end: segment.end,
                bytes: segment.bytes,
                sealed_at: *sealed_at.entry(segment.base).or_insert(now),
            })
            .collect()
    }

    /// Takes what was read or committed, unless something newer is known already: readers,
    /// collection and the uploader look at the key side by side, and the pointer never goes back.
    fn set(&self, known: Option<Known>) {
        let mut current = self.lock();
        let is_older = match (current.as_ref(), known.as_ref()) {
            (Some(current), Some(known)) => known.revision < current.revision,
            // A partition's tier key goes with the partition and never before.
            (Some(_), None) => true,
            (None, _) => false,
        };
        if !is_older {
            *current = known;
        }
    }

    /// The pointer that was committed last.
    #[must_use]
    pub fn pointer(&self) -> Option<Pointer> {
        self.lock().as_ref().map(|known| known.pointer.clone())
    }

    /// Log start, where the partition has a tier.
    #[must_use]
    pub fn log_start(&self) -> Option<Offset> {
        self.lock().as_ref().map(|known| known.pointer.log_start)
    }

    /// Tier end and the epoch of the last tiered batch.
    #[must_use]
    pub fn end(&self) -> Option<(Offset, LeaderEpoch)> {
        self.lock()
            .as_ref()
            .map(|known| (known.pointer.tier_end, known.pointer.tier_end_epoch))
    }
}

/// Why the tier could not be worked on. All but a fence are tried again.
#[derive(Debug, thiserror::Error)]
pub enum TierError {
    /// The metadata store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A value that cannot be read.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// Another leader has claimed the tier.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The local log.
    #[error(transparent)]
    Log(#[from] ChangeError),
    /// The local log cannot be read.
    #[error(transparent)]
    LogRead(#[from] esker_storage::ReadError),
    /// The upload.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// A read of objects.
    #[error(transparent)]
    Read(#[from] TierReadError),
    /// The collection.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// The objects are newer than the key (P2).
    #[error("the metadata store was rewound: {0}")]
    RewoundStore(#[from] collect::Rewound),
    /// The key could not be read after a transaction on it, so that nobody knows who wrote it.
    #[error("the outcome of a transaction is not known yet: {0}")]
    Undecided(#[source] Box<TierError>),
    /// The bucket's marker has not been read yet, or is another cluster's.
    #[error("the object store is not known to be this cluster's")]
    UnverifiedBucket,
    /// The key, or the one that fences it, has moved meanwhile.
    #[error("the metadata has changed meanwhile")]
    Moved,
    /// The log begins above the tier's end: the metadata store was rewound (P2).
    #[error(
        "the local log begins at {local_start}, above the tier's end {tier_end}: the metadata store was rewound; recover it before this partition is led again"
    )]
    Rewound {
        /// Where the local log begins.
        local_start: Offset,
        /// Where the tier ends.
        tier_end: Offset,
    },
}

fn from_value(value: TierValue) -> (Pointer, Unknown) {
    let pointer = Pointer {
        claimed_epoch: value.claimed_epoch,
        manifest: value.manifest,
        checksum: value.checksum,
        version: value.version,
        tier_end: value.tier_end,
        tier_end_epoch: value.tier_end_epoch,
        log_start: value.log_start,
        local_floor: value.local_floor,
    };
    (pointer, value.unknown)
}

fn to_value(pointer: &Pointer, unknown: &Unknown) -> TierValue {
    TierValue {
        claimed_epoch: pointer.claimed_epoch,
        manifest: pointer.manifest.clone(),
        checksum: pointer.checksum,
        version: pointer.version,
        tier_end: pointer.tier_end,
        tier_end_epoch: pointer.tier_end_epoch,
        log_start: pointer.log_start,
        local_floor: pointer.local_floor,
        unknown: unknown.clone(),
    }
}

fn key(shared: &Shared, partition: &Partition) -> String {
    shared.keys.tier(partition.topic_id, partition.index)
}

/// Reads the pointer linearisably.
///
/// # Errors
/// The store or its value cannot be read.
pub async fn refresh(shared: &Shared, partition: &Partition) -> Result<(), TierError> {
    let key = key(shared, partition);
    let (entry, _) = shared.environment.metadata.get(&key).await?;
    let known = match entry {
        Some(Entry {
            value,
            mod_revision,
            ..
        }) => {
            let (pointer, unknown) = from_value(TierValue::decode(&key, &value)?);
            Some(Known {
                pointer,
                unknown,
                revision: mod_revision,
                head: None,
            })
        }
        None => None,
    };
    partition.tier.set(known);
    Ok(())
}

/// What a new leader does about the tier before its first append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Agreement {
    /// The local log has what the tier ends with.
    Agrees,
    /// It is shorter, or another: it starts anew at this offset (P8).
    RestartsAt(Offset),
    /// It begins above the tier's end.
    Rewound,
}

/// What P8 asks of the local log.
#[derive(Debug, Clone, Copy)]
struct LocalFacts {
    start: Offset,
    end: Offset,
    /// The epoch of the batch just below the tier's end, if the log has one there.
    epoch_at_tier_end: Option<LeaderEpoch>,
}

fn agreement(pointer: &Pointer, log: LocalFacts) -> Agreement {
    let restart = pointer.restart_offset();
    if log.start > restart {
        return Agreement::Rewound;
    }
    if log.end < restart {
        return Agreement::RestartsAt(restart);
    }
    // A log that starts exactly there was cut there, which was checked; below 0 there is nothing.
    if pointer.tier_end == Offset::ZERO || log.start >= pointer.tier_end {
        return Agreement::Agrees;
    }
    if log.epoch_at_tier_end == Some(pointer.tier_end_epoch) {
        Agreement::Agrees
    } else {
        Agreement::RestartsAt(restart)
    }
}

/// Checks a log against its tier before it is led, and starts it anew where P8 asks for it. After an
/// election without proof the tier is claimed first.
///
/// # Errors
/// The store or the objects cannot be read, or the store was rewound.
pub async fn prepare(
    shared: &Arc<Shared>,
    partition: &Arc<Partition>,
    epoch: LeaderEpoch,
    claims_first: bool,
) -> Result<(), TierError> {
    refresh(shared, partition).await?;
    let Some(pointer) = partition.tier.pointer() else {
        return Ok(());
    };
    // Without proof the value at hand will not do: an older leader may still commit to it.
    let pointer = if claims_first {
        claim(shared, partition, epoch).await?.pointer
    } else {
        pointer
    };
    let log = &partition.log;
    let facts = LocalFacts {
        start: log.local_start_offset(),
        end: log.written_end(),
        epoch_at_tier_end: log.epoch_at(pointer.tier_end + -1),
    };
    match agreement(&pointer, facts) {
        Agreement::Agrees => Ok(()),
        Agreement::Rewound => Err(TierError::Rewound {
            local_start: facts.start,
            tier_end: pointer.tier_end,
        }),
        Agreement::RestartsAt(at) => restart(shared, partition, epoch, &pointer, at).await,
    }
}

async fn restart(
    shared: &Arc<Shared>,
    partition: &Arc<Partition>,
    epoch: LeaderEpoch,
    pointer: &Pointer,
    at: Offset,
) -> Result<(), TierError> {
    warn!(
        topic = %partition.topic,
        partition = partition.index,
        local_end = %partition.log.written_end(),
        restart = %at,
        "the local log is shorter than the tier and starts anew"
    );
    if at > pointer.tier_end {
        let known = partition
            .tier
            .known()
            .filter(|known| known.pointer == *pointer);
        let next = pointer::restart_at(pointer, at, epoch)?;
        let known = known.ok_or(TierError::Moved)?;
        put(
            shared,
            partition,
            Some(&known),
            next,
            Fence::Partition(epoch),
        )
        .await?;
    }
    let (epochs, producers) = match shared.tiering.reader() {
        Some(reader) if pointer.manifest.is_some() => {
            let identity = shared.tiering.identity(partition);
            let state = reader.end_state(&identity, pointer).await?;
            // State that is not as of the restart is no state (P8).
            let producers = if pointer.tier_end == at {
                state.producers
            } else {
                Vec::new()
            };
            (state.epochs, producers)
        }
        _ => (Vec::new(), Vec::new()),
    };
    let log = Arc::clone(&partition.log);
    let producers = ProducerSnapshot {
        entries: producers.iter().map(stored_producer).collect(),
    };
    let now = shared.environment.now();
    // P8: a log that is only shorter has nothing that the tier lacks; one that disagrees is kept aside.
    let disagrees = log.written_end() >= at;
    let restarted = shared.environment.run(Work::Blocking, move || {
        if disagrees {
            let aside = log.set_aside_and_restart_at(at, epochs, &producers, now)?;
            warn!(path = %aside.display(), "the log that disagrees with the tier was put aside");
            Ok(())
        } else {
            log.restart_at(at, epochs, &producers, now)
        }
    });
    restarted
        .await
        .map_err(|error: ChangeError| TierError::from(error))?;
    partition.restart_at(at);
    Ok(())
}

/// The log's form of a producer's state in an object.
fn stored_producer(entry: &ProducerEntry) -> esker_storage::ProducerEntry {
    let last = ProducedRange {
        last_sequence: entry.last_sequence,
        last_offset: entry.last_offset,
        offset_delta: entry.offset_delta,
        timestamp: entry.timestamp,
    };
    esker_storage::ProducerEntry {
        producer_id: entry.producer_id,
        epoch: entry.producer_epoch,
        coordinator_epoch: entry.coordinator_epoch,
        transaction_start: (entry.current_txn_first_offset >= Offset::ZERO)
            .then_some(entry.current_txn_first_offset),
        timestamp: entry.timestamp,
        // After a marker a producer has no batch: Kafka writes -1 then.
        batches: if entry.last_sequence >= 0 {
            vec![last]
        } else {
            Vec::new()
        },
    }
}

/// A producer's state as an object holds it: Kafka's form, with the last batch only.
fn tiered_producer(entry: &esker_storage::ProducerEntry) -> ProducerEntry {
    let last = entry.batches.last();
    ProducerEntry {
        producer_id: entry.producer_id,
        producer_epoch: entry.epoch,
        last_sequence: last.map_or(-1, |last| last.last_sequence),
        last_offset: last.map_or(Offset(-1), |last| last.last_offset),
        offset_delta: last.map_or(0, |last| last.offset_delta),
        timestamp: entry.timestamp,
        coordinator_epoch: entry.coordinator_epoch,
        current_txn_first_offset: entry.transaction_start.unwrap_or(Offset(-1)),
    }
}

/// What a transaction on the tier key compares beside the key itself.
enum Fence {
    /// The tier key is claimed by this leader: nothing more.
    Claimed,
    /// The partition key, in which this broker reads itself as the leader of this epoch.
    Partition(LeaderEpoch),
    /// The topic's key at this revision, and the brokers' settings as this image has them: the log
    /// start was computed from both.
    Settings(Revision, Arc<Image>),
}

/// Commits a pointer that was computed from `known`, and takes it for the known one. What is
/// compared is the revision of that very value, so that nothing committed meanwhile is lost.
async fn put(
    shared: &Shared,
    partition: &Partition,
    known: Option<&Known>,
    next: Pointer,
    fence: Fence,
) -> Result<(), TierError> {
    if let Some(known) = known {
        // Facts that can only grow under one incarnation (P1); a fall would unname objects.
        assert!(
            next.version >= known.pointer.version
                && next.tier_end >= known.pointer.tier_end
                && next.log_start >= known.pointer.log_start
                && next.local_floor >= known.pointer.local_floor,
            "a tier pointer never goes back: {:?} to {next:?}",
            known.pointer
        );
    }
    let key = key(shared, partition);
    let unknown = known.map(|known| known.unknown.clone()).unwrap_or_default();
    let mut transaction = match known {
        Some(known) => Transaction::new().expect_revision(&key, known.revision),
        None => Transaction::new().expect_absent(&key),
    };
    match fence {
        Fence::Claimed => {}
        Fence::Partition(epoch) => {
            let fence = shared.keys.partition(partition.topic_id, partition.index);
            let (entry, _) = shared.environment.metadata.get(&fence).await?;
            let entry = entry.ok_or(TierError::Moved)?;
            let value = PartitionValue::decode(&fence, &entry.value)?;
            if value.leader != Some(shared.config.node_id) || value.leader_epoch != epoch {
                return Err(TierError::Moved);
            }
            transaction = transaction.expect_revision(&fence, entry.mod_revision);
        }
        Fence::Settings(revision, image) => {
            let topic = shared.keys.topic(&partition.topic);
            transaction =
                configs::guard(shared, &image, transaction).expect_revision(topic, revision);
        }
    }
    let transaction = transaction.put(&key, to_value(&next, &unknown).encode());
    match commit(shared.environment.metadata.as_ref(), transaction).await? {
        Commit::Done(revision) => {
            let head = known.and_then(|known| known.head.clone());
            partition.tier.set(Some(Known {
                pointer: next,
                unknown,
                revision,
                head,
            }));
            Ok(())
        }
        Commit::Refused | Commit::Moved => {
            refresh(shared, partition)
                .await
                .map_err(|error| TierError::Undecided(Box::new(error)))?;
            // After a lost answer the value that is there may be the one that was sent.
            if partition.tier.pointer().as_ref() == Some(&next) {
                return Ok(());
            }
            Err(TierError::Moved)
        }
    }
}

/// Claims the tier for this leader epoch, unless that has happened.
async fn claim(
    shared: &Shared,
    partition: &Partition,
    epoch: LeaderEpoch,
) -> Result<Known, TierError> {
    let known = partition.tier.known();
    if let Some(known) = known
        .as_ref()
        .filter(|known| known.pointer.claimed_epoch == epoch)
    {
        return Ok(known.clone());
    }
    let log = &partition.log;
    let start = log.start_offset();
    let before = |offset: Offset| log.epoch_at(offset + -1).unwrap_or(LeaderEpoch::NONE);
    let facts = LogFacts {
        log_start: start,
        log_start_batch: batch_base(partition, start)?.map(|base| BatchBefore {
            base,
            epoch_before: before(base),
        }),
        epoch_before: before(start),
    };
    let current = known.as_ref().map(|known| &known.pointer);
    let claimed = pointer::claim(current, &facts, epoch)?;
    put(
        shared,
        partition,
        known.as_ref(),
        claimed,
        Fence::Partition(epoch),
    )
    .await?;
    partition.tier.known().ok_or(TierError::Moved)
}

/// The base of the local batch that holds this offset, if one does.
fn batch_base(partition: &Partition, offset: Offset) -> Result<Option<Offset>, ChangeError> {
    let log = &partition.log;
    if offset < log.local_start_offset() || offset >= log.written_end() {
        return Ok(None);
    }
    Ok(Some(log.read(offset, 1, log.written_end(), true)?.start))
}

/// Offloads what is due. Returns whether anything was.
///
/// # Errors
/// The store, the objects or the log failed; nothing is visible of it, and it can be tried again.
pub async fn offload(
    shared: &Arc<Shared>,
    partition: &Arc<Partition>,
    near_reserve: bool,
    progress: &Progress,
) -> Result<bool, TierError> {
    let Some(uploader) = shared.tiering.uploader() else {
        return Ok(false);
    };
    let Some(epoch) = partition.leading() else {
        return Ok(false);
    };
    if partition.config().remote_copy_disabled {
        return Ok(false);
    }
    let now = shared.environment.now();
    let segments = partition.tier.sealed(&partition.log.segments(), now);
    let committable = partition.last_stable_offset();
    if segments
        .first()
        .is_none_or(|segment| segment.end > committable)
    {
        return Ok(false);
    }
    let config = shared.tiering.offload_config();
    // Planned against the unclaimed pointer first: an idle partition costs no claim.
    let unclaimed = match partition.tier.pointer() {
        Some(pointer) => pointer,
        None => claim(shared, partition, epoch).await?.pointer,
    };
    let plan = plan_offload(
        &segments,
        &unclaimed,
        committable,
        config,
        now,
        near_reserve,
    );
    if plan.is_none() {
        return Ok(false);
    }
    let claimed = claim(shared, partition, epoch).await?;
    let pointer = claimed.pointer;
    let Some(plan) = plan_offload(&segments, &pointer, committable, config, now, near_reserve)
    else {
        return Ok(false);
    };
    let bases: Vec<Offset> = plan.segments().map(|segment| segment.base).collect();
    let log = Arc::clone(&partition.log);
    let sources = shared
        .environment
        .run(Work::Blocking, move || {
            bases
                .iter()
                .map(|base| source(&log, *base))
                .collect::<Result<Vec<_>, TierError>>()
        })
        .await?;
    let identity = shared.tiering.identity(partition);
    let head = claimed.head;
    let upload = uploader.upload(Request {
        partition: &identity,
        epoch,
        sources,
        previous: &pointer,
        previous_manifest: head.as_deref(),
        now,
        progress,
    });
    let done = tokio::select! {
        biased;
        // What is put after the last listing of a deleted topic would stay for ever: an upload must
        // not outlive its partition by more than the request that is under way.
        () = partition.gone() => return Ok(false),
        done = upload => done?,
    };
    let committed = commit_upload(shared, partition, &done).await;
    match &committed {
        Ok(()) => uploader.committed(&done),
        // The key was read after the transaction had ended, and is another's: nothing names these.
        Err(TierError::Moved | TierError::Fenced(_)) => uploader.abandoned(&done),
        // It may still happen (P1): the objects stay pending, and are not collected.
        Err(_) => {}
    }
    committed?;
    shared.metrics.uploaded(done.object_bytes);
    info!(
        topic = %partition.topic,
        partition = partition.index,
        tier_end = %done.pointer.tier_end,
        objects = done.objects.len(),
        segment_bytes = done.segment_bytes,
        object_bytes = done.object_bytes,
        "segments uploaded"
    );
    apply_local_retention(shared, partition, near_reserve).await;
    Ok(true)
}

/// Commits an upload; a log start that moved meanwhile is kept.
async fn commit_upload(
    shared: &Shared,
    partition: &Partition,
    done: &esker_tier::upload::Commit,
) -> Result<(), TierError> {
    const TRIES_MAX: usize = 3;
    for _ in 0..TRIES_MAX {
        let known = partition.tier.known().ok_or(TierError::Moved)?;
        let next = done.rebase(&known.pointer).ok_or(TierError::Moved)?;
        match put(shared, partition, Some(&known), next, Fence::Claimed).await {
            Ok(()) => {
                let mut known = partition.tier.lock();
                if let Some(known) = known.as_mut() {
                    known.head = Some(Arc::clone(&done.head));
                }
                return Ok(());
            }
            Err(TierError::Moved) => {}
            Err(error) => return Err(error),
        }
    }
    Err(TierError::Moved)
}

/// An offset as indexes hold it; a segment's offsets are within 32 bits of its base.
fn relative(offset: Offset, base: Offset) -> i32 {
    i32::try_from(offset - base).unwrap_or(i32::MAX)
}

fn source(log: &esker_storage::Log, base: Offset) -> Result<SegmentSource, TierError> {
    let export = log.export(base)?.ok_or(TierError::Moved)?;
    let export = Arc::new(export);
    let reading = Arc::clone(&export);
    Ok(SegmentSource {
        base: export.base,
        end: export.end,
        bytes: export.bytes,
        max_timestamp: export.max_timestamp,
        read: Arc::new(move |position, length| reading.read_at(position, length)),
        offset_index: export
            .offset_index
            .iter()
            .map(|(offset, position)| (relative(*offset, export.base), *position as i32))
            .collect(),
        time_index: export
            .time_index
            .iter()
            .map(|(timestamp, offset)| (timestamp.0, relative(*offset, export.base)))
            .collect(),
        aborted: export
            .aborted
            .iter()
            .map(|aborted| AbortedTransaction {
                first_offset: aborted.first_offset,
                producer_id: aborted.producer_id,
                last_offset: aborted.last_offset,
                last_stable_offset: aborted.last_stable_offset,
            })
            .collect(),
        epochs: export.epochs.clone(),
        producer_snapshot: export
            .producers
            .entries
            .iter()
            .map(tiered_producer)
            .collect(),
        // No transaction can be open: none is served.
        open_transactions: Vec::new(),
    })
}

/// Drops local copies that the tier has: those that local retention has passed, or, near the
/// reserve, all of them, oldest first.
pub async fn apply_local_retention(
    shared: &Arc<Shared>,
    partition: &Arc<Partition>,
    near_reserve: bool,
) {
    let Some(pointer) = partition.tier.pointer() else {
        return;
    };
    // A bucket that may be another cluster's does not have what goes here.
    if !near_reserve && !shared.tiering.is_ours() {
        return;
    }
    let config = partition.config();
    let limits = limits(config.local_retention_ms, config.local_retention_bytes);
    let segments = partition.log.segments();
    let wanted = if near_reserve {
        Some(pointer.local_floor)
    } else {
        local::local_start(
            &segments,
            limits,
            shared.environment.now(),
            pointer.local_floor,
        )
    };
    // What the log start has passed is wanted by nobody, whatever local retention says.
    let passed = pointer.log_start.min(pointer.local_floor);
    let floor = Some(wanted.map_or(passed, |wanted| wanted.max(passed)));
    let Some(floor) = floor.filter(|floor| *floor > partition.log.local_start_offset()) else {
        return;
    };
    // P7: below the floor a replica deletes only while its log agrees with the tier.
    let agrees = partition.log.epoch_at(pointer.tier_end + -1) == Some(pointer.tier_end_epoch)
        || floor <= pointer.log_start;
    if !agrees {
        return;
    }
    let log = Arc::clone(&partition.log);
    let deleted = shared
        .environment
        .run(Work::Blocking, move || log.delete_local_below(floor));
    match deleted.await {
        Ok(segments) => {
            shared
                .metrics
                .deleted_locally(segments.iter().map(|segment| segment.bytes).sum());
        }
        Err(error) => {
            warn!(topic = %partition.topic, partition = partition.index, %error, "local copies stay");
        }
    }
}

/// Moves log start past what retention has expired in either tier, then drops local copies. What
/// the log start has passed is collected later.
pub async fn apply_retention(shared: &Arc<Shared>, partition: &Arc<Partition>) {
    if let Err(error) = advance_log_start(shared, partition).await {
        warn!(topic = %partition.topic, partition = partition.index, %error, "retention failed");
    }
    apply_local_retention(shared, partition, false).await;
}

async fn advance_log_start(
    shared: &Arc<Shared>,
    partition: &Arc<Partition>,
) -> Result<(), TierError> {
    let Some(epoch) = partition.leading() else {
        return Ok(());
    };
    let image = shared.image();
    let Some(topic) = image.topic(&partition.topic) else {
        return Ok(());
    };
    if topic.value.topic_id != partition.topic_id {
        return Ok(());
    }
    let settings = configs::settings(shared, &image);
    let config = crate::config::topic::TopicConfig::new(&topic.value.configs, settings.merged());
    if config.retention_ms < 0 && config.retention_bytes < 0 {
        return Ok(());
    }
    let Some(pointer) = partition.tier.pointer() else {
        // Nothing is tiered yet: a claim makes the key that log start lives in.
        let oldest = partition.log.segments().first().cloned();
        if oldest.is_some_and(|segment| segment.sealed) {
            claim(shared, partition, epoch).await?;
        }
        return Ok(());
    };
    let start = shared
        .tiering
        .log_start_after_retention(shared, partition, &pointer, &config)
        .await?;
    if start <= pointer.log_start {
        return Ok(());
    }
    let fence = Fence::Settings(topic.revision, Arc::clone(&image));
    commit_log_start(shared, partition, epoch, start, fence).await?;
    let log = Arc::clone(&partition.log);
    shared
        .environment
        .run(Work::Blocking, move || log.advance_start(start))
        .await?;
    info!(topic = %partition.topic, partition = partition.index, log_start_offset = %start, "retention");
    Ok(())
}

/// Tries of a deletion of records whose tier key moves meanwhile: uploads move it too.
const DELETIONS_MAX: usize = 16;

/// Moves the log start to `to`, for good: first in the tier key, if the partition has one, then in
/// the local log, durably (P7). Returns where the log starts then.
///
/// # Errors
/// The key or the log cannot be written; the log start may have moved all the same.
pub async fn delete_records(
    shared: &Arc<Shared>,
    partition: &Arc<Partition>,
    to: Offset,
) -> Result<Offset, TierError> {
    for _ in 0..DELETIONS_MAX {
        let epoch = partition.leading().ok_or(TierError::Moved)?;
        if let Some(pointer) = partition.tier.pointer()
            && pointer.log_start < to
        {
            match commit_log_start(shared, partition, epoch, to, Fence::Claimed).await {
                Ok(()) => {}
                Err(TierError::Moved) => continue,
                Err(error) => return Err(error),
            }
        }
        let log = Arc::clone(&partition.log);
        let advanced = shared
            .environment
            .run(Work::Blocking, move || log.advance_start_durably(to));
        advanced.await?;
        // A key that was made meanwhile began with the old start.
        if partition.tier.log_start().is_none_or(|start| start >= to) {
            return Ok(partition.start_offset());
        }
    }
    Err(TierError::Moved)
}

/// Commits a log start to the tier key, which this leader claims first.
async fn commit_log_start(
    shared: &Shared,
    partition: &Partition,
    epoch: LeaderEpoch,
    start: Offset,
    fence: Fence,
) -> Result<(), TierError> {
    let known = claim(shared, partition, epoch).await?;
    let pointer = &known.pointer;
    let before = |offset: Offset| {
        partition
            .log
            .epoch_at(offset + -1)
            .unwrap_or(pointer.tier_end_epoch)
    };
    let batch = batch_base(partition, start)?.map(|base| BatchBefore {
        base,
        epoch_before: before(base),
    });
    let next = pointer::advance_log_start(pointer, start, batch, before(start));
    put(shared, partition, Some(&known), next, fence).await
}

#[cfg(test)]
mod tests;
