//! One client connection: frames in, replies out.
//!
//! Invariants
//! - Requests are *applied* one after the other in the order in which they arrived; only waiting
//!   (for a sync, for data) overlaps (P6). A handler therefore does all that changes state before
//!   it returns its reply, and the reply is a future that merely waits.
//! - Replies leave in the order of their requests.
//! - A frame's claimed length is checked against the limit and charged to the budget that all
//!   connections share before more than a first chunk is allocated.
//! - At most [`REPLIES_IN_FLIGHT_MAX`] replies wait; then reading stops.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::environment::Stream;

/// Replies of one connection that may wait at a time.
const REPLIES_IN_FLIGHT_MAX: usize = 64;

/// What is allocated before the first bytes of a frame have arrived.
const FIRST_CHUNK_BYTES: usize = 64 << 10;

/// How long the rest of a frame may take once its length has arrived.
const FRAME_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a peer may leave a reply unread before its connection is closed.
const WRITE_TIME_MAX: Duration = Duration::from_secs(60);

/// Slices handed to one vectored write.
const SLICES_MAX: usize = 64;

/// What becomes of a request that was applied.
pub enum Reply {
    /// The response is there.
    Now(Vec<Bytes>),
    /// The response comes when this future has waited; `None` closes the connection.
    Later(BoxFuture<'static, Option<Vec<Bytes>>>),
    /// No response: produce with `acks=0`.
    Nothing,
    /// The connection is closed without a response, as Kafka does for what it cannot read.
    Close,
}

/// Applies one request. The frame is the request without its length.
#[async_trait::async_trait]
pub trait Apply: Send + Sync {
    /// Applies the request and says how it is answered.
    async fn apply(&self, frame: Bytes, peer: SocketAddr) -> Reply;
}

/// The memory that frames being received and served may take together.
#[derive(Clone)]
pub struct FrameBudget {
    permits: Arc<Semaphore>,
    frame_bytes_max: usize,
}

/// One permit is this many bytes, so that budgets over 4 GiB fit a semaphore's counts.
const PERMIT_BYTES: usize = 1024;

impl FrameBudget {
    /// A budget of `bytes` for frames of at most `frame_bytes_max` each. A budget smaller than one
    /// frame is raised to one frame, so that the largest can be served.
    #[must_use]
    pub fn new(bytes: usize, frame_bytes_max: usize) -> FrameBudget {
        let permits = bytes.max(frame_bytes_max).div_ceil(PERMIT_BYTES);
        FrameBudget {
            permits: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
            frame_bytes_max,
        }
    }

    async fn charge(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).ok()?;
        Arc::clone(&self.permits).acquire_many_owned(permits).await.ok()
    }
}

/// Limits of one connection.
#[derive(Clone)]
pub struct Limits {
    /// The budget shared with all others.
    pub budget: FrameBudget,
    /// How long a connection may be silent.
    pub idle: Duration,
}

/// Serves a connection until the peer closes it, breaks a rule, is silent for too long, or `stop`
/// is cancelled; replies to what was applied are sent first.
pub async fn serve(
    stream: Box<dyn Stream>,
    peer: SocketAddr,
    apply: Arc<dyn Apply>,
    limits: Limits,
    stop: CancellationToken,
) {
    let (reader, writer) = tokio::io::split(stream);
    let (replies, waiting) = mpsc::channel(REPLIES_IN_FLIGHT_MAX);
    let gone = CancellationToken::new();
    let read = async {
        let end = read_requests(reader, peer, apply.as_ref(), &limits, &stop, &gone, replies).await;
        if let Err(error) = end {
            debug!(%peer, %error, "connection closed");
        }
    };
    let write = async {
        if let Err(error) = write_replies(writer, waiting).await {
            debug!(%peer, %error, "connection lost");
        }
        // Nobody reads replies any more: applying further requests would be lost work.
        gone.cancel();
    };
    tokio::join!(read, write);
}

