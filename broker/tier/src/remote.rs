//! Single requests to the store, each with a deadline and counted; retrying is their callers' part.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, PutOptions, PutPayload};
use tokio::time::timeout;

use esker_protocol::records::Crc32c;

/// Deadline of a GET.
pub const GET_DEADLINE: Duration = Duration::from_secs(30);
/// Deadline of one PUT, or of one part of a multipart upload.
pub const PUT_DEADLINE: Duration = Duration::from_secs(120);
/// Deadline of a small request: list page, delete, multipart create and complete.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(60);
/// A manifest head or page, or an index, larger than this is refused.
pub const METADATA_BYTES_MAX: u64 = 64 << 20;

/// Randomness, handed in: uuids and jitter.
pub type Random = Arc<dyn Fn() -> u128 + Send + Sync>;

/// Counts of what was asked of the store: plain numbers that whoever owns a registry reads.
#[derive(Debug, Default)]
pub struct Requests {
    /// PUTs, parts, and starts and ends of multipart uploads: what the store bills as writes.
    pub writes: AtomicU64,
    /// GETs.
    pub reads: AtomicU64,
    /// Lists.
    pub lists: AtomicU64,
    /// Deletes.
    pub deletes: AtomicU64,
    /// Bytes put.
    pub written_bytes: AtomicU64,
    /// Bytes got.
    pub read_bytes: AtomicU64,
    /// Requests that failed, or gave what they should not.
    pub failures: AtomicU64,
}

impl Requests {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// A request that gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is no such object.
    #[error("{path} does not exist")]
    NotFound {
        /// Which.
        path: String,
    },
    /// The answer is not as long as it must be.
    #[error("{path} gave {found} bytes, {expected} were asked for")]
    Length {
        /// Which.
        path: String,
        /// What was asked for.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// It is larger than anything of its kind.
    #[error("{path} has {found} bytes, at most {max} are read")]
    TooLarge {
        /// Which.
        path: String,
        /// What is allowed.
        max: u64,
        /// What it has.
        found: u64,
    },
    /// The store failed, or did not answer in time: whether it did what it was asked is not known.
    #[error("{operation} {path}: {reason}")]
    Failed {
        /// What was asked.
        operation: &'static str,
        /// Of what.
        path: String,
        /// What the store said.
        reason: String,
    },
}

impl RequestError {
    fn of(operation: &'static str, path: &Path, error: object_store::Error) -> RequestError {
        match error {
            object_store::Error::NotFound { .. } => RequestError::NotFound {
                path: path.to_string(),
            },
            error => RequestError::failed(operation, path, one_line(&error)),
        }
    }

    pub(crate) fn failed(
        operation: &'static str,
        path: &Path,
        reason: impl fmt::Display,
    ) -> RequestError {
        RequestError::Failed {
            operation,
            path: path.to_string(),
            reason: reason.to_string(),
        }
    }

    /// Whether the store answered, and said that there is no such object or gave the wrong bytes.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        !matches!(self, RequestError::Failed { .. })
    }
}

/// An error and its causes in one line.
pub(crate) fn one_line(error: &dyn std::error::Error) -> String {
    error
        .to_string()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// The store and the counts of what is asked of it.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) requests: Arc<Requests>,
}

impl Remote {
    pub(crate) fn new(store: Arc<dyn ObjectStore>) -> Remote {
        Remote {
            store,
            requests: Arc::default(),
        }
    }

