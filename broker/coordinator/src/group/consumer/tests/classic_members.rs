use std::borrow::Cow;

use bytes::Bytes;
use esker_protocol::messages::consumer_protocol_assignment::TopicPartition as AssignedTopic;
use esker_protocol::messages::consumer_protocol_subscription::TopicPartition;
use esker_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use esker_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
    GroupMetadataValue, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest,
};
use esker_protocol::primitive::{Decode, Reader};
use esker_protocol::{ErrorCode, TopicId, consumer_protocol};

use super::super::{ClassicMember, session_timer, upgrade};
use super::{Bench, assigned, join};
use crate::step::RequestContext;
use crate::view::{MigrationPolicy, View};

const JOIN: RequestContext<'static> = RequestContext {
    version: 5,
    ..super::CONTEXT
};

fn subscription(topics: &[&str], owned: &[(&str, &[i32])]) -> Vec<u8> {
    let subscription = ConsumerProtocolSubscription {
        topics: super::names(topics),
        owned_partitions: (owned.iter())
            .map(|(topic, partitions)| TopicPartition {
                topic: Cow::Owned((*topic).to_owned()),
                partitions: partitions.to_vec(),
            })
            .collect(),
        ..ConsumerProtocolSubscription::default()
    };
    let encoded = consumer_protocol::encode_subscription(&subscription, 1);
    encoded.expect("small").to_vec()
}

fn assignment(partitions: &[i32]) -> Bytes {
    let of_topic = AssignedTopic {
        topic: Cow::Borrowed("foo"),
        partitions: partitions.to_vec(),
    };
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: vec![of_topic],
        ..ConsumerProtocolAssignment::default()
    };
    consumer_protocol::encode_assignment(&assignment, 1).expect("small")
}

fn join_request<'a>(
    member: &'a str,
    instance: Option<&'a str>,
    metadata: &'a [u8],
) -> JoinGroupRequest<'a> {
    JoinGroupRequest {
        group_id: Cow::Borrowed("g"),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 20_000,
        member_id: Cow::Borrowed(member),
        group_instance_id: instance.map(Cow::Borrowed),
        protocol_type: Cow::Borrowed("consumer"),
        protocols: vec![JoinGroupRequestProtocol {
            name: Cow::Borrowed("range"),
            metadata: Cow::Borrowed(metadata),
        }],
        ..JoinGroupRequest::default()
    }
}

/// A group that was classic in generation 5: `x` owned partitions 0 and 1 of `foo`, `y` 2 and 3.
fn upgraded() -> (Bench, TopicId) {
    let (mut bench, topic) = Bench::with_topic("foo", 4);
    let metadata = subscription(&["foo"], &[]);
    let (x, y) = (assignment(&[0, 1]), assignment(&[2, 3]));
    let member = |id, assignment| ClassicMember {
        id,
        instance_id: None,
        client_id: "client",
        client_host: "/127.0.0.1",
        rebalance_timeout_ms: 20_000,
        session_timeout_ms: 10_000,
        protocols: vec![("range", &metadata)],
        assignment,
    };
    let world = bench.world.clone();
    let view = View {
        topics: &world,
        configuration: &world,
        now: bench.now(),
    };
    let members = [member("x", &x[..]), member("y", &y[..])];
    let records = upgrade("g", 5, Some("range"), &members, &view).expect("it is one of consumers");
    bench.apply(&records);
    for id in ["x", "y"] {
        let due_ms = bench.now_ms + 10_000;
        bench.timers.set(session_timer("g", id.to_owned()), due_ms);
    }
    (bench, topic)
}

