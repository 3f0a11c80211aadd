//! `esker group`: the groups of a live cluster and their offsets.

mod describe;
mod offsets;
mod reset;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::{Args, Subcommand};
use esker_client::{
    ByPartition, Client, ClientError, CommittedOffset, DescribedGroup, ListedGroup, ListedOffset,
    Metadata, OffsetSpec, TopicPartition,
};
use esker_protocol::ErrorCode;
use serde_json::json;
use tokio::time::Instant;

use super::client::{self, Target, fail, report};
use super::{Failure, Outcome, Output, run as runtime, say, table};

/// Commands on groups.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the groups.
    List(List),
    /// Show lag, members and what they own.
    Describe(describe::Describe),
    /// Delete groups without members, with all their offsets.
    Delete(Delete),
    /// Set offsets of a group without members.
    Reset(reset::Reset),
    /// Look after single offsets.
    #[command(subcommand)]
    Offsets(offsets::Command),
}

/// Options of `esker group list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only groups in this state, such as Stable or Empty. May be given several times.
    #[arg(long = "state", value_name = "STATE", value_parser = state)]
    states: Vec<String>,
    /// Only groups of this type: classic or consumer. May be given several times.
    #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
    types: Vec<String>,
    /// Show how far each group is behind.
    #[arg(long)]
    lag: bool,
    #[command(flatten)]
    target: Target,
}

/// Options of `esker group delete`.
#[derive(Debug, Args)]
pub(super) struct Delete {
    /// The groups.
    #[arg(required = true, value_name = "GROUP")]
    names: Vec<String>,
    /// Only say which groups would be deleted.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    target: Target,
}

/// The longest that a command waits for the ends of logs: one that has no leader is shown without.
const ENDS_WAIT_MAX: Duration = Duration::from_secs(5);

/// The states of groups, by Kafka's names.
const STATES: [&str; 7] = [
    "PreparingRebalance",
    "CompletingRebalance",
    "Assigning",
    "Reconciling",
    "Stable",
    "Empty",
    "Dead",
];

/// The types of groups, by Kafka's names.
const TYPES: [&str; 4] = ["classic", "consumer", "share", "streams"];

fn state(text: &str) -> Result<String, String> {
    one_of(&STATES, text)
}

fn kind(text: &str) -> Result<String, String> {
    one_of(&TYPES, text)
}

/// The name that a text means, whatever its case and hyphens.
fn one_of(names: &[&str], text: &str) -> Result<String, String> {
    let plain = text.replace(['-', '_'], "");
    let found = names.iter().find(|name| name.eq_ignore_ascii_case(&plain));
    match found {
        Some(name) => Ok((*name).to_owned()),
        None => Err(format!("must be one of {}", names.join(", "))),
    }
}

pub(super) fn run(command: Command) -> Outcome {
    runtime::client_runtime()?.block_on(async {
        match command {
            Command::List(options) => list(&options).await,
            Command::Describe(options) => describe::run(&options).await,
            Command::Delete(options) => delete(&options).await,
            Command::Reset(options) => reset::run(&options).await,
            Command::Offsets(command) => offsets::run(&command).await,
        }
    })
}

async fn list(options: &List) -> Outcome {
    let client = options.target.connect().await?;
    let deadline = client::deadline();
    let groups = client
        .list_groups(&options.states, &options.types, deadline)
        .await
        .map_err(|error| client::failed(&error))?;
    let (lags, failures) = if options.lag {
        lags(&client, &groups, deadline).await
    } else {
        Default::default()
    };
    let output = options.target.output;
    if output == Output::Json {
        for group in &groups {
            let mut line = json!({
                "group": group.group,
                "type": group.kind,
                "protocol_type": group.protocol_type,
                "state": group.state,
                "coordinator": group.coordinator.0,
            });
            if let (true, Some(line)) = (options.lag, line.as_object_mut()) {
                let lag = lags.get(&group.group);
                line.insert("lag".to_owned(), json!(lag.map(|lag| lag.total)));
            }
            say(line);
        }
    } else if groups.is_empty() {
        say("no groups");
    } else {
        say(listed(&groups, options.lag.then_some(&lags)));
    }
    fail(failures)
}

