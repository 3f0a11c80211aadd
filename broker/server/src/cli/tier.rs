//! `esker tier`: looks into the object store, without a broker. Nothing here changes anything.

mod cat;
mod show;
mod verify;

use std::sync::Arc;

use clap::{Args, Subcommand};
use esker_protocol::TopicId;
use esker_tier::inspect::{Bucket, Contents, InspectError, Listing};
use esker_tier::layout::{self, Place};
use esker_tier::pool::Inline;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;

use super::{Failure, Outcome, broker, run as runtime};

/// Commands on the object store.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List what is stored: partitions, or with --objects every object.
    Ls(show::Ls),
    /// Show what each topic takes: objects, bytes, compression, offsets.
    Stat(show::Stat),
    /// Write an object, or a range of a partition, to stdout as the bytes of its .log files.
    Cat(cat::Cat),
    /// Check every object and manifest, byte by byte.
    Verify(verify::Verify),
}

/// Where the objects are, and how to get at them.
#[derive(Debug, Args)]
struct Store {
    /// The store, as in object.store.url: s3://BUCKET/PREFIX or file:///PATH.
    #[arg(long = "object-store", value_name = "URL")]
    url: String,
    /// Set a property of the store, for instance object.store.s3.endpoint. May be given several
    /// times; what is left open comes from the AWS_* variables.
    #[arg(short = 'o', long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

/// Which part of the store.
#[derive(Debug, Args)]
struct Filter {
    /// Only this topic, by its id (22 characters, or 32 hexadecimal ones).
    #[arg(long, value_name = "ID", value_parser = topic_id)]
    topic_id: Option<TopicId>,
    /// Only partitions of this number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
}

fn topic_id(text: &str) -> Result<TopicId, String> {
    TopicId::from_hex(text).map_or_else(|| text.parse::<TopicId>().map_err(|e| e.to_string()), Ok)
}

pub(super) fn run(command: Command) -> Outcome {
    runtime::client_runtime()?.block_on(async {
        match command {
            Command::Ls(options) => show::ls(&options).await,
            Command::Stat(options) => show::stat(&options).await,
            Command::Cat(options) => cat::run(&options).await,
            Command::Verify(options) => verify::run(&options).await,
        }
    })
}

impl Store {
    /// Opens the store to look into it.
    fn open(&self) -> Result<Bucket, Failure> {
        let url = ("object.store.url".to_owned(), self.url.clone());
        let pairs = broker::parse_overrides(&self.overrides)?
            .into_iter()
            .chain([url]);
        let config = broker::from_pairs(pairs.collect())?;
        let store: Arc<dyn ObjectStore> = match self.url.strip_prefix("file://") {
            // A broker makes the folder and sweeps what was left half-written; whoever only looks
            // does neither, for a broker may be at work in it.
            Some(path) => Arc::new(folder_store(path)?),
            None => {
                let options = runtime::store_options(&config);
                esker_tier::store::open(&self.url, &options)
                    .map_err(|error| Failure::Usage(format!("--object-store: {error}")))?
            }
        };
        Ok(Bucket::new(store, Arc::new(Inline)))
    }
}

fn folder_store(path: &str) -> Result<LocalFileSystem, Failure> {
    let failed =
        |problem: String| Failure::Failed(format!("--object-store file://{path}: {problem}"));
    if !std::path::Path::new(path).is_dir() {
        return Err(failed("no such folder".to_owned()));
    }
    LocalFileSystem::new_with_prefix(path).map_err(|error| failed(error.to_string()))
}

impl Filter {
    fn takes(&self, place: &Place) -> bool {
        self.topic_id.is_none_or(|id| id == place.topic_id)
            && self
                .partition
                .is_none_or(|partition| partition == place.partition)
    }

    /// What the bucket holds of the wanted partitions.
    async fn list(&self, bucket: &Bucket) -> Result<Listing, Failure> {
        let mut listing = bucket.list(None).await.map_err(failed)?;
        listing.partitions.retain(|place, _| self.takes(place));
        Ok(listing)
    }
}

fn failed(error: InspectError) -> Failure {
    Failure::failed(error)
}

/// The folder of a partition within the bucket.
fn folder(place: &Place) -> String {
    layout::partition_prefix(&esker_tier::inspect::partition_of(place)).to_string()
}

/// First offset and end of what the objects hold, gaps or not.
fn span(contents: &Contents) -> Option<(i64, i64)> {
    let first = contents.objects.keys().map(|name| name.base.0).min()?;
    let end = contents.objects.keys().map(|name| name.end.0).max()?;
    Some((first, end))
}

#[cfg(test)]
mod tests;
