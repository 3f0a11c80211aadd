//! Moving the bytes of a connection.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio_util::io::poll_read_buf;

use super::{Outgoing, Shared};
use crate::error::ConnectionError;
use crate::stream::Stream;

/// What one read asks for; buffers grow with what has come, not with what was announced.
const READ_BYTES: usize = 64 * 1024;
/// Chunks that one write takes.
const WRITE_CHUNKS_MAX: usize = 16;
const SIZE_BYTES: usize = 4;

/// The stream and its half-moved frames.
pub(super) struct Io {
    stream: Box<dyn Stream>,
    outgoing: VecDeque<Outgoing>,
    /// Bytes were written since the last flush.
    unflushed: bool,
    incoming: BytesMut,
    answer_bytes_max: usize,
}

impl Io {
    pub(super) fn new(stream: Box<dyn Stream>, answer_bytes_max: usize) -> Io {
        Io {
            stream,
            outgoing: VecDeque::new(),
            unflushed: false,
            incoming: BytesMut::new(),
            answer_bytes_max,
        }
    }

    /// Lets go of what was not written: the connection has failed.
    pub(super) fn abandon(&mut self) {
        self.outgoing.clear();
    }

    /// Writes and reads until something was handed out, which may be what the caller waits for.
    pub(super) fn poll_move(
        &mut self,
        shared: &Mutex<Shared>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            self.outgoing.append(&mut shared.outgoing);
            shared.mover = Some(context.waker().clone());
        }
        // Both directions register the waker; a full send buffer must not keep answers waiting.
        let written = self.poll_write(context)?;
        let read = self.poll_read(shared, context)?;
        if written.is_ready() || read.is_ready() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// Ready when somebody was told that their bytes are written.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        while let Some(Outgoing::Chunk(_)) = self.outgoing.front() {
            let chunks: Vec<IoSlice<'_>> = self
                .outgoing
                .iter()
                .map_while(|outgoing| match outgoing {
                    Outgoing::Chunk(chunk) => Some(IoSlice::new(chunk)),
                    Outgoing::Written(_) => None,
                })
                .take(WRITE_CHUNKS_MAX)
                .collect();
            let stream = Pin::new(&mut *self.stream);
            let written = ready!(stream.poll_write_vectored(context, &chunks)).map_err(failed)?;
            if written == 0 {
                return Poll::Ready(Err(ConnectionError::Closed));
            }
            self.unflushed = true;
            self.advance(written);
        }
        ready!(self.poll_flush(context))?;
        match self.outgoing.pop_front() {
            Some(Outgoing::Written(written)) => {
                // Whoever asked may have given up.
                let _ = written.send(Ok(()));
                Poll::Ready(Ok(()))
            }
            // Nothing is queued; whoever queues more wakes the mover.
            _ => Poll::Pending,
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        if self.unflushed {
            ready!(Pin::new(&mut *self.stream).poll_flush(context)).map_err(failed)?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(Outgoing::Chunk(chunk)) = self.outgoing.front_mut() {
            let of_chunk = written.min(chunk.len());
            chunk.advance(of_chunk);
            written -= of_chunk;
            if !chunk.is_empty() {
                break;
            }
            self.outgoing.pop_front();
        }
    }

    /// Ready when an answer was handed out.
    fn poll_read(
        &mut self,
        shared: &Mutex<Shared>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        loop {
            let mut handed_out = false;
            while let Some(frame) = self.take_frame()? {
                hand_out(shared, frame)?;
                handed_out = true;
            }
            if handed_out {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_fill(context))?;
        }
    }

    fn take_frame(&mut self) -> Result<Option<Bytes>, ConnectionError> {
        let Some(size) = self.incoming.first_chunk::<SIZE_BYTES>() else {
            return Ok(None);
        };
        let size = i32::from_be_bytes(*size);
        let max = self.answer_bytes_max;
        let bytes = usize::try_from(size)
            .ok()
            .filter(|bytes| *bytes <= max)
            .ok_or(ConnectionError::AnswerSize {
                bytes: i64::from(size),
                max,
            })?;
        if self.incoming.len() < SIZE_BYTES + bytes {
            return Ok(None);
        }
        self.incoming.advance(SIZE_BYTES);
        Ok(Some(self.incoming.split_to(bytes).freeze()))
    }

    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.incoming.reserve(READ_BYTES);
        let stream = Pin::new(&mut *self.stream);
        match ready!(poll_read_buf(stream, context, &mut self.incoming)) {
            Ok(0) => Poll::Ready(Err(ConnectionError::Closed)),
            Ok(_) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(failed(error))),
        }
    }
}

/// Gives a frame to the oldest request, which it must answer.
fn hand_out(shared: &Mutex<Shared>, frame: Bytes) -> Result<(), ConnectionError> {
    let given = frame.first_chunk().map_or(-1, |id| i32::from_be_bytes(*id));
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let expected = shared.in_flight.front().map(|oldest| oldest.correlation_id);
    if expected != Some(given) {
        return Err(ConnectionError::Correlation { given, expected });
    }
    if let Some(oldest) = shared.in_flight.pop_front() {
        // Whoever asked may have given up.
        let _ = oldest.answer.send(Ok(frame));
    }
    Ok(())
}

fn failed(error: io::Error) -> ConnectionError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => ConnectionError::Closed,
        _ => ConnectionError::Io(Arc::new(error)),
    }
}
