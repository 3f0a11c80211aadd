//! Members of groups: they join, own partitions, commit, and fall silent, vanish, leave or are cut
//! off, each on a host of its own.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use esker_client::{Connect, Connection, ConnectionOptions};
use esker_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use esker_protocol::messages::consumer_protocol_assignment::TopicPartition;
use esker_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use esker_protocol::messages::leave_group_request::MemberIdentity;
use esker_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use esker_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use esker_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, ConsumerProtocolAssignment,
    ConsumerProtocolSubscription, FindCoordinatorRequest, FindCoordinatorResponse,
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
    OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse,
};
use esker_protocol::primitive::Request;
use esker_protocol::{ErrorCode, TopicId, consumer_protocol};
use tokio::time::{Instant, sleep, timeout};

use crate::groups::{Asked, Attempt, Group, PARTITIONS, Protocol, SESSION, Stay, TOPIC};
use crate::network::{Host, HostNetwork, Isolation};
use crate::random::Random;
use crate::workload::Finish;
use crate::world::{PORT, World};

/// How long a member may take to come to a rebalance. Not shorter than a session: whoever is given up
/// because it does not come has by then no reason to think that it owns anything.
const REBALANCE: Duration = Duration::from_secs(6);

/// The time between two heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(1_500);

/// How long a member waits for an answer that waits for nobody else.
const ANSWER: Duration = Duration::from_secs(3);

/// How long an answer may take that waits for other members.
const ANSWER_OF_ALL: Duration = Duration::from_secs(10);

/// How long a coordinator may take to come back.
const AUDIT_TIME_MAX: Duration = Duration::from_secs(100);

/// The host from which commits are checked.
const AUDITOR: Host = Host(0);

/// What classic members have in common, by the broker's name for it.
const ASSIGNOR: &str = "range";

/// The epoch with which a member joins, and those with which it leaves for good, or to come again under
/// its name.
const JOINS: i32 = 0;
const LEAVES: i32 = -1;
const LEAVES_FOR_A_WHILE: i32 = -2;

/// What members have in common.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) world: Arc<World>,
    pub(crate) topic: TopicId,
    /// From then on nothing happens to members any more.
    pub(crate) calm: Finish,
    pub(crate) finish: Finish,
}

/// A connection to the coordinator that is made when it is needed.
struct Link {
    world: Arc<World>,
    network: HostNetwork,
    client_id: String,
    group: &'static str,
    connection: Option<Connection>,
}

impl Link {
    fn new(world: &Arc<World>, host: Host, group: Group) -> Link {
        Link {
            world: Arc::clone(world),
            network: world.network.of_host(host),
            client_id: format!("{}-{}", group.name, host.0),
            group: group.name,
            connection: None,
        }
    }

    /// Sends a request and reads its answer; without one the connection is given up.
    async fn call<T: Request, R>(
        &mut self,
        version: i16,
        request: &T,
        time_max: Duration,
        read: impl FnOnce(T::Response<'_>) -> R,
    ) -> Option<R> {
        if self.connection.is_none() {
            self.connection = Some(self.connect().await?);
        }
        let connection = self.connection.as_ref()?;
        let deadline = Instant::now() + time_max;
        let answered = connection.request_version(version, request, deadline).await;
        let outcome = answered.and_then(|answer| answer.body().map(read));
        match outcome {
            Ok(read) => Some(read),
            Err(error) => {
                self.world
                    .trace
                    .note(format_args!("{} hears nothing: {error}", self.client_id));
                self.connection = None;
                None
            }
        }
    }

    async fn connect(&self) -> Option<Connection> {
        let stream = timeout(ANSWER, self.network.connect("sim", PORT)).await;
        let options = ConnectionOptions {
            client_id: self.client_id.clone(),
            ..ConnectionOptions::default()
        };
        let deadline = Instant::now() + ANSWER;
        let connection = Connection::open(stream.ok()?.ok()?, options, deadline)
            .await
            .ok()?;
        let request = FindCoordinatorRequest {
            coordinator_keys: vec![Cow::Borrowed(self.group)],
            ..FindCoordinatorRequest::default()
        };
        let answer = connection.request_version(4, &request, deadline).await;
        let answer = answer.ok()?;
        let response: FindCoordinatorResponse<'_> = answer.body().ok()?;
        let found = response.coordinators.first()?;
        (found.error_code == 0).then_some(connection)
    }
}

/// The version of what classic members tell each other: one whose members give up everything before they
/// join.
const EMBEDDED_VERSION: i16 = 0;

/// A subscription of a classic member, as the broker reads it.
fn subscription() -> Vec<u8> {
    let subscription = ConsumerProtocolSubscription {
        topics: vec![Cow::Borrowed(TOPIC)],
        ..ConsumerProtocolSubscription::default()
    };
    let encoded = consumer_protocol::encode_subscription(&subscription, EMBEDDED_VERSION);
    encoded
        .expect("what the simulation says can be said")
        .to_vec()
}

/// An assignment of a classic member, as the broker reads and writes it.
fn assignment(partitions: impl Iterator<Item = i32>) -> Vec<u8> {
    let assigned = TopicPartition {
        topic: Cow::Borrowed(TOPIC),
        partitions: partitions.collect(),
    };
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: vec![assigned],
        ..ConsumerProtocolAssignment::default()
    };
    let encoded = consumer_protocol::encode_assignment(&assignment, EMBEDDED_VERSION);
    encoded
        .expect("what the simulation says can be said")
        .to_vec()
}

