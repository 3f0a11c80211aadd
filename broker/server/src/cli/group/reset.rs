//! `esker group reset`: where a group reads next.

use std::collections::BTreeSet;

use clap::Args;
use esker_client::{
    ByPartition, Client, ClientError, CommittedOffset, ListedOffset, OffsetSpec, TopicPartition,
};
use esker_protocol::{ErrorCode, Offset, Timestamp};
use serde_json::json;
use tokio::time::Instant;

use super::{Selection, log_ends, number, only, selected, selection};
use crate::cli::client::{self, Target, fail};
use crate::cli::{Failure, Outcome, Output, say, table};

/// Options of `esker group reset`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Reset {
    /// The group. One that does not exist yet begins with these offsets.
    #[arg(value_name = "GROUP")]
    name: String,
    /// A topic, or some of its partitions: TOPIC or TOPIC:0,1. May be given several times.
    #[arg(long = "topic", value_name = "TOPIC", value_parser = selection,
        required_unless_present = "all_topics")]
    topics: Vec<Selection>,
    /// Every partition that the group has an offset of.
    #[arg(long, conflicts_with = "topics")]
    all_topics: bool,
    #[command(flatten)]
    to: To,
    /// Only show what would be set.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    target: Target,
}

/// Where to.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct To {
    /// This offset, or the nearest that the log has.
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// The first record.
    #[arg(long)]
    to_earliest: bool,
    /// The end: only records that are yet to come.
    #[arg(long)]
    to_latest: bool,
    /// The first record at or after a time: RFC 3339, or milliseconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = time)]
    to_time: Option<Timestamp>,
    /// So many records on, or back where it is negative.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    shift_by: Option<i64>,
}

fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(milliseconds) = text.parse::<i64>() {
        // Below zero are the special values of ListOffsets.
        return match milliseconds {
            0.. => Ok(Timestamp(milliseconds)),
            _ => Err("must not be before 1970".to_owned()),
        };
    }
    let time = chrono::DateTime::parse_from_rfc3339(text).map_err(|error| {
        format!("must be milliseconds, or a time such as 2026-01-31T12:00:00Z ({error})")
    })?;
    match time.timestamp_millis() {
        milliseconds @ 0.. => Ok(Timestamp(milliseconds)),
        _ => Err("must not be before 1970".to_owned()),
    }
}

/// Where each partition is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    Offset(i64),
    Earliest,
    Latest,
    Time(Timestamp),
    Shift(i64),
}

impl To {
    fn goal(&self) -> Goal {
        match self {
            To {
                to_offset: Some(offset),
                ..
            } => Goal::Offset(*offset),
            To {
                to_time: Some(time),
                ..
            } => Goal::Time(*time),
            To {
                shift_by: Some(count),
                ..
            } => Goal::Shift(*count),
            To {
                to_earliest: true, ..
            } => Goal::Earliest,
            // Exactly one is given.
            To { .. } => Goal::Latest,
        }
    }
}

/// What a plan needs to know of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    place: TopicPartition,
    /// Where the group is.
    current: Option<i64>,
    /// The first offset of the log, and the one after its last.
    log: (i64, i64),
    /// The first record at or after the wanted time.
    at_time: Option<i64>,
}

/// What is to be set.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    place: TopicPartition,
    current: Option<i64>,
    new: i64,
    /// What is not as it was asked for.
    note: Option<&'static str>,
}

/// Where each partition goes: never out of its log.
fn plan(goal: Goal, facts: &[Facts]) -> Result<Vec<Step>, String> {
    facts.iter().map(|facts| step(goal, facts)).collect()
}

fn step(goal: Goal, facts: &Facts) -> Result<Step, String> {
    let (start, end) = facts.log;
    let (wanted, note) = match goal {
        Goal::Earliest => (start, None),
        Goal::Latest => (end, None),
        Goal::Offset(offset) => (offset, None),
        Goal::Time(_) => match facts.at_time {
            Some(offset) => (offset, None),
            None => (end, Some("no record is that new: the end")),
        },
        Goal::Shift(count) => match facts.current {
            Some(current) => (current.saturating_add(count), None),
            None => {
                let (topic, partition) = &facts.place;
                return Err(format!(
                    "cannot shift {topic}-{partition}: the group has no offset there"
                ));
            }
        },
    };
    let (new, note) = if wanted < start {
        (start, Some("before the log: its start"))
    } else if wanted > end {
        (end, Some("after the log: its end"))
    } else {
        (wanted, note)
    };
    Ok(Step {
        place: facts.place.clone(),
        current: facts.current,
        new,
        note,
    })
}

