//! Clients as they behave, in any order of events: replies get lost, clients pause, brokers lose
//! what was not written, topics come, grow and go.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use esker_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use esker_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use esker_protocol::{ErrorCode, TopicId};
use proptest::prelude::*;

use super::{Bench, ConsumerGroup, Stored, beat, names, replay};

const CLIENTS: usize = 20;
const SUBSCRIPTIONS: [&[&str]; 4] = [&["t0"], &["t0", "t1"], &["t2", "missing"], &[]];
const REGEXES: [&str; 2] = ["t.*", "t[01]"];
const TOPICS: [&str; 3] = ["t0", "t1", "t2"];

type Owned = BTreeSet<(TopicId, i32)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subscription {
    Names(usize),
    Regex(usize),
}

/// A client that follows the protocol.
#[derive(Debug, Default)]
struct Client {
    is_member: bool,
    epoch: i32,
    subscription: Option<Subscription>,
    /// What it reads; what it was told to give up, it reads until it gets to it.
    owned: Owned,
    told: Owned,
    /// The next request says everything: it joins, or a reply was lost.
    is_full: bool,
    /// What it said last that it owns.
    said: Option<Owned>,
}

impl Client {
    fn forget(&mut self) {
        self.epoch = 0;
        self.owned.clear();
        self.told.clear();
        self.said = None;
        self.is_full = true;
    }

    fn request(&mut self, id: &str) -> ConsumerGroupHeartbeatRequest<'static> {
        let mut request = beat(id, self.epoch);
        if self.is_full || self.epoch == 0 {
            request.rebalance_timeout_ms = 30_000;
            match self.subscription {
                Some(Subscription::Regex(index)) => {
                    request.subscribed_topic_names = Some(Vec::new());
                    request.subscribed_topic_regex = Some(Cow::Borrowed(REGEXES[index]));
                }
                Some(Subscription::Names(index)) => {
                    request.subscribed_topic_names = Some(names(SUBSCRIPTIONS[index]));
                    request.subscribed_topic_regex = Some(Cow::Borrowed(""));
                }
                None => request.subscribed_topic_names = Some(Vec::new()),
            }
        }
        if self.is_full || self.epoch == 0 || self.said.as_ref() != Some(&self.owned) {
            let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
            for (topic, partition) in &self.owned {
                topics.entry(*topic).or_default().push(*partition);
            }
            request.topic_partitions = Some(
                (topics.into_iter())
                    .map(|(topic_id, partitions)| TopicPartitions {
                        topic_id,
                        partitions,
                    })
                    .collect(),
            );
            self.said = Some(self.owned.clone());
        }
        self.is_full = false;
        request
    }

    fn hear(&mut self, response: &ConsumerGroupHeartbeatResponse<'_>) {
        match ErrorCode::from_code(response.error_code) {
            Some(ErrorCode::None) => {}
            Some(
                ErrorCode::UnknownMemberId
                | ErrorCode::FencedMemberEpoch
                | ErrorCode::GroupIdNotFound,
            ) => return self.forget(),
            other => panic!("{other:?}: {:?}", response.error_message),
        }
        self.epoch = response.member_epoch;
        if let Some(assignment) = &response.assignment {
            self.told = (assignment.topic_partitions.iter())
                .flat_map(|topic| topic.partitions.iter().map(|it| (topic.topic_id, *it)))
                .collect();
            self.owned.extend(self.told.iter().copied());
        }
    }
}

#[derive(Debug, Clone)]
enum Event {
    Join(usize, Subscription),
    Beat(usize),
    /// The request is served, the reply gets lost.
    LostReply(usize),
    /// The records are lost, and with them the reply: the broker reads its log again.
    LostRecords(usize),
    GiveUp(usize),
    Subscribe(usize, Subscription),
    Leave(usize),
    Pass(i64),
    Create(usize, i32),
    Grow(usize, i32),
    Delete(usize),
    Reload,
}

