//! `esker group offsets`: single offsets of a group.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use esker_client::{ByPartition, CommittedOffset, TopicPartition};
use serde_json::json;

use super::{Selection, only, selection};
use crate::cli::client::{self, Target, fail};
use crate::cli::{Failure, Outcome, Output, say, table};

/// Commands on single offsets.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// Delete offsets of topics that no member reads.
    Delete(Delete),
}

/// Options of `esker group offsets delete`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Delete {
    /// The group.
    #[arg(value_name = "GROUP")]
    name: String,
    /// A topic, or some of its partitions: TOPIC or TOPIC:0,1. May be given several times.
    #[arg(long = "topic", value_name = "TOPIC", value_parser = selection, required = true)]
    topics: Vec<Selection>,
    /// Only show what would be deleted.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(command: &Command) -> Outcome {
    let Command::Delete(options) = command;
    let client = options.target.connect().await?;
    let deadline = client::deadline();
    let name = &options.name;
    let committed = client
        .committed_offsets(std::slice::from_ref(name), deadline)
        .await;
    let committed = only(committed, name).map_err(|error| client::failed(&error))?;
    let places = chosen(&options.topics, &committed);
    if places.is_empty() {
        let line = format!("group {name} has no offsets there");
        return Err(Failure::Failed(line));
    }
    let mut outcomes = if options.dry_run {
        places.iter().map(|place| (place.clone(), Ok(()))).collect()
    } else {
        let deleted = client.delete_offsets(name, places.clone(), deadline).await;
        deleted.map_err(|error| client::failed(&error))?
    };
    let verb = if options.dry_run {
        "would be deleted"
    } else {
        "deleted"
    };
    let mut failures = Vec::new();
    for place in places {
        let error = outcomes.remove(&place).and_then(Result::err);
        let offset = committed.get(&place).map(|committed| committed.offset.0);
        let (topic, partition) = &place;
        match options.target.output {
            Output::Table if error.is_none() => {
                let line = format!(
                    "group {name}: offset {} of {topic}-{partition} {verb}",
                    super::number(offset)
                );
                say(table::clean(&line));
            }
            Output::Table => {}
            Output::Json => say(json!({
                "group": name,
                "topic": topic,
                "partition": partition,
                "current": offset,
                "ok": error.is_none(),
                "dry_run": options.dry_run,
                "code": error.as_ref().and_then(|error| error.code()).map(|code| code.name()),
                "error": error.as_ref().map(|error| client::chain(error)),
            })),
        }
        failures.extend(error.map(|error| client::chain(&error)));
    }
    fail(failures)
}

/// The committed offsets that are selected: also of topics that are gone.
fn chosen(
    selections: &[Selection],
    committed: &ByPartition<CommittedOffset>,
) -> BTreeSet<TopicPartition> {
    let is_chosen = |place: &&TopicPartition| {
        selections.iter().any(|selection| {
            let numbers = selection.partitions.as_ref();
            selection.topic == place.0 && numbers.is_none_or(|numbers| numbers.contains(&place.1))
        })
    };
    committed.keys().filter(is_chosen).cloned().collect()
}