async fn read_requests(
    mut reader: ReadHalf<Box<dyn Stream>>,
    peer: SocketAddr,
    apply: &dyn Apply,
    limits: &Limits,
    stop: &CancellationToken,
    gone: &CancellationToken,
    replies: mpsc::Sender<Reply>,
) -> io::Result<()> {
    loop {
        let frame = tokio::select! {
            biased;
            () = gone.cancelled() => return Ok(()),
            () = stop.cancelled() => return Ok(()),
            frame = read_frame(&mut reader, limits) => frame?,
        };
        let Some((frame, permit)) = frame else { return Ok(()) };
        let reply = apply.apply(frame, peer).await;
        drop(permit);
        let closes = matches!(reply, Reply::Close);
        if matches!(reply, Reply::Nothing) {
            continue;
        }
        if replies.send(reply).await.is_err() || closes {
            return Ok(());
        }
    }
}

/// Reads one frame; `None` where the peer has closed the connection between frames.
async fn read_frame(
    reader: &mut (impl AsyncRead + Unpin),
    limits: &Limits,
) -> io::Result<Option<(Bytes, OwnedSemaphorePermit)>> {
    let mut length = [0u8; 4];
    let idle = || io::Error::new(io::ErrorKind::TimedOut, "idle for too long");
    let first = timeout(limits.idle, reader.read(&mut length)).await.map_err(|_| idle())??;
    if first == 0 {
        return Ok(None);
    }
    let slow = || io::Error::new(io::ErrorKind::TimedOut, "a frame took too long to arrive");
    let rest = async {
        if let Some(missing) = length.get_mut(first..) {
            reader.read_exact(missing).await?;
        }
        let claimed = i32::from_be_bytes(length);
        let bytes = usize::try_from(claimed)
            .ok()
            .filter(|&bytes| bytes <= limits.budget.frame_bytes_max)
            .ok_or_else(|| {
                let problem = format!("a frame claims {claimed} bytes");
                io::Error::new(io::ErrorKind::InvalidData, problem)
            })?;
        Ok::<usize, io::Error>(bytes)
    };
    let bytes = timeout(FRAME_TIME_MAX, rest).await.map_err(|_| slow())??;
    // Waiting for memory is not the peer's fault and is not held against it.
    let permit = limits.budget.charge(bytes).await.ok_or_else(|| {
        io::Error::new(io::ErrorKind::OutOfMemory, "no memory for the frame")
    })?;
    let body = async {
        let mut body = BytesMut::with_capacity(bytes.min(FIRST_CHUNK_BYTES));
        while body.len() < bytes {
            if body.len() == body.capacity() {
                body.reserve(bytes - body.len());
            }
            let missing = bytes - body.len();
            if reader.take(missing as u64).read_buf(&mut body).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok::<Bytes, io::Error>(body.freeze())
    };
    let body = timeout(FRAME_TIME_MAX, body).await.map_err(|_| slow())??;
    Ok(Some((body, permit)))
}

async fn write_replies(
    mut writer: WriteHalf<Box<dyn Stream>>,
    mut waiting: mpsc::Receiver<Reply>,
) -> io::Result<()> {
    while let Some(reply) = waiting.recv().await {
        let response = match reply {
            Reply::Now(response) => Some(response),
            Reply::Later(response) => response.await,
            Reply::Nothing => continue,
            Reply::Close => None,
        };
        let Some(response) = response else { break };
        let slow = || io::Error::new(io::ErrorKind::TimedOut, "the peer does not read");
        timeout(WRITE_TIME_MAX, write_chunks(&mut writer, response)).await.map_err(|_| slow())??;
    }
    writer.shutdown().await
}

/// Writes all chunks, as few system calls as the socket allows.
async fn write_chunks(
    writer: &mut (impl AsyncWrite + Unpin),
    mut chunks: Vec<Bytes>,
) -> io::Result<()> {
    let mut first = 0;
    while first < chunks.len() {
        let remaining = chunks.get(first..).unwrap_or_default();
        let slices: Vec<IoSlice<'_>> =
            remaining.iter().take(SLICES_MAX).map(|chunk| IoSlice::new(chunk)).collect();
        let mut written = writer.write_vectored(&slices).await?;
        if written == 0 && slices.iter().any(|slice| !slice.is_empty()) {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(chunk) = chunks.get_mut(first) {
            let taken = written.min(chunk.len());
            chunk.advance(taken);
            written -= taken;
            if !chunk.is_empty() {
                break;
            }
            first += 1;
        }
    }
    writer.flush().await
}

#[cfg(test)]
mod tests;