impl Bench {
    fn classic_join(
        &mut self,
        request: &JoinGroupRequest<'_>,
    ) -> Result<JoinGroupResponse<'static>, ErrorCode> {
        self.turn(|group, turn| group.classic_join(request, &JOIN, turn))
            .0
    }

    fn rejoin(&mut self, member: &str, owned: &[i32]) -> i32 {
        let metadata = subscription(&["foo"], &[("foo", owned)]);
        let response = self.classic_join(&join_request(member, None, &metadata));
        let response = response.expect("it is a member");
        assert_eq!(response.member_id, member);
        assert_eq!(response.protocol_name.as_deref(), Some("range"));
        response.generation_id
    }

    fn sync(&mut self, member: &str, generation: i32) -> Result<Vec<i32>, ErrorCode> {
        let request = SyncGroupRequest {
            member_id: Cow::Borrowed(member),
            generation_id: generation,
            protocol_type: Some(Cow::Borrowed("consumer")),
            protocol_name: Some(Cow::Borrowed("range")),
            ..SyncGroupRequest::default()
        };
        let response = self
            .turn(|group, turn| group.classic_sync(&request, turn))
            .0?;
        let assignment =
            consumer_protocol::assignment(&response.assignment).expect("it was made here");
        let topics = assignment.assigned_partitions.iter();
        Ok(topics.flat_map(|topic| topic.partitions.clone()).collect())
    }

    fn classic_beat(&mut self, member: &str, generation: i32) -> Result<(), ErrorCode> {
        let request = HeartbeatRequest {
            member_id: Cow::Borrowed(member),
            generation_id: generation,
            ..HeartbeatRequest::default()
        };
        self.turn(|group, turn| group.classic_heartbeat(&request, turn))
            .0
    }

    /// What the last batch made of the group, if it ends with a classic one.
    fn classic_record(&self) -> Option<GroupMetadataValue<'_>> {
        let (key, value) = self.log.last()?;
        if key[..2] != [0, 2] {
            return None;
        }
        let mut reader = Reader::new(value.as_deref()?);
        assert_eq!(reader.int16(), Ok(3));
        Some(GroupMetadataValue::decode(&mut reader, 3).expect("it was made here"))
    }
}

#[test]
fn a_classic_group_becomes_a_consumer_group_as_it_is() {
    let (mut bench, topic) = upgraded();
    assert_eq!(bench.types(), [5, 5, 3, 7, 7, 6, 8, 8]);
    assert_eq!(bench.epoch(), 5);
    assert_eq!(bench.group.state_name(), "Stable");
    assert_eq!(bench.classic_beat("x", 5), Ok(()));
    assert_eq!(bench.sync("x", 5), Ok(vec![0, 1]));
    assert_eq!(
        bench.group.validate_commit("x", None, 5, 2, topic, 0),
        Ok(())
    );
    assert_eq!(
        bench.group.validate_commit("x", None, 4, 9, topic, 0),
        Err(ErrorCode::IllegalGeneration)
    );
}

#[test]
fn what_is_no_group_of_consumers_stays_classic() {
    let (bench, _) = Bench::with_topic("foo", 1);
    let view = View {
        topics: &bench.world,
        configuration: &bench.world,
        now: bench.now(),
    };
    let good = subscription(&["foo"], &[]);
    let refused = |metadata: &[u8], assignment: &[u8]| {
        let member = ClassicMember {
            id: "x",
            instance_id: None,
            client_id: "client",
            client_host: "/127.0.0.1",
            rebalance_timeout_ms: 1,
            session_timeout_ms: 1,
            protocols: vec![("range", metadata)],
            assignment,
        };
        let refusal = upgrade("g", 5, Some("range"), &[member], &view).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::GroupIdNotFound);
        refusal.message
    };
    assert!(refused(b"", b"").contains("malformed"));
    assert!(refused(b"\0", b"").contains("malformed"));
    assert!(refused(&good, b"\0\0\x7f\xff\xff\xff").contains("malformed"));
    let with_data = ConsumerProtocolAssignment {
        user_data: Some(Cow::Borrowed(b"mine")),
        ..ConsumerProtocolAssignment::default()
    };
    let with_data = consumer_protocol::encode_assignment(&with_data, 1).expect("small");
    assert!(refused(&good, &with_data).contains("custom assignor"));
}

#[test]
fn classic_members_hand_over_by_rejoining() {
    let (mut bench, _) = upgraded();
    let response = bench.send(&join("new", &["foo"]));
    assert_eq!(
        (response.member_epoch, assigned(&response)),
        (6, Some(vec![]))
    );

    // Both are told to rejoin; x has partition 1 to give up.
    assert_eq!(
        bench.classic_beat("x", 5),
        Err(ErrorCode::RebalanceInProgress)
    );
    assert_eq!(
        bench.classic_beat("y", 5),
        Err(ErrorCode::RebalanceInProgress)
    );
    assert_eq!(bench.sync("x", 5), Err(ErrorCode::RebalanceInProgress));
    let target = |bench: &Bench, id: &str| -> Vec<i32> {
        let target = bench.group.state.target_of(id).expect("it has one");
        target.values().flatten().copied().collect()
    };
    let mut moved = 0;
    for (id, before) in [("x", [0, 1]), ("y", [2, 3])] {
        let wanted = target(&bench, id);
        if wanted.len() == before.len() {
            assert_eq!(bench.rejoin(id, &before), 6);
            assert_eq!(bench.sync(id, 6), Ok(before.to_vec()));
            continue;
        }
        moved += 1;
        // It stays in its generation until it rejoins without what it gave up.
        assert_eq!(bench.rejoin(id, &before), 5);
        assert_eq!(bench.sync(id, 5), Ok(wanted.clone()));
        assert_eq!(
            bench.classic_beat(id, 5),
            Err(ErrorCode::RebalanceInProgress)
        );
        assert_eq!(bench.rejoin(id, &wanted), 6);
        assert_eq!(bench.sync(id, 6), Ok(wanted));
        assert_eq!(bench.classic_beat(id, 6), Ok(()));
    }
    assert_eq!(moved, 1);
    let response = bench.beat("new", 6);
    assert_eq!(assigned(&response), Some(target(&bench, "new")));
    assert_eq!(bench.group.state_name(), "Stable");
    bench.reload();
    assert_eq!(bench.group.state_name(), "Stable");
}

