//! The upload: objects and manifest, put and verified, up to the value that is to be committed.
//!
//! ```text
//! encode -> put object -> verify -> ... -> put page, if the head is full -> put head -> verify -> Commit
//! ```
//!
//! Nothing of it is visible until the caller has committed [`Commit::pointer`] by compare-and-swap.
//! Remote failures are retried for ever, with a new uuid each try; the caller owns the deadline and
//! cancels by dropping the future, at any moment; [`Progress`] tells a slow store from one that is away.
//! A PUT that was dropped or timed out may still happen: it stays pending, and only a PUT that is known
//! to have ended lets collection take its object. The parts of a multipart upload that was dropped are
//! aborted in the background.

mod progress;
mod puts;
mod unfinished;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use esker_protocol::{LeaderEpoch, Offset, Timestamp};
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, PutMultipartOptions, PutPayload};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tracing::warn;

use crate::layout::{self, ManifestKind, ManifestName, ObjectName, Partition};
use crate::manifest::{self, Entry, Head, ManifestError, Next, Page, PageRef};
use crate::object::{EncodeError, Encoded, Encoder};
use crate::plan;
use crate::pointer::{self, Fenced, Pointer};
use crate::pool::{CpuPool, Spawner, Stopped, on_cpu};
use crate::remote::{Backoff, Random, Remote, RequestError, Requests};
use crate::source::SegmentSource;
use crate::wire::{self, uuid_from};

pub use progress::Progress;
use puts::{Kept, Puts};
use unfinished::Unfinished;

/// Objects up to this many encoded bytes go in one PUT; larger ones in parts of this size. It is what
/// one upload holds in memory, and it keeps a GB below the budget of 75 write requests.
pub const PART_BYTES: usize = 64 << 20;
/// Uploads at once: with [`PART_BYTES`] it bounds their memory.
pub const UPLOADS_IN_FLIGHT_MAX: usize = 2;
/// Encoded bytes of one job on the CPU pool, so that other work gets its turn.
const JOB_BYTES: usize = 4 << 20;
/// Waits between tries grow up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// How an upload proves that the store holds what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// The start probe proved that the store refuses a PUT whose bytes do not match its checksum.
    StoreChecksum,
    /// The object is read back and compared.
    ReadBack,
}

/// How to upload.
#[derive(Debug, Clone)]
pub struct UploadConfig {
    /// Segments share an object up to this many bytes before compression.
    pub object_bytes_max: u64,
    /// Larger objects go in parts of this size.
    pub part_bytes: usize,
    /// How an upload is verified.
    pub verification: Verification,
}

impl Default for UploadConfig {
    fn default() -> UploadConfig {
        UploadConfig {
            object_bytes_max: plan::OffloadConfig::default().object_bytes_max,
            part_bytes: PART_BYTES,
            verification: Verification::ReadBack,
        }
    }
}

/// Why an upload gives up. A store that fails is no reason.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// A later leader holds the tier key.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The leader has not claimed the tier key yet (P7).
    #[error("leader epoch {given} has not claimed the tier, {claimed} holds it")]
    NotClaimed {
        /// The epoch that asked.
        given: LeaderEpoch,
        /// The epoch that holds the key.
        claimed: LeaderEpoch,
    },
    /// The sources do not start at the tier end.
    #[error("an upload starts at {base}, the tier ends at {tier_end}")]
    NotAtTierEnd {
        /// Where the first source starts.
        base: Offset,
        /// Where it should.
        tier_end: Offset,
    },
    /// The segments cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The manifest that the pointer names does not allow what is added.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest that the pointer names is gone or damaged: read the pointer again, linearisably.
    #[error("the manifest moved: {0}")]
    Moved(String),
    /// The process is shutting down.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl UploadError {
    /// Whether the same upload may work later without anyone's doing.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        matches!(
            self,
            UploadError::Moved(_) | UploadError::Encode(EncodeError::Read { .. })
        )
    }
}

