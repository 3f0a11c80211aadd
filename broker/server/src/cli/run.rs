//! What `esker dev`, `esker broker` and `esker demo` share: the runtime, logs, the real environment,
//! and the life of a broker process.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

use esker_metadata::{EmbeddedStore, MetadataStore};
use esker_storage::{Disk, RealDisk};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::Failure;
use crate::Broker;
use crate::config::{Config, MetadataStoreUrl};
use crate::environment::real::{RuntimeSpawner, SystemClock, TcpNetwork, randomness};
use crate::environment::{Environment, Spawner, Work};

/// The metadata database within the first log directory.
const METADATA_FILE: &str = "metadata.redb";

/// Threads that wait for disks: a few syncs, reads and deletions at a time.
const BLOCKING_THREADS_MAX: usize = 32;

/// Sends structured logs to stderr. `ESKER_LOG` filters them (for instance `debug`), and
/// `ESKER_LOG_FORMAT=json` makes each line an object.
#[expect(
    clippy::disallowed_methods,
    reason = "the command line reads the environment, once"
)]
pub(super) fn start_logs(default_level: &str) -> Result<(), Failure> {
    let filter = std::env::var("ESKER_LOG").unwrap_or_else(|_| default_level.to_owned());
    let filter =
        EnvFilter::try_new(&filter).map_err(|e| Failure::usage(format!("ESKER_LOG: {e}")))?;
    let json = std::env::var("ESKER_LOG_FORMAT").is_ok_and(|format| format == "json");
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = if json {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
    started.map_err(Failure::failed)
}

/// A runtime for a whole broker. Of each log directory's commits one thread may wait for the next.
pub(super) fn runtime(log_dirs: usize) -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("esker")
        .max_blocking_threads(BLOCKING_THREADS_MAX + log_dirs)
        .build()
        .map_err(|error| Failure::Failed(format!("the runtime cannot start: {error}")))
}

/// A runtime for a command that only talks to others.
pub(super) fn client_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("the runtime cannot start: {error}")))
}

/// The value of an environment variable that stands in for a key that is not set.
#[expect(
    clippy::disallowed_methods,
    reason = "the command line reads the environment, once"
)]
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// How an object store is reached, from the configuration and, for what it leaves open, from the
/// variables that S3 tools share.
pub(super) fn store_options(config: &Config) -> esker_tier::store::Options {
    let s3 = &config.s3;
    let or = |own: &Option<String>, name| own.clone().or_else(|| variable(name));
    esker_tier::store::Options {
        endpoint: or(&s3.endpoint, "AWS_ENDPOINT_URL"),
        region: or(&s3.region, "AWS_REGION"),
        access_key: or(&s3.access_key, "AWS_ACCESS_KEY_ID"),
        secret_key: or(&s3.secret_key, "AWS_SECRET_ACCESS_KEY"),
        ..esker_tier::store::Options::default()
    }
}

/// Builds the environment of a real process. Must run within the runtime.
pub(super) async fn environment(
    config: &Config,
) -> Result<(Environment, Arc<EmbeddedStore>), Failure> {
    let spawner: Arc<dyn Spawner> =
        Arc::new(RuntimeSpawner::new(tokio::runtime::Handle::current()));
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let object_store = match &config.object_store_url {
        Some(url) => {
            let opened = esker_tier::store::open(url, &store_options(config));
            Some(
                opened
                    .map_err(|error| Failure::Failed(format!("object.store.url={url}: {error}")))?,
            )
        }
        None => None,
    };
    let file = match &config.metadata_store {
        MetadataStoreUrl::EmbeddedAt(path) => path.clone(),
        MetadataStoreUrl::Embedded => config
            .log_dirs
            .first()
            .map(|dir| dir.join(METADATA_FILE))
            .unwrap_or_default(),
    };
    let parent = file.parent().unwrap_or(Path::new("."));
    disk.create_dir_all(parent)
        .map_err(|error| Failure::Failed(format!("{}: {error}", parent.display())))?;
    let blocking = {
        let spawner = Arc::clone(&spawner);
        Arc::new(move |job: Box<dyn FnOnce() + Send>| spawner.execute(Work::Blocking, job))
    };
    let metadata = EmbeddedStore::open(
        file,
        blocking,
        Arc::new(|reason: &str| {
            // What the file holds is unknown: nothing that this process still says can be trusted.
            tracing::error!(reason, "the metadata store failed");
            std::process::abort();
        }),
    )
    .await
    .map_err(Failure::failed)?;
    let metadata = Arc::new(metadata);
    let environment = Environment {
        disk,
        network: Arc::new(TcpNetwork),
        object_store,
        metadata: Arc::clone(&metadata) as Arc<dyn MetadataStore>,
        clock: Arc::new(SystemClock),
        randomness: randomness()
            .map_err(|error| Failure::Failed(format!("no random numbers: {error}")))?,
        spawner,
        registry: prometheus::Registry::new(),
    };
    Ok((environment, metadata))
}

/// Runs a broker until a signal or a failure ends it. `ready` prints what people need to know.
pub(super) async fn serve(config: Config, ready: impl FnOnce(&Broker)) -> Result<(), Failure> {
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| Failure::Failed(error.to_string()))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|error| Failure::Failed(error.to_string()))?;
    let config = Config {
        sockets_max: sockets_max(),
        ..config
    };
    let (environment, metadata) = environment(&config).await?;
    let started = tokio::select! {
        biased;
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
        started = Broker::start(config, environment) => started,
    };
    let broker = started.map_err(Failure::failed)?;
    let http = broker
        .http_address()
        .map_or("none".to_owned(), |address| address.to_string());
    super::say(format!(
        "ready kafka={} http={http}",
        broker.kafka_address()
    ));
    ready(&broker);
    let failure = tokio::select! {
        biased;
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        reason = broker.failed() => Some(reason),
    };
    match failure {
        None => {
            broker.stop().await;
            metadata.close().await;
            Ok(())
        }
        // Nothing is said good-bye to: after a failure, only recovery knows what is true.
        Some(reason) => Err(Failure::Failed(reason)),
    }
}

/// Descriptors that are not for client connections: segments, checkpoints, the object store.
const DESCRIPTORS_RESERVED: u64 = 1024;

/// Raises the limit of open descriptors as far as it goes and returns how many connections that
/// leaves room for: running out of descriptors would look like a failing disk.
fn sockets_max() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files was not raised");
    }
    let Some(files) = getrlimit(Resource::Nofile).current else {
        return usize::MAX;
    };
    let half = files / 2;
    usize::try_from(files.saturating_sub(DESCRIPTORS_RESERVED).max(half)).unwrap_or(usize::MAX)
}
