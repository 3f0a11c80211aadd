//! A group in a small world of its own.

mod bounds;
mod classic_members;
mod heartbeats;
mod model;
mod regexes;
mod static_members;
mod topics;

use std::borrow::Cow;
use std::collections::BTreeMap;

use esker_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use esker_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use esker_protocol::{Timestamp, TopicId};

use super::ConsumerGroup;
use crate::group::{Timer, Turn};
use crate::random::Random;
use crate::record::{Key, Record};
use crate::step::RequestContext;
use crate::timers::Timers;
use crate::view::{Configuration, GroupSettings, Now, Settings, Topics, View};

const CONTEXT: RequestContext<'static> = RequestContext {
    version: 1,
    client_id: "client",
    client_host: "/127.0.0.1",
};

/// Topics and settings.
#[derive(Debug, Clone, Default)]
struct World {
    topics: BTreeMap<String, (TopicId, i32)>,
    made: u8,
    revision: i64,
    settings: Settings,
}

impl World {
    fn create(&mut self, name: &str, partitions: i32) -> TopicId {
        self.made += 1;
        self.revision += 1;
        let id = TopicId([self.made; 16]);
        self.topics.insert(name.to_owned(), (id, partitions));
        id
    }

    fn delete(&mut self, name: &str) {
        self.revision += 1;
        self.topics.remove(name);
    }

    fn grow(&mut self, name: &str, partitions: i32) {
        self.revision += 1;
        if let Some((_, count)) = self.topics.get_mut(name) {
            *count = partitions;
        }
    }
}

impl Topics for World {
    fn by_name(&self, name: &str) -> Option<(TopicId, i32)> {
        self.topics.get(name).copied()
    }

    fn by_id(&self, id: TopicId) -> Option<(&str, i32)> {
        let (name, topic) = self.topics.iter().find(|(_, topic)| topic.0 == id)?;
        Some((name, topic.1))
    }

    fn racks(&self, _: TopicId, _: i32) -> Vec<&str> {
        Vec::new()
    }

    fn for_each_name(&self, each: &mut dyn FnMut(&str)) {
        self.topics.keys().for_each(|name| each(name));
    }

    fn revision(&self) -> i64 {
        self.revision
    }
}

impl Configuration for World {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn group(&self, _: &str) -> GroupSettings {
        self.settings.group.clone()
    }
}

/// A record as the log has it.
type Stored = (Vec<u8>, Option<Vec<u8>>);

