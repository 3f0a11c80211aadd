//! One connection to a broker.
//!
//! There is no task behind it. Every request puts its frame into a queue and waits for its answer;
//! of those that wait, the one that holds the stream writes what is queued, reads what comes, and
//! hands each answer to whoever asked. When it has its own answer, or is dropped, the next goes on
//! where it stopped: all state of a half-written or half-read frame is in [`Io`], none in a future.

mod io;

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bytes::Bytes;
use esker_protocol::ErrorCode;
use esker_protocol::api::{ApiKey, VersionRange};
use esker_protocol::frame;
use esker_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use esker_protocol::primitive::{Decode, Request};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use self::io::Io;
use crate::error::ConnectionError;
use crate::stream::Stream;

/// How a connection behaves.
#[derive(Debug, Clone)]
pub struct ConnectionOptions {
    /// What the client calls itself in every request.
    pub client_id: String,
    /// Answers larger than this end the connection.
    pub answer_bytes_max: usize,
    /// Requests that may wait for their answers at once; more wait for their turn.
    pub in_flight_max: usize,
}

impl Default for ConnectionOptions {
    fn default() -> ConnectionOptions {
        ConnectionOptions {
            client_id: "esker".to_owned(),
            answer_bytes_max: 128 << 20,
            in_flight_max: 64,
        }
    }
}

/// One connection to a broker, usable by many at once.
pub struct Connection {
    options: ConnectionOptions,
    versions: BTreeMap<i16, VersionRange>,
    correlation_ids: AtomicI32,
    permits: Arc<Semaphore>,
    shared: Mutex<Shared>,
    io: tokio::sync::Mutex<Io>,
}

/// What requests leave for whoever moves the bytes.
#[derive(Default)]
struct Shared {
    outgoing: VecDeque<Outgoing>,
    /// In the order of their frames, which is the order of their answers.
    in_flight: VecDeque<InFlight>,
    failed: Option<ConnectionError>,
    /// Wakes whoever holds the stream.
    mover: Option<Waker>,
}

enum Outgoing {
    Chunk(Bytes),
    /// Everything before has been written and flushed.
    Written(oneshot::Sender<Result<(), ConnectionError>>),
}

struct InFlight {
    correlation_id: i32,
    answer: oneshot::Sender<Result<Bytes, ConnectionError>>,
    /// Given back when the answer is there, also when nobody waits for it any more.
    _permit: OwnedSemaphorePermit,
}

/// The frame of an answer, its header read.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    frame: Bytes,
    body_at: usize,
    version: i16,
    request: PhantomData<fn() -> T>,
}

impl<T: Request> Answer<T> {
    /// Reads the body, which borrows from the frame.
    pub fn body(&self) -> Result<T::Response<'_>, ConnectionError> {
        let body = self.frame.get(self.body_at..).unwrap_or_default();
        let mut reader = esker_protocol::primitive::Reader::new(body);
        T::Response::decode(&mut reader, self.version).map_err(|source| ConnectionError::Decode {
            api: T::API_KEY,
            source,
        })
    }

    /// The frame; [`Bytes::slice_ref`] makes shared slices of what the body borrows.
    #[must_use]
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The version of request and answer.
    #[must_use]
    pub fn version(&self) -> i16 {
        self.version
    }
}

impl Connection {
    /// Takes a stream into use: asks for the versions that the broker serves.
    pub async fn open(
        stream: Box<dyn Stream>,
        options: ConnectionOptions,
        deadline: Instant,
    ) -> Result<Connection, ConnectionError> {
        let mut connection = Connection {
            versions: BTreeMap::new(),
            correlation_ids: AtomicI32::new(0),
            permits: Arc::new(Semaphore::new(options.in_flight_max)),
            shared: Mutex::default(),
            io: tokio::sync::Mutex::new(Io::new(stream, options.answer_bytes_max)),
            options,
        };
        connection.versions = connection.negotiate(deadline).await?;
        Ok(connection)
    }