fn listed(groups: &[ListedGroup], lags: Option<&BTreeMap<String, Lag>>) -> String {
    let mut columns = vec!["GROUP", "TYPE", "PROTOCOL", "STATE", "COORDINATOR"];
    if lags.is_some() {
        columns.push("LAG");
    }
    let rows: Vec<Vec<String>> = groups
        .iter()
        .map(|group| {
            let mut row = vec![
                group.group.clone(),
                or_dash(&group.kind),
                or_dash(&group.protocol_type),
                or_dash(&group.state),
                group.coordinator.to_string(),
            ];
            row.extend(lags.map(|lags| number(lags.get(&group.group).map(|lag| lag.total))));
            row
        })
        .collect();
    table::render(&columns, &rows)
}

/// How far each group is behind, and why that is not known of the others.
async fn lags(
    client: &Client,
    groups: &[ListedGroup],
    deadline: Instant,
) -> (BTreeMap<String, Lag>, Vec<String>) {
    let names: Vec<String> = groups.iter().map(|group| group.group.clone()).collect();
    let committed = client.committed_offsets(&names, deadline).await;
    let partitions: BTreeSet<TopicPartition> = committed
        .values()
        .flatten()
        .flat_map(|offsets| offsets.keys().cloned())
        .collect();
    let ends = log_ends(client, &partitions, OffsetSpec::Latest, deadline).await;
    let mut failures = Vec::new();
    let mut lags = BTreeMap::new();
    for (group, outcome) in committed {
        match outcome {
            Ok(offsets) => {
                lags.insert(group, Lag::of(&progress(&offsets, &BTreeSet::new(), &ends)));
            }
            Err(error) => failures.push(client::chain(&error)),
        }
    }
    (lags, failures)
}

/// An end of each partition's log. Those that have no leader now are left out, soon.
async fn log_ends(
    client: &Client,
    partitions: &BTreeSet<TopicPartition>,
    spec: OffsetSpec,
    deadline: Instant,
) -> ByPartition<Result<Option<ListedOffset>, ClientError>> {
    let deadline = deadline.min(Instant::now() + ENDS_WAIT_MAX);
    client.list_offsets(partitions, spec, deadline).await
}

/// How far a group is in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Progress {
    topic: String,
    partition: i32,
    committed: Option<CommittedOffset>,
    end: Option<i64>,
}

impl Progress {
    fn current(&self) -> Option<i64> {
        self.committed.as_ref().map(|committed| committed.offset.0)
    }

    /// Below zero where the log is shorter than what was read of it: it was made anew.
    fn lag(&self) -> Option<i64> {
        Some(self.end?.saturating_sub(self.current()?))
    }
}

/// How far a group is in every partition that it has committed or owns.
fn progress(
    committed: &ByPartition<CommittedOffset>,
    owned: &BTreeSet<TopicPartition>,
    ends: &ByPartition<Result<Option<ListedOffset>, ClientError>>,
) -> Vec<Progress> {
    let partitions: BTreeSet<&TopicPartition> = committed.keys().chain(owned).collect();
    let row = |place: &TopicPartition| Progress {
        topic: place.0.clone(),
        partition: place.1,
        committed: committed.get(place).cloned(),
        end: match ends.get(place) {
            Some(Ok(Some(listed))) => Some(listed.offset.0),
            _ => None,
        },
    };
    partitions.into_iter().map(row).collect()
}

/// How far a group is behind in all its partitions together.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Lag {
    total: i64,
    /// Partitions whose lag is known.
    known: usize,
    /// Partitions whose lag is not.
    unknown: usize,
    /// The largest lag above zero, and where.
    largest: Option<(i64, TopicPartition)>,
}

impl Lag {
    fn of(progress: &[Progress]) -> Lag {
        let mut lag = Lag::default();
        for one in progress {
            let Some(behind) = one.lag() else {
                lag.unknown += 1;
                continue;
            };
            let behind = behind.max(0);
            lag.known += 1;
            lag.total = lag.total.saturating_add(behind);
            if behind > lag.largest.as_ref().map_or(0, |(largest, _)| *largest) {
                lag.largest = Some((behind, (one.topic.clone(), one.partition)));
            }
        }
        lag
    }
}