#[test]
fn classic_requests_are_checked() {
    let (mut bench, _) = upgraded();
    assert_eq!(bench.classic_beat("z", 5), Err(ErrorCode::UnknownMemberId));
    assert_eq!(
        bench.classic_beat("x", 4),
        Err(ErrorCode::IllegalGeneration)
    );
    assert_eq!(bench.sync("x", 4), Err(ErrorCode::IllegalGeneration));
    bench.send(&join("new", &["foo"]));
    assert_eq!(
        bench.classic_beat("new", 6),
        Err(ErrorCode::UnknownMemberId)
    );
    let metadata = subscription(&["foo"], &[]);
    let mut request = join_request("", None, &metadata);
    let response = bench.classic_join(&request).expect("it gets an id");
    assert_eq!(response.error_code, ErrorCode::MemberIdRequired.code());
    assert_eq!(response.member_id.len(), 22);
    request.protocols[0].name = Cow::Borrowed("other");
    assert_eq!(
        bench.classic_join(&request),
        Err(ErrorCode::InconsistentGroupProtocol)
    );
    request.protocols.clear();
    assert_eq!(
        bench.classic_join(&request),
        Err(ErrorCode::InconsistentGroupProtocol)
    );
    let request = join_request("n", Some("no such instance"), &metadata);
    assert_eq!(
        bench.classic_join(&request),
        Err(ErrorCode::UnknownMemberId)
    );
    let malformed = join_request("n", None, b"\0\x01\x7f");
    assert_eq!(
        bench.classic_join(&malformed),
        Err(ErrorCode::UnknownServerError)
    );
}

#[test]
fn a_classic_member_that_does_not_rejoin_or_sync_is_removed() {
    let (mut bench, _) = upgraded();
    bench.send(&join("new", &["foo"]));
    for _ in 0..4 {
        assert_eq!(
            bench.classic_beat("x", 5),
            Err(ErrorCode::RebalanceInProgress)
        );
        bench.rejoin("y", &[2, 3]);
        bench.pass(4_999);
    }
    assert!(bench.group.state.member("x").is_some());
    bench.pass(4);
    assert!(bench.group.state.member("x").is_none());
    // y has joined and never synced.
    for _ in 0..3 {
        let _ = bench.classic_beat("y", 6);
        bench.pass(6_000);
    }
    assert!(bench.group.state.member("y").is_none());
}

#[test]
fn the_group_becomes_classic_when_its_last_consumer_member_leaves() {
    let (mut bench, _) = upgraded();
    bench.send(&join("new", &["foo"]));
    let response = bench.beat("new", -1);
    assert_eq!((response.error_code, response.member_epoch), (0, -1));
    assert_eq!(
        bench.types(),
        [-8, -8, -8, -7, -7, -7, -6, -5, -5, -5, -4, -3, 2]
    );
    assert!(bench.group.is_empty_state());
    assert!(bench.timers.is_empty());
    let value = bench.classic_record().expect("a classic group");
    assert_eq!((&*value.protocol_type, value.generation), ("consumer", 6));
    assert_eq!(value.protocol.as_deref(), Some("range"));
    let [x, y] = &value.members[..] else {
        panic!("two members: {value:?}");
    };
    assert_eq!((&*x.member_id, &*y.member_id), ("x", "y"));
    assert_eq!((x.session_timeout, x.rebalance_timeout), (10_000, 20_000));
    assert_eq!(*x.subscription, subscription(&["foo"], &[])[..]);
    let topics = consumer_protocol::assignment(&x.assignment).expect("it was made here");
    assert_eq!(topics.assigned_partitions[0].topic, "foo");
}

