"""The classic group protocol: members over connections of their own, in every version."""

from ..codec import ZERO_UUID
from ..script import Topic
from . import case
from .members import Member, assignment, commit_body, fetch_offsets_body, group_state, subscription

JOINS = range(10)
TURNS = (0, 3, 4, 5, 7, 9)
STATIC = (5, 7, 9)


def describe(s, group, label="describe", versions=(0, 3, 4, 5, 6)):
    s.ask("DescribeGroups", {"Groups": [group], "IncludeAuthorizedOperations": True}, versions, label=label)


@case
def classic_group_of_one(s):
    topic = s.topic()
    for version in JOINS:
        one = Member(s, s.name(f"g{version}"), version, (("range", subscription(topic.name)),))
        one.join()
        describe(s, one.group, "before the assignment")
        one.beat("before the assignment")
        one.sync([(one, assignment((topic.name, [0])))])
        one.sync(label="sync again")
        one.beat()
        one.commit(topic, 3, versions=range(2, 11))
        s.ask("OffsetFetch", fetch_offsets_body(one.group, topic), label="committed")
        describe(s, one.group, versions=None)
        s.ask("ListGroups", {}, 5, mine="Groups.GroupId", label="list")
        one.leave()
        describe(s, one.group, "after the leave")
        one.beat("after the leave")
        one.sync(label="sync after the leave")
        one.commit(topic, 4, "commit after the leave", versions=(2, 8, 9, 10))
        one.leave("leave again")


@case
def classic_group_of_two(s):
    topic = s.topic(partitions=2)
    for version in JOINS:
        group = s.name(f"g{version}")
        protocols = (("range", subscription(topic.name)), ("roundrobin", subscription(topic.name)))
        one, two = (Member(s, group, version, protocols) for _ in range(2))
        one.join()
        one.sync([(one, assignment((topic.name, [0, 1])))])
        two.enter([one], "both join")
        describe(s, group, "both joined")
        two.beat("before the assignment")
        two.send_sync()
        one.sync([(one, assignment((topic.name, [0]))), (two, assignment((topic.name, [1])))])
        two.synced()
        describe(s, group, "stable")
        for member in (one, two):
            member.beat()
            member.commit(topic, 5, versions=(2, 9, 10))
        stale = {"GenerationIdOrMemberEpoch": one.generation - 1}
        one.commit(topic, 1, "commit of an old generation", versions=range(2, 11), **stale)
        one.beat("an old generation", GenerationId=one.generation - 1)
        one.beat("a generation to come", GenerationId=one.generation + 1)
        one.sync(label="sync of an old generation", GenerationId=one.generation - 1)
        two.leave()
        one.beat("one is left")
        one.join("alone again")
        one.commit(topic, 6, "commit before the assignment", versions=(2, 9, 10))
        one.sync([(one, assignment((topic.name, [0, 1])))])
        one.leave()
        describe(s, group, "empty")


@case
def classic_follower_and_leader_join_again(s):
    for version in TURNS:
        group = s.name(f"g{version}")
        one, two = (Member(s, group, version) for _ in range(2))
        one.join()
        one.sync([(one, b"all")])
        two.enter([one], "both join")
        two.join("again before the assignment")
        one.sync([(one, b"1"), (two, b"2")])
        two.sync()
        two.join("a follower, nothing new")
        two.sync(label="the same assignment")
        two.protocols = (("range", subscription("other")),)
        two.send_join()
        group_state(s, group, "PreparingRebalance")
        one.beat("a follower has changed")
        one.send_join()
        one.joined("the leader")
        two.joined("the follower")
        two.send_sync()
        one.sync([(one, b"1"), (two, b"2")])
        two.synced()
        one.send_join()
        group_state(s, group, "PreparingRebalance")
        two.beat("the leader joins again")
        two.send_join()
        one.joined("the leader, nothing new")
        two.joined("the follower")


@case
def classic_sync_while_others_join(s):
    for version in TURNS:
        group = s.name(f"g{version}")
        one, two = (Member(s, group, version) for _ in range(2))
        one.join()
        one.sync([(one, b"all")])
        if version >= 4:
            two.send_join()
            two.joined("for an id")
        two.send_join()
        group_state(s, group, "PreparingRebalance")
        one.sync(label="sync while others join")
        one.beat("heartbeat while others join")
        topic = Topic("anything", ZERO_UUID)
        one.commit(topic, 1, "commit while others join", versions=(2, 8, 9))
        describe(s, group, "while others join")
        one.send_join()
        one.joined("one")
        two.joined("two")
        one.send_sync([(one, b"1"), (two, b"2")], ProtocolName="other") if version >= 5 else one.send_sync(
            [(one, b"1"), (two, b"2")]
        )
        one.synced("with another protocol")


