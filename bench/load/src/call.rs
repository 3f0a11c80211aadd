//! One connection: a question, its answer, and what to do about codes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use esker_client::{
    ClientError, Connect, Connection, ConnectionError, ConnectionOptions, Endpoint, TcpConnect,
};
use esker_protocol::ErrorCode;
use esker_protocol::api::ApiKey;
use esker_protocol::primitive::Request;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

/// Why a run fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no connection")]
    Connect(#[source] std::io::Error),
    #[error("a connection failed")]
    Connection(#[from] ConnectionError),
    #[error("{api} was refused: {code}")]
    Refused { api: ApiKey, code: ErrorCode },
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}")]
    Unexpected(String),
}

/// The longest that an answer may take: joins wait for whole groups.
const ANSWER_MAX: Duration = Duration::from_secs(300);
const CONNECT_MAX: Duration = Duration::from_secs(60);
/// Between questions to a coordinator that is still loading.
const PAUSE: Duration = Duration::from_millis(100);

/// How many questions were asked of one run.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    heartbeats: AtomicU64,
    /// Asked again, since the coordinator was not there yet.
    again: AtomicU64,
}

impl Counts {
    pub(crate) fn heartbeat(&self) {
        self.heartbeats.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn heartbeats(&self) -> u64 {
        self.heartbeats.load(Ordering::Relaxed)
    }

    pub(crate) fn again(&self) -> u64 {
        self.again.load(Ordering::Relaxed)
    }
}

/// A connection to the broker.
pub(crate) struct Link {
    connection: Connection,
    counts: Arc<Counts>,
    /// Who joins a classic group keeps the connection busy, so that one does at a time, and the
    /// heartbeats of the others get their turn in between.
    pub(crate) joining: Semaphore,
}

impl Link {
    pub(crate) async fn open(broker: &Endpoint, counts: &Arc<Counts>) -> Result<Link, Failure> {
        let stream = TcpConnect
            .connect(&broker.host, broker.port)
            .await
            .map_err(Failure::Connect)?;
        let options = ConnectionOptions {
            client_id: "esker-load".to_owned(),
            ..ConnectionOptions::default()
        };
        let connection = Connection::open(stream, options, Instant::now() + CONNECT_MAX).await?;
        Ok(Link {
            connection,
            counts: Arc::clone(counts),
            joining: Semaphore::new(1),
        })
    }

    /// Asks until the coordinator is there. `read` takes an answer's code and what is wanted of it;
    /// any other code than none is a failure.
    pub(crate) async fn call<T: Request, V>(
        &self,
        newest: Option<i16>,
        request: &T,
        mut read: impl for<'r> FnMut(&T::Response<'r>) -> (i16, V),
    ) -> Result<V, Failure> {
        let version = self.connection.version_of(T::API_KEY, newest)?;
        let deadline = Instant::now() + ANSWER_MAX;
        loop {
            let asked = self.connection.request_version(version, request, deadline);
            let answer = asked.await?;
            let (code, value) = read(&answer.body()?);
            match ErrorCode::from_code(code) {
                Some(ErrorCode::None) => return Ok(value),
                Some(code) if is_not_there_yet(code) && Instant::now() + PAUSE < deadline => {
                    self.counts.again.fetch_add(1, Ordering::Relaxed);
                    sleep(PAUSE).await;
                }
                Some(code) => {
                    let api = T::API_KEY;
                    return Err(Failure::Refused { api, code });
                }
                None => {
                    let line = format!("{} answers with code {code}", T::API_KEY);
                    return Err(Failure::Unexpected(line));
                }
            }
        }
    }
}

/// Whether a coordinator may say so soon after a start, and clients ask again.
fn is_not_there_yet(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
    )
}