/// The partitions of an assignment; `None` where it cannot be read.
fn assigned(bytes: &[u8]) -> Option<BTreeSet<i32>> {
    if bytes.is_empty() {
        return Some(BTreeSet::new());
    }
    let read = consumer_protocol::assignment(bytes).ok()?;
    let topics = read.assigned_partitions.into_iter();
    Some(topics.flat_map(|topic| topic.partitions).collect())
}

/// What a member was told of its commits, by partition.
type Codes = Vec<(i32, i16)>;

struct Member {
    setting: Setting,
    random: Random,
    host: Host,
    group: Group,
    /// What this member speaks.
    protocol: Protocol,
    link: Link,
    stay: Stay,
    /// Given by the broker to a classic member, by the member itself to the other.
    id: String,
    ids: u32,
    /// The name of a static member, which all that come one after the other on the host have.
    instance: Option<String>,
    /// A generation, or an epoch; none before a member has joined.
    generation: Option<i32>,
    owned: BTreeSet<i32>,
    heartbeat_due: Instant,
    /// The next heartbeat says everything: the answer before may have been lost.
    says_all: bool,
    reached_again: Option<Instant>,
}

/// One member after the other on a host, until told to finish.
pub(crate) async fn belong(setting: Setting, random: Random, host: Host, group: Group) {
    let world = Arc::clone(&setting.world);
    let mut member = Member {
        link: Link::new(&world, host, group),
        stay: world.groups.arrive(),
        random,
        host,
        group,
        protocol: group.protocol,
        id: String::new(),
        ids: 0,
        instance: group
            .is_static
            .then(|| format!("{}-{}", group.name, host.0)),
        generation: None,
        owned: BTreeSet::new(),
        heartbeat_due: Instant::now(),
        says_all: true,
        reached_again: None,
        setting,
    };
    member.become_new();
    while !member.setting.finish.is_set() {
        member.heal();
        if !member.setting.calm.is_set() && member.random.chance(80) {
            member.suffer().await;
        } else {
            member.step().await;
        }
        sleep(Duration::from_millis(member.random.between(100, 900))).await;
    }
    world.groups.gives_up(member.group, member.stay);
    world.network.isolate(host, None);
}

impl Member {
    fn note(&self, what: impl std::fmt::Display) {
        self.setting.world.trace.note(format_args!(
            "{} ({}) {what}",
            self.link.client_id, self.stay
        ));
    }

    /// Owns nothing any more.
    fn drop_all(&mut self) {
        self.setting.world.groups.gives_up(self.group, self.stay);
        self.owned.clear();
        self.generation = None;
        self.says_all = true;
    }

    /// Begins anew under the same id.
    fn rejoin(&mut self) {
        self.drop_all();
        self.stay = self.setting.world.groups.arrive();
        self.heartbeat_due = Instant::now();
    }