@case
def classic_protocols_are_voted_for(s):
    for version in TURNS:
        group = s.name(f"g{version}")
        one = Member(s, group, version, (("a", b"1a"), ("b", b"1b"), ("c", b"1c")))
        two = Member(s, group, version, (("b", b"2b"), ("c", b"2c"), ("a", b"2a")))
        three = Member(s, group, version, (("b", b"3b"), ("a", b"3a"), ("d", b"3d")))
        one.join()
        one.sync([(one, b"")])
        two.enter([one], "two")
        two.send_sync()
        one.sync([(one, b"1"), (two, b"2")])
        two.synced()
        three.enter([one, two], "three")
        describe(s, group)
        Member(s, group, version, (("c", b""),)).join("a protocol that not all have")
        Member(s, group, version, (("z", b""),)).join("a protocol that nobody has")
        Member(s, group, version, ()).join("no protocol")
        Member(s, group, version, (("a", b""),), kind="connect").join("another type")
        Member(s, group, version, (("a", b""),), kind="").join("no type")


@case
def classic_join_errors(s):
    for version in JOINS:
        group = s.name(f"g{version}")
        for session in (-1, 0, 999, 60_001, 2**31 - 1):
            Member(s, group, version, session=session).join(f"session of {session} ms")
        Member(s, "", version).join("empty group id")
        Member(s, group, version, ()).join("no protocol")
        Member(s, group, version, kind="").join("no type")
        stranger = Member(s, group, version)
        stranger.id = "nobody"
        stranger.join("an id that nobody has, in a group that is none")
        one = Member(s, group, version)
        one.join()
        one.sync([(one, b"")])
        stranger = Member(s, group, version)
        stranger.id = "nobody"
        stranger.join("an id that nobody has")


@case
def classic_group_requests_to_no_group(s):
    group = s.name("none")
    topic = s.topic()
    for name in (group, ""):
        body = {"GroupId": name, "GenerationId": 1, "MemberId": "m"}
        s.ask("SyncGroup", {**body, "ProtocolType": "consumer", "ProtocolName": "range"}, label=f"{name!r}")
        s.ask("Heartbeat", body, label=f"{name!r}")
        s.ask(
            "LeaveGroup",
            {"GroupId": name, "MemberId": "m", "Members": [{"MemberId": "m"}, {"MemberId": "", "GroupInstanceId": "i"}]},
            label=f"{name!r}",
        )
        s.ask("DescribeGroups", {"Groups": [name]}, label=f"{name!r}")
        s.ask("OffsetCommit", commit_body(name, topic, 1, member="m", generation=1), label=f"{name!r}")
        s.ask("OffsetFetch", fetch_offsets_body(name, topic), label=f"{name!r}")
        s.ask("DeleteGroups", {"GroupsNames": [name]}, label=f"{name!r}")
        s.ask(
            "OffsetDelete",
            {"GroupId": name, "Topics": [{"Name": topic.name, "Partitions": [{"PartitionIndex": 0}]}]},
            label=f"{name!r}",
        )
        s.ask("ConsumerGroupDescribe", {"GroupIds": [name]}, label=f"{name!r}")


@case
def classic_members_that_are_wrong(s):
    for version in TURNS:
        one = Member(s, s.name(f"g{version}"), version)
        one.join()
        one.sync([(one, b"")])
        for label, more in (("unknown member", {"MemberId": "nobody"}), ("no member", {"MemberId": ""}), ("no generation", {"GenerationId": -1}),
                            ("unknown member, old generation", {"MemberId": "nobody", "GenerationId": 0})):  # fmt: skip
            one.beat(label, **more)
            one.sync(label=label, **more)
        if version >= 5:
            one.beat("an instance nobody has", GroupInstanceId="i")
            one.sync(label="an instance nobody has", GroupInstanceId="i")
        if version >= 7:
            one.send_sync(ProtocolName=None)
            one.synced("no protocol name")
        one.leave("unknown member", MemberId="nobody", Members=[{"MemberId": "nobody"}])
        one.leave("several", Members=[{"MemberId": "nobody"}, {"MemberId": one.id}, {"MemberId": one.id}], MemberId=one.id)


@case
def classic_sync_with_another_protocol(s):
    one = Member(s, s.name("g"), 9)
    one.join()
    for label, more in (
        ("name", {"ProtocolName": "other"}),
        ("type", {"ProtocolType": "connect"}),
        ("neither", {"ProtocolName": None, "ProtocolType": None}),
    ):
        body = one.body(ProtocolType=one.kind, ProtocolName=one.protocol, Assignments=[{"MemberId": one.id, "Assignment": b"x"}])
        s.ask("SyncGroup", {**body, **more}, 5, label=label, link=one.link)


