//! A member of a consumer group (KIP-848), as the Java consumer is with its defaults.
//!
//! It tells what it owns after each change, at once; otherwise it is heard at the interval that the
//! broker asks for. Giving up and taking over partitions takes it no time.

use std::time::Duration;

use esker_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, consumer_group_heartbeat_request,
};
use tokio::time::sleep;

use crate::call::Failure;
use crate::crew::Member;

/// Epochs that mean something.
const JOINING: i32 = 0;
const LEAVING: i32 = -1;
/// The consumer's `max.poll.interval.ms`.
const REBALANCE_TIMEOUT_MS: i32 = 300_000;

/// What a member knows of itself.
#[derive(Debug, Default)]
struct State {
    epoch: i32,
    owned: Vec<i32>,
    /// Whether what it owns has changed since it said so.
    is_news: bool,
}

/// An answer, as far as a member looks.
#[derive(Debug)]
struct Told {
    epoch: i32,
    interval: Duration,
    /// What it should own, if the broker says so.
    partitions: Option<Vec<i32>>,
}

impl State {
    fn hear(&mut self, told: &Told) {
        self.epoch = told.epoch;
        self.is_news = false;
        if let Some(partitions) = &told.partitions
            && *partitions != self.owned
        {
            self.owned.clone_from(partitions);
            self.is_news = true;
        }
    }
}

/// Joins, stays until told to leave, leaves.
pub(crate) async fn live(member: &Member) -> Result<(), Failure> {
    let place = member.place;
    let member_id = format!("{}-member-{:05}", member.group, place.member);
    let mut state = State::default();
    loop {
        let told = heartbeat(member, &member_id, &state).await?;
        state.hear(&told);
        member.report(&member_id, state.epoch, &state.owned);
        if state.is_news {
            continue;
        }
        tokio::select! {
            () = sleep(told.interval) => {}
            () = member.leave.cancelled() => {
                let leaving = State { epoch: LEAVING, ..State::default() };
                heartbeat(member, &member_id, &leaving).await?;
                return Ok(());
            }
        }
    }
}

async fn heartbeat(member: &Member, member_id: &str, state: &State) -> Result<Told, Failure> {
    let topic = &member.shared.topic;
    let mut request = ConsumerGroupHeartbeatRequest {
        group_id: member.group.as_str().into(),
        member_id: member_id.into(),
        member_epoch: state.epoch,
        ..ConsumerGroupHeartbeatRequest::default()
    };
    if state.epoch == JOINING {
        request.rebalance_timeout_ms = REBALANCE_TIMEOUT_MS;
        request.subscribed_topic_names = Some(vec![topic.name.as_str().into()]);
        request.topic_partitions = Some(Vec::new());
    } else if state.is_news {
        let mut owned = Vec::new();
        if !state.owned.is_empty() {
            owned.push(consumer_group_heartbeat_request::TopicPartitions {
                topic_id: topic.id,
                partitions: state.owned.clone(),
            });
        }
        request.topic_partitions = Some(owned);
    }
    member.shared.counts.heartbeat();
    let read = |answer: &ConsumerGroupHeartbeatResponse<'_>| {
        let partitions = answer.assignment.as_ref().map(|assignment| {
            let topics = assignment.topic_partitions.iter();
            topics
                .flat_map(|topic| topic.partitions.iter().copied())
                .collect()
        });
        let told = Told {
            epoch: answer.member_epoch,
            interval: Duration::from_millis(answer.heartbeat_interval_ms.unsigned_abs().into()),
            partitions,
        };
        (answer.error_code, told)
    };
    member.link.call(None, &request, read).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(epoch: i32, partitions: Option<&[i32]>) -> Told {
        Told {
            epoch,
            interval: Duration::ZERO,
            partitions: partitions.map(<[i32]>::to_vec),
        }
    }

    #[test]
    fn only_a_change_is_news() {
        let mut state = State::default();
        state.hear(&told(1, Some(&[])));
        assert!(!state.is_news, "it owned nothing before");
        state.hear(&told(1, Some(&[4, 5])));
        assert!(state.is_news);
        state.hear(&told(2, None));
        assert!(!state.is_news);
        assert_eq!(
            (state.epoch, state.owned.as_slice()),
            (2, [4, 5].as_slice())
        );
        state.hear(&told(3, Some(&[4, 5])));
        assert!(!state.is_news, "that is what it owns");
        state.hear(&told(3, Some(&[4])));
        assert!(state.is_news);
    }
}
