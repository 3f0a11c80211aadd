//! `esker tier cat`.

use std::io::{self, IsTerminal, Write};

use bytes::Bytes;
use clap::Args;
use esker_protocol::records::{Batch, Batches};
use esker_tier::inspect::{Bucket, Listing, partition_of};
use esker_tier::layout::{self, Named, Place};
use object_store::path::Path;

use super::{Filter, Store, failed};
use crate::cli::{Failure, Outcome, Output, log};

/// Options of `esker tier cat`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Cat {
    /// An object's path, as `esker tier ls --objects` prints it. Without it, the partition that
    /// --topic-id and --partition name.
    #[arg(value_name = "OBJECT", conflicts_with_all = ["topic_id", "partition"])]
    object: Option<String>,
    #[command(flatten)]
    store: Store,
    #[command(flatten)]
    filter: Filter,
    /// Leave out batches that end before this offset.
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: i64,
    /// Leave out batches that begin at or after this offset.
    #[arg(long, value_name = "OFFSET", default_value_t = i64::MAX)]
    to: i64,
    /// Print the records rather than the bytes of the .log files.
    #[arg(long)]
    records: bool,
    /// How to print records.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// An object that is to be written.
struct Wanted {
    path: Path,
    bytes: u64,
}

pub(super) async fn run(options: &Cat) -> Outcome {
    if !options.records && io::stdout().is_terminal() {
        let line =
            "cat: the bytes of .log files would upset a terminal; redirect them, or use --records";
        return Err(Failure::Usage(line.to_owned()));
    }
    let bucket = options.store.open()?;
    let wanted = match &options.object {
        Some(path) => vec![object(&bucket, path).await?],
        None => partition(&bucket, options).await?,
    };
    for object in wanted {
        let (index, _) = bucket
            .index(&object.path, object.bytes)
            .await
            .map_err(failed)?;
        let mut outcome = Ok(());
        let read = bucket.cat(&object.path, &index, |frame| {
            if outcome.is_ok() {
                outcome = write(&frame, options);
            }
        });
        read.await.map_err(failed)?;
        match outcome {
            Ok(()) => {}
            Err(Stop::Closed) => return Ok(()),
            Err(Stop::Failed(failure)) => return Err(failure),
        }
    }
    Ok(())
}

/// Why nothing more is written.
enum Stop {
    /// Whoever read has closed the pipe: they have seen enough.
    Closed,
    Failed(Failure),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Stop::Closed,
            _ => Stop::Failed(Failure::Failed(format!("stdout: {error}"))),
        }
    }
}

/// The object at a path that the user gave.
async fn object(bucket: &Bucket, text: &str) -> Result<Wanted, Failure> {
    let unknown = || Failure::Failed(format!("{text}: no such object"));
    let path = Path::parse(text).map_err(|error| Failure::Usage(error.to_string()))?;
    let Some(Named::Object { place, name }) = layout::parse(&path) else {
        let line = format!("{text}: not the path of an object; `esker tier ls --objects` has them");
        return Err(Failure::Usage(line));
    };
    let prefix = layout::partition_prefix(&partition_of(&place));
    let listing = bucket.list(Some(&prefix)).await.map_err(failed)?;
    let contents = listing.partitions.get(&place).ok_or_else(unknown)?;
    let bytes = contents.objects.get(&name).copied().ok_or_else(unknown)?;
    Ok(Wanted { path, bytes })
}

/// The objects of the partition that the options name, as its newest manifest has them.
async fn partition(bucket: &Bucket, options: &Cat) -> Result<Vec<Wanted>, Failure> {
    if options.filter.topic_id.is_none() || options.filter.partition.is_none() {
        let line = "cat: name an object, or a partition with --topic-id and --partition";
        return Err(Failure::Usage(line.to_owned()));
    }
    let listing = options.filter.list(bucket).await?;
    let place = only(&listing)?;
    let contents = listing.partitions.get(place);
    let Some(name) = contents.and_then(|contents| contents.newest_head()) else {
        return Err(Failure::Failed("the partition has no manifest".to_owned()));
    };
    let head = bucket
        .head(place, &name.to_string())
        .await
        .map_err(failed)?;
    let entries = bucket.entries(place, &head).await.map_err(failed)?;
    let from = options.from.max(head.log_start.0);
    let taken = entries
        .iter()
        .filter(|entry| entry.end.0 > from && entry.base.0 < options.to);
    let wanted = taken.map(|entry| Wanted {
        path: layout::object(&partition_of(place), &entry.name()),
        bytes: entry.object_bytes,
    });
    Ok(wanted.collect())
}

/// The one partition that was found.
fn only(listing: &Listing) -> Result<&Place, Failure> {
    let mut places = listing.partitions.keys();
    match (places.next(), places.next()) {
        (Some(place), None) => Ok(place),
        (None, _) => Err(Failure::Failed("no such partition in the store".to_owned())),
        _ => Err(Failure::Failed(
            "several clusters have that partition; name an object".to_owned(),
        )),
    }
}

/// Writes the wanted batches of a frame, which holds whole ones.
fn write(frame: &Bytes, options: &Cat) -> Result<(), Stop> {
    let mut stdout = io::stdout();
    for batch in Batches::new(frame) {
        let batch = batch.map_err(|error| Stop::Failed(Failure::failed(error)))?;
        if !is_wanted(&batch, options.from, options.to) {
            continue;
        }
        if options.records {
            let printed = log::print_records(&batch, options.output);
            printed.map_err(|error| Stop::Failed(Failure::Failed(error)))?;
        } else {
            stdout.write_all(batch.bytes())?;
        }
        stdout.flush()?;
    }
    Ok(())
}

fn is_wanted(batch: &Batch<'_>, from: i64, to: i64) -> bool {
    batch.header().last_offset().0 >= from && batch.header().base_offset.0 < to
}