pub(super) async fn run(options: &Reset) -> Outcome {
    let client = options.target.connect().await?;
    let deadline = client::deadline();
    let name = &options.name;
    let names = [name.clone()];
    let goal = options.to.goal();
    let described = client.describe_groups(&names, deadline).await;
    match only(described, name) {
        Ok(group) if !group.is_inactive() => {
            return Err(Failure::Failed(format!(
                "group {name} is {} with members ({}): offsets are set while it has none, stop them first",
                group.state,
                group.members.len()
            )));
        }
        Ok(_) => {}
        Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => {}
        Err(error) => return Err(client::failed(&error)),
    }
    let committed = client.committed_offsets(&names, deadline).await;
    let committed = only(committed, name).map_err(|error| client::failed(&error))?;
    let partitions = partitions(&client, options, &committed, deadline).await?;
    let facts = facts(&client, &partitions, &committed, goal, deadline).await?;
    let steps = plan(goal, &facts).map_err(Failure::Failed)?;
    let mut outcomes: ByPartition<Result<(), ClientError>> = if options.dry_run {
        let places = steps.iter().map(|step| (step.place.clone(), Ok(())));
        places.collect()
    } else {
        let offsets = steps
            .iter()
            .map(|step| (step.place.clone(), Offset(step.new)));
        let set = client.set_offsets(name, offsets.collect(), deadline).await;
        set.map_err(|error| client::failed(&error))?
    };
    let mut done = Vec::new();
    let mut failures = Vec::new();
    for step in steps {
        match outcomes.remove(&step.place) {
            Some(Err(error)) => {
                failures.push(client::chain(&error));
                if options.target.output == Output::Json {
                    say(step_json(name, &step, options.dry_run, Some(&error)));
                }
            }
            _ if options.target.output == Output::Json => {
                say(step_json(name, &step, options.dry_run, None));
            }
            _ => done.push(step),
        }
    }
    if !done.is_empty() {
        say(shown(name, &done, options.dry_run));
    }
    fail(failures)
}

/// The partitions that the options name.
async fn partitions(
    client: &Client,
    options: &Reset,
    committed: &ByPartition<CommittedOffset>,
    deadline: Instant,
) -> Result<BTreeSet<TopicPartition>, Failure> {
    if options.all_topics {
        if committed.is_empty() {
            let line = format!(
                "group {} has no offsets; name topics with --topic",
                options.name
            );
            return Err(Failure::Failed(line));
        }
        return Ok(committed.keys().cloned().collect());
    }
    let topics: Vec<&str> = options
        .topics
        .iter()
        .map(|selection| selection.topic.as_str())
        .collect();
    let metadata = client.metadata(Some(&topics), deadline).await;
    let metadata = metadata.map_err(|error| client::failed(&error))?;
    selected(&options.topics, &metadata)
}

/// What the logs hold. One of which that is not known ends the command: nothing is set by guess.
async fn facts(
    client: &Client,
    partitions: &BTreeSet<TopicPartition>,
    committed: &ByPartition<CommittedOffset>,
    goal: Goal,
    deadline: Instant,
) -> Result<Vec<Facts>, Failure> {
    let mut starts = log_ends(client, partitions, OffsetSpec::Earliest, deadline).await;
    let mut ends = log_ends(client, partitions, OffsetSpec::Latest, deadline).await;
    let mut times = match goal {
        Goal::Time(time) => log_ends(client, partitions, OffsetSpec::At(time), deadline).await,
        _ => ByPartition::new(),
    };
    let mut facts = Vec::new();
    for place in partitions {
        let known = |listed: Option<Result<Option<ListedOffset>, ClientError>>| match listed {
            Some(Ok(Some(listed))) => Ok(listed.offset.0),
            Some(Err(error)) => Err(client::failed(&error)),
            Some(Ok(None)) | None => {
                let (topic, partition) = place;
                let line = format!("the log of {topic}-{partition} has no start or no end");
                Err(Failure::Failed(line))
            }
        };
        let at_time = match times.remove(place) {
            Some(listed) => listed
                .map_err(|error| client::failed(&error))?
                .map(|listed| listed.offset.0),
            None => None,
        };
        facts.push(Facts {
            place: place.clone(),
            current: committed.get(place).map(|committed| committed.offset.0),
            log: (known(starts.remove(place))?, known(ends.remove(place))?),
            at_time,
        });
    }
    Ok(facts)
}

const COLUMNS: [&str; 6] = ["TOPIC", "PARTITION", "CURRENT", "NEW", "CHANGE", "NOTE"];

fn shown(group: &str, steps: &[Step], dry_run: bool) -> String {
    let rows: Vec<Vec<String>> = steps
        .iter()
        .map(|step| {
            let change = step.current.map(|current| step.new.saturating_sub(current));
            vec![
                step.place.0.clone(),
                step.place.1.to_string(),
                number(step.current),
                step.new.to_string(),
                change.map_or("-".to_owned(), |change| format!("{change:+}")),
                step.note.unwrap_or_default().to_owned(),
            ]
        })
        .collect();
    let verb = if dry_run { "would be set" } else { "set" };
    let plural = if steps.len() == 1 { "" } else { "s" };
    let head = format!("group {group}: {} offset{plural} {verb}", steps.len());
    format!(
        "{}\n{}",
        table::clean(&head),
        table::render(&COLUMNS, &rows)
    )
}

fn step_json(
    group: &str,
    step: &Step,
    dry_run: bool,
    error: Option<&ClientError>,
) -> serde_json::Value {
    json!({
        "group": group,
        "topic": step.place.0,
        "partition": step.place.1,
        "current": step.current,
        "new": step.new,
        "note": step.note,
        "ok": error.is_none(),
        "dry_run": dry_run,
        "code": error.and_then(ClientError::code).map(ErrorCode::name),
        "error": error.map(|error| client::chain(error)),
    })
}

#[cfg(test)]
mod tests;
