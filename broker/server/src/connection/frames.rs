//! From bytes to frames, and the memory that they may take.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::PERMIT_BYTES;

/// What is allocated of a frame before as much of it has arrived.
pub(super) const FIRST_CHUNK_BYTES: usize = 64 << 10;

/// What a connection that has sent nothing large holds ready to read into.
const READ_BYTES_MIN: usize = 2 << 10;

/// The memory that frames being received and served may take together.
///
/// Small frames, those of at most a first chunk, have a part of their own: none of them waits behind
/// a large one. So have the first chunks of large frames: a frame that waits for the rest holds
/// nothing that any frame before it in that queue still needs.
#[derive(Clone)]
pub struct FrameBudget {
    small: Arc<Semaphore>,
    first_chunks: Arc<Semaphore>,
    large: Arc<Semaphore>,
    frame_bytes_max: usize,
}

/// The part of small frames: one in so many bytes. They may take of the large ones' part as well
/// what nobody there waits for.
const SMALL_SHARE: usize = 4;

/// The part of first chunks: one in so many bytes.
const FIRST_CHUNKS_SHARE: usize = 8;

impl FrameBudget {
    /// A budget of `bytes` for frames of at most `frame_bytes_max` each. The part of large frames is
    /// raised to one frame, so that the largest can be served.
    #[must_use]
    pub fn new(bytes: usize, frame_bytes_max: usize) -> FrameBudget {
        let small = (bytes / SMALL_SHARE).max(FIRST_CHUNK_BYTES);
        let first_chunks = (bytes / FIRST_CHUNKS_SHARE).max(FIRST_CHUNK_BYTES);
        let large = bytes.saturating_sub(small + first_chunks);
        let pool = |bytes: usize| {
            let permits = bytes.div_ceil(PERMIT_BYTES).min(Semaphore::MAX_PERMITS);
            Arc::new(Semaphore::new(permits))
        };
        FrameBudget {
            small: pool(small),
            first_chunks: pool(first_chunks),
            large: pool(large.max(frame_bytes_max)),
            frame_bytes_max,
        }
    }

    fn check(&self, claimed: i32) -> io::Result<usize> {
        usize::try_from(claimed)
            .ok()
            .filter(|&bytes| bytes <= self.frame_bytes_max)
            .ok_or_else(|| {
                let problem = format!("a frame claims {claimed} bytes");
                io::Error::new(io::ErrorKind::InvalidData, problem)
            })
    }

    /// What a frame of `bytes` needs before more of it is read than its length.
    fn begin(&self, bytes: usize) -> io::Result<Charge> {
        if bytes > FIRST_CHUNK_BYTES {
            return charge(&self.first_chunks, FIRST_CHUNK_BYTES);
        }
        match charge(&self.small, bytes)? {
            Charge::Now(permit) => Ok(Charge::Now(permit)),
            queued => match try_charge(&self.large, bytes)? {
                Some(permit) => Ok(Charge::Now(permit)),
                None => Ok(queued),
            },
        }
    }

    /// What all of a large frame needs, its first chunk included.
    fn complete(&self, bytes: usize) -> io::Result<Charge> {
        charge(&self.large, bytes)
    }
}

enum Charge {
    Now(OwnedSemaphorePermit),
    Queued(BoxFuture<'static, Result<OwnedSemaphorePermit, AcquireError>>),
}

fn charge(pool: &Arc<Semaphore>, bytes: usize) -> io::Result<Charge> {
    Ok(match try_charge(pool, bytes)? {
        Some(permit) => Charge::Now(permit),
        None => Charge::Queued(Box::pin(
            Arc::clone(pool).acquire_many_owned(permits(bytes)?),
        )),
    })
}

/// Takes what is there and nobody waits for.
fn try_charge(pool: &Arc<Semaphore>, bytes: usize) -> io::Result<Option<OwnedSemaphorePermit>> {
    let permit = Arc::clone(pool).try_acquire_many_owned(permits(bytes)?);
    Ok(permit.ok())
}

fn permits(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes.div_ceil(PERMIT_BYTES)).map_err(|_| no_memory())
}

fn no_memory() -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, "no memory for the frame")
}

