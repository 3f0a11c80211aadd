//! `esker group describe`.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use esker_client::{
    ByPartition, CommittedOffset, DescribedGroup, GroupKind, GroupMember, OffsetSpec,
    TopicPartition,
};
use serde_json::{Value, json};

use super::{Lag, Progress, log_ends, number, or_dash, progress};
use crate::cli::client::{self, Target, fail};
use crate::cli::{Outcome, Output, say, table};

/// Options of `esker group describe`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Describe {
    /// The groups.
    #[arg(value_name = "GROUP", required_unless_present = "all")]
    names: Vec<String>,
    /// All groups.
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Only the offsets.
    #[arg(long, conflicts_with = "members")]
    offsets: bool,
    /// Only the members.
    #[arg(long)]
    members: bool,
    #[command(flatten)]
    target: Target,
}

/// Which parts are shown.
#[derive(Debug, Clone, Copy)]
struct Parts {
    offsets: bool,
    members: bool,
}

pub(super) async fn run(options: &Describe) -> Outcome {
    let client = options.target.connect().await?;
    let deadline = client::deadline();
    let names = if options.all {
        let listed = client.list_groups(&[], &[], deadline).await;
        let listed = listed.map_err(|error| client::failed(&error))?;
        listed.into_iter().map(|group| group.group).collect()
    } else {
        options.names.clone()
    };
    let mut described = client.describe_groups(&names, deadline).await;
    let mut committed = client.committed_offsets(&names, deadline).await;
    let mut partitions = BTreeSet::new();
    for offsets in committed.values().flatten() {
        partitions.extend(offsets.keys().cloned());
    }
    for group in described.values().flatten() {
        partitions.extend(owned(group).into_keys());
    }
    let ends = log_ends(&client, &partitions, OffsetSpec::Latest, deadline).await;
    let parts = Parts {
        offsets: !options.members,
        members: !options.offsets,
    };
    let mut failures = Vec::new();
    let mut blocks = Vec::new();
    for name in &names {
        // A name that was given twice is shown once.
        let (Some(group), Some(committed)) = (described.remove(name), committed.remove(name))
        else {
            continue;
        };
        let (group, committed): (DescribedGroup, ByPartition<CommittedOffset>) =
            match (group, committed) {
                (Ok(group), Ok(committed)) => (group, committed),
                (Err(error), _) | (_, Err(error)) => {
                    failures.push(client::chain(&error));
                    continue;
                }
            };
        let owned = owned(&group).into_keys().collect();
        let progress = progress(&committed, &owned, &ends);
        match options.target.output {
            Output::Table => blocks.push(shown(&group, &progress, parts)),
            Output::Json => say(shown_json(&group, &progress, parts)),
        }
    }
    match options.target.output {
        Output::Table if names.is_empty() => say("no groups"),
        Output::Table if !blocks.is_empty() => say(blocks.join("\n\n")),
        _ => {}
    }
    fail(failures)
}

/// Which members own each partition: one, unless an assignor went wrong.
fn owned(group: &DescribedGroup) -> BTreeMap<TopicPartition, Vec<&GroupMember>> {
    let mut owned: BTreeMap<TopicPartition, Vec<&GroupMember>> = BTreeMap::new();
    for member in &group.members {
        for partition in member.assignment.iter().flatten() {
            owned.entry(partition.clone()).or_default().push(member);
        }
    }
    owned
}

fn kind(group: &DescribedGroup) -> &'static str {
    match group.kind {
        GroupKind::Classic => "classic",
        GroupKind::Consumer => "consumer",
    }
}

fn shown(group: &DescribedGroup, progress: &[Progress], parts: Parts) -> String {
    let epochs = group.epochs.map_or(String::new(), |(group, assignment)| {
        format!("  epoch {group}  assignment epoch {assignment}")
    });
    let mut lines = vec![
        table::clean(&format!("group {}  {}", group.group, Lag::of(progress))).into_owned(),
        table::clean(&format!(
            "state {}  type {}  protocol {}  assignor {}  coordinator {} at {}  members {}{epochs}",
            or_dash(&group.state),
            kind(group),
            or_dash(&group.protocol_type),
            or_dash(&group.assignor),
            group.coordinator.broker,
            group.coordinator.endpoint,
            group.members.len(),
        ))
        .into_owned(),
    ];
    if parts.offsets && !progress.is_empty() {
        lines.push(offsets_table(group, progress));
    }
    if parts.members && !group.members.is_empty() {
        lines.push(members_table(group));
    }
    lines.join("\n")
}

const OFFSET_COLUMNS: [&str; 8] = [
    "TOPIC",
    "PARTITION",
    "CURRENT",
    "END",
    "LAG",
    "OWNER",
    "CLIENT",
    "HOST",
];

