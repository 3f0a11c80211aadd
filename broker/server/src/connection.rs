//! One client connection: frames in, replies out.
//!
//! Invariants
//! - Requests are *applied* one after the other in the order in which they arrived; only waiting
//!   (for a sync, for data) overlaps (P6). A handler therefore does all that changes state before
//!   it returns its reply, and the reply is a future that merely waits.
//! - Replies leave in the order of their requests.
//! - A frame's claimed length is checked against the limit and charged to the budget that all
//!   connections share before more than a first chunk is allocated.
//! - At most [`REPLIES_IN_FLIGHT_MAX`] replies wait, and of those that are built already about
//!   [`READY_BYTES_MAX`]; then reading stops.
//! - A large response holds room in the [`ResponseBudget`] until it is written.

mod frames;
mod peer;
mod pipeline;
mod responses;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::environment::Stream;
use frames::FrameReader;
use pipeline::Pipeline;

pub use frames::FrameBudget;
pub use peer::Peer;
pub use responses::{Response, ResponseBudget, Room};

/// Replies of one connection that may wait at a time.
const REPLIES_IN_FLIGHT_MAX: usize = 64;

/// Bytes of small replies that may be built and wait behind an earlier one. One connection cannot
/// make the broker hold much more with requests of a few bytes.
const READY_BYTES_MAX: usize = 1 << 20;

/// One permit is this many bytes, so that budgets over 4 GiB fit a semaphore's counts.
const PERMIT_BYTES: usize = 1024;

/// How long the rest of a frame may take once its first bytes have arrived. Only time in which the
/// broker was ready to read counts.
const FRAME_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a peer may leave a reply unread before its connection is closed.
const WRITE_TIME_MAX: Duration = Duration::from_secs(60);

/// How long replies that wait are kept for a peer that has closed its side.
const LINGER_TIME_MAX: Duration = Duration::from_secs(5);

/// A connection that is never idle looks once in so many events whether it is to stop: to look each time
/// costs a small request more than it should.
const STOP_TURNS: usize = 16;

/// Slices handed to one vectored write.
const SLICES_MAX: usize = 64;

/// What becomes of a request that was applied.
pub enum Reply {
    /// The response is there.
    Now(Vec<Bytes>),
    /// The response comes when this future has waited; `None` closes the connection.
    Later(BoxFuture<'static, Option<Response>>),
    /// No response: produce with `acks=0`.
    Nothing,
    /// The connection is closed without a response, as Kafka does for what it cannot read.
    Close,
}

/// Applies one request. The frame is the request without its length.
#[async_trait::async_trait]
pub trait Apply: Send + Sync {
    /// Applies the request and says how it is answered.
    async fn apply(&self, frame: Bytes, peer: &Peer) -> Reply;
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
    let peer = Peer::at(peer);
    if let Err(error) = run(stream, &peer, apply.as_ref(), &limits, &stop).await {
        debug!(%peer, %error, "connection closed");
    }
}

/// One loop reads, applies and writes: a peer that does not read its replies is not read from
/// either, and a reply that is there already costs no hand-over.
async fn run(
    mut stream: Box<dyn Stream>,
    peer: &Peer,
    apply: &dyn Apply,
    limits: &Limits,
    stop: &CancellationToken,
) -> io::Result<()> {
    let mut frames = FrameReader::new(limits.budget.clone());
    let mut waiting = Waiting::default();
    let mut pipeline = Pipeline::default();
    let mut stopped = std::pin::pin!(stop.cancelled());
    let mut reads = true;
    let mut has_ended = false;
    // Armed once and checked when it rings: a busy connection never touches its timer.
    let mut active_at = Instant::now();
    let mut silence = std::pin::pin!(tokio::time::sleep(limits.idle.min(FRAME_TIME_MAX)));
    let mut turns = (0..STOP_TURNS).cycle();
    loop {
        if turns.next() == Some(0) && reads && stop.is_cancelled() {
            reads = false;
        }
        if !reads && waiting.replies.is_empty() {
            return stream.shutdown().await;
        }
        let event = tokio::select! {
            biased;
            response = waiting.next(), if !waiting.replies.is_empty() => Event::Response(response),
            frame = frames.next(&mut stream), if reads && waiting.has_place() => {
                Event::Frame(frame?)
            }
            // Where something else is always ready, this is never reached: hence the look above.
            () = &mut stopped, if reads => Event::Stop,
            () = &mut silence, if reads || has_ended => Event::Silence,
        };
        frames.pause();
        if !matches!(event, Event::Silence) {
            // Lost at most as often as replies wait: no request is applied before the queue is over.
            frames.leave_queue();
        }
        match event {
            Event::Stop => reads = false,
            Event::Response(Some(response)) => {
                write(&mut stream, response).await?;
                active_at = Instant::now();
            }
            Event::Response(None) => return stream.shutdown().await,
            Event::Frame(None) => {
                // The peer has closed its side: replies that come soon are sent, a long poll is not
                // waited for.
                reads = false;
                has_ended = true;
                silence.as_mut().reset(Instant::now() + LINGER_TIME_MAX);
            }
            Event::Frame(Some((frame, permit))) => {
                active_at = Instant::now();
                peer.set_only_waits(pipeline.is_full_with(waiting.replies.len()));
                let reply = apply.apply(frame, peer).await;
                match reply {
                    Reply::Now(response) if waiting.replies.is_empty() => {
                        write(&mut stream, response.into()).await?;
                    }
                    Reply::Now(response) => waiting.push_ready(Some(response.into())),
                    // What was decoded waits with it, and so does what was charged for it.
                    Reply::Later(response) => waiting.push(Box::pin(async move {
                        let response = response.await;
                        drop(permit);
                        response
                    })),
                    Reply::Nothing => {}
                    Reply::Close => {
                        // What was applied before is answered first.
                        waiting.push_ready(None);
                        reads = false;
                    }
                }
            }
            Event::Silence if has_ended => return Ok(()),
            Event::Silence => {
                let now = Instant::now();
                if frames.time_taken() >= FRAME_TIME_MAX {
                    let problem = "a frame took too long to arrive";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, problem));
                }
                let is_idle = waiting.replies.is_empty() && frames.is_between();
                if is_idle && now.duration_since(active_at) >= limits.idle {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "idle for too long"));
                }
                silence
                    .as_mut()
                    .reset(now + limits.idle.min(FRAME_TIME_MAX));
            }
        }
    }
}