    /// Begins anew as another.
    fn become_new(&mut self) {
        self.rejoin();
        self.ids += 1;
        if self.group.is_mixed {
            self.protocol = match self.random.chance(500) {
                true => Protocol::Classic,
                false => Protocol::Consumer,
            };
        }
        self.id = match self.protocol {
            Protocol::Classic => String::new(),
            Protocol::Consumer => format!("{}-{}-{}", self.group.name, self.host.0, self.ids),
        };
    }

    fn heal(&mut self) {
        let is_due = |at: Instant| Instant::now() >= at || self.setting.calm.is_set();
        if self.reached_again.is_some_and(is_due) {
            self.reached_again = None;
            self.setting.world.network.isolate(self.host, None);
            self.note("is reached again");
        }
    }

    /// Something happens to the member.
    async fn suffer(&mut self) {
        match self.random.below(8) {
            0..3 => {
                self.note("falls silent");
                // Short of a session now and then, mostly longer.
                sleep(Duration::from_millis(self.random.between(3_000, 14_000))).await;
                self.note("wakes");
            }
            3 => {
                self.note("vanishes");
                self.link.connection = None;
                self.become_new();
                sleep(Duration::from_millis(self.random.between(0, 9_000))).await;
            }
            4 => {
                self.leave().await;
                sleep(Duration::from_millis(self.random.between(0, 6_000))).await;
            }
            _ => {
                let isolation = match self.random.below(3) {
                    0 => (true, false),
                    1 => (false, true),
                    _ => (true, true),
                };
                let (there, back) = isolation;
                self.note(format_args!("is cut off: there {there}, back {back}"));
                let network = &self.setting.world.network;
                network.isolate(self.host, Some(Isolation { there, back }));
                let time = Duration::from_millis(self.random.between(200, 13_000));
                self.reached_again = Some(Instant::now() + time);
            }
        }
    }

    async fn step(&mut self) {
        // Whoever has slept too long does not always ask first.
        let beats = Instant::now() >= self.heartbeat_due && self.random.chance(750);
        if beats || self.generation.is_none() {
            match self.protocol {
                Protocol::Classic if self.generation.is_none() => self.join().await,
                Protocol::Classic => self.beat_classic().await,
                Protocol::Consumer => self.beat_consumer().await,
            }
        } else if self.random.chance(700) {
            self.commit().await;
        } else {
            let all = self.owned.clone();
            fetch(&self.setting.world, &mut self.link, self.group, &all).await;
        }
    }

    /// By which a member is known that comes again.
    fn name(&self) -> &str {
        self.instance.as_deref().unwrap_or(&self.id)
    }

    fn beats(&self, generation: i32, asked: Asked) {
        let groups = &self.setting.world.groups;
        let member = (self.stay, self.name());
        groups.beats(self.group, member, generation, &self.owned, asked);
    }

    fn owns(&mut self, generation: i32, partitions: BTreeSet<i32>, asked: Asked) {
        if self.generation != Some(generation) || self.owned != partitions {
            self.note(format_args!("owns {partitions:?} in {generation}"));
        }
        let groups = &self.setting.world.groups;
        let member = (self.stay, self.name());
        groups.owns(self.group, member, generation, &partitions, asked);
        self.generation = Some(generation);
        self.owned = partitions;
    }