@case
def classic_assignments_of_the_leader(s):
    for version in TURNS:
        one = Member(s, s.name(f"g{version}"), version)
        one.join()
        one.sync([(one, b"x"), ("nobody", b"y"), (one, b"z")], "twice, and for a stranger")
        describe(s, one.group)
        other = Member(s, s.name(f"h{version}"), version)
        other.join()
        other.sync([], "no assignment at all")


@case
def classic_static_member_comes_back(s):
    for version in STATIC:
        group = s.name(f"g{version}")
        one = Member(s, group, version, instance="one")
        one.join()
        one.sync([(one, b"mine")])
        describe(s, group)
        again = Member(s, group, version, instance="one")
        again.join("the same instance again")
        again.sync(label="its assignment is kept")
        describe(s, group, "after the return")
        one.beat("the former")
        one.sync(label="the former")
        one.commit(Topic("anything", ZERO_UUID), 1, "the former", versions=(7, 8, 9))
        one.leave("the former")
        one.join("the former")
        again.beat()
        changed = Member(s, group, version, (("range", subscription("changed")),), instance="one")
        changed.join("the same instance with other metadata")
        changed.sync([(changed, b"new")])
        other = Member(s, group, version, (("other", b"x"),), instance="one")
        other.join("the same instance with another protocol")
        other.sync([(other, b"new")])
        other.leave("with another member's id", Members=[{"MemberId": "nobody", "GroupInstanceId": "one"}])
        other.leave("an instance nobody has", Members=[{"MemberId": "", "GroupInstanceId": "two"}])
        other.leave("by instance alone", Members=[{"MemberId": "", "GroupInstanceId": "one"}])
        describe(s, group, "after the leave")


@case
def classic_static_members_among_others(s):
    for version in STATIC:
        group = s.name(f"g{version}")
        one, two = Member(s, group, version, instance="one"), Member(s, group, version, instance="two")
        one.join()
        one.sync([(one, b"all")])
        two.enter([one], "both join")
        two.send_sync()
        one.sync([(one, b"1"), (two, b"2")])
        two.synced()
        again = Member(s, group, version, instance="two")
        again.join("the follower comes back")
        again.sync(label="no rebalance")
        one.beat("no rebalance")
        leader = Member(s, group, version, instance="one")
        leader.join("the leader comes back")
        leader.sync(label="no rebalance")
        again.beat("no rebalance")
        leader.beat("with another's instance", GroupInstanceId="two")
        leader.beat("with an instance nobody has", GroupInstanceId="three")
        leader.beat("without its instance", GroupInstanceId=None)
        dynamic = Member(s, group, version)
        dynamic.enter([leader, again], "a dynamic member joins")


@case
def classic_group_is_full(s):
    for version in TURNS:
        group = s.name(f"g{version}")
        members = []
        for index in range(4):
            member = Member(s, group, version, instance=f"i{index}" if version >= 5 else None)
            member.enter(members, f"{index + 1} join") if members else member.join()
            members.append(member)
            for follower in members[1:]:
                follower.send_sync()
            members[0].sync([(m, b"x") for m in members])
            for follower in members[1:]:
                follower.synced()
        Member(s, group, version).join("one too many")


@case
def classic_session_ends(s):
    for version in (0, 4, 9):
        group = s.name(f"g{version}")
        one = Member(s, group, version, session=1000, rebalance=1500)
        one.join()
        one.sync([(one, b"all")])
        group_state(s, group, ("Empty", "Dead"))
        one.beat("the session has ended")
        one.sync(label="the session has ended")
        one.join("the session has ended")
        describe(s, group, "the session has ended")


@case
def classic_member_that_does_not_join_again_is_dropped(s):
    for version in (1, 4, 9):
        group = s.name(f"g{version}")
        one, two = (Member(s, group, version, rebalance=1000) for _ in range(2))
        one.join()
        one.sync([(one, b"all")])
        if version >= 4:
            two.send_join()
            two.joined("for an id")
        two.send_join()
        two.joined("the other did not come")
        one.beat("dropped")
        two.sync([(two, b"all")])
        describe(s, group)


@case
def classic_leader_that_does_not_assign_is_dropped(s):
    for version in (1, 4, 9):
        group = s.name(f"g{version}")
        one = Member(s, group, version, rebalance=1000)
        one.join()
        group_state(s, group, ("Empty", "Dead"))
        one.sync([(one, b"late")], "too late")
        describe(s, group)


@case
def classic_id_that_is_not_used_is_forgotten(s):
    one = Member(s, s.name("g"), 9, session=1000)
    one.send_join()
    one.joined("for an id")
    describe(s, one.group, "pending")
    s.pause(1.5)
    one.send_join()
    one.joined("too late")


