//! Clients that act, lose their memory, leave and are cut off, at random, while records lag and the
//! coordinator fails over.

use std::collections::BTreeMap;

use esker_protocol::ErrorCode;
use esker_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use esker_protocol::messages::{HeartbeatRequest, JoinGroupResponse, OffsetCommitRequest};
use proptest::prelude::*;

use super::{RANGE, join_request};
use crate::world::World;
use crate::{Request, Response, Ticket};

const CLIENTS: usize = 4;
/// The last client is a static member.
const STATIC: usize = CLIENTS - 1;
const PARTITIONS: usize = 6;

#[derive(Debug, Clone)]
enum Op {
    /// The client sees its answer, or sends its next request.
    Act(usize),
    /// The client starts anew, without its member id.
    Forget(usize),
    /// The client gives up its request, and sends another.
    Retry(usize),
    Leave(usize),
    Advance(i64),
    Commit,
    FailOver,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => (0..CLIENTS).prop_map(Op::Act),
        1 => (0..CLIENTS).prop_map(Op::Forget),
        1 => (0..CLIENTS).prop_map(Op::Retry),
        1 => (0..CLIENTS).prop_map(Op::Leave),
        4 => (1..8_000_i64).prop_map(Op::Advance),
        8 => Just(Op::Commit),
        1 => Just(Op::FailOver),
    ]
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Out,
    /// Joined; the members if it leads.
    Joined(Vec<String>),
    In,
}

#[derive(Debug, Default)]
struct Client {
    member_id: String,
    generation: i32,
    phase: Phase,
    waiting: Option<Ticket>,
    /// What it commits with the request under way.
    committing: Option<i64>,
    beats: u32,
}

struct Run {
    world: World,
    clients: Vec<Client>,
    /// Who was told to own a partition, by generation and partition.
    owners: BTreeMap<(i32, u8), usize>,
    next_offset: i64,
    acknowledged: Option<i64>,
}

impl Run {
    fn new() -> Run {
        let mut world = World::new();
        world.lags = true;
        Run {
            world,
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            owners: BTreeMap::new(),
            next_offset: 0,
            acknowledged: None,
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Act(index) => self.act(index),
            Op::Forget(index) => self.clients[index] = Client::default(),
            Op::Retry(index) => {
                self.clients[index].waiting = None;
                self.act(index);
            }
            Op::Leave(index) => {
                let client = std::mem::take(&mut self.clients[index]);
                if !client.member_id.is_empty() {
                    let instance_id = (index == STATIC).then_some("static");
                    let request = super::LeaveGroupRequest {
                        group_id: "g".into(),
                        members: vec![super::MemberIdentity {
                            member_id: client.member_id.into(),
                            group_instance_id: instance_id.map(Into::into),
                            reason: None,
                        }],
                        ..super::LeaveGroupRequest::default()
                    };
                    self.world.send(Request::LeaveGroup(request), 5);
                }
            }
            Op::Advance(delay_ms) => self.world.advance(delay_ms),
            Op::Commit => self.world.commit(),
            Op::FailOver => {
                self.world.restart();
                for client in &mut self.clients {
                    client.waiting = None;
                    client.committing = None;
                }
                self.check_offset();
            }
        }
        let count = self.world.log_len();
        assert_eq!(
            self.world.replayed(count).durable_state(),
            self.world.shard.durable_state()
        );
    }

    fn act(&mut self, index: usize) {
        if let Some(ticket) = self.clients[index].waiting {
            if let Some(response) = self.world.reply(ticket) {
                self.clients[index].waiting = None;
                self.receive(index, response);
            }
            return;
        }
        let instance_id = (index == STATIC).then_some("static");
        let client = &mut self.clients[index];
        let ticket = match &client.phase {
            Phase::Out => {
                let request = join_request(&client.member_id, instance_id, RANGE);
                self.world.send(Request::JoinGroup(request), 9)
            }
            Phase::Joined(members) => {
                let assignments: Vec<(&str, Vec<u8>)> = members
                    .iter()
                    .enumerate()
                    .map(|(at, member)| {
                        let owned = (0..PARTITIONS).filter(|index| index % members.len() == at);
                        (member.as_str(), owned.map(|index| index as u8).collect())
                    })
                    .collect();
                let assignments: Vec<(&str, &[u8])> = assignments
                    .iter()
                    .map(|(id, owned)| (*id, &owned[..]))
                    .collect();
                self.world
                    .sync(&client.member_id, client.generation, &assignments)
            }
            Phase::In => {
                client.beats += 1;
                if client.beats.is_multiple_of(2) {
                    self.next_offset += 1;
                    client.committing = Some(self.next_offset);
                    let request = commit_request(client, instance_id, self.next_offset);
                    self.world.send(Request::OffsetCommit(request), 9)
                } else {
                    let request = HeartbeatRequest {
                        group_id: "g".into(),
                        generation_id: client.generation,
                        member_id: client.member_id.clone().into(),
                        group_instance_id: instance_id.map(Into::into),
                    };
                    self.world.send(Request::Heartbeat(request), 4)
                }
            }
        };
        self.clients[index].waiting = Some(ticket);
    }

