//! A shard with its host, for tests: a log, two clocks, and settings.

use std::collections::BTreeMap;

use bytes::Bytes;
use esker_protocol::{Offset, Timestamp, TopicId};

use crate::view::{Configuration, GroupSettings, Now, Settings, Topics, View};
use crate::{Record, Request, RequestContext, Response, Shard, Step, Ticket};

/// The wall clock at the start.
pub(crate) const START: i64 = 1_700_000_000_000;

pub(crate) struct NoTopics;

impl Topics for NoTopics {
    fn by_name(&self, _name: &str) -> Option<(TopicId, i32)> {
        None
    }
    fn by_id(&self, _id: TopicId) -> Option<(&str, i32)> {
        None
    }
    fn racks(&self, _id: TopicId, _partition: i32) -> Vec<&str> {
        Vec::new()
    }
    fn for_each_name(&self, _each: &mut dyn FnMut(&str)) {}
    fn revision(&self) -> i64 {
        0
    }
}

/// Settings without overrides, and room for members.
struct Configured<'a> {
    settings: &'a Settings,
    members_bytes_max: usize,
}

impl Configuration for Configured<'_> {
    fn settings(&self) -> &Settings {
        self.settings
    }
    fn group(&self, _group_id: &str) -> GroupSettings {
        self.settings.group.clone()
    }
    fn members_bytes_max(&self) -> usize {
        self.members_bytes_max
    }
}

pub(crate) struct World {
    pub(crate) shard: Shard,
    pub(crate) settings: Settings,
    pub(crate) members_bytes_max: usize,
    now: Now,
    log: Vec<(Bytes, Option<Bytes>)>,
    tickets: u64,
    replies: BTreeMap<Ticket, Response>,
    /// Whether records wait for [`World::commit`], and replies with them.
    pub(crate) lags: bool,
    committed: usize,
    unsent: Vec<(Ticket, Response)>,
    fail_overs: u8,
}

impl World {
    pub(crate) fn new() -> World {
        World::with(Settings::default())
    }

    pub(crate) fn with(settings: Settings) -> World {
        let mut world = World {
            shard: Shard::new([7; 32]),
            settings,
            members_bytes_max: usize::MAX,
            now: Now {
                wall: Timestamp(START),
                monotonic_ms: 0,
            },
            log: Vec::new(),
            tickets: 0,
            replies: BTreeMap::new(),
            lags: false,
            committed: 0,
            unsent: Vec::new(),
            fail_overs: 0,
        };
        world.step(|shard, view| shard.loaded(view));
        world
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.now.monotonic_ms
    }

    fn step<'r>(&mut self, event: impl FnOnce(&mut Shard, &View<'_>) -> Step<'r>) -> usize {
        let view = View {
            topics: &NoTopics,
            configuration: &Configured {
                settings: &self.settings,
                members_bytes_max: self.members_bytes_max,
            },
            now: self.now,
        };
        let step = event(&mut self.shard, &view);
        let count = step.records.len();
        let mut bytes = 61;
        for record in &step.records {
            let (key, value) = record.encode().unwrap();
            bytes += 20 + key.len() + value.as_ref().map_or(0, Bytes::len);
            self.log.push((key, value));
        }
        if step.is_atomic && count > 0 {
            assert!(bytes <= self.settings.batch_bytes_max);
        }
        self.unsent.extend(step.replies);
        if !self.lags {
            self.commit();
        }
        count
    }

    /// All records are committed, and what rests on them is sent.
    pub(crate) fn commit(&mut self) {
        self.committed = self.log.len();
        for (ticket, response) in self.unsent.drain(..) {
            let before = self.replies.insert(ticket, response);
            assert!(before.is_none(), "{ticket:?} was answered twice");
        }
    }

    pub(crate) fn send(&mut self, request: Request<'_>, version: i16) -> Ticket {
        self.send_as(request, version, "client")
    }

    pub(crate) fn send_as(&mut self, request: Request<'_>, version: i16, client: &str) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let context = RequestContext {
            version,
            client_id: client,
            client_host: "/127.0.0.1",
        };
        self.step(|shard, view| shard.handle(&request, ticket, &context, view));
        ticket
    }

    /// The answer, if it came.
    pub(crate) fn reply(&mut self, ticket: Ticket) -> Option<Response> {
        self.replies.remove(&ticket)
    }

    /// The answer to a request that is answered at once.
    pub(crate) fn ask(&mut self, request: Request<'_>, version: i16) -> Response {
        let ticket = self.send(request, version);
        self.reply(ticket).expect("answered at once")
    }

    /// Time passes; what is due rings at its moment.
    pub(crate) fn advance(&mut self, delay_ms: i64) {
        let until_ms = self.now.monotonic_ms + delay_ms;
        while let Some(due_ms) = self.shard.next_due().filter(|due_ms| *due_ms <= until_ms) {
            self.set_time(due_ms.max(self.now.monotonic_ms));
            self.step(|shard, view| shard.tick(view));
        }
        self.set_time(until_ms);
    }

    fn set_time(&mut self, monotonic_ms: i64) {
        self.now = Now {
            wall: Timestamp(START + monotonic_ms),
            monotonic_ms,
        };
    }

    pub(crate) fn delete_topics(&mut self, topics: &[(String, TopicId)]) -> usize {
        self.step(|shard, view| shard.topics_deleted(topics, view))
    }

    pub(crate) fn log_len(&self) -> usize {
        self.log.len()
    }

    /// The records of the log from `from` on.
    pub(crate) fn records(&self, from: usize) -> Vec<Record<'_>> {
        let records = self.log.iter().skip(from);
        let records = records.map(|(key, value)| Record::decode(key, value.as_deref()));
        records.map(|record| record.unwrap().unwrap()).collect()
    }

    /// A shard that read the first `count` records.
    pub(crate) fn replayed(&self, count: usize) -> Shard {
        // Another seed each time: ids that were handed out are not handed out again.
        let mut shard = Shard::new([8 + self.fail_overs; 32]);
        for (index, record) in self.records(0).iter().take(count).enumerate() {
            shard.replay(record, Offset(index as i64), Timestamp(START));
        }
        shard
    }

    /// The coordinator fails over: what was not committed is lost, and so are answers on their way.
    pub(crate) fn restart(&mut self) {
        self.log.truncate(self.committed);
        self.fail_overs += 1;
        self.shard = self.replayed(self.committed);
        self.replies.clear();
        self.unsent.clear();
        self.step(|shard, view| shard.loaded(view));
    }
}
