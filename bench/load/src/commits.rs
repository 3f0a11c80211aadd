//! Offsets, one at a time on each connection: as fast as they are answered, or at a rate. At a rate an
//! answer that comes late delays no question's time, and its lateness counts as latency of the next.

use std::sync::Arc;
use std::time::Duration;

use esker_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, offset_commit_request};
use futures::future::try_join_all;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::arguments::Commits;
use crate::call::{Failure, Link};
use crate::latency::Latencies;
use crate::pace;
use crate::phase;
use crate::target::{Target, Topic};

/// The last version that names topics; later ones name their ids.
const NAMES_UNTIL: i16 = 9;

/// Who commits.
pub(crate) struct Author<'a> {
    pub(crate) group: &'a str,
    /// Empty for whoever is no member.
    pub(crate) member_id: &'a str,
    /// -1 for whoever is no member.
    pub(crate) epoch: i32,
}

/// Commits one offset for every partition of the topic.
pub(crate) async fn commit(
    link: &Link,
    author: &Author<'_>,
    topic: &Topic,
    offset: i64,
) -> Result<(), Failure> {
    let partition = |partition_index| offset_commit_request::OffsetCommitRequestPartition {
        partition_index,
        committed_offset: offset,
        committed_leader_epoch: -1,
        committed_metadata: Some("".into()),
    };
    let request = OffsetCommitRequest {
        group_id: author.group.into(),
        generation_id_or_member_epoch: author.epoch,
        member_id: author.member_id.into(),
        topics: vec![offset_commit_request::OffsetCommitRequestTopic {
            name: topic.name.as_str().into(),
            partitions: (0..topic.partitions).map(partition).collect(),
            ..Default::default()
        }],
        ..OffsetCommitRequest::default()
    };
    let read = |answer: &OffsetCommitResponse<'_>| {
        let topics = answer.topics.iter();
        let mut codes = topics.flat_map(|topic| topic.partitions.iter().map(|one| one.error_code));
        (codes.find(|code| *code != 0).unwrap_or(0), ())
    };
    link.call(Some(NAMES_UNTIL), &request, read).await
}

pub(crate) async fn run(target: &Target, options: &Commits) -> Result<(), Failure> {
    let topic = target.make_topic(&[]).await?;
    let links = target.links(usize::from(options.connections)).await?;
    if let Some(link) = links.first() {
        target.find_coordinator(link).await?;
    }
    phase::ended("prepare", json!({ "connections": links.len() })).await;

    let began = Instant::now();
    let until = began + Duration::from_secs(options.seconds);
    let connections = u32::from(options.connections);
    let permits: Vec<Arc<Semaphore>> = links.iter().map(|_| Arc::new(Semaphore::new(0))).collect();
    let committing = links.iter().zip(&permits).zip(0..);
    let committing = committing.map(|((link, permits), connection)| {
        let turns = (0..).map(move |round| Turn {
            group: group(connection, connections, round, options.groups),
            due: options
                .rate
                .map(|rate| began + pace::due(number(connection, connections, round), rate)),
        });
        keep_committing(link, permits, target, &topic, turns, until)
    });
    if let Some(rate) = options.rate {
        pace::start(permits.clone(), began, rate, until);
    }
    let mut latencies = Latencies::new();
    for more in try_join_all(committing).await? {
        latencies.merge(&more);
    }
    let seconds = began.elapsed().as_secs_f64();
    let missed = permits.iter().map(|permits| permits.available_permits());
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    let figures = json!({
        "seconds": seconds,
        "commits": latencies.count(),
        "p50_ms": ms(latencies.percentile(50)),
        "p99_ms": ms(latencies.percentile(99)),
        "max_ms": ms(latencies.max()),
        "again": target.counts.again(),
        "missed": missed.sum::<usize>(),
    });
    phase::ended("commit", figures).await;
    Ok(())
}

/// One commit of a connection.
struct Turn {
    group: u32,
    /// When, where it does not follow the answer to the last: a permit is there then.
    due: Option<Instant>,
}

async fn keep_committing(
    link: &Link,
    permits: &Semaphore,
    target: &Target,
    topic: &Topic,
    turns: impl Iterator<Item = Turn>,
    until: Instant,
) -> Result<Latencies, Failure> {
    let mut latencies = Latencies::new();
    for (offset, turn) in (0..).zip(turns) {
        let asked = match turn.due {
            None => Instant::now(),
            Some(due) => match permits.acquire().await {
                Ok(permit) => {
                    permit.forget();
                    due
                }
                Err(_) => break,
            },
        };
        if asked >= until {
            break;
        }
        let author = Author {
            group: &format!("{}-{}", target.name, turn.group),
            member_id: "",
            epoch: -1,
        };
        commit(link, &author, topic, offset).await?;
        latencies.add(asked.elapsed());
    }
    Ok(latencies)
}

/// Which group a connection commits for in a round: all connections together come to all groups.
fn group(connection: u32, connections: u32, round: u32, groups: u32) -> u32 {
    let turn = number(connection, connections, round);
    u32::try_from(turn % u64::from(groups)).unwrap_or(0)
}

/// The number of a commit among those of all connections.
fn number(connection: u32, connections: u32, round: u32) -> u64 {
    u64::from(connection) + u64::from(connections) * u64::from(round)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn connections_together_come_to_every_group() {
        for (groups, connections) in [(1, 1), (10, 5), (10, 3), (1000, 100), (7, 20), (100, 64)] {
            let rounds = 0..groups;
            let turns = rounds.flat_map(|round| {
                (0..connections).map(move |at| group(at, connections, round, groups))
            });
            let seen: BTreeSet<u32> = turns.collect();
            let all: BTreeSet<u32> = (0..groups).collect();
            assert_eq!(seen, all, "{groups} groups, {connections} connections");
        }
    }
}