enum Event {
    Stop,
    Response(Option<Response>),
    Frame(Option<(Bytes, OwnedSemaphorePermit)>),
    Silence,
}

/// Replies in the order of their requests.
#[derive(Default)]
struct Waiting {
    /// Each with the bytes that are built of it already.
    replies: VecDeque<(BoxFuture<'static, Option<Response>>, usize)>,
    ready_bytes: usize,
}

impl Waiting {
    fn has_place(&self) -> bool {
        self.replies.len() < REPLIES_IN_FLIGHT_MAX && self.ready_bytes < READY_BYTES_MAX
    }

    fn push(&mut self, reply: BoxFuture<'static, Option<Response>>) {
        self.replies.push_back((reply, 0));
    }

    fn push_ready(&mut self, response: Option<Response>) {
        let bytes = response.as_ref().map_or(0, Response::bytes);
        self.ready_bytes += bytes;
        self.replies
            .push_back((Box::pin(std::future::ready(response)), bytes));
    }

    /// Waits for the first reply and takes it out. Cancel-safe: it stays in its place until then.
    async fn next(&mut self) -> Option<Response> {
        let (reply, bytes) = self.replies.front_mut()?;
        let response = reply.await;
        self.ready_bytes -= *bytes;
        self.replies.pop_front();
        response
    }
}

/// Writes a response, within its time, and gives back its room.
async fn write(stream: &mut Box<dyn Stream>, response: Response) -> io::Result<()> {
    let (chunks, _room) = response.into_parts();
    let mut writing = std::pin::pin!(write_chunks(stream, chunks));
    // Nearly always the socket takes it at once.
    if let Poll::Ready(written) = futures::poll!(&mut writing) {
        return written;
    }
    match timeout(WRITE_TIME_MAX, writing).await {
        Ok(written) => written,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer does not read",
        )),
    }
}

/// Writes all chunks, as few system calls as the socket allows.
async fn write_chunks(
    writer: &mut (impl AsyncWrite + Unpin),
    mut chunks: Vec<Bytes>,
) -> io::Result<()> {
    if let [chunk] = chunks.as_slice() {
        writer.write_all(chunk).await?;
        return writer.flush().await;
    }
    let mut first = 0;
    while first < chunks.len() {
        let remaining = chunks.get(first..).unwrap_or_default();
        let slices: Vec<IoSlice<'_>> = remaining
            .iter()
            .take(SLICES_MAX)
            .map(|chunk| IoSlice::new(chunk))
            .collect();
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