/// What an upload made: commit `pointer`, then tell the uploader how that went.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The value to commit in place of the one that the upload was given.
    pub pointer: Pointer,
    /// The manifest that it names.
    pub head: Arc<Head>,
    /// The objects that it adds.
    pub objects: Vec<ObjectName>,
    /// Bytes of the objects that it adds.
    pub object_bytes: u64,
    /// Bytes of the segments that it adds.
    pub segment_bytes: u64,
    previous: Pointer,
    paths: Vec<Path>,
}

impl Commit {
    /// Everything that was put for it.
    #[must_use]
    pub fn paths(&self) -> &[Path] {
        &self.paths
    }

    /// The value to commit where the key has changed meanwhile: only a log start that moved, without
    /// passing the tier end, leaves this upload of use.
    #[must_use]
    pub fn rebase(&self, current: &Pointer) -> Option<Pointer> {
        let expected = Pointer {
            log_start: current.log_start,
            ..self.previous.clone()
        };
        let follows = *current == expected && current.log_start >= self.previous.log_start;
        follows.then(|| Pointer {
            log_start: current.log_start,
            ..self.pointer.clone()
        })
    }
}

/// What to upload.
#[derive(Debug)]
pub struct Request<'a> {
    /// Whose it is.
    pub partition: &'a Partition,
    /// The leader epoch that uploads, and has claimed the tier.
    pub epoch: LeaderEpoch,
    /// Segments that begin at the tier end and touch.
    pub sources: Vec<SegmentSource>,
    /// The pointer that they add to.
    pub previous: &'a Pointer,
    /// The manifest that it names, where the caller has it at hand.
    pub previous_manifest: Option<&'a Head>,
    /// What the manifest says of its time.
    pub now: Timestamp,
    /// Where it notes how far it has come.
    pub progress: &'a Progress,
}

/// Puts objects and manifests of all partitions.
#[derive(Debug)]
pub struct Uploader {
    remote: Remote,
    cpu: Arc<dyn CpuPool>,
    spawner: Arc<dyn Spawner>,
    random: DebugRandom,
    config: UploadConfig,
    in_flight: Semaphore,
    puts: Puts,
}

struct DebugRandom(Random);

impl std::fmt::Debug for DebugRandom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Random")
    }
}

/// Why one try did not work.
enum Failure {
    /// The store's: try again.
    Remote(RequestError),
    /// Not the store's.
    Fatal(UploadError),
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Failure {
        Failure::Remote(error)
    }
}

impl From<UploadError> for Failure {
    fn from(error: UploadError) -> Failure {
        Failure::Fatal(error)
    }
}

impl Uploader {
    /// An uploader to `store`, which carries the bucket's prefix.
    #[must_use]
    pub fn new(
        store: Arc<dyn ObjectStore>,
        cpu: Arc<dyn CpuPool>,
        spawner: Arc<dyn Spawner>,
        random: Random,
        config: UploadConfig,
    ) -> Uploader {
        Uploader {
            remote: Remote::new(store),
            cpu,
            spawner,
            random: DebugRandom(random),
            config,
            in_flight: Semaphore::new(UPLOADS_IN_FLIGHT_MAX),
            puts: Puts::default(),
        }
    }

    /// What was asked of the store so far.
    #[must_use]
    pub fn requests(&self) -> &Arc<Requests> {
        &self.remote.requests
    }

    /// Uploads segments as one or more objects, and the manifest that adds them to what the previous
    /// pointer names. Nothing is visible until the answer's pointer is committed.
    ///
    /// Dropping the future cancels the upload safely, wherever it waits: what has been put and was
    /// answered is in [`Uploader::ended_puts`] then, a PUT without an answer in
    /// [`Uploader::pending_puts`]. Work on the CPU pool goes on to the end of its job.
    ///
    /// # Errors
    /// [`UploadError`]; remote failures are retried until the caller drops the future.
    pub async fn upload(&self, request: Request<'_>) -> Result<Commit, UploadError> {
        check(request.epoch, &request.sources, request.previous)?;
        let progress = request.progress;
        progress.queue();
        let _permit = self.in_flight.acquire().await.map_err(|_| Stopped)?;
        progress.start();
        let head = self.previous_head(&request).await?;
        progress.finish();
        let bytes_max = self.config.object_bytes_max;
        let mut added = Vec::new();
        let mut kept = self.puts.kept();
        for bundle in plan::bundle(&request.sources, bytes_max, |source| source.bytes) {
            let (name, encoded) = self.put_object(&request, bundle).await?;
            progress.finish();
            kept.push(layout::object(request.partition, &name));
            added.push(entry(name, encoded, request.now));
        }
        let objects = added.iter().map(Entry::name).collect();
        let object_bytes = added.iter().map(|entry| entry.object_bytes).sum();
        let segment_bytes = added.iter().map(|entry| entry.segment_bytes).sum();
        let next = manifest::next(head.as_ref(), request.previous, added)?;
        let (pointer, head) = self.put_manifest(&request, next, &mut kept).await?;
        let paths = kept.into_paths();
        Ok(Commit {
            pointer,
            head: Arc::new(head),
            objects,
            object_bytes,
            segment_bytes,
            previous: request.previous.clone(),
            paths,
        })
    }