fn offsets_table(group: &DescribedGroup, progress: &[Progress]) -> String {
    let owned = owned(group);
    let rows: Vec<Vec<String>> = progress
        .iter()
        .map(|one| {
            let owners = owned.get(&(one.topic.clone(), one.partition));
            let each = |what: fn(&GroupMember) -> &str| {
                let owners = owners.into_iter().flatten();
                let texts: Vec<&str> = owners.map(|member| what(member)).collect();
                or_dash(&texts.join(","))
            };
            vec![
                one.topic.clone(),
                one.partition.to_string(),
                number(one.current()),
                number(one.end),
                number(one.lag()),
                each(|member| &member.id),
                each(|member| &member.client_id),
                each(|member| &member.host),
            ]
        })
        .collect();
    table::render(&OFFSET_COLUMNS, &rows)
}

const MEMBER_COLUMNS: [&str; 7] = [
    "MEMBER",
    "CLIENT",
    "HOST",
    "INSTANCE",
    "EPOCH",
    "PARTITIONS",
    "ASSIGNMENT",
];

fn members_table(group: &DescribedGroup) -> String {
    let rows: Vec<Vec<String>> = group
        .members
        .iter()
        .map(|member| {
            let assignment = member.assignment.as_ref();
            vec![
                member.id.clone(),
                or_dash(&member.client_id),
                or_dash(&member.host),
                or_dash(member.instance_id.as_deref().unwrap_or_default()),
                number(member.epoch.map(i64::from)),
                assignment.map_or("?".to_owned(), |assigned| assigned.len().to_string()),
                assignment.map_or("?".to_owned(), |assigned| or_dash(&compact(assigned))),
            ]
        })
        .collect();
    table::render(&MEMBER_COLUMNS, &rows)
}

/// Partitions by topic.
fn by_topic(partitions: &BTreeSet<TopicPartition>) -> BTreeMap<&str, Vec<i32>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(topic).or_default().push(*partition);
    }
    topics
}

/// Partitions in few characters: `events:0-2,5 orders:1`.
fn compact(partitions: &BTreeSet<TopicPartition>) -> String {
    let topics = by_topic(partitions).into_iter().map(|(topic, numbers)| {
        let mut spans: Vec<(i32, i32)> = Vec::new();
        for number in numbers {
            match spans.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
                _ => spans.push((number, number)),
            }
        }
        let spans: Vec<String> = spans
            .into_iter()
            .map(|(first, last)| {
                if first == last {
                    first.to_string()
                } else {
                    format!("{first}-{last}")
                }
            })
            .collect();
        format!("{topic}:{}", spans.join(","))
    });
    topics.collect::<Vec<_>>().join(" ")
}

fn shown_json(group: &DescribedGroup, progress: &[Progress], parts: Parts) -> Value {
    let lag = Lag::of(progress);
    let mut shown = json!({
        "group": group.group,
        "type": kind(group),
        "state": group.state,
        "protocol_type": group.protocol_type,
        "assignor": group.assignor,
        "group_epoch": group.epochs.map(|(epoch, _)| epoch),
        "assignment_epoch": group.epochs.map(|(_, epoch)| epoch),
        "coordinator": {
            "broker": group.coordinator.broker.0,
            "endpoint": group.coordinator.endpoint.to_string(),
        },
        "lag": lag.total,
        "lag_unknown_partitions": lag.unknown,
    });
    let Some(fields) = shown.as_object_mut() else {
        return shown;
    };
    if parts.offsets {
        let owned = owned(group);
        let offsets = progress.iter().map(|one| {
            let owners = owned.get(&(one.topic.clone(), one.partition));
            let owners: Vec<&str> = owners
                .into_iter()
                .flatten()
                .map(|member| member.id.as_str())
                .collect();
            let committed = one.committed.as_ref();
            json!({
                "topic": one.topic,
                "partition": one.partition,
                "current": one.current(),
                "leader_epoch": committed.and_then(|one| one.leader_epoch).map(|epoch| epoch.0),
                "metadata": committed.map(|one| &one.metadata),
                "end": one.end,
                "lag": one.lag(),
                "owners": owners,
            })
        });
        fields.insert("offsets".to_owned(), offsets.collect());
    }
    if parts.members {
        let members = group.members.iter().map(|member| {
            json!({
                "member": member.id,
                "instance": member.instance_id,
                "client": member.client_id,
                "host": member.host,
                "rack": member.rack,
                "epoch": member.epoch,
                "classic": member.is_classic,
                "assignment": member.assignment.as_ref().map(by_topic),
                "target": member.target.as_ref().map(by_topic),
            })
        });
        fields.insert("members".to_owned(), members.collect());
    }
    shown
}

#[cfg(test)]
mod tests;