    async fn negotiate(
        &self,
        deadline: Instant,
    ) -> Result<BTreeMap<i16, VersionRange>, ConnectionError> {
        let request = ApiVersionsRequest {
            client_software_name: "esker".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        };
        let newest = ApiKey::ApiVersions.stable_versions().max;
        let answer = self.request_version(newest, &request, deadline).await?;
        if !is_unsupported_version(&answer) {
            return Ok(versions(&answer.body()?));
        }
        // A broker that does not know our version says so in version 0 (KIP-511).
        let refusal = Answer {
            version: 0,
            ..answer
        };
        let theirs = versions(&refusal.body()?)
            .get(&ApiKey::ApiVersions.number())
            .copied();
        let version = theirs.map_or(0, |theirs| theirs.max.min(newest));
        let request = if version < 3 {
            ApiVersionsRequest::default()
        } else {
            request
        };
        let answer = self.request_version(version, &request, deadline).await?;
        Ok(versions(&answer.body()?))
    }

    /// The newest version of an API that both sides know, at most `newest`.
    pub fn version_of(&self, api: ApiKey, newest: Option<i16>) -> Result<i16, ConnectionError> {
        let mut ours = api.stable_versions();
        ours.max = ours.max.min(newest.unwrap_or(ours.max));
        let theirs = self.served(api);
        theirs
            .map(|theirs| VersionRange::new(ours.min.max(theirs.min), ours.max.min(theirs.max)))
            .filter(|common| common.min <= common.max)
            .map(|common| common.max)
            .ok_or(ConnectionError::UnsupportedApi { api, ours, theirs })
    }

    /// The versions of an API that the broker serves.
    pub(crate) fn served(&self, api: ApiKey) -> Option<VersionRange> {
        self.versions.get(&api.number()).copied()
    }