fn subscription() -> impl Strategy<Value = Subscription> {
    prop_oneof![
        3 => (0..SUBSCRIPTIONS.len()).prop_map(Subscription::Names),
        1 => (0..REGEXES.len()).prop_map(Subscription::Regex),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let client = || 0..CLIENTS;
    // Few clients see most of what happens, so that long stories come about.
    let busy = || prop_oneof![4 => 0..3_usize, 1 => client()];
    prop_oneof![
        4 => (busy(), subscription()).prop_map(|(client, it)| Event::Join(client, it)),
        14 => busy().prop_map(Event::Beat),
        3 => busy().prop_map(Event::LostReply),
        2 => busy().prop_map(Event::LostRecords),
        9 => busy().prop_map(Event::GiveUp),
        2 => (busy(), subscription()).prop_map(|(client, it)| Event::Subscribe(client, it)),
        1 => busy().prop_map(Event::Leave),
        5 => prop_oneof![Just(500_i64), Just(1_000), Just(10_000), Just(31_000), Just(46_000)]
            .prop_map(Event::Pass),
        1 => (0..TOPICS.len(), 1..6).prop_map(|(topic, count)| Event::Create(topic, count)),
        1 => (0..TOPICS.len(), 1..8).prop_map(|(topic, count)| Event::Grow(topic, count)),
        1 => (0..TOPICS.len()).prop_map(Event::Delete),
        1 => Just(Event::Reload),
    ]
}

struct Model {
    bench: Bench,
    clients: Vec<Client>,
}

impl Model {
    fn new() -> Model {
        let mut bench = Bench::new();
        bench.world.create("t0", 3);
        bench.world.create("t1", 2);
        Model {
            bench,
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
        }
    }

    fn id(client: usize) -> String {
        format!("client-{client}")
    }

    fn beat(&mut self, client: usize) {
        if !self.clients[client].is_member {
            return;
        }
        let request = self.clients[client].request(&Model::id(client));
        let response = self.bench.send(&request);
        self.clients[client].hear(&response);
    }

    fn give_up(&mut self, client: usize) {
        let client = &mut self.clients[client];
        client.owned = client.told.clone();
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Join(client, subscription) => {
                let it = &mut self.clients[client];
                if !it.is_member {
                    *it = Client {
                        is_member: true,
                        subscription: Some(subscription),
                        is_full: true,
                        ..Client::default()
                    };
                }
                self.beat(client);
            }
            Event::Beat(client) => self.beat(client),
            Event::LostReply(client) if self.clients[client].is_member => {
                let request = self.clients[client].request(&Model::id(client));
                self.bench.send(&request);
                self.clients[client].is_full = true;
            }
            Event::LostRecords(client) if self.clients[client].is_member => {
                let kept = self.bench.log.len();
                let request = self.clients[client].request(&Model::id(client));
                self.bench.send(&request);
                self.bench.log.truncate(kept);
                self.bench.reload();
                self.clients[client].is_full = true;
            }
            Event::LostReply(_) | Event::LostRecords(_) => {}
            Event::GiveUp(client) => self.give_up(client),
            Event::Subscribe(client, subscription) => {
                let it = &mut self.clients[client];
                it.subscription = Some(subscription);
                it.is_full = true;
                self.beat(client);
            }
            Event::Leave(client) if self.clients[client].is_member => {
                self.clients[client] = Client::default();
                self.bench.beat(&Model::id(client), -1);
            }
            Event::Leave(_) => {}
            Event::Pass(ms) => self.bench.pass(ms),
            Event::Create(topic, count) => {
                if !self.bench.world.topics.contains_key(TOPICS[topic]) {
                    self.bench.world.create(TOPICS[topic], count);
                }
            }
            Event::Grow(topic, count) => {
                let topics = &self.bench.world.topics;
                if topics.get(TOPICS[topic]).is_some_and(|it| it.1 < count) {
                    self.bench.world.grow(TOPICS[topic], count);
                }
            }
            Event::Delete(topic) => self.bench.world.delete(TOPICS[topic]),
            Event::Reload => self.bench.reload(),
        }
    }

    /// Nobody reads what another member reads. A client that was removed and has not heard of it
    /// yet does not count: its commits are refused.
    fn check_owners(&self) {
        let mut owners = BTreeMap::new();
        for (client, state) in self.clients.iter().enumerate() {
            let id = Model::id(client);
            if self.bench.group.state.member(&id).is_none() {
                continue;
            }
            for partition in &state.owned {
                let before = owners.insert(*partition, client);
                assert_eq!(before, None, "{partition:?} is also of {client}");
            }
        }
    }

    fn check_replay(&self) {
        let mut whole = ConsumerGroup::new("g");
        for stored in &self.bench.log {
            replay(&mut whole, stored);
        }
        assert_eq!(whole.durable_state(), self.bench.group.durable_state());
        let mut compacted = ConsumerGroup::new("g");
        for stored in compact(&self.bench.log) {
            replay(&mut compacted, stored);
        }
        assert_eq!(compacted.durable_state(), self.bench.group.durable_state());
    }

    /// Everybody heartbeats for a while, and gives up at once what it is asked for.
    fn settle(&mut self) {
        for _ in 0..30 {
            for client in 0..CLIENTS {
                self.give_up(client);
                self.beat(client);
                self.check_owners();
            }
            self.bench.pass(1_100);
        }
    }

    fn check_settled(&self) {
        let members = self.clients.iter().filter(|client| client.is_member);
        let state = &self.bench.group.state;
        assert_eq!(state.members().len(), members.clone().count());
        if members.clone().next().is_none() {
            assert_eq!(self.bench.group.state_name(), "Empty");
            return;
        }
        assert_eq!(self.bench.group.state_name(), "Stable");
        let mut wanted = Owned::new();
        for client in members.clone() {
            let wants = |name: &str| match client.subscription {
                Some(Subscription::Names(index)) => SUBSCRIPTIONS[index].contains(&name),
                Some(Subscription::Regex(0)) => true,
                Some(Subscription::Regex(_)) => name != "t2",
                None => false,
            };
            for (name, (id, count)) in &self.bench.world.topics {
                if wants(name) {
                    wanted.extend((0..*count).map(|partition| (*id, partition)));
                }
            }
        }
        let mut owned = Vec::new();
        for client in members {
            owned.extend(client.owned.iter().copied());
        }
        owned.sort_unstable();
        assert_eq!(owned, wanted.into_iter().collect::<Vec<_>>());
    }
}

// The newest record of each key, in the order of the log.
fn compact(log: &[Stored]) -> Vec<&Stored> {
    let newest: BTreeMap<&[u8], usize> = (log.iter().enumerate())
        .map(|(index, (key, _))| (&key[..], index))
        .collect();
    (log.iter().enumerate())
        .filter(|(index, (key, _))| newest[&key[..]] == *index)
        .map(|(_, stored)| stored)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nobody_shares_a_partition_and_all_find_their_places(
        events in prop::collection::vec(event(), 1..80),
    ) {
        let mut model = Model::new();
        for event in &events {
            model.happen(event);
            model.check_owners();
        }
        model.check_replay();
        model.settle();
        model.check_settled();
        model.check_replay();
    }
}