impl std::fmt::Display for Lag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let partitions = self.known + self.unknown;
        let plural = if partitions == 1 { "" } else { "s" };
        write!(f, "lag {} over {partitions} partition{plural}", self.total)?;
        if let Some((largest, (topic, partition))) = &self.largest {
            write!(f, ", at most {largest} in {topic}-{partition}")?;
        }
        match self.unknown {
            0 => Ok(()),
            unknown => write!(f, ", not known of {unknown}"),
        }
    }
}

fn number(value: Option<i64>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

async fn delete(options: &Delete) -> Outcome {
    let client = options.target.connect().await?;
    let deadline = client::deadline();
    let (outcomes, verb) = if options.dry_run {
        let groups = client.describe_groups(&options.names, deadline).await;
        let outcomes: BTreeMap<_, _> = groups
            .into_iter()
            .map(|(name, group)| (name, group.and_then(|group| deletable(&group))))
            .collect();
        (outcomes, "would be deleted")
    } else {
        let outcomes = client.delete_groups(&options.names, deadline).await;
        (outcomes, "deleted")
    };
    report(
        "group",
        outcomes,
        verb,
        options.dry_run,
        options.target.output,
    )
}

/// Whether a group could be deleted, as the error that a deletion would give.
fn deletable(group: &DescribedGroup) -> Result<(), ClientError> {
    if group.is_inactive() {
        return Ok(());
    }
    Err(ClientError::Kafka {
        what: format!("deleting group {}", group.group),
        code: ErrorCode::NonEmptyGroup,
        message: Some(format!(
            "it is {} and has {} members",
            group.state,
            group.members.len()
        )),
    })
}

/// Partitions as the command line names them: `TOPIC`, or `TOPIC:0,1`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Selection {
    topic: String,
    /// All of the topic's where none is named.
    partitions: Option<BTreeSet<i32>>,
}

fn selection(text: &str) -> Result<Selection, String> {
    let (topic, partitions) = match text.split_once(':') {
        None => (text, None),
        Some((topic, list)) => {
            let numbers: Option<BTreeSet<i32>> = list
                .split(',')
                .map(|number| number.trim().parse().ok().filter(|number| *number >= 0))
                .collect();
            let numbers = numbers.ok_or("the partitions must be numbers, as in TOPIC:0,1")?;
            (topic, Some(numbers))
        }
    };
    if topic.is_empty() {
        return Err("must be TOPIC or TOPIC:PARTITION,...".to_owned());
    }
    Ok(Selection {
        topic: topic.to_owned(),
        partitions,
    })
}

/// The partitions that are selected, of topics as metadata has them.
fn selected(
    selections: &[Selection],
    metadata: &Metadata,
) -> Result<BTreeSet<TopicPartition>, Failure> {
    let mut selected = BTreeSet::new();
    for Selection { topic, partitions } in selections {
        let known = metadata.topics.get(topic);
        let error = match known {
            Some(known) => known.error,
            None => Some(ErrorCode::UnknownTopicOrPartition),
        };
        if let Some(code) = error {
            return Err(Failure::Failed(format!("topic {topic}: {code}")));
        }
        let there: BTreeSet<i32> = known
            .map(|known| known.partitions.keys().copied().collect())
            .unwrap_or_default();
        let wanted = partitions.as_ref().unwrap_or(&there);
        if let Some(absent) = wanted.difference(&there).next() {
            return Err(Failure::Failed(format!(
                "topic {topic} has no partition {absent}"
            )));
        }
        selected.extend(wanted.iter().map(|partition| (topic.clone(), *partition)));
    }
    Ok(selected)
}

/// The one outcome of a call about one group.
fn only<V>(
    mut outcomes: BTreeMap<String, Result<V, ClientError>>,
    group: &str,
) -> Result<V, ClientError> {
    outcomes.remove(group).unwrap_or_else(|| {
        Err(ClientError::Nonsense {
            what: format!("asking about group {group}"),
            reason: "the group is missing".to_owned(),
        })
    })
}

#[cfg(test)]
mod tests;