    /// The commit is done: its objects and manifest are the log's now.
    pub fn committed(&self, commit: &Commit) {
        self.puts.forget(&commit.paths);
        let place = (commit.head.topic_id, commit.head.partition);
        self.puts.outlive(place, commit.pointer.claimed_epoch);
    }

    /// The commit is refused for good: what was put for it has ended, and no manifest will name it.
    /// Never say so of a commit whose outcome is not known.
    pub fn abandoned(&self, commit: &Commit) {
        self.puts.give_up(&commit.paths);
    }

    /// Paths whose PUT is known to have ended and that no commit of this process will name: what
    /// collection may take before the leader epoch moves on (P7).
    #[must_use]
    pub fn ended_puts(&self) -> BTreeSet<Path> {
        self.puts.ended()
    }

    /// Paths that this process has put or is putting and may still commit, whose commit's outcome is
    /// not known, or whose PUT may still happen though nobody waits for it: they count as named by a
    /// pending manifest.
    #[must_use]
    pub fn pending_puts(&self) -> BTreeSet<Path> {
        self.puts.pending()
    }

    /// What became of a commit whose outcome was not known, by a pointer that was read linearisably
    /// *after* another transaction on the key has ended it (P1).
    pub fn resolve(&self, commit: &Commit, pointer: &Pointer) {
        if pointer.version >= commit.pointer.version && pointer.manifest == commit.pointer.manifest
        {
            self.committed(commit);
        } else {
            self.abandoned(commit);
        }
    }

    /// Collection has deleted these.
    pub fn forget_puts(&self, paths: &[Path]) {
        self.puts.forget(paths);
    }

    async fn previous_head(&self, request: &Request<'_>) -> Result<Option<Head>, UploadError> {
        let Request {
            partition,
            previous,
            ..
        } = *request;
        let Some(name) = &previous.manifest else {
            return Ok(None);
        };
        // Two leaders may have written the same version: only its checksum tells which one this is.
        let is_committed = |head: &&Head| manifest::encode_head(head).1 == previous.checksum;
        if let Some(head) = request.previous_manifest.filter(is_committed) {
            return Ok(Some(head.clone()));
        }
        let path = layout::manifest(partition, name);
        let bytes = self.get(&path).await?;
        let (head, checksum) = manifest::decode_head(&bytes).map_err(moved)?;
        if checksum != previous.checksum {
            return Err(UploadError::Moved(format!(
                "{path} is not the one that was committed"
            )));
        }
        Ok(Some(head))
    }