@case
def classic_groups_of_other_types(s):
    topic = s.topic()
    connect = Member(s, s.name("connect"), 9, (("compatible", b"c"),), kind="connect")
    connect.join()
    connect.sync([(connect, b"x")])
    describe(s, connect.group, versions=None)
    s.ask("OffsetDelete", {"GroupId": connect.group, "Topics": [{"Name": topic.name, "Partitions": [{"PartitionIndex": 0}]}]})
    s.ask("OffsetFetch", fetch_offsets_body(connect.group, topic))
    junk = Member(s, s.name("junk"), 9, (("range", b"\xff\xff\xff"),))
    junk.join("a consumer with metadata that is none")
    junk.sync([(junk, b"\xff")])
    s.ask("OffsetDelete", {"GroupId": junk.group, "Topics": [{"Name": topic.name, "Partitions": [{"PartitionIndex": 0}]}]})
    s.ask("ConsumerGroupDescribe", {"GroupIds": [connect.group, junk.group, s.name("none")]})


@case
def groups_are_listed_by_state_and_type(s):
    topic = s.topic()
    stable, joining = Member(s, s.name("stable"), 9), Member(s, s.name("joining"), 9)
    stable.join()
    stable.sync([(stable, b"x")])
    joining.join()
    s.ask("OffsetCommit", commit_body(s.name("simple"), topic, 1), 9)
    gone = Member(s, s.name("empty"), 9)
    gone.join()
    gone.leave()
    s.ask("ConsumerGroupHeartbeat", {"GroupId": s.name("new"), "MemberId": "m", "MemberEpoch": 0, "RebalanceTimeoutMs": 9000,
                                     "SubscribedTopicNames": [topic.name], "TopicPartitions": []}, 1)  # fmt: skip
    s.ask("ListGroups", {}, mine="Groups.GroupId", label="all")
    for states in (
        ["Stable"],
        ["stable"],
        ["Empty", "CompletingRebalance"],
        ["Dead"],
        ["no such state"],
        ["Assigning"],
        ["Reconciling"],
        ["PreparingRebalance"],
        [""],
    ):
        s.ask("ListGroups", {"StatesFilter": states}, mine="Groups.GroupId", label=f"states {states}")
    for types in (
        ["classic"],
        ["Consumer"],
        ["consumer", "classic"],
        ["share"],
        ["no such type"],
        ["streams"],
        ["unknown"],
        [""],
    ):
        s.ask("ListGroups", {"TypesFilter": types}, mine="Groups.GroupId", label=f"types {types}")
    s.ask("ListGroups", {"StatesFilter": ["Stable"], "TypesFilter": ["consumer"]}, mine="Groups.GroupId", label="both")


@case
def groups_are_deleted(s):
    topic = s.topic()
    one = Member(s, s.name("live"), 9)
    one.join()
    one.sync([(one, b"x")])
    for version in range(3):
        s.ask("OffsetCommit", commit_body(s.name("simple"), topic, 1), 9)
        s.ask("DeleteGroups", {"GroupsNames": [one.group, s.name("simple"), s.name("none"), ""]}, version)
        s.ask("OffsetFetch", fetch_offsets_body(s.name("simple"), topic), 8, label="its offsets are gone")
    s.ask("DeleteGroups", {"GroupsNames": [s.name("none"), s.name("none")]}, label="twice")
    s.ask("DeleteGroups", {"GroupsNames": []}, label="none")
    one.leave()
    s.ask("DeleteGroups", {"GroupsNames": [one.group]}, 2, label="after the leave")
    s.ask("DeleteGroups", {"GroupsNames": [one.group]}, 2, label="again")


@case
def describe_several_groups(s):
    one = Member(s, s.name("live"), 9)
    one.join()
    s.ask("DescribeGroups", {"Groups": [one.group, s.name("none"), "", one.group]})
    s.ask("DescribeGroups", {"Groups": []})


@case
def classic_requests_with_odd_values(s):
    for version in TURNS:
        group = s.name(f"g{version}")
        Member(s, group, version, rebalance=-1).join("negative rebalance timeout")
        one = Member(s, s.name(f"h{version}"), version)
        one.join()
        one.sync([(one, b"x"), (one, b"y")], "an assignment twice")
        one.leave("nobody leaves", Members=[], MemberId="")
        one.leave("twice", Members=[{"MemberId": one.id}] * 2)
        Member(s, s.name(f"long{version}"), version, kind="x" * 300).join("a long type")
        if version >= 5:
            Member(s, s.name(f"i{version}"), version, instance="").join("an empty instance")
            Member(s, s.name(f"j{version}"), version, instance="x" * 300).join("a long instance")
    s.ask("DescribeGroups", {"Groups": []}, label="none")