    fn receive(&mut self, index: usize, response: Response) {
        let client = &mut self.clients[index];
        match response {
            Response::JoinGroup(response) => client.joined(response),
            Response::SyncGroup(response) if response.error_code == 0 => {
                client.phase = Phase::In;
                for partition in response.assignment.iter() {
                    let owner = self.owners.entry((client.generation, *partition));
                    assert_eq!(*owner.or_insert(index), index, "two own {partition}");
                }
            }
            Response::SyncGroup(response) => client.failed(response.error_code),
            Response::Heartbeat(response) if response.error_code != 0 => {
                client.failed(response.error_code);
            }
            Response::Heartbeat(_) => {}
            Response::OffsetCommit(response) => {
                let code = response.topics[0].partitions[0].error_code;
                let committing = client.committing.take();
                if code == 0 {
                    self.acknowledged = self.acknowledged.max(committing);
                } else {
                    client.failed(code);
                }
                self.check_offset();
            }
            other => panic!("{other:?}"),
        }
    }

    /// What was acknowledged is never lost: offsets are committed in rising order.
    fn check_offset(&mut self) {
        let committed = self.world.shard.committed().next();
        let committed = committed.map(|committed| committed.offset.0);
        assert!(committed >= self.acknowledged, "{committed:?}");
        assert!(committed.is_none_or(|offset| offset <= self.next_offset));
    }

    /// Everybody behaves: the group gets stable, and every partition has one owner.
    fn settle(&mut self) {
        for _ in 0..400 {
            for index in 0..CLIENTS {
                for _ in 0..3 {
                    self.act(index);
                    self.world.commit();
                }
            }
            let generation = self.clients[0].generation;
            let is_settled = |client: &Client| {
                matches!(client.phase, Phase::In) && client.generation == generation
            };
            let is_stable = self
                .world
                .shard
                .groups()
                .contains_key(&("classic", "Stable"));
            // Members whose clients forgot them own partitions until their session ends.
            let owned = self.owners.keys().filter(|(owned, _)| *owned == generation);
            if is_stable && self.clients.iter().all(is_settled) && owned.count() == PARTITIONS {
                return;
            }
            self.world.advance(1_000);
        }
        panic!("the group never got stable: {:?}", self.clients);
    }
}

impl Client {
    fn joined(&mut self, response: JoinGroupResponse<'_>) {
        match ErrorCode::from_code(response.error_code) {
            Some(ErrorCode::None) => {
                self.member_id = response.member_id.into_owned();
                self.generation = response.generation_id;
                let members = response.members.into_iter();
                let members = members.map(|member| member.member_id.into_owned());
                self.phase = match response.skip_assignment {
                    true => Phase::Joined(Vec::new()),
                    false => Phase::Joined(members.collect()),
                };
            }
            Some(ErrorCode::MemberIdRequired) => {
                self.member_id = response.member_id.into_owned();
            }
            _ => self.failed(response.error_code),
        }
    }

    fn failed(&mut self, code: i16) {
        self.phase = Phase::Out;
        if code != ErrorCode::RebalanceInProgress as i16 {
            self.member_id.clear();
        }
    }
}

fn commit_request<'a>(
    client: &Client,
    instance_id: Option<&'a str>,
    offset: i64,
) -> OffsetCommitRequest<'a> {
    OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: client.generation,
        member_id: client.member_id.clone().into(),
        group_instance_id: instance_id.map(Into::into),
        retention_time_ms: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: offset,
                ..OffsetCommitRequestPartition::default()
            }],
            ..OffsetCommitRequestTopic::default()
        }],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_happens_partitions_have_one_owner_and_commits_last(
        ops in prop::collection::vec(op(), 1..250),
    ) {
        let mut run = Run::new();
        for op in &ops {
            run.apply(op);
        }
        run.settle();
    }

    #[test]
    fn a_shard_equals_one_that_read_any_prefix_of_its_log(
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut run = Run::new();
        let mut states = vec![(0, run.world.shard.durable_state())];
        for op in &ops {
            if matches!(op, Op::FailOver) {
                // What is lost is no prefix any more.
                run.world.commit();
            }
            run.apply(op);
            states.push((run.world.log_len(), run.world.shard.durable_state()));
        }
        for (count, state) in states {
            prop_assert_eq!(run.world.replayed(count).durable_state(), state);
        }
    }
}

#[test]
fn an_offset_fetch_sees_what_was_committed_last() {
    let mut run = Run::new();
    run.settle();
    for _ in 0..10 {
        for index in 0..CLIENTS {
            run.act(index);
            run.world.commit();
        }
    }
    let request = Request::OffsetFetch {
        group: OffsetFetchRequestGroup {
            group_id: "g".into(),
            member_epoch: -1,
            topics: None,
            ..OffsetFetchRequestGroup::default()
        },
        require_stable: true,
    };
    run.world.lags = false;
    let Response::OffsetFetch(group) = run.world.ask(request, 9) else {
        panic!();
    };
    let committed = group.topics[0].partitions[0].committed_offset;
    assert!(Some(committed) >= run.acknowledged && committed > 0);
}
