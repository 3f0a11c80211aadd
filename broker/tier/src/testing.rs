//! What the tests of this crate share: a log in memory, and a tier around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use esker_protocol::records::{BatchBuilder, BatchHeader, BatchOptions, Batches};
use esker_protocol::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, TopicId};
use futures::future::BoxFuture;
use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::fault::FaultStore;
use crate::layout::Partition;
use crate::pointer::{LogFacts, Pointer, claim};
use crate::pool::{Inline, Spawner};
use crate::read::{ReadConfig, Reader};
use crate::remote::Random;
use crate::source::{AbortedTransaction, ProducerEntry, SegmentSource};
use crate::upload::{Commit, Progress, Request, UploadConfig, Uploader};

pub(crate) const EPOCH: LeaderEpoch = LeaderEpoch(7);

pub(crate) fn partition() -> Partition {
    Partition {
        cluster_id: "clusterclusterclustere".into(),
        incarnation: 1,
        topic_id: TopicId([0xab; 16]),
        partition: 3,
    }
}

/// Numbers that repeat from run to run.
pub(crate) fn random(seed: u64) -> Random {
    let state = AtomicU64::new(seed);
    Arc::new(move || {
        let mix = || {
            let mut z = state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            u128::from(z ^ (z >> 31))
        };
        (mix() << 64) | mix()
    })
}

#[derive(Debug)]
pub(crate) struct TokioSpawner;

impl Spawner for TokioSpawner {
    #[expect(clippy::disallowed_methods, reason = "this is the spawner of tests")]
    fn spawn(&self, future: BoxFuture<'static, ()>) {
        tokio::spawn(future);
    }
}

/// A segment in memory.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) base: Offset,
    pub(crate) end: Offset,
    pub(crate) bytes: Bytes,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) epochs: Vec<(LeaderEpoch, Offset)>,
    pub(crate) aborted: Vec<AbortedTransaction>,
    pub(crate) offset_index: Vec<(i32, i32)>,
}

/// What to make a batch of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchPlan {
    pub(crate) records: usize,
    pub(crate) value_bytes: usize,
    pub(crate) timestamp: i64,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) noise: bool,
}

impl BatchPlan {
    pub(crate) fn small(timestamp: i64) -> BatchPlan {
        BatchPlan {
            records: 3,
            value_bytes: 40,
            timestamp,
            epoch: EPOCH,
            noise: false,
        }
    }
}

/// One batch at `base`; with `noise` its values do not compress.
pub(crate) fn batch(base: Offset, plan: BatchPlan, random: &Random) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        base_offset: base,
        leader_epoch: plan.epoch,
        producer_id: ProducerId(5),
        producer_epoch: ProducerEpoch(0),
        base_sequence: 0,
        ..BatchOptions::default()
    });
    for number in 0..plan.records {
        let mut value = Vec::with_capacity(plan.value_bytes + 16);
        while value.len() < plan.value_bytes {
            if plan.noise {
                value.extend_from_slice(&random().to_le_bytes());
            } else {
                value.extend_from_slice(format!("{{\"offset\":{}}}", base.0).as_bytes());
            }
        }
        value.truncate(plan.value_bytes);
        let key = format!("key-{number}");
        let timestamp = Timestamp(plan.timestamp + number as i64);
        builder
            .append(timestamp, Some(key.as_bytes()), Some(&value), &[])
            .expect("the batch is small");
    }
    builder.build().expect("the batch has records")
}

pub(crate) fn segment(base: Offset, plans: &[BatchPlan], random: &Random) -> Segment {
    let mut bytes = Vec::new();
    let mut end = base;
    let mut epochs: Vec<(LeaderEpoch, Offset)> = Vec::new();
    let mut max_timestamp = Timestamp::NONE;
    let mut offset_index = Vec::new();
    for plan in plans {
        if epochs.last().is_none_or(|(epoch, _)| *epoch != plan.epoch) {
            epochs.push((plan.epoch, end));
        }
        let batch = batch(end, *plan, random);
        let header = BatchHeader::parse(&batch).expect("it was just built");
        let last = i32::try_from(header.last_offset() - base).expect("tests are short");
        offset_index.push((last, i32::try_from(bytes.len()).expect("tests are short")));
        max_timestamp = max_timestamp.max(header.max_timestamp);
        end = header.next_offset();
        bytes.extend_from_slice(&batch);
    }
    let aborted = Vec::new();
    Segment {
        base,
        end,
        bytes: bytes.into(),
        max_timestamp,
        epochs,
        aborted,
        offset_index,
    }
}

impl Segment {
    pub(crate) fn source(&self) -> SegmentSource {
        let bytes = self.bytes.clone();
        SegmentSource {
            base: self.base,
            end: self.end,
            bytes: bytes.len() as u64,
            max_timestamp: self.max_timestamp,
            read: Arc::new(move |position, len| {
                let start = usize::try_from(position)
                    .expect("tests are short")
                    .min(bytes.len());
                // Short reads happen; the encoder must not mind.
                let len = if position % 3 == 1 {
                    len.min(1000)
                } else {
                    len
                };
                Ok(bytes.slice(start..(start + len).min(bytes.len())))
            }),
            offset_index: self.offset_index.clone(),
            time_index: vec![(self.max_timestamp.0, 0)],
            aborted: self.aborted.clone(),
            epochs: self.epochs.clone(),
            producer_snapshot: vec![ProducerEntry {
                producer_id: ProducerId(5),
                producer_epoch: ProducerEpoch(0),
                last_sequence: 2,
                last_offset: Offset(self.end.0 - 1),
                offset_delta: 2,
                timestamp: self.max_timestamp,
                coordinator_epoch: -1,
                current_txn_first_offset: Offset(-1),
            }],
            open_transactions: Vec::new(),
        }
    }