#[test]
fn the_policy_decides_whether_a_group_becomes_classic() {
    for (policy, is_classic) in [
        (MigrationPolicy::Bidirectional, true),
        (MigrationPolicy::Downgrade, true),
        (MigrationPolicy::Upgrade, false),
        (MigrationPolicy::Disabled, false),
    ] {
        let (mut bench, _) = upgraded();
        bench.send(&join("new", &["foo"]));
        bench.world.settings.consumer_migration = policy;
        bench.beat("new", -1);
        assert_eq!(bench.classic_record().is_some(), is_classic, "{policy:?}");
    }
    let (mut bench, _) = upgraded();
    bench.send(&join("new", &["foo"]));
    bench.world.settings.classic_members_max = 1;
    bench.beat("new", -1);
    assert!(bench.classic_record().is_none(), "it is too large");
}

#[test]
fn a_static_member_that_comes_back_as_a_classic_one_takes_the_group_along() {
    let (mut bench, topic) = Bench::with_topic("foo", 2);
    bench.send(&ConsumerGroupHeartbeatRequest {
        instance_id: Some(Cow::Borrowed("one")),
        ..join("a", &["foo"])
    });
    let metadata = subscription(&["foo"], &[]);
    let request = join_request("", Some("one"), &metadata);
    let (response, rebalances) =
        bench.turn(|group, turn| group.classic_join(&request, &JOIN, turn));
    let response = response.expect("it takes a's place");
    assert_eq!(response.generation_id, 2);
    assert!(!rebalances);
    assert!(bench.group.is_empty_state());
    let value = bench.classic_record().expect("a classic group");
    let [member] = &value.members[..] else {
        panic!("one member: {value:?}");
    };
    assert_eq!(member.member_id, response.member_id);
    assert_eq!(member.group_instance_id.as_deref(), Some("one"));
    let told = consumer_protocol::assignment(&member.assignment).expect("it was made here");
    assert_eq!(told.assigned_partitions[0].partitions, [0, 1]);
    assert_ne!(topic, TopicId::ZERO);
}

#[test]
fn a_classic_static_member_that_comes_back_as_a_consumer_takes_its_place() {
    let (mut bench, _) = Bench::with_topic("foo", 2);
    bench.send(&join("a", &["foo"]));
    let metadata = subscription(&["foo"], &[]);
    let request = join_request("", Some("one"), &metadata);
    let classic = bench.classic_join(&request).expect("it joins").member_id;
    let response = bench.send(&ConsumerGroupHeartbeatRequest {
        instance_id: Some(Cow::Borrowed("one")),
        ..join("b", &["foo"])
    });
    assert_eq!(response.error_code, 0);
    assert!(bench.group.state.member(&classic).is_none());
    assert_eq!(bench.group.state.classic_members(), 0);
}

#[test]
fn a_leave_group_names_members_by_either_id() {
    let (mut bench, _) = upgraded();
    bench.send(&join("a", &["foo"]));
    let metadata = subscription(&["foo"], &[]);
    bench
        .classic_join(&join_request("", Some("one"), &metadata))
        .expect("it joins");
    let names = [
        ("x", None),
        ("nobody", None),
        ("", Some("one")),
        ("y", Some("one")),
        ("", Some("two")),
    ];
    let (answers, _) = bench.turn(|group, turn| group.classic_leave(names.into_iter(), turn));
    assert_eq!(
        answers,
        [
            Ok(()),
            Err(ErrorCode::UnknownMemberId),
            Ok(()),
            Err(ErrorCode::FencedInstanceId),
            Err(ErrorCode::UnknownMemberId),
        ]
    );
    assert_eq!(bench.types(), [-8, -7, -5, -8, -7, -5, 3]);
    let left: Vec<&str> = bench
        .group
        .state
        .members()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(left, ["a", "y"]);
}

#[test]
fn what_a_leader_assigned_twice_is_free_only_when_both_gave_it_up() {
    let (mut bench, topic) = Bench::with_topic("foo", 1);
    bench.world.settings.consumer_migration = MigrationPolicy::Upgrade;
    let metadata = subscription(&["foo"], &[]);
    let both = assignment(&[0]);
    let member = |id| ClassicMember {
        id,
        instance_id: None,
        client_id: "client",
        client_host: "/127.0.0.1",
        rebalance_timeout_ms: 20_000,
        session_timeout_ms: 10_000,
        protocols: vec![("range", &metadata[..])],
        assignment: &both,
    };
    let world = bench.world.clone();
    let view = View {
        topics: &world,
        configuration: &world,
        now: bench.now(),
    };
    let members = [member("x"), member("y")];
    let records = upgrade("g", 5, None, &members, &view).expect("they are consumers");
    bench.apply(&records);
    bench.beat("x", -1);
    assert!(bench.group.state.is_owned(topic, 0));
    bench.beat("y", -1);
    assert!(!bench.group.state.is_owned(topic, 0));
}