struct Bench {
    world: World,
    group: ConsumerGroup,
    timers: Timers<Timer>,
    random: Random,
    now_ms: i64,
    log: Vec<Stored>,
    /// Where the batch of the last step begins.
    last_batch: usize,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            world: World::default(),
            group: ConsumerGroup::new("g"),
            timers: Timers::default(),
            random: Random::new([7; 32]),
            now_ms: 1_000_000,
            log: Vec::new(),
            last_batch: 0,
        }
    }

    fn with_topic(name: &str, partitions: i32) -> (Bench, TopicId) {
        let mut bench = Bench::new();
        let id = bench.world.create(name, partitions);
        (bench, id)
    }

    fn now(&self) -> Now {
        Now {
            wall: Timestamp(self.now_ms),
            monotonic_ms: self.now_ms,
        }
    }

    fn send(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
    ) -> ConsumerGroupHeartbeatResponse<'static> {
        let now = self.now();
        let view = View {
            topics: &self.world,
            configuration: &self.world,
            now,
        };
        // A copy of a large group for each request would take longer than all the rest.
        let is_small = self.group.state.members().len() < 100;
        let before = is_small.then(|| self.group.durable_state());
        let (records, response) =
            self.group
                .heartbeat(request, &CONTEXT, &view, &mut self.timers, &mut self.random);
        if let Some(before) = before {
            assert_eq!(before, self.group.durable_state(), "only replay changes it");
        }
        self.apply(&records);
        response
    }

    /// A request of the classic protocol.
    fn turn<T>(
        &mut self,
        event: impl FnOnce(&mut ConsumerGroup, &mut Turn<'_, '_>) -> T,
    ) -> (T, bool) {
        let world = self.world.clone();
        let mut turn = Turn {
            view: View {
                topics: &world,
                configuration: &world,
                now: self.now(),
            },
            timers: &mut self.timers,
            random: &mut self.random,
            records: Vec::new(),
            replies: Vec::new(),
            rebalances_when_downgraded: true,
        };
        let answer = event(&mut self.group, &mut turn);
        let (records, rebalances) = (turn.records, turn.rebalances_when_downgraded);
        self.apply(&records);
        (answer, rebalances)
    }

    fn apply(&mut self, records: &[Record<'_>]) {
        self.last_batch = self.log.len();
        for record in records {
            let (key, value) = record.encode().expect("it was made here");
            let stored = (key.to_vec(), value.map(|value| value.to_vec()));
            replay(&mut self.group, &stored);
            self.log.push(stored);
        }
        let view = View {
            topics: &self.world,
            configuration: &self.world,
            now: self.now(),
        };
        self.group.after_replay(&view, &mut self.timers);
    }

    /// Lets time pass, and what is due happen.
    fn pass(&mut self, ms: i64) {
        let until = self.now_ms + ms;
        while let Some(due_ms) = self.timers.next_due().filter(|due_ms| *due_ms <= until) {
            self.now_ms = self.now_ms.max(due_ms);
            let Some(Timer::Consumer { kind, .. }) = self.timers.pop_due(self.now_ms) else {
                continue;
            };
            let view = View {
                topics: &self.world,
                configuration: &self.world,
                now: self.now(),
            };
            let records = self.group.timer(&kind, &view, &mut self.timers);
            self.apply(&records);
        }
        self.now_ms = until;
    }

    /// The group as another broker reads it from the log.
    fn reload(&mut self) {
        let mut group = ConsumerGroup::new("g");
        for stored in &self.log {
            replay(&mut group, stored);
        }
        self.timers = Timers::default();
        let view = View {
            topics: &self.world,
            configuration: &self.world,
            now: self.now(),
        };
        group.loaded(&mut self.timers, &view);
        self.group = group;
    }

    /// The record types of the last step.
    fn types(&self) -> Vec<i16> {
        (self.log[self.last_batch..].iter())
            .map(|(key, value)| {
                let record_type = i16::from_be_bytes([key[0], key[1]]);
                match value {
                    Some(_) => record_type,
                    None => -record_type,
                }
            })
            .collect()
    }

    fn epoch(&self) -> i32 {
        self.group.state.epoch()
    }

    /// A heartbeat that says nothing new.
    fn beat(&mut self, member: &str, epoch: i32) -> ConsumerGroupHeartbeatResponse<'static> {
        self.send(&beat(member, epoch))
    }

    /// A heartbeat that says what the member owns.
    fn own(
        &mut self,
        member: &str,
        epoch: i32,
        topic: TopicId,
        partitions: &[i32],
    ) -> ConsumerGroupHeartbeatResponse<'static> {
        self.send(&ConsumerGroupHeartbeatRequest {
            topic_partitions: Some(vec![TopicPartitions {
                topic_id: topic,
                partitions: partitions.to_vec(),
            }]),
            ..beat(member, epoch)
        })
    }
}

fn replay(group: &mut ConsumerGroup, (key, value): &Stored) {
    let record = Record::decode(key, value.as_deref()).expect("it was written here");
    group.replay(&record.expect("a known type"));
}

fn beat(member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest<'static> {
    ConsumerGroupHeartbeatRequest {
        group_id: Cow::Borrowed("g"),
        member_id: Cow::Owned(member.to_owned()),
        member_epoch: epoch,
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

fn join(member: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest<'static> {
    ConsumerGroupHeartbeatRequest {
        rebalance_timeout_ms: 30_000,
        subscribed_topic_names: Some(names(topics)),
        topic_partitions: Some(Vec::new()),
        ..beat(member, 0)
    }
}

fn names(topics: &[&str]) -> Vec<Cow<'static, str>> {
    (topics.iter())
        .map(|topic| Cow::Owned((*topic).to_owned()))
        .collect()
}

/// The partitions of the one topic that a response assigns; none if it says nothing.
fn assigned(response: &ConsumerGroupHeartbeatResponse<'_>) -> Option<Vec<i32>> {
    let assignment = response.assignment.as_ref()?;
    let mut partitions: Vec<i32> = (assignment.topic_partitions.iter())
        .flat_map(|topic| topic.partitions.iter().copied())
        .collect();
    partitions.sort_unstable();
    Some(partitions)
}

/// The member of a record of type 5, 7 or 8.
fn member_of(stored: &Stored) -> Option<String> {
    match Key::decode(&stored.0).expect("written here")? {
        Key::ConsumerGroupMember(key) => Some(key.member_id.into_owned()),
        Key::ConsumerGroupTargetMember(key) => Some(key.member_id.into_owned()),
        Key::ConsumerGroupCurrentMember(key) => Some(key.member_id.into_owned()),
        _ => None,
    }
}
