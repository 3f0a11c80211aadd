//! What all reads share: caches, flights, and the background work that fills them.
//!
//! A flight is one download that everyone who wants it waits for. It runs as a task of its own, so a
//! reader that gives up does not end it: the next one finds it done.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared as SharedFuture};
use object_store::path::Path;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::sleep;

use super::ahead::Readers;
use super::cache::Cache;
use super::{ReadConfig, ReadError};
use crate::layout::{self, Partition, Uuid};
use crate::manifest::{self, Entry, Head, Page, PageRef};
use crate::object::{self, Frame, FrameAt, Index, decode_frame};
use crate::pointer::Pointer;
use crate::pool::{CpuPool, Spawner, Stopped, on_cpu};
use crate::remote::{Backoff, METADATA_BYTES_MAX, Random, Remote, RequestError};

/// Tries of one GET while the store fails, before its readers are told.
const TRIES_MAX: usize = 3;
/// Waits between them grow up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// One GET takes up to this many bytes of frames, before and after decompression.
const RUN_BYTES_MAX: u64 = 4 << 20;
/// GETs that someone waits for, at once: with [`RUN_BYTES_MAX`] it bounds their memory.
const GETS_IN_FLIGHT_MAX: usize = 8;
/// GETs of read-ahead at once, beside those: catch-up never waits for speculation.
const AHEAD_GETS_IN_FLIGHT_MAX: usize = 4;

/// Something immutable that reads need before they can read.
#[derive(Debug, Clone)]
pub(super) enum Metadata {
    Head(Arc<Head>, u32),
    Page(Arc<Page>, u32),
    Index(Arc<Index>),
}

/// What the metadata cache goes by: names are unique, and what they name is immutable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MetadataKey {
    Manifest(String),
    Index(Uuid),
}

pub(super) type FrameKey = (Uuid, usize);
pub(super) type Flight<T> = SharedFuture<BoxFuture<'static, Result<T, ReadError>>>;
/// The frames of one GET, from the first one's number on.
pub(super) type Run = (usize, Arc<Vec<Arc<Frame>>>);

/// A frame that is here, or on its way.
pub(super) enum Pending {
    Ready(Arc<Frame>),
    Flight(Flight<Run>, usize),
}