/// Cuts a stream into frames. All state is here, so that waiting for a frame can be given up and
/// taken up again.
pub(super) struct FrameReader {
    budget: FrameBudget,
    buffer: BytesMut,
    /// What the frame being received is, once its length is there.
    current: Option<(usize, OwnedSemaphorePermit)>,
    /// Whether all of a large frame is charged to the budget.
    is_charged: bool,
    /// How long the peer has been waited for since the first bytes of an unfinished frame. What the
    /// broker itself does, or waits for, does not count.
    time_taken: Duration,
    /// Since when the peer is waited for.
    reading_since: Option<Instant>,
    /// A place in the queue for memory, kept while the wait is given up for a moment.
    queued: Option<BoxFuture<'static, Result<OwnedSemaphorePermit, AcquireError>>>,
    /// How much is asked of the socket at a time: follows the size of frames, so that a frame is one
    /// read.
    read_bytes: usize,
}

impl FrameReader {
    pub(super) fn new(budget: FrameBudget) -> FrameReader {
        FrameReader {
            budget,
            buffer: BytesMut::new(),
            current: None,
            is_charged: false,
            time_taken: Duration::ZERO,
            reading_since: None,
            queued: None,
            read_bytes: READ_BYTES_MIN,
        }
    }

    /// How long the peer has taken so far over an unfinished frame.
    pub(super) fn time_taken(&self) -> Duration {
        self.time_taken
    }

    /// Whether no part of a frame is there.
    pub(super) fn is_between(&self) -> bool {
        self.current.is_none() && self.buffer.is_empty()
    }

    /// Stops the peer's time: [`FrameReader::next`] was given up and will be taken up again.
    pub(super) fn pause(&mut self) {
        if let Some(since) = self.reading_since.take() {
            self.time_taken += since.elapsed();
        }
    }

    /// Gives up the place in the queue for memory: in it, memory might be given to a connection that
    /// does something else for long.
    pub(super) fn leave_queue(&mut self) {
        self.queued = None;
    }

    /// Waits for memory, in the place that was kept if there is one.
    async fn charge(
        &mut self,
        wait: impl FnOnce(&FrameBudget) -> io::Result<Charge>,
    ) -> io::Result<OwnedSemaphorePermit> {
        let queued = match self.queued.take() {
            Some(queued) => queued,
            None => match wait(&self.budget)? {
                Charge::Now(permit) => return Ok(permit),
                Charge::Queued(queued) => queued,
            },
        };
        let permit = self.queued.insert(queued).await;
        self.queued = None;
        permit.map_err(|_| no_memory())
    }

    /// The next frame; `None` where the peer has closed the connection between frames. Cancel-safe.
    pub(super) async fn next(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<Option<(Bytes, OwnedSemaphorePermit)>> {
        loop {
            if self.current.is_none()
                && let Some(length) = self.buffer.first_chunk::<4>()
            {
                let bytes = self.budget.check(i32::from_be_bytes(*length))?;
                // Waiting for memory is not the peer's fault; the wait is bounded by those served.
                let permit = self.charge(|budget| budget.begin(bytes)).await?;
                self.buffer.advance(4);
                self.current = Some((bytes, permit));
            }
            if let Some((bytes, _)) = &self.current {
                let bytes = *bytes;
                // What a length claims is charged once its first chunk has come: a peer that sends
                // nothing but lengths holds little of what all share.
                if bytes > FIRST_CHUNK_BYTES
                    && !self.is_charged
                    && self.buffer.len() >= FIRST_CHUNK_BYTES
                {
                    let whole = self.charge(|budget| budget.complete(bytes)).await?;
                    self.current = Some((bytes, whole));
                    self.is_charged = true;
                }
            }
            if let Some((bytes, permit)) = self.current.take() {
                if self.buffer.len() >= bytes {
                    self.is_charged = false;
                    let frame = self.buffer.split_to(bytes).freeze();
                    self.time_taken = Duration::ZERO;
                    if bytes > FIRST_CHUNK_BYTES {
                        // A connection does not keep what one large frame needed.
                        self.buffer = BytesMut::from(self.buffer.as_ref());
                    }
                    self.read_bytes = (bytes + 4).clamp(READ_BYTES_MIN, FIRST_CHUNK_BYTES);
                    return Ok(Some((frame, permit)));
                }
                // The rest of a large frame is allocated once its first chunk has come.
                let missing = bytes - self.buffer.len();
                let wanted = if self.buffer.len() < FIRST_CHUNK_BYTES {
                    missing.min(FIRST_CHUNK_BYTES)
                } else {
                    missing
                };
                self.current = Some((bytes, permit));
                self.buffer.reserve(wanted);
            } else {
                self.buffer.reserve(self.read_bytes);
            }
            if !self.is_between() {
                self.reading_since = Some(Instant::now());
            }
            let count = reader.read_buf(&mut self.buffer).await?;
            self.pause();
            if count == 0 {
                return if self.is_between() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }
}