    /// The segment from the batch at `offset` on.
    pub(crate) fn cut_at(&self, offset: Offset) -> Segment {
        let mut rest = &self.bytes[..];
        for batch in Batches::new(&self.bytes) {
            let batch = batch.expect("segments hold batches");
            if batch.header().base_offset == offset {
                break;
            }
            rest = &rest[batch.bytes().len()..];
        }
        let epochs = crate::manifest::clip_epochs(self.epochs.clone(), offset);
        let bytes = self.bytes.slice_ref(rest);
        Segment {
            base: offset,
            bytes,
            epochs,
            offset_index: Vec::new(),
            ..self.clone()
        }
    }
}

/// Segments that touch, `batches` small batches each, timestamps rising by 10 a batch.
pub(crate) fn segments(base: Offset, count: usize, batches: usize) -> Vec<Segment> {
    let random = random(base.0 as u64 + 1);
    let mut all = Vec::new();
    let mut next = base;
    for number in 0..count {
        let first = (number * batches) as i64;
        let plans: Vec<_> = (0..batches as i64)
            .map(|n| BatchPlan::small(1000 + 10 * (first + n)))
            .collect();
        let segment = segment(next, &plans, &random);
        next = segment.end;
        all.push(segment);
    }
    all
}

/// A tier in memory whose pointer is committed as a leader would.
#[derive(Debug)]
pub(crate) struct Tier {
    pub(crate) faults: FaultStore,
    pub(crate) inner: Arc<dyn ObjectStore>,
    pub(crate) uploader: Uploader,
    pub(crate) reader: Reader,
    pub(crate) pointer: Pointer,
    pub(crate) log: Vec<Segment>,
}

impl Tier {
    pub(crate) fn new(upload: UploadConfig, read: &ReadConfig) -> Tier {
        let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let faults = FaultStore::new(Arc::clone(&inner));
        let store: Arc<dyn ObjectStore> = Arc::new(faults.clone());
        let spawner = Arc::new(TokioSpawner);
        let threads = Arc::new(Inline);
        let uploader = Uploader::new(
            Arc::clone(&store),
            threads,
            spawner.clone(),
            random(1),
            upload,
        );
        let reader = Reader::new(store, Arc::new(Inline), spawner, random(2), read);
        let log = LogFacts {
            log_start: Offset::ZERO,
            log_start_batch: None,
            epoch_before: LeaderEpoch::NONE,
        };
        let pointer = claim(None, &log, EPOCH).expect("nobody holds it");
        Tier {
            faults,
            inner,
            uploader,
            reader,
            pointer,
            log: Vec::new(),
        }
    }

    pub(crate) fn plain() -> Tier {
        Tier::new(UploadConfig::default(), &ReadConfig::default())
    }

    /// Uploads and commits segments.
    pub(crate) async fn offload(&mut self, segments: &[Segment]) -> Commit {
        let commit = self.upload(segments).await;
        self.pointer = commit
            .rebase(&self.pointer)
            .expect("nothing moved meanwhile");
        self.uploader.committed(&commit);
        self.log.extend_from_slice(segments);
        commit
    }

    pub(crate) async fn upload(&self, segments: &[Segment]) -> Commit {
        let sources = segments.iter().map(Segment::source).collect();
        let now = Timestamp(1_000_000 + self.pointer.version as i64);
        self.uploader
            .upload(Request {
                partition: &partition(),
                epoch: EPOCH,
                sources,
                previous: &self.pointer,
                previous_manifest: None,
                now,
                progress: &Progress::default(),
            })
            .await
            .expect("the store works in the end")
    }

    /// What the log holds from the batch of `offset` on.
    pub(crate) fn expected(&self, offset: Offset) -> Vec<u8> {
        let mut all = Vec::new();
        for segment in &self.log {
            for batch in Batches::new(&segment.bytes) {
                let batch = batch.expect("segments hold batches");
                if batch.header().next_offset() > offset {
                    all.extend_from_slice(batch.bytes());
                }
            }
        }
        all
    }

    /// Reads everything from `offset` on.
    pub(crate) async fn read_all(&self, offset: Offset, bytes_max: usize) -> Vec<u8> {
        let mut all = Vec::new();
        let mut next = offset;
        while next < self.pointer.tier_end {
            let read = self
                .reader
                .read(&partition(), &self.pointer, next, bytes_max, true)
                .await
                .expect("the tier is whole");
            assert!(read.next > next, "a read at {next} goes nowhere");
            read.bytes
                .iter()
                .for_each(|bytes| all.extend_from_slice(bytes));
            next = read.next;
        }
        all
    }
}

/// Whether `names` in the store match what a test expects.
pub(crate) async fn listed(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    let remote = crate::remote::Remote::new(Arc::clone(store));
    let listed = remote.list(None).await.expect("memory lists");
    listed
        .into_iter()
        .map(|(path, _)| path.to_string())
        .collect()
}

/// Compares with a golden file, or writes it where `UPDATE_GOLDEN=1`; gives the file's bytes.
#[expect(clippy::disallowed_methods, reason = "golden files are files")]
pub(crate) fn golden(name: &str, made: &[u8]) -> Vec<u8> {
    // Cargo runs tests in the folder of their package; what was compiled elsewhere is not asked.
    let path = std::path::Path::new("testdata/golden/v1").join(name);
    if std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1") {
        std::fs::write(&path, made).expect("the folder is there");
    }
    std::fs::read(&path).expect("golden files are committed")
}