    /// A small object; a store that fails is asked again, one that answers is believed.
    async fn get(&self, path: &Path) -> Result<Bytes, UploadError> {
        let mut backoff = Backoff::new(BACKOFF_MAX);
        loop {
            match self.remote.whole(path).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) if error.is_answer() => return Err(moved(error)),
                Err(error) => self.wait(&mut backoff, &error).await,
            }
        }
    }

    async fn wait(&self, backoff: &mut Backoff, error: &RequestError) {
        let wait = backoff.step(&self.random.0);
        warn!(%error, wait_ms = wait.as_millis() as u64, "upload step failed, trying again");
        sleep(wait).await;
    }

    /// Puts and verifies one object, trying for ever.
    async fn put_object(
        &self,
        request: &Request<'_>,
        sources: Vec<SegmentSource>,
    ) -> Result<(ObjectName, Encoded), UploadError> {
        let mut backoff = Backoff::new(BACKOFF_MAX);
        loop {
            let mut encoding = Encoding::new(request.partition, request.epoch, sources.clone())?;
            encoding.fill(&*self.cpu, self.config.part_bytes).await?;
            let tried = match &encoding.encoded {
                // A small object keeps its bytes: another try needs no other encoding.
                Some(encoded) => {
                    let encoded = encoded.clone();
                    let pieces = std::mem::take(&mut encoding.pieces);
                    return self.put_small(request, encoded, pieces).await;
                }
                None => self.try_large(request, encoding).await,
            };
            match tried {
                Ok(done) => return Ok(done),
                Err(Failure::Fatal(error)) => return Err(error),
                Err(Failure::Remote(error)) => self.wait(&mut backoff, &error).await,
            }
        }
    }

    async fn put_small(
        &self,
        request: &Request<'_>,
        encoded: Encoded,
        pieces: Vec<Bytes>,
    ) -> Result<(ObjectName, Encoded), UploadError> {
        let payload = PutPayload::from_iter(pieces);
        let mut backoff = Backoff::new(BACKOFF_MAX);
        loop {
            let name = self.object_name(&encoded, request.epoch);
            let path = layout::object(request.partition, &name);
            match self
                .put_verified(&path, payload.clone(), encoded.checksum, request.progress)
                .await
            {
                Ok(()) => return Ok((name, encoded)),
                Err(error) => self.wait(&mut backoff, &error).await,
            }
        }
    }

    fn object_name(&self, encoded: &Encoded, leader_epoch: LeaderEpoch) -> ObjectName {
        let uuid = uuid_from((self.random.0)());
        ObjectName {
            base: encoded.base,
            end: encoded.end,
            leader_epoch,
            uuid,
        }
    }

    /// One try of an object that does not fit into one part.
    async fn try_large(
        &self,
        request: &Request<'_>,
        mut encoding: Encoding,
    ) -> Result<(ObjectName, Encoded), Failure> {
        let uuid = uuid_from((self.random.0)());
        let name = ObjectName {
            base: encoding.base,
            end: encoding.end,
            leader_epoch: request.epoch,
            uuid,
        };
        let path = layout::object(request.partition, &name);
        let mut put = self.puts.begin(&path);
        let start = self
            .store()
            .put_multipart_opts(&path, PutMultipartOptions::default());
        let upload = self.remote.part(&path, 0, start).await?;
        let mut upload = Unfinished::new(upload, &path, &self.remote, &self.spawner);
        let parts = self
            .put_parts(&path, &mut upload, &mut encoding, request.progress)
            .await;
        if let Err(failure) = parts {
            // Without its completion no object can come of it.
            upload.abort().await;
            put.answered();
            return Err(failure);
        }
        self.remote
            .part(&path, 0, upload.handle().complete())
            .await?;
        upload.finished();
        put.answered();
        let encoded = encoding
            .encoded
            .ok_or_else(|| Failure::Fatal(Stopped.into()))?;
        let put_bytes = encoded.object_bytes;
        request.progress.reach(put_bytes);
        self.verify(&path, put_bytes, encoded.checksum, request.progress)
            .await?;
        put.keep();
        Ok((name, encoded))
    }

    async fn put_parts(
        &self,
        path: &Path,
        upload: &mut Unfinished,
        encoding: &mut Encoding,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let mut put_bytes = 0;
        loop {
            let pieces = std::mem::take(&mut encoding.pieces);
            encoding.bytes = 0;
            let payload = PutPayload::from_iter(pieces);
            let bytes = payload.content_length();
            let part: BoxFuture<'static, object_store::Result<()>> =
                upload.handle().put_part(payload);
            self.remote.part(path, bytes, part).await?;
            put_bytes += bytes as u64;
            progress.reach(put_bytes);
            if encoding.encoded.is_some() {
                return Ok(());
            }
            encoding.fill(&*self.cpu, self.config.part_bytes).await?;
        }
    }

    /// Puts and verifies the pages and the head, trying for ever.
    async fn put_manifest(
        &self,
        request: &Request<'_>,
        next: Next,
        kept: &mut Kept<'_>,
    ) -> Result<(Pointer, Head), UploadError> {
        let Request {
            partition,
            epoch,
            previous,
            now,
            progress,
            ..
        } = *request;
        let mut pages = next.pages;
        let next_pages = self.next_pages(partition, next.extends, next.moved).await?;
        progress.finish();
        for page in next_pages {
            let (bytes, checksum) = manifest::encode_page(&page);
            let name = self
                .put_manifest_file(request, ManifestKind::Page, bytes, kept)
                .await?;
            pages.extend(page.sums(name, checksum));
        }
        let last = next.entries.last().ok_or(ManifestError::Empty)?;
        let head = Head {
            topic_id: partition.topic_id,
            partition: partition.partition,
            incarnation: partition.incarnation,
            leader_epoch: epoch,
            version: previous.version + 1,
            previous: previous.manifest.clone(),
            written_at: now,
            log_start: previous.log_start,
            tier_end: last.end,
            tier_end_epoch: last.last_epoch,
            pages,
            entries: next.entries.clone(),
        };
        head.check()?;
        let (bytes, checksum) = manifest::encode_head(&head);
        let name = self
            .put_manifest_file(request, ManifestKind::Head, bytes, kept)
            .await?;
        let pointer = Pointer {
            claimed_epoch: epoch,
            manifest: Some(name),
            checksum,
            version: head.version,
            tier_end: head.tier_end,
            tier_end_epoch: head.tier_end_epoch,
            log_start: previous.log_start,
            local_floor: head.tier_end,
        };
        Ok((pointer, head))
    }

    async fn next_pages(
        &self,
        partition: &Partition,
        extends: Option<PageRef>,
        moved_in: Vec<Entry>,
    ) -> Result<Vec<Page>, UploadError> {
        let extended = match extends {
            None => Vec::new(),
            Some(page_ref) => {
                let bytes = self
                    .get(&layout::manifest(partition, &page_ref.name))
                    .await?;
                let (page, checksum) = manifest::decode_page(&bytes).map_err(moved)?;
                if checksum != page_ref.checksum {
                    return Err(UploadError::Moved(format!(
                        "page {} differs",
                        page_ref.name
                    )));
                }
                page.entries
            }
        };
        Ok(manifest::paginate(
            partition.topic_id,
            partition.partition,
            extended,
            moved_in,
        ))
    }

    async fn put_manifest_file(
        &self,
        request: &Request<'_>,
        kind: ManifestKind,
        bytes: Vec<u8>,
        kept: &mut Kept<'_>,
    ) -> Result<String, UploadError> {
        let checksum = wire::crc32c(&bytes);
        let payload = PutPayload::from(bytes);
        let mut backoff = Backoff::new(BACKOFF_MAX);
        loop {
            let name = ManifestName {
                incarnation: request.partition.incarnation,
                leader_epoch: request.epoch,
                // Also on retry: a committed version names its successor, whoever writes it.
                version: request.previous.version + 1,
                uuid: uuid_from((self.random.0)()),
                kind,
            }
            .to_string();
            let path = layout::manifest(request.partition, &name);
            match self
                .put_verified(&path, payload.clone(), checksum, request.progress)
                .await
            {
                Ok(()) => {
                    request.progress.finish();
                    kept.push(path);
                    return Ok(name);
                }
                Err(error) => self.wait(&mut backoff, &error).await,
            }
        }
    }

    async fn put_verified(
        &self,
        path: &Path,
        payload: PutPayload,
        checksum: u32,
        progress: &Progress,
    ) -> Result<(), RequestError> {
        let length = payload.content_length() as u64;
        let mut put = self.puts.begin(path);
        self.remote.put(path, payload).await?;
        put.answered();
        progress.reach(length);
        self.verify(path, length, checksum, progress).await?;
        put.keep();
        Ok(())
    }

    /// Verifies what was just put; what is read back counts on from there.
    async fn verify(
        &self,
        path: &Path,
        length: u64,
        checksum: u32,
        progress: &Progress,
    ) -> Result<(), RequestError> {
        if self.config.verification == Verification::StoreChecksum {
            return Ok(());
        }
        let read = |bytes: u64| progress.reach(length.saturating_add(bytes.min(length)));
        let (found, computed) = self.remote.checksum(path, read).await?;
        if found != length {
            return Err(RequestError::Length {
                path: path.to_string(),
                expected: length,
                found,
            });
        }
        if computed != checksum {
            return Err(RequestError::failed(
                "verify",
                path,
                "the store holds other bytes",
            ));
        }
        Ok(())
    }

    fn store(&self) -> &dyn ObjectStore {
        &*self.remote.store
    }
}