    async fn join(&mut self) {
        let (id, instance) = (self.id.clone(), self.instance.clone());
        let request = JoinGroupRequest {
            group_id: Cow::Borrowed(self.group.name),
            session_timeout_ms: millis(SESSION),
            rebalance_timeout_ms: millis(REBALANCE),
            member_id: Cow::Borrowed(&id),
            group_instance_id: instance.as_deref().map(Cow::Borrowed),
            protocol_type: Cow::Borrowed("consumer"),
            protocols: vec![JoinGroupRequestProtocol {
                name: Cow::Borrowed(ASSIGNOR),
                metadata: Cow::Owned(subscription()),
            }],
            ..JoinGroupRequest::default()
        };
        let joined = self
            .link
            .call(9, &request, ANSWER_OF_ALL, |r: JoinGroupResponse<'_>| {
                let members: Vec<String> = r
                    .members
                    .iter()
                    .map(|member| member.member_id.to_string())
                    .collect();
                (
                    r.error_code,
                    r.member_id.into_owned(),
                    r.generation_id,
                    members,
                )
            })
            .await;
        let Some((code, id, generation, members)) = joined else {
            return;
        };
        match error(code) {
            None => {
                self.id = id;
                self.sync(generation, members).await;
            }
            Some(ErrorCode::MemberIdRequired) => self.id = id,
            Some(ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId) => self.become_new(),
            Some(_) => {}
        }
    }

    async fn sync(&mut self, generation: i32, mut members: Vec<String>) {
        members.sort();
        let dealt = members.iter().enumerate().map(|(at, id)| {
            let mine = (0..PARTITIONS)
                .filter(|partition| usize::try_from(*partition).unwrap_or(0) % members.len() == at);
            SyncGroupRequestAssignment {
                member_id: Cow::Borrowed(id.as_str()),
                assignment: Cow::Owned(assignment(mine)),
            }
        });
        let (id, instance) = (self.id.clone(), self.instance.clone());
        let request = SyncGroupRequest {
            group_id: Cow::Borrowed(self.group.name),
            generation_id: generation,
            member_id: Cow::Borrowed(&id),
            group_instance_id: instance.as_deref().map(Cow::Borrowed),
            protocol_type: Some(Cow::Borrowed("consumer")),
            protocol_name: Some(Cow::Borrowed(ASSIGNOR)),
            assignments: dealt.collect(),
        };
        let asked = self.setting.world.groups.ask();
        let synced = self
            .link
            .call(5, &request, ANSWER_OF_ALL, |r: SyncGroupResponse<'_>| {
                (r.error_code, assigned(&r.assignment))
            })
            .await;
        match synced.map(|(code, mine)| (error(code), mine)) {
            Some((None, None)) => {
                let trace = &self.setting.world.trace;
                trace.violation(format_args!("{} is given what cannot be read", self.stay));
            }
            Some((None, Some(mine))) => {
                self.owns(generation, mine.clone(), asked);
                self.heartbeat_due = Instant::now() + HEARTBEAT;
                fetch(&self.setting.world, &mut self.link, self.group, &mine).await;
            }
            Some((Some(ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId), _)) => {
                self.become_new();
            }
            _ => {}
        }
    }

    async fn beat_classic(&mut self) {
        let (id, generation) = (self.id.clone(), self.generation.unwrap_or_default());
        let instance = self.instance.clone();
        let request = HeartbeatRequest {
            group_id: Cow::Borrowed(self.group.name),
            generation_id: generation,
            member_id: Cow::Borrowed(&id),
            group_instance_id: instance.as_deref().map(Cow::Borrowed),
        };
        let asked = self.setting.world.groups.ask();
        let code = self
            .link
            .call(4, &request, ANSWER, |r: HeartbeatResponse| r.error_code)
            .await;
        let Some(code) = code else { return };
        match error(code) {
            None => {
                self.beats(generation, asked);
                self.heartbeat_due = Instant::now() + HEARTBEAT;
            }
            Some(ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration) => self.rejoin(),
            Some(ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId) => self.become_new(),
            Some(_) => {}
        }
    }

    async fn beat_consumer(&mut self) {
        let (id, instance) = (self.id.clone(), self.instance.clone());
        let says_all = std::mem::replace(&mut self.says_all, true);
        let topics = match self.group.regex {
            Some(_) => Vec::new(),
            None => vec![Cow::Borrowed(TOPIC)],
        };
        let owned = match self.owned.is_empty() {
            true => Vec::new(),
            false => vec![TopicPartitions {
                topic_id: self.setting.topic,
                partitions: self.owned.iter().copied().collect(),
            }],
        };
        let request = ConsumerGroupHeartbeatRequest {
            group_id: Cow::Borrowed(self.group.name),
            member_id: Cow::Borrowed(&id),
            member_epoch: self.generation.unwrap_or(JOINS),
            rebalance_timeout_ms: if says_all { millis(REBALANCE) } else { -1 },
            instance_id: instance.as_deref().map(Cow::Borrowed),
            subscribed_topic_names: says_all.then_some(topics),
            subscribed_topic_regex: self.group.regex.filter(|_| says_all).map(Cow::Borrowed),
            topic_partitions: says_all.then_some(owned),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        let asked = self.setting.world.groups.ask();
        let told = self
            .link
            .call(
                1,
                &request,
                ANSWER,
                |r: ConsumerGroupHeartbeatResponse<'_>| {
                    let assigned = r.assignment.map(|assignment| {
                        let topics = assignment.topic_partitions.into_iter();
                        topics.flat_map(|topic| topic.partitions).collect()
                    });
                    let interval = r.heartbeat_interval_ms.unsigned_abs();
                    let interval = Duration::from_millis(interval.into());
                    (r.error_code, r.member_epoch, assigned, interval)
                },
            )
            .await;
        let Some((code, epoch, assigned, interval)) = told else {
            return;
        };
        match error(code) {
            None => {
                let now: BTreeSet<i32> = assigned.unwrap_or_else(|| self.owned.clone());
                let gained: BTreeSet<i32> = now.difference(&self.owned).copied().collect();
                // What was taken away is given up here, and the next heartbeat says so at once.
                let is_changed = now != self.owned;
                self.owns(epoch, now, asked);
                self.says_all = is_changed;
                self.heartbeat_due = match is_changed {
                    true => Instant::now(),
                    false => Instant::now() + interval.min(HEARTBEAT),
                };
                if !gained.is_empty() {
                    fetch(&self.setting.world, &mut self.link, self.group, &gained).await;
                }
            }
            Some(
                ErrorCode::FencedMemberEpoch
                | ErrorCode::UnknownMemberId
                // Meanwhile it has become a classic group, without this member.
                | ErrorCode::GroupIdNotFound,
            ) => self.rejoin(),
            Some(ErrorCode::FencedInstanceId) => self.become_new(),
            // Among others that the one before has not gone yet.
            Some(_) => {}
        }
    }

    async fn leave(&mut self) {
        self.note("leaves");
        let (id, was_in) = (self.id.clone(), self.generation.is_some());
        let instance = self.instance.clone();
        let comes_again = instance.is_some() && self.random.chance(500);
        let protocol = self.protocol;
        self.become_new();
        if !was_in {
            return;
        }
        // Whether it was heard or not, the member is gone.
        match protocol {
            Protocol::Classic => {
                let request = LeaveGroupRequest {
                    group_id: Cow::Borrowed(self.group.name),
                    members: vec![MemberIdentity {
                        // Whoever has a name is sent away by that.
                        member_id: Cow::Borrowed(if instance.is_some() { "" } else { &id }),
                        group_instance_id: instance.as_deref().map(Cow::Borrowed),
                        ..MemberIdentity::default()
                    }],
                    ..LeaveGroupRequest::default()
                };
                self.link
                    .call(5, &request, ANSWER, |_: LeaveGroupResponse<'_>| ())
                    .await;
            }
            Protocol::Consumer => {
                let request = ConsumerGroupHeartbeatRequest {
                    group_id: Cow::Borrowed(self.group.name),
                    member_id: Cow::Borrowed(&id),
                    member_epoch: match comes_again {
                        true => LEAVES_FOR_A_WHILE,
                        false => LEAVES,
                    },
                    instance_id: instance.as_deref().map(Cow::Borrowed),
                    rebalance_timeout_ms: -1,
                    ..ConsumerGroupHeartbeatRequest::default()
                };
                self.link
                    .call(
                        1,
                        &request,
                        ANSWER,
                        |_: ConsumerGroupHeartbeatResponse<'_>| (),
                    )
                    .await;
            }
        }
    }

    /// Commits some of what the member thinks that it owns.
    async fn commit(&mut self) {
        let Some(generation) = self.generation else {
            return;
        };
        let chosen: Vec<i32> = self
            .owned
            .iter()
            .copied()
            .filter(|_| self.random.chance(600))
            .collect();
        if chosen.is_empty() {
            return;
        }
        let groups = self.setting.world.groups.clone();
        let asked = groups.ask();
        let attempts: Vec<Attempt> = chosen
            .iter()
            .map(|partition| groups.commits(self.group, *partition, self.stay, generation, asked))
            .collect();
        let (id, instance) = (self.id.clone(), self.instance.clone());
        let partitions = attempts.iter().map(|attempt| OffsetCommitRequestPartition {
            partition_index: attempt.partition,
            committed_offset: attempt.offset,
            ..OffsetCommitRequestPartition::default()
        });
        let request = OffsetCommitRequest {
            group_id: Cow::Borrowed(self.group.name),
            member_id: Cow::Borrowed(&id),
            generation_id_or_member_epoch: generation,
            group_instance_id: instance.as_deref().map(Cow::Borrowed),
            topics: vec![OffsetCommitRequestTopic {
                name: Cow::Borrowed(TOPIC),
                topic_id: TopicId::ZERO,
                partitions: partitions.collect(),
            }],
            ..OffsetCommitRequest::default()
        };
        let codes: Option<Codes> = self
            .link
            .call(9, &request, ANSWER, |r: OffsetCommitResponse<'_>| {
                let partitions = r.topics.iter().flat_map(|topic| &topic.partitions);
                partitions
                    .map(|partition| (partition.partition_index, partition.error_code))
                    .collect()
            })
            .await;
        let said: Vec<String> = attempts
            .iter()
            .map(|attempt| {
                let code = codes
                    .iter()
                    .flatten()
                    .find(|(at, _)| *at == attempt.partition);
                let code = code.map(|(_, code)| *code);
                match code {
                    Some(0) => groups.acknowledged(*attempt),
                    Some(code) if is_refusal(code) => groups.refused(*attempt),
                    _ => {}
                }
                format!("{} of {}: {code:?}", attempt.offset, attempt.partition)
            })
            .collect();
        self.note(format_args!("commits in {generation}: {}", said.join(", ")));
    }
}