impl Pending {
    pub(super) async fn wait(self) -> Result<Arc<Frame>, ReadError> {
        match self {
            Pending::Ready(frame) => Ok(frame),
            Pending::Flight(flight, number) => {
                let (first, frames) = flight.await?;
                let frame = number
                    .checked_sub(first)
                    .and_then(|place| frames.get(place));
                frame.cloned().ok_or(ReadError::Stopped)
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) metadata: Cache<MetadataKey, Metadata>,
    pub(super) frames: Cache<FrameKey, Arc<Frame>>,
    pub(super) readers: Readers,
    metadata_flights: BTreeMap<MetadataKey, Flight<Metadata>>,
    frame_flights: BTreeMap<FrameKey, Flight<Run>>,
}

impl State {
    /// Whether a frame is cached or on its way.
    pub(super) fn has_frame(&self, key: &FrameKey) -> bool {
        self.frames.contains(key) || self.frame_flights.contains_key(key)
    }
}

pub(super) struct Shared {
    pub(super) remote: Remote,
    cpu: Arc<dyn CpuPool>,
    spawner: Arc<dyn Spawner>,
    random: Random,
    state: Mutex<State>,
    gets: Semaphore,
    ahead_gets: Semaphore,
}

/// Ends a flight on every way out of its task, the spawner's shutdown included.
struct Landing<F: FnMut()>(F);

impl<F: FnMut()> Drop for Landing<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl Shared {
    pub(super) fn new(
        remote: Remote,
        cpu: Arc<dyn CpuPool>,
        spawner: Arc<dyn Spawner>,
        random: Random,
        config: &ReadConfig,
    ) -> Shared {
        let state = State {
            metadata: Cache::new(config.metadata_bytes_max),
            frames: Cache::new(config.frame_bytes_max),
            readers: Readers::new(config.read_ahead_bytes_max),
            metadata_flights: BTreeMap::new(),
            frame_flights: BTreeMap::new(),
        };
        Shared {
            remote,
            cpu,
            spawner,
            random,
            state: Mutex::new(state),
            gets: Semaphore::new(GETS_IN_FLIGHT_MAX),
            ahead_gets: Semaphore::new(AHEAD_GETS_IN_FLIGHT_MAX),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that changes the state panics in between; a cache is right at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cpu(&self) -> &dyn CpuPool {
        &*self.cpu
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawner.spawn(task.boxed());
    }

    /// The head that a pointer names; none before the first commit.
    pub(super) async fn head(
        self: &Arc<Self>,
        partition: &Partition,
        pointer: &Pointer,
    ) -> Result<Option<Arc<Head>>, ReadError> {
        let Some(name) = &pointer.manifest else {
            return Ok(None);
        };
        let path = layout::manifest(partition, name);
        let key = MetadataKey::Manifest(path.to_string());
        let (topic_id, number) = (partition.topic_id, partition.partition);
        let loaded = self
            .metadata(key.clone(), path, |bytes, path| {
                let (head, checksum) =
                    manifest::decode_head(bytes).map_err(|error| damaged(path, error))?;
                Ok((Metadata::Head(Arc::new(head), checksum), bytes.len() * 2))
            })
            .await?;
        match loaded {
            Metadata::Head(head, checksum)
                if checksum == pointer.checksum
                    && head.topic_id == topic_id
                    && head.partition == number =>
            {
                Ok(Some(head))
            }
            _ => {
                self.lock().metadata.remove(&key);
                Err(ReadError::Moved(format!(
                    "{name} is not the manifest that was committed"
                )))
            }
        }
    }

    /// A page that a head names.
    pub(super) async fn page(
        self: &Arc<Self>,
        partition: &Partition,
        page_ref: &PageRef,
    ) -> Result<Arc<Page>, ReadError> {
        let path = layout::manifest(partition, &page_ref.name);
        let key = MetadataKey::Manifest(path.to_string());
        let loaded = self
            .metadata(key.clone(), path, |bytes, path| {
                let (page, checksum) =
                    manifest::decode_page(bytes).map_err(|error| damaged(path, error))?;
                Ok((Metadata::Page(Arc::new(page), checksum), bytes.len() * 2))
            })
            .await?;
        match loaded {
            Metadata::Page(page, checksum) if checksum == page_ref.checksum => Ok(page),
            _ => {
                self.lock().metadata.remove(&key);
                Err(ReadError::Moved(format!(
                    "{} is not the page of its head",
                    page_ref.name
                )))
            }
        }
    }

    /// A manifest file, from the cache or by a flight.
    async fn metadata(
        self: &Arc<Self>,
        key: MetadataKey,
        path: Path,
        decode: impl FnOnce(&[u8], &Path) -> Result<(Metadata, usize), ReadError> + Send + 'static,
    ) -> Result<Metadata, ReadError> {
        let shared = Arc::clone(self);
        self.metadata_flight(key, async move {
            let bytes = shared.with_tries(|| shared.remote.whole(&path)).await?;
            on_cpu(&*shared.cpu, move || decode(&bytes, &path)).await?
        })
        .await
    }

    /// The index of an object, without what only a new leader needs.
    pub(super) async fn index(
        self: &Arc<Self>,
        partition: &Partition,
        entry: &Entry,
    ) -> Result<Arc<Index>, ReadError> {
        let shared = Arc::clone(self);
        let (place, entry_of) = (partition.clone(), entry.clone());
        let loaded = self
            .metadata_flight(MetadataKey::Index(entry.uuid), async move {
                let index = shared
                    .whole_index(&place, &entry_of)
                    .await?
                    .without_local_indexes();
                let bytes = index.memory_bytes();
                Ok((Metadata::Index(Arc::new(index)), bytes))
            })
            .await?;
        match loaded {
            Metadata::Index(index) => Ok(index),
            _ => Err(ReadError::Stopped),
        }
    }

    /// The whole index of an object, uncached.
    pub(super) async fn whole_index(
        &self,
        partition: &Partition,
        entry: &Entry,
    ) -> Result<Index, ReadError> {
        let path = layout::object(partition, &entry.name());
        let length = entry.object_bytes.saturating_sub(entry.index_position);
        if length > METADATA_BYTES_MAX {
            return Err(ReadError::Corrupt(format!(
                "{path} claims an index of {length} bytes"
            )));
        }
        let range = entry.index_position..entry.object_bytes;
        let tail = self
            .with_tries(|| self.remote.range(&path, range.clone()))
            .await?;
        let (position, name) = (entry.index_position, entry.name());
        let (topic_id, number) = (partition.topic_id, partition.partition);
        on_cpu(&*self.cpu, move || {
            let index =
                object::open_tail(&tail, position).map_err(|error| damaged(&path, error))?;
            let same = (index.base, index.end) == (name.base, name.end)
                && (index.topic_id, index.partition) == (topic_id, number);
            if same {
                Ok(index)
            } else {
                Err(damaged(&path, "its index is another object's"))
            }
        })
        .await?
    }

    async fn metadata_flight(
        self: &Arc<Self>,
        key: MetadataKey,
        load: impl Future<Output = Result<(Metadata, usize), ReadError>> + Send + 'static,
    ) -> Result<Metadata, ReadError> {
        let flight = {
            let mut state = self.lock();
            if let Some(found) = state.metadata.get(&key) {
                return Ok(found);
            }
            match state.metadata_flights.get(&key) {
                Some(flight) => flight.clone(),
                None => {
                    let (land, flight) = new_flight();
                    state.metadata_flights.insert(key.clone(), flight.clone());
                    drop(state);
                    self.fly_metadata(key, land, load);
                    flight
                }
            }
        };
        flight.await
    }

    fn fly_metadata(
        self: &Arc<Self>,
        key: MetadataKey,
        land: oneshot::Sender<Result<Metadata, ReadError>>,
        load: impl Future<Output = Result<(Metadata, usize), ReadError>> + Send + 'static,
    ) {
        let shared = Arc::clone(self);
        let landing = Landing({
            let (shared, key) = (Arc::clone(self), key.clone());
            move || drop(shared.lock().metadata_flights.remove(&key))
        });
        self.spawn(async move {
            let loaded = load.await.map(|(metadata, bytes)| {
                shared.lock().metadata.insert(key, metadata.clone(), bytes);
                metadata
            });
            drop(landing);
            // Whoever waited may be gone.
            let _ = land.send(loaded);
        });
    }

    /// Frames of an object by number: those at hand, and flights for the others.
    pub(super) fn frames(
        self: &Arc<Self>,
        partition: &Partition,
        entry: &Entry,
        index: &Index,
        numbers: std::ops::Range<usize>,
        ahead: bool,
    ) -> Vec<Pending> {
        let mut pending = Vec::with_capacity(numbers.len());
        let mut starts = Vec::new();
        let mut state = self.lock();
        let mut number = numbers.start;
        while number < numbers.end {
            let key = (entry.uuid, number);
            if let Some(frame) = state.frames.get(&key) {
                pending.push(Pending::Ready(frame));
                number += 1;
                continue;
            }
            if let Some(flight) = state.frame_flights.get(&key) {
                pending.push(Pending::Flight(flight.clone(), number));
                number += 1;
                continue;
            }
            let end = run_end(&state, entry.uuid, index, number..numbers.end);
            let (land, flight) = new_flight();
            for number in number..end {
                state
                    .frame_flights
                    .insert((entry.uuid, number), flight.clone());
                pending.push(Pending::Flight(flight.clone(), number));
            }
            starts.push((number..end, land));
            number = end;
        }
        drop(state);
        let path = layout::object(partition, &entry.name());
        for (numbers, land) in starts {
            let frames: Vec<FrameAt> = index.frames.get(numbers.clone()).unwrap_or_default().into();
            self.fly_frames(
                path.clone(),
                (entry.uuid, numbers.start),
                frames,
                ahead,
                land,
            );
        }
        pending
    }

    fn fly_frames(
        self: &Arc<Self>,
        path: Path,
        (uuid, first): FrameKey,
        frames: Vec<FrameAt>,
        ahead: bool,
        land: oneshot::Sender<Result<Run, ReadError>>,
    ) {
        let shared = Arc::clone(self);
        let count = frames.len();
        let landing = Landing({
            let shared = Arc::clone(self);
            move || {
                let mut state = shared.lock();
                for number in first..first + count {
                    state.frame_flights.remove(&(uuid, number));
                }
            }
        });
        self.spawn(async move {
            let permits = if ahead {
                &shared.ahead_gets
            } else {
                &shared.gets
            };
            let result = match permits.acquire().await {
                Ok(_permit) => shared.fetch_frames(&path, frames).await,
                Err(_) => Err(ReadError::Stopped),
            };
            let result = result.map(|frames| {
                let mut state = shared.lock();
                for (number, frame) in (first..).zip(&frames) {
                    let bytes = frame.memory_bytes();
                    state
                        .frames
                        .insert((uuid, number), Arc::clone(frame), bytes);
                }
                (first, Arc::new(frames))
            });
            if result.is_err() {
                // What led here may be the index's fault: the next try reads it again.
                shared.lock().metadata.remove(&MetadataKey::Index(uuid));
            }
            drop(landing);
            // Whoever waited may be gone; the frames are in the cache.
            let _ = land.send(result);
        });
    }

    async fn fetch_frames(
        &self,
        path: &Path,
        frames: Vec<FrameAt>,
    ) -> Result<Vec<Arc<Frame>>, ReadError> {
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
            return Ok(Vec::new());
        };
        let start = first.position;
        let range = start..last.position + u64::from(last.compressed_bytes);
        let bytes = self
            .with_tries(|| self.remote.range(path, range.clone()))
            .await?;
        let path = path.clone();
        on_cpu(&*self.cpu, move || {
            frames
                .iter()
                .map(|at| decode(&bytes, start, at, &path))
                .collect()
        })
        .await?
    }

    async fn with_tries<T, F>(&self, request: impl Fn() -> F) -> Result<T, ReadError>
    where
        F: Future<Output = Result<T, RequestError>>,
    {
        let mut backoff = Backoff::new(BACKOFF_MAX);
        for _ in 1..TRIES_MAX {
            match request().await {
                Ok(found) => return Ok(found),
                Err(error) if error.is_answer() => return Err(error.into()),
                Err(_) => sleep(backoff.step(&self.random)).await,
            }
        }
        Ok(request().await?)
    }
}

/// How far a run of missing frames may go: one GET's worth, and at least one frame.
fn run_end(state: &State, uuid: Uuid, index: &Index, numbers: std::ops::Range<usize>) -> usize {
    let mut compressed = 0_u64;
    let mut decompressed = 0_u64;
    let missing = |number: &usize| !state.has_frame(&(uuid, *number));
    let start = numbers.start;
    let within = numbers.take_while(missing).take_while(|number| {
        let Some(frame) = index.frames.get(*number) else {
            return false;
        };
        compressed += u64::from(frame.compressed_bytes);
        decompressed += u64::from(frame.bytes);
        compressed.max(decompressed) <= RUN_BYTES_MAX
    });
    start + within.count().max(1)
}

fn decode(bytes: &Bytes, start: u64, at: &FrameAt, path: &Path) -> Result<Arc<Frame>, ReadError> {
    let from = usize::try_from(at.position - start).unwrap_or(usize::MAX);
    let compressed = bytes.get(from..from.saturating_add(at.compressed_bytes as usize));
    let compressed = compressed.ok_or_else(|| damaged(path, "a frame lies outside its range"))?;
    decode_frame(compressed, at)
        .map(Arc::new)
        .map_err(|error| damaged(path, error))
}

fn damaged(path: &Path, error: impl std::fmt::Display) -> ReadError {
    ReadError::Moved(format!("{path}: {error}"))
}

fn new_flight<T: Clone + Send + Sync + 'static>()
-> (oneshot::Sender<Result<T, ReadError>>, Flight<T>) {
    let (land, landed) = oneshot::channel();
    let flight = landed
        .map(|result| result.unwrap_or(Err(ReadError::Stopped)))
        .boxed()
        .shared();
    (land, flight)
}

impl From<Stopped> for ReadError {
    fn from(_: Stopped) -> ReadError {
        ReadError::Stopped
    }
}

impl From<RequestError> for ReadError {
    fn from(error: RequestError) -> ReadError {
        if error.is_answer() {
            ReadError::Moved(error.to_string())
        } else {
            ReadError::Unavailable(error.to_string())
        }
    }
}