/// Checks what must hold before anything is put.
fn check(
    epoch: LeaderEpoch,
    sources: &[SegmentSource],
    previous: &Pointer,
) -> Result<(), UploadError> {
    pointer::check_fence(previous, epoch)?;
    if previous.claimed_epoch != epoch {
        let claimed = previous.claimed_epoch;
        return Err(UploadError::NotClaimed {
            given: epoch,
            claimed,
        });
    }
    let base = sources
        .first()
        .ok_or(EncodeError::Sources("are none"))?
        .base;
    if base != previous.tier_end {
        return Err(UploadError::NotAtTierEnd {
            base,
            tier_end: previous.tier_end,
        });
    }
    Ok(())
}

fn moved(error: impl std::fmt::Display) -> UploadError {
    UploadError::Moved(error.to_string())
}

fn entry(name: ObjectName, encoded: Encoded, now: Timestamp) -> Entry {
    Entry {
        base: name.base,
        end: name.end,
        leader_epoch: name.leader_epoch,
        uuid: name.uuid,
        object_bytes: encoded.object_bytes,
        index_position: encoded.index_position,
        checksum: encoded.checksum,
        segment_bytes: encoded.segment_bytes,
        max_timestamp: encoded.max_timestamp,
        uploaded_at: now,
        last_epoch: encoded.last_epoch,
        epochs: encoded.epochs,
    }
}