/// Asks for committed offsets and checks them; false where there is no answer.
async fn fetch(world: &World, link: &mut Link, group: Group, partitions: &BTreeSet<i32>) -> bool {
    if partitions.is_empty() {
        return true;
    }
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: Cow::Borrowed(group.name),
            member_epoch: -1,
            topics: Some(vec![OffsetFetchRequestTopics {
                name: Cow::Borrowed(TOPIC),
                partition_indexes: partitions.iter().copied().collect(),
                ..OffsetFetchRequestTopics::default()
            }]),
            ..OffsetFetchRequestGroup::default()
        }],
        ..OffsetFetchRequest::default()
    };
    let asked = world.groups.ask();
    let fetched = link
        .call(9, &request, ANSWER, |r: OffsetFetchResponse<'_>| {
            let group = r.groups.first()?;
            if group.error_code != 0 {
                return None;
            }
            let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
            let found = partitions.filter(|partition| partition.error_code == 0);
            let found = found.map(|found| (found.partition_index, found.committed_offset));
            Some(found.collect::<Vec<_>>())
        })
        .await
        .flatten();
    let Some(fetched) = fetched else { return false };
    world.trace.note(format_args!(
        "{} of {} has commits {fetched:?}",
        link.client_id, group.name
    ));
    let answered: BTreeSet<i32> = fetched.iter().map(|(partition, _)| *partition).collect();
    for (partition, offset) in fetched {
        world.groups.fetched(group, partition, asked, offset);
    }
    answered == *partitions
}

/// Checks every commit of a group, under a clear sky.
pub(crate) async fn audit(world: &Arc<World>, group: Group) {
    let mut link = Link::new(world, AUDITOR, group);
    let deadline = Instant::now() + AUDIT_TIME_MAX;
    let all: BTreeSet<i32> = (0..PARTITIONS).collect();
    while !fetch(world, &mut link, group, &all).await {
        if Instant::now() >= deadline {
            world.trace.violation(format_args!(
                "group {}: its commits cannot be asked for",
                group.name
            ));
            return;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

fn error(code: i16) -> Option<ErrorCode> {
    (code != 0).then(|| ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError))
}

/// Whether a commit with this answer was not applied, and never will be.
fn is_refusal(code: i16) -> bool {
    [
        ErrorCode::IllegalGeneration,
        ErrorCode::UnknownMemberId,
        ErrorCode::StaleMemberEpoch,
        ErrorCode::FencedMemberEpoch,
        ErrorCode::FencedInstanceId,
        ErrorCode::GroupIdNotFound,
        ErrorCode::RebalanceInProgress,
        ErrorCode::CoordinatorLoadInProgress,
    ]
    .iter()
    .any(|refusal| refusal.code() == code)
}
