//! `esker tier ls` and `esker tier stat`.

use std::collections::BTreeMap;

use clap::Args;
use esker_protocol::TopicId;
use esker_tier::inspect::{Bucket, Contents};
use esker_tier::layout::Place;
use serde_json::json;

use super::{Filter, Store, failed, folder, span};
use crate::cli::{Outcome, Output, say, table};

/// Options of `esker tier ls`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Ls {
    #[command(flatten)]
    store: Store,
    #[command(flatten)]
    filter: Filter,
    /// List every object.
    #[arg(long)]
    objects: bool,
    /// How to print.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// Options of `esker tier stat`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Stat {
    #[command(flatten)]
    store: Store,
    #[command(flatten)]
    filter: Filter,
    /// How to print.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(super) async fn ls(options: &Ls) -> Outcome {
    let bucket = options.store.open()?;
    let listing = options.filter.list(&bucket).await?;
    if listing.partitions.is_empty() && options.output == Output::Table {
        say("no partitions");
        return Ok(());
    }
    let mut rows = Vec::new();
    for (place, contents) in &listing.partitions {
        match (options.objects, options.output) {
            (true, Output::Table) => rows.extend(object_rows(place, contents)),
            (true, Output::Json) => {
                for (name, bytes) in &contents.objects {
                    say(json!({
                        "path": format!("{}/{name}", folder(place)),
                        "topic_id": place.topic_id.to_string(),
                        "partition": place.partition,
                        "base": name.base.0,
                        "end": name.end.0,
                        "leader_epoch": name.leader_epoch.0,
                        "bytes": bytes,
                    }));
                }
            }
            (false, Output::Table) => rows.push(partition_row(place, contents)),
            (false, Output::Json) => say(json!({
                "cluster_id": place.cluster_id,
                "topic_id": place.topic_id.to_string(),
                "partition": place.partition,
                "objects": contents.objects.len(),
                "bytes": contents.object_bytes(),
                "base": span(contents).map(|(base, _)| base),
                "end": span(contents).map(|(_, end)| end),
                "manifest": contents.newest_head().map(ToString::to_string),
            })),
        }
    }
    if options.output == Output::Table {
        let columns: &[&str] = if options.objects {
            &["BASE", "END", "EPOCH", "BYTES", "PATH"]
        } else {
            &[
                "TOPIC ID",
                "PARTITION",
                "OBJECTS",
                "BYTES",
                "BASE",
                "END",
                "MANIFEST",
                "CLUSTER",
            ]
        };
        say(table::render(columns, &rows));
        for (path, bytes) in &listing.unknown {
            say(format!("not of Esker: {path} ({})", table::size(*bytes)));
        }
    }
    Ok(())
}

fn object_rows(place: &Place, contents: &Contents) -> Vec<Vec<String>> {
    let row = |(name, bytes): (&esker_tier::layout::ObjectName, &u64)| {
        vec![
            name.base.to_string(),
            name.end.to_string(),
            name.leader_epoch.to_string(),
            bytes.to_string(),
            format!("{}/{name}", folder(place)),
        ]
    };
    contents.objects.iter().map(row).collect()
}

fn partition_row(place: &Place, contents: &Contents) -> Vec<String> {
    let (base, end) = span(contents).map_or_else(Default::default, |(base, end)| {
        (base.to_string(), end.to_string())
    });
    vec![
        place.topic_id.to_string(),
        place.partition.to_string(),
        contents.objects.len().to_string(),
        table::size(contents.object_bytes()),
        base,
        end,
        contents
            .newest_head()
            .map_or("none".to_owned(), |head| format!("v{}", head.version)),
        place.cluster_id.clone(),
    ]
}

/// What a topic takes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Totals {
    partitions: u64,
    objects: u64,
    stored_bytes: u64,
    named_bytes: u64,
    log_bytes: u64,
    offsets: i64,
}

impl Totals {
    /// How many bytes of log one stored byte holds.
    fn ratio(&self) -> Option<f64> {
        (self.named_bytes > 0).then(|| self.log_bytes as f64 / self.named_bytes as f64)
    }
}

pub(super) async fn stat(options: &Stat) -> Outcome {
    let bucket = options.store.open()?;
    let listing = options.filter.list(&bucket).await?;
    let mut topics: BTreeMap<(String, TopicId), Totals> = BTreeMap::new();
    for (place, contents) in &listing.partitions {
        let key = (place.cluster_id.clone(), place.topic_id);
        add(&bucket, place, contents, topics.entry(key).or_default()).await?;
    }
    match options.output {
        Output::Json => {
            for ((cluster_id, id), totals) in &topics {
                say(json!({
                    "cluster_id": cluster_id,
                    "topic_id": id.to_string(),
                    "partitions": totals.partitions,
                    "objects": totals.objects,
                    "stored_bytes": totals.stored_bytes,
                    "log_bytes": totals.log_bytes,
                    "ratio": totals.ratio(),
                    "offsets": totals.offsets,
                }));
            }
        }
        Output::Table if topics.is_empty() => say("no topics"),
        Output::Table => {
            let rows: Vec<Vec<String>> = topics
                .iter()
                .map(|((_, id), totals)| {
                    vec![
                        id.to_string(),
                        totals.partitions.to_string(),
                        totals.objects.to_string(),
                        table::size(totals.stored_bytes),
                        table::size(totals.log_bytes),
                        totals
                            .ratio()
                            .map_or("-".to_owned(), |ratio| format!("{ratio:.1} to 1")),
                        totals.offsets.to_string(),
                    ]
                })
                .collect();
            let columns = [
                "TOPIC ID",
                "PARTITIONS",
                "OBJECTS",
                "STORED",
                "LOG",
                "COMPRESSION",
                "OFFSETS",
            ];
            say(table::render(&columns, &rows));
        }
    }
    Ok(())
}

async fn add(bucket: &Bucket, place: &Place, contents: &Contents, totals: &mut Totals) -> Outcome {
    totals.partitions += 1;
    totals.objects += contents.objects.len() as u64;
    totals.stored_bytes += contents.object_bytes();
    if let Some(name) = contents.newest_head() {
        let head = bucket
            .head(place, &name.to_string())
            .await
            .map_err(failed)?;
        totals.named_bytes += head.object_bytes(head.log_start);
        totals.log_bytes += head.segment_bytes(head.log_start);
        totals.offsets += (head.tier_end - head.log_start).max(0);
    }
    Ok(())
}