/// An object being encoded on the CPU pool, part by part.
struct Encoding {
    encoder: Option<Box<Encoder>>,
    base: Offset,
    end: Offset,
    pieces: Vec<Bytes>,
    bytes: usize,
    encoded: Option<Encoded>,
}

impl Encoding {
    fn new(
        partition: &Partition,
        epoch: LeaderEpoch,
        sources: Vec<SegmentSource>,
    ) -> Result<Encoding, EncodeError> {
        let ends = sources
            .first()
            .map(|s| s.base)
            .zip(sources.last().map(|s| s.end));
        let (base, end) = ends.ok_or(EncodeError::Sources("are none"))?;
        let encoder = Some(Box::new(Encoder::new(partition, epoch, sources)?));
        Ok(Encoding {
            encoder,
            base,
            end,
            pieces: Vec::new(),
            bytes: 0,
            encoded: None,
        })
    }

    /// Encodes until a part is full or the object complete.
    async fn fill(&mut self, cpu: &dyn CpuPool, part_bytes: usize) -> Result<(), UploadError> {
        while self.bytes < part_bytes {
            let Some(mut encoder) = self.encoder.take() else {
                return Ok(());
            };
            let (encoder, pieces) = on_cpu(cpu, move || {
                let pieces = encode_pieces(&mut encoder);
                (encoder, pieces)
            })
            .await?;
            let pieces = pieces?;
            self.bytes += pieces.iter().map(Bytes::len).sum::<usize>();
            self.pieces.extend(pieces);
            self.encoded = encoder.encoded().cloned();
            if self.encoded.is_none() {
                self.encoder = Some(encoder);
            }
        }
        Ok(())
    }
}

fn encode_pieces(encoder: &mut Encoder) -> Result<Vec<Bytes>, EncodeError> {
    let mut pieces = Vec::new();
    let mut bytes = 0;
    while bytes < JOB_BYTES {
        let Some(piece) = encoder.next_piece()? else {
            break;
        };
        bytes += piece.len();
        pieces.push(piece);
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod life;
