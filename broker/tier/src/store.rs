//! Opening the store at a URL, and proving at start that it does what the tier needs of it.
//!
//! | URL | store |
//! |---|---|
//! | `memory:` | this process's memory, gone with it |
//! | `file:///path` | a folder, every PUT synced before it is answered |
//! | `s3://bucket/prefix` | S3 or what speaks like it; with the crate's feature `aws` |

#[cfg(feature = "aws")]
mod s3;

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, PutOptions, PutPayload};
use tokio::time::timeout;

use crate::layout::Uuid;
use crate::remote::{PUT_DEADLINE, Remote, RequestError, one_line};
use crate::upload::Verification;

/// How to reach a store; only `s3:` needs any of it.
#[derive(Clone, Default)]
pub struct Options {
    /// Another endpoint than Amazon's; `http://` ones are allowed.
    pub endpoint: Option<String>,
    /// The region, `us-east-1` if none is given.
    pub region: Option<String>,
    /// The access key; without it the environment's own credentials (instance or web identity) count.
    pub access_key: Option<String>,
    /// Its secret.
    pub secret_key: Option<String>,
    /// The token of temporary credentials.
    pub session_token: Option<String>,
    /// `https://bucket.host/` rather than `https://host/bucket/`.
    pub virtual_hosted: bool,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys and tokens never reach a log.
        f.debug_struct("Options")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("virtual_hosted", &self.virtual_hosted)
            .finish_non_exhaustive()
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not a URL of a kind that is known.
    #[error("{0:?} is no object store: use memory:, file:///path or s3://bucket/prefix")]
    Url(String),
    /// This build has no S3.
    #[error("this build of Esker has no S3 support")]
    NoS3,
    /// The folder cannot be used.
    #[error("object store folder {}: {error}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The store's own refusal.
    #[error("object store: {0}")]
    Store(String),
}

/// Opens the store at `url`; what it gives carries the URL's own prefix.
///
/// # Errors
/// [`OpenError`], in one line.
pub fn open(url: &str, options: &Options) -> Result<Arc<dyn ObjectStore>, OpenError> {
    if url == "memory:" {
        return Ok(Arc::new(InMemory::new()));
    }
    if let Some(path) = url.strip_prefix("file://") {
        return open_folder(url, path);
    }
    if let Some(place) = url.strip_prefix("s3://") {
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() {
            return Err(OpenError::Url(url.to_owned()));
        }
        return open_s3(bucket, prefix, options);
    }
    Err(OpenError::Url(url.to_owned()))
}

#[cfg(feature = "aws")]
fn open_s3(
    bucket: &str,
    prefix: &str,
    options: &Options,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    s3::open(bucket, prefix, options)
}

#[cfg(not(feature = "aws"))]
fn open_s3(_: &str, _: &str, _: &Options) -> Result<Arc<dyn ObjectStore>, OpenError> {
    Err(OpenError::NoS3)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the folder is the store: no Disk stands behind it"
)]
fn open_folder(url: &str, path: &str) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let path = PathBuf::from(path);
    if !path.is_absolute() {
        return Err(OpenError::Url(url.to_owned()));
    }
    let failed = |error| OpenError::Folder {
        path: path.clone(),
        error,
    };
    std::fs::create_dir_all(&path).map_err(failed)?;
    sweep(&path).map_err(failed)?;
    let store = LocalFileSystem::new_with_prefix(&path)
        .map_err(|error| OpenError::Store(one_line(&error)))?
        // Its default is off: an object that a power cut takes back was never committed.
        .with_fsync(true);
    Ok(Arc::new(store))
}

/// Removes what a PUT that never ended left behind: files `<name>#<number>`.
#[expect(
    clippy::disallowed_methods,
    reason = "the folder is the store: no Disk stands behind it"
)]
fn sweep(folder: &FilePath) -> std::io::Result<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for file in std::fs::read_dir(&folder)? {
            let file = file?;
            let kind = file.file_type()?;
            if kind.is_dir() {
                folders.push(file.path());
            } else if kind.is_file() && is_staging(&file.file_name().to_string_lossy()) {
                std::fs::remove_file(file.path())?;
            }
        }
    }
    Ok(())
}

fn is_staging(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.rsplit_once('#')
        .is_some_and(|(_, number)| digits(number))
}

/// Asks whoever sends the request to damage it on its way: a store that takes it all the same does
/// not check what it is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spoil;

/// What the store cannot do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// A request failed.
    #[error("it cannot {what}: {error}")]
    Request {
        /// What.
        what: &'static str,
        /// Why.
        error: RequestError,
    },
    /// It answered wrongly.
    #[error("it {0}")]
    Wrong(&'static str),
}