    async fn with_deadline<T>(
        &self,
        operation: &'static str,
        path: &Path,
        deadline: Duration,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, RequestError> {
        let result = match timeout(deadline, request).await {
            Ok(result) => result.map_err(|error| RequestError::of(operation, path, error)),
            Err(_) => Err(RequestError::failed(operation, path, "no answer in time")),
        };
        if result.is_err() {
            Requests::add(&self.requests.failures, 1);
        }
        result
    }

    /// Exactly the bytes of `range`.
    pub(crate) async fn range(
        &self,
        path: &Path,
        range: Range<u64>,
    ) -> Result<Bytes, RequestError> {
        Requests::add(&self.requests.reads, 1);
        let expected = range.end - range.start;
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let request = async {
            let result = self.store.get_opts(path, options).await?;
            // What comes is bounded by what was asked for, whatever the store says of itself.
            collect(result.into_stream(), expected).await
        };
        let bytes = self
            .with_deadline("get", path, GET_DEADLINE, request)
            .await?;
        Requests::add(&self.requests.read_bytes, bytes.len() as u64);
        let found = bytes.len() as u64;
        if found != expected {
            Requests::add(&self.requests.failures, 1);
            return Err(RequestError::Length {
                path: path.to_string(),
                expected,
                found,
            });
        }
        Ok(bytes)
    }

    /// A whole small object.
    pub(crate) async fn whole(&self, path: &Path) -> Result<Bytes, RequestError> {
        Requests::add(&self.requests.reads, 1);
        let request = async {
            let result = self.store.get_opts(path, GetOptions::default()).await?;
            let size = result.meta.size;
            if size > METADATA_BYTES_MAX {
                return Ok((size, Bytes::new()));
            }
            Ok((size, collect(result.into_stream(), size).await?))
        };
        let (size, bytes) = self
            .with_deadline("get", path, GET_DEADLINE, request)
            .await?;
        let path = path.to_string();
        if size > METADATA_BYTES_MAX {
            return Err(RequestError::TooLarge {
                path,
                max: METADATA_BYTES_MAX,
                found: size,
            });
        }
        Requests::add(&self.requests.read_bytes, bytes.len() as u64);
        let found = bytes.len() as u64;
        if found != size {
            Requests::add(&self.requests.failures, 1);
            return Err(RequestError::Length {
                path,
                expected: size,
                found,
            });
        }
        Ok(bytes)
    }

    /// Length and CRC-32C of a whole object, in memory that does not grow with it. `on_read` hears how
    /// much has come so far.
    pub(crate) async fn checksum(
        &self,
        path: &Path,
        on_read: impl Fn(u64),
    ) -> Result<(u64, u32), RequestError> {
        Requests::add(&self.requests.reads, 1);
        let options = GetOptions::default();
        let request = self.store.get_opts(path, options);
        let result = self
            .with_deadline("get", path, GET_DEADLINE, request)
            .await?;
        let mut stream = result.into_stream();
        let (mut length, mut crc) = (0_u64, Crc32c::new());
        loop {
            let chunk = async { stream.next().await.transpose() };
            let Some(chunk) = self.with_deadline("get", path, GET_DEADLINE, chunk).await? else {
                break;
            };
            Requests::add(&self.requests.read_bytes, chunk.len() as u64);
            length += chunk.len() as u64;
            crc.update(&chunk);
            on_read(length);
        }
        Ok((length, crc.finish()))
    }

    /// Puts an object in one request.
    pub(crate) async fn put(&self, path: &Path, payload: PutPayload) -> Result<(), RequestError> {
        Requests::add(&self.requests.writes, 1);
        let bytes = payload.content_length() as u64;
        let request = self.store.put_opts(path, payload, PutOptions::default());
        self.with_deadline("put", path, PUT_DEADLINE, request)
            .await?;
        Requests::add(&self.requests.written_bytes, bytes);
        Ok(())
    }

    /// One write request of a multipart upload.
    pub(crate) async fn part<T>(
        &self,
        path: &Path,
        bytes: usize,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, RequestError> {
        Requests::add(&self.requests.writes, 1);
        let done = self
            .with_deadline("put part of", path, PUT_DEADLINE, request)
            .await?;
        Requests::add(&self.requests.written_bytes, bytes as u64);
        Ok(done)
    }

    /// Deletes an object; one that is not there counts as deleted.
    pub(crate) async fn delete(&self, path: &Path) -> Result<(), RequestError> {
        Requests::add(&self.requests.deletes, 1);
        let locations = futures::stream::iter([Ok(path.clone())]).boxed();
        let mut deleted = self.store.delete_stream(locations);
        let request = async { deleted.next().await.transpose() };
        match self
            .with_deadline("delete", path, REQUEST_DEADLINE, request)
            .await
        {
            Ok(_) | Err(RequestError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Everything below a prefix with its length, in the order of the names.
    pub(crate) async fn list(
        &self,
        prefix: Option<&Path>,
    ) -> Result<Vec<(Path, u64)>, RequestError> {
        let listed = self.list_meta(prefix).await?;
        Ok(listed
            .into_iter()
            .map(|meta| (meta.location, meta.size))
            .collect())
    }

    /// Everything below a prefix, in the order of the names.
    pub(crate) async fn list_meta(
        &self,
        prefix: Option<&Path>,
    ) -> Result<Vec<ObjectMeta>, RequestError> {
        Requests::add(&self.requests.lists, 1);
        let place = prefix.cloned().unwrap_or_default();
        let mut listing = self.store.list(prefix);
        let mut found = Vec::new();
        loop {
            let next = async { listing.next().await.transpose() };
            match self
                .with_deadline("list", &place, REQUEST_DEADLINE, next)
                .await
            {
                Ok(Some(meta)) => found.push(meta),
                Ok(None) => break,
                // Stores of folders say so where a prefix has none.
                Err(RequestError::NotFound { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        // A store may repeat names while objects come and go.
        found.sort_by(|a: &ObjectMeta, b| a.location.cmp(&b.location));
        found.dedup_by(|a, b| a.location == b.location);
        Ok(found)
    }
}

/// The bytes of a stream, and no more than one chunk beyond `expected` of them.
async fn collect(
    mut stream: futures::stream::BoxStream<'static, object_store::Result<Bytes>>,
    expected: u64,
) -> object_store::Result<Bytes> {
    let Some(first) = stream.next().await.transpose()? else {
        return Ok(Bytes::new());
    };
    if first.len() as u64 >= expected {
        return Ok(first);
    }
    let mut bytes = Vec::from(first);
    while let Some(chunk) = stream.next().await.transpose()? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > expected {
            break;
        }
    }
    Ok(Bytes::from(bytes))
}

/// Waits that double, with jitter: never in step with other brokers.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);

    pub(crate) fn new(max: Duration) -> Backoff {
        Backoff {
            next: Self::FIRST,
            max,
        }
    }

    /// The next wait: between half of the step and all of it.
    pub(crate) fn step(&mut self, random: &Random) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        let jitter = (random() % 1024) as u32;
        step / 2 + step / 2 * jitter / 1024
    }
}