    /// Whether it has failed for good.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.shared().failed.is_some()
    }

    /// Sends a request in the newest version that both sides know, and waits for the answer.
    ///
    /// May be called by many at once: requests are written in the order of the calls' first poll.
    pub async fn request<T: Request>(
        &self,
        request: &T,
        deadline: Instant,
    ) -> Result<Answer<T>, ConnectionError> {
        let version = self.version_of(T::API_KEY, None)?;
        self.request_version(version, request, deadline).await
    }

    /// Sends a request in a given version, and waits for the answer.
    ///
    /// Cancel-safe for the connection: the answer to a request that nobody waits for is dropped.
    pub async fn request_version<T: Request>(
        &self,
        version: i16,
        request: &T,
        deadline: Instant,
    ) -> Result<Answer<T>, ConnectionError> {
        let exchange = async {
            let permit = self.permit().await?;
            let (correlation_id, chunks) = self.encode(version, request)?;
            let (answer, receiver) = oneshot::channel();
            let in_flight = InFlight {
                correlation_id,
                answer,
                _permit: permit,
            };
            self.enqueue(chunks.into_iter().map(Outgoing::Chunk), Some(in_flight))?;
            let frame = self.wait(receiver).await?;
            let (_, body) =
                frame::decode_response(&frame, T::API_KEY, version).map_err(|source| {
                    ConnectionError::Decode {
                        api: T::API_KEY,
                        source,
                    }
                })?;
            let body_at = frame.len() - body.remaining().len();
            Ok(Answer {
                frame,
                body_at,
                version,
                request: PhantomData,
            })
        };
        timeout_at(deadline, exchange)
            .await
            .unwrap_or(Err(ConnectionError::Deadline))
    }

    /// Sends a request that is not answered, and waits until it has been written.
    pub async fn send_version<T: Request>(
        &self,
        version: i16,
        request: &T,
        deadline: Instant,
    ) -> Result<(), ConnectionError> {
        let sending = async {
            let _permit = self.permit().await?;
            let (_, chunks) = self.encode(version, request)?;
            let (written, receiver) = oneshot::channel();
            let outgoing = chunks.into_iter().map(Outgoing::Chunk);
            self.enqueue(outgoing.chain([Outgoing::Written(written)]), None)?;
            self.wait(receiver).await
        };
        timeout_at(deadline, sending)
            .await
            .unwrap_or(Err(ConnectionError::Deadline))
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, ConnectionError> {
        let permits = Arc::clone(&self.permits);
        // The semaphore is never closed; a failed connection says so when the frame is queued.
        permits
            .acquire_owned()
            .await
            .map_err(|_| ConnectionError::Closed)
    }

    fn encode<T: Request>(
        &self,
        version: i16,
        request: &T,
    ) -> Result<(i32, Vec<Bytes>), ConnectionError> {
        // Negative ids would be legal, but they look like mistakes in every log.
        let correlation_id = self.correlation_ids.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        let client_id = Some(self.options.client_id.as_str());
        frame::encode_request(correlation_id, client_id, version, request)
            .map(|chunks| (correlation_id, chunks))
            .map_err(|source| ConnectionError::Encode {
                api: T::API_KEY,
                source,
            })
    }

    fn enqueue(
        &self,
        outgoing: impl Iterator<Item = Outgoing>,
        in_flight: Option<InFlight>,
    ) -> Result<(), ConnectionError> {
        let mut shared = self.shared();
        if let Some(failed) = &shared.failed {
            return Err(failed.clone());
        }
        // Under one lock: frames and their answers have the same order.
        // An empty chunk would make a write of nothing look like a closed stream.
        let is_something = |outgoing: &Outgoing| match outgoing {
            Outgoing::Chunk(chunk) => !chunk.is_empty(),
            Outgoing::Written(_) => true,
        };
        shared.outgoing.extend(outgoing.filter(is_something));
        shared.in_flight.extend(in_flight);
        if let Some(mover) = shared.mover.take() {
            mover.wake();
        }
        Ok(())
    }

    /// Waits for an outcome, moving bytes when nobody else does.
    async fn wait<T>(
        &self,
        mut outcome: oneshot::Receiver<Result<T, ConnectionError>>,
    ) -> Result<T, ConnectionError> {
        let mut io = tokio::select! {
            biased;
            outcome = &mut outcome => return outcome.unwrap_or_else(|_| Err(self.failure())),
            io = self.io.lock() => io,
        };
        poll_fn(|context| {
            loop {
                if let Poll::Ready(outcome) = Pin::new(&mut outcome).poll(context) {
                    return Poll::Ready(outcome.unwrap_or_else(|_| Err(self.failure())));
                }
                match io.poll_move(&self.shared, context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => {
                        self.fail(error);
                        io.abandon();
                    }
                }
            }
        })
        .await
    }

    /// Ends the connection for everyone who waits or will ask.
    fn fail(&self, error: ConnectionError) {
        let mut shared = self.shared();
        let failed = shared.failed.get_or_insert(error).clone();
        for outgoing in shared.outgoing.drain(..) {
            if let Outgoing::Written(written) = outgoing {
                // Whoever asked may be gone.
                let _ = written.send(Err(failed.clone()));
            }
        }
        for in_flight in shared.in_flight.drain(..) {
            let _ = in_flight.answer.send(Err(failed.clone()));
        }
    }

    /// Why the connection failed, for whoever's outcome went with it.
    fn failure(&self) -> ConnectionError {
        self.shared()
            .failed
            .clone()
            .unwrap_or(ConnectionError::Closed)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Whether an answer begins with UNSUPPORTED_VERSION, which stands first in every version.
fn is_unsupported_version(answer: &Answer<ApiVersionsRequest<'_>>) -> bool {
    let code = answer
        .frame
        .get(answer.body_at..)
        .and_then(|body| body.first_chunk());
    code.is_some_and(|code| i16::from_be_bytes(*code) == ErrorCode::UnsupportedVersion.code())
}

fn versions(response: &ApiVersionsResponse<'_>) -> BTreeMap<i16, VersionRange> {
    let ranges = response.api_keys.iter();
    ranges
        .map(|api| {
            (
                api.api_key,
                VersionRange::new(api.min_version, api.max_version),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests;