/// Proves that the store puts, gets, gets ranges, lists at once and deletes; says how uploads to it
/// are to be verified. The probe's object is below the cluster's folder; what earlier probes left there
/// goes.
///
/// # Errors
/// [`ProbeError`]: the first thing that it cannot do.
pub async fn probe(
    store: &Arc<dyn ObjectStore>,
    cluster_id: &str,
    random: [u8; 16],
) -> Result<Verification, ProbeError> {
    let remote = Remote::new(Arc::clone(store));
    let folder = Path::from_iter([cluster_id, "probe"]);
    let path = folder.clone().join(Uuid(random).to_string());
    let body: Vec<u8> = (0..PROBE_BYTES)
        .map(|number| (number % 251) as u8)
        .collect();
    let cannot = |what| move |error| ProbeError::Request { what, error };
    remote
        .put(&path, PutPayload::from(body.clone()))
        .await
        .map_err(cannot("put an object"))?;
    let whole = remote.whole(&path).await.map_err(cannot("get an object"))?;
    if whole != body {
        return Err(ProbeError::Wrong("gives other bytes than were put"));
    }
    let range = remote
        .range(&path, 100..200)
        .await
        .map_err(cannot("get a range"))?;
    if Some(range.as_ref()) != body.get(100..200) {
        return Err(ProbeError::Wrong(
            "gives other bytes than the range that was asked for",
        ));
    }
    let listed = remote
        .list_meta(Some(&folder))
        .await
        .map_err(cannot("list objects"))?;
    let Some(own) = listed.iter().find(|meta| meta.location == path) else {
        return Err(ProbeError::Wrong(
            "does not list an object that was put before",
        ));
    };
    remove_left_over(&remote, &listed, own).await;
    let verification = prove_checksums(&remote, &folder, random, body).await;
    remote
        .delete(&path)
        .await
        .map_err(cannot("delete an object"))?;
    match remote.whole(&path).await {
        Err(RequestError::NotFound { .. }) => Ok(verification),
        Err(error) => Err(cannot("say that an object is gone")(error)),
        Ok(_) => Err(ProbeError::Wrong("still gives an object that was deleted")),
    }
}

/// Length of the probe's object.
const PROBE_BYTES: u32 = 4096;

/// Longer than any probe takes, whose requests have deadlines: what is older has lost its process.
const PROBE_AGE: Duration = Duration::from_secs(3600);
/// Objects of old probes that a start deletes at most; the next start goes on.
const PROBES_REMOVED_MAX: usize = 100;

/// Deletes what probes left whose process ended in their midst. Their age is told by the store alone,
/// against the object that was put just now, so that no clock but the store's counts.
async fn remove_left_over(remote: &Remote, listed: &[ObjectMeta], own: &ObjectMeta) {
    let left_over = listed.iter().filter(|meta| {
        let age = own.last_modified.signed_duration_since(meta.last_modified);
        age.to_std().is_ok_and(|age| age >= PROBE_AGE)
    });
    for meta in left_over.take(PROBES_REMOVED_MAX) {
        if let Err(error) = remote.delete(&meta.location).await {
            tracing::warn!(%error, "an old probe's object could not be deleted");
            return;
        }
    }
}

/// Whether the store itself said that the bytes are not those of the checksum: a bad request. A
/// connection that failed, or no answer, says nothing about what the store checks.
fn is_refusal(error: &object_store::Error) -> bool {
    // The client gives the status in words only; other words mean doubt, and doubt means read-back.
    one_line(error).contains("status code: 400")
}

/// Sends an object whose bytes are damaged after its checksum was taken. Only a store that refuses it
/// may spare uploads the read-back; any doubt means read-back.
async fn prove_checksums(
    remote: &Remote,
    folder: &Path,
    random: [u8; 16],
    body: Vec<u8>,
) -> Verification {
    let path = folder.clone().join(format!("{}-spoiled", Uuid(random)));
    let mut options = PutOptions::default();
    options.extensions.insert(Spoil);
    let putting = remote
        .store
        .put_opts(&path, PutPayload::from(body), options);
    let refused = match timeout(PUT_DEADLINE, putting).await {
        Ok(Err(error)) => is_refusal(&error),
        Ok(Ok(_)) | Err(_) => false,
    };
    let absent = matches!(
        remote.whole(&path).await,
        Err(RequestError::NotFound { .. })
    );
    if refused && absent {
        return Verification::StoreChecksum;
    }
    if let Err(error) = remote.delete(&path).await {
        tracing::warn!(%error, "the probe's second object could not be deleted");
    }
    Verification::ReadBack
}

#[cfg(test)]
mod tests;
