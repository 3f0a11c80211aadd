"""The consumer protocol (KIP-848): heartbeats, assignments, fencing, regular expressions, static members, migration."""

import itertools

from ..codec import NOBODYS_ID, ZERO_UUID
from ..script import Topic
from . import case
from .members import Consumer, Member, assignment, commit_body, fetch_offsets_body, group_state, subscription

BOTH = (0, 1)
GROUP = 32
SET = 0


def describe(s, group, label="describe"):
    s.ask("ConsumerGroupDescribe", {"GroupIds": [group], "IncludeAuthorizedOperations": True}, label=label)


def group_config(s, group, **settings):
    """Sets a group's own timers, quietly, and waits until they are described."""
    configs = [{"Name": name.replace("_", "."), "ConfigOperation": SET, "Value": str(value)} for name, value in settings.items()]
    s.quiet("IncrementalAlterConfigs", {"Resources": [{"ResourceType": GROUP, "ResourceName": group, "Configs": configs}]})
    wanted = {name.replace("_", "."): str(value) for name, value in settings.items()}
    s.until(
        "DescribeConfigs",
        {"Resources": [{"ResourceType": GROUP, "ResourceName": group}]},
        lambda got: wanted.items() <= {item["Name"]: item["Value"] for item in got["Results"][0]["Configs"]}.items(),
    )


def topic_for_groups(s, *arguments, **options):
    """A new topic that also the coordinator, which may hear of it last, knows: another group is given its partitions."""
    topic = s.topic(*arguments, **options)
    body = {
        "MemberId": "probe",
        "MemberEpoch": 0,
        "RebalanceTimeoutMs": 5000,
        "SubscribedTopicNames": [topic.name],
        "TopicPartitions": [],
    }
    numbers = itertools.count()

    def probe():
        return {**body, "GroupId": f"probe-{topic.name}-{next(numbers)}"}

    s.until("ConsumerGroupHeartbeat", probe, lambda got: got["Assignment"] and got["Assignment"]["TopicPartitions"])
    return topic


@case
def consumer_group_of_one(s):
    topic = topic_for_groups(s, partitions=3)
    for version in BOTH:
        for assignor in (None, "uniform", "range"):
            one = Consumer(s, s.name(f"g{version}-{assignor}"), version=version, topics=[topic.name], assignor=assignor)
            one.join()
            describe(s, one.group)
            one.own()
            one.beat()
            one.beat("everything said again", **{**one.full, "TopicPartitions": one.assigned})
            describe(s, one.group, "it owns them")
            s.ask("ListGroups", {}, 5, mine="Groups.GroupId")
            s.ask("DescribeGroups", {"Groups": [one.group]}, label="asked for as a classic group")
            for commit in range(2, 11):
                body = commit_body(one.group, topic, commit, member=one.id, generation=one.epoch)
                s.ask("OffsetCommit", body, commit)
            s.ask("OffsetFetch", fetch_offsets_body(one.group, topic, member=one.id, epoch=one.epoch))
            one.leave()
            describe(s, one.group, "after the leave")
            one.beat("after the leave")
            s.ask("OffsetFetch", fetch_offsets_body(one.group, topic), 10, label="after the leave")


@case
def consumer_member_with_an_id_from_the_broker(s):
    topic = topic_for_groups(s)
    one = Consumer(s, s.name("g"), version=0, topics=[topic.name])
    one.id = ""
    one.join("version 0 may leave it to the broker")
    one.own()
    describe(s, one.group)
    other = Consumer(s, s.name("h"), version=1, topics=[topic.name])
    other.id = ""
    other.join("version 1 may not")


@case
def consumer_group_of_two(s):
    topic = topic_for_groups(s, partitions=4)
    for assignor in ("uniform", "range"):
        group = s.name(assignor)
        one, two = (Consumer(s, group, name, topics=[topic.name], assignor=assignor) for name in "ab")
        one.join()
        one.own()
        two.join("the second joins")
        describe(s, group, "the second has joined")
        two.beat("nothing is free yet")
        one.beat("told to give up some")
        describe(s, group, "some are to be given up")
        one.beat("still thinking")
        one.own("gave them up")
        two.beat("gets what is free")
        two.own()
        describe(s, group, "both have theirs")
        one.beat()
        two.beat()
        two.leave()
        one.beat("gets them back")
        one.own()
        describe(s, group, "one is left")


@case
def consumer_group_of_three_over_two_topics(s):
    left, right = topic_for_groups(s, "left", partitions=3), topic_for_groups(s, "right", partitions=3)
    for assignor in ("range",):
        group = s.name(assignor)
        members = []
        for name in "abc":
            member = Consumer(s, group, name, topics=[left.name, right.name], assignor=assignor)
            member.join(f"{name} joins")
            members.append(member)
            for _ in range(2):
                for other in members:
                    other.own(f"{other.id[-1]} after {name}")
        describe(s, group)
        members[0].leave("the first leaves")
        for _ in range(2):
            for other in members[1:]:
                other.own("the first has left")
        describe(s, group, "the first has left")


@case
def consumer_subscription_changes(s):
    left, right = topic_for_groups(s, "left", partitions=2), topic_for_groups(s, "right")
    one = Consumer(s, s.name("g"), topics=[left.name])
    one.join()
    one.own()
    one.full["SubscribedTopicNames"] = [right.name]
    one.beat("another topic", SubscribedTopicNames=[right.name])
    one.own()
    one.beat("what was owned is given up", TopicPartitions=[])
    one.own()
    one.beat("both", SubscribedTopicNames=[left.name, right.name])
    one.own()
    describe(s, one.group)
    one.beat("the same again", SubscribedTopicNames=[right.name, left.name])
    one.beat("none", SubscribedTopicNames=[])
    one.beat("gave up all", TopicPartitions=[])
    describe(s, one.group, "none")
    one.beat("a topic that is not there", SubscribedTopicNames=[s.name("later")])
    late = topic_for_groups(s, "later", partitions=2)
    s.until("Metadata", {"Topics": [{"Name": late.name}]}, lambda got: got["Topics"][0]["ErrorCode"] == 0)
    s.pause(0.3)
    one.beat("it has been created")
    one.own()
    describe(s, one.group, "created")
    one.beat("another assignor", ServerAssignor="range")
    one.beat("another rack", RackId="r2")
    one.beat("another timeout", RebalanceTimeoutMs=5000)
    describe(s, one.group, "changed")


@case
def consumer_first_heartbeat_is_checked(s):
    topic = topic_for_groups(s)
    good = {
        "GroupId": s.name("g"),
        "MemberId": "m",
        "MemberEpoch": 0,
        "RebalanceTimeoutMs": 5000,
        "SubscribedTopicNames": [topic.name],
        "TopicPartitions": [],
    }
    for label, more in (
        ("empty group id", {"GroupId": ""}),
        ("empty member id", {"MemberId": ""}),
        ("blank member id", {"MemberId": "  "}),
        ("no timeout", {"RebalanceTimeoutMs": -1}),
        ("timeout 0", {"RebalanceTimeoutMs": 0}),
        ("no topics", {"SubscribedTopicNames": None}),
        ("no owned partitions", {"TopicPartitions": None}),
        ("owned partitions", {"TopicPartitions": [{"TopicId": topic.id, "Partitions": [0]}]}),
        ("owned without partitions", {"TopicPartitions": [{"TopicId": topic.id, "Partitions": []}]}),
        ("empty instance", {"InstanceId": ""}),
        ("empty rack", {"RackId": ""}),
        ("empty assignor", {"ServerAssignor": ""}),
        ("unknown assignor", {"ServerAssignor": "sticky"}),
        ("epoch below -2", {"MemberEpoch": -3}),
        ("leave of nobody", {"MemberEpoch": -1}),
        ("leave of an instance nobody has", {"MemberEpoch": -2, "InstanceId": "i"}),
        ("-2 without an instance", {"MemberEpoch": -2}),
        ("epoch in a group that is none", {"MemberEpoch": 3}),
        (
            "epoch 1 without anything",
            {"MemberEpoch": 1, "RebalanceTimeoutMs": -1, "SubscribedTopicNames": None, "TopicPartitions": None},
        ),
        ("empty topic name", {"SubscribedTopicNames": [""]}),
    ):
        s.ask("ConsumerGroupHeartbeat", {**good, "GroupId": s.name(label.replace(" ", "-")), **more}, label=label)
    for label, regex in (("no expression that parses", "("), ("empty expression", ""), ("look-ahead", "(?=a)b"), ("fine", "x.*")):
        body = {
            **good,
            "GroupId": s.name("r"),
            "MemberId": f"r-{label}",
            "SubscribedTopicNames": None,
            "SubscribedTopicRegex": regex,
        }
        s.ask("ConsumerGroupHeartbeat", body, 1, label=label)


@case
def consumer_joins_with_odd_values(s):
    topic = topic_for_groups(s, partitions=2)
    for label, version, more in (
        ("no id", 0, {"MemberId": ""}),
        ("long id", 1, {"MemberId": "x" * 300}),
        ("id with an umlaut", 1, {"MemberId": "ä"}),
        ("a topic twice", 1, {"SubscribedTopicNames": [topic.name, topic.name]}),
        ("a topic that cannot be", 1, {"SubscribedTopicNames": ["bad name!"]}),
    ):
        group = s.name(label.replace(" ", "-"))
        one = Consumer(s, group, topics=[topic.name], version=version)
        one.join(label, **more)
        describe(s, group, label)


@case
def consumer_members_are_fenced(s):
    topic = topic_for_groups(s, partitions=2)
    one = Consumer(s, s.name("g"), topics=[topic.name])
    one.join()
    one.own()
    two = Consumer(s, s.name("g"), "b", topics=[topic.name])
    two.join()
    one.beat()
    one.own("gave up one")
    two.own()
    for label, more in (
        ("epoch ahead", {"MemberEpoch": one.epoch + 1}),
        ("epoch behind", {"MemberEpoch": one.epoch - 1}),
        ("epoch behind, with what it has", {"MemberEpoch": one.epoch - 1, "TopicPartitions": one.assigned}),
        (
            "epoch behind, with more than it has",
            {"MemberEpoch": one.epoch - 1, "TopicPartitions": [{"TopicId": topic.id, "Partitions": [0, 1]}]},
        ),
        ("epoch far behind", {"MemberEpoch": 1}),
        ("unknown member", {"MemberId": "nobody"}),
        ("leave of an unknown member", {"MemberId": "nobody", "MemberEpoch": -1}),
        ("an instance it never had", {"InstanceId": "i"}),
        ("leave as an instance", {"InstanceId": "i", "MemberEpoch": -2}),
    ):
        s.ask("ConsumerGroupHeartbeat", one.body(**more), label=label)
    describe(s, one.group, "nothing happened")
    one.join("joins again with the same id")
    describe(s, one.group, "joined again")


@case
def consumer_group_is_full(s):
    topic = topic_for_groups(s, partitions=2)
    for index in range(5):
        Consumer(s, s.name("g"), f"m{index}", topics=[topic.name]).join(f"member {index + 1}")


@case
def consumer_static_members(s):
    topic = topic_for_groups(s, partitions=2)
    group = s.name("g")
    one = Consumer(s, group, "a", topics=[topic.name], instance="one")
    one.join()
    one.own()
    thief = Consumer(s, group, "b", topics=[topic.name], instance="one")
    thief.join("the instance is in use")
    one.beat("with no instance", InstanceId=None)
    one.beat("with another instance", InstanceId="two")
    s.ask("ConsumerGroupHeartbeat", {**one.body(), "MemberId": "nobody"}, label="another id with the instance")
    one.leave("leaves for a while", epoch=-2)
    describe(s, group, "away for a while")
    one.beat("while it is away")
    back = Consumer(s, group, "c", topics=[topic.name], instance="one")
    back.join("comes back with another id")
    back.own()
    describe(s, group, "is back")
    one.beat("the former id")
    s.ask(
        "OffsetCommit",
        commit_body(group, topic, 1, member=one.id, generation=back.epoch, instance="one"),
        (9, 10),
        label="the former id",
    )
    s.ask(
        "OffsetCommit",
        commit_body(group, topic, 1, member=back.id, generation=back.epoch, instance="one"),
        (9, 10),
        label="the new id",
    )
    back.leave("leaves for good")
    describe(s, group, "empty")


@case
def consumer_regular_expressions(s):
    _left, right = topic_for_groups(s, "left", partitions=2), topic_for_groups(s, "right")
    one = Consumer(s, s.name("g"), regex=f"{s.case}-(left|none)")
    one.join()
    for number in range(6):
        answer = one.own(f"heartbeat {number} resolves") if number == 5 else s.quiet("ConsumerGroupHeartbeat", one.body(), 1)
        if answer["Assignment"]:
            one.epoch, one.assigned = answer["MemberEpoch"], answer["Assignment"]["TopicPartitions"]
        one.epoch = answer["MemberEpoch"] if not answer["ErrorCode"] else one.epoch
        s.pause(0.1)
    describe(s, one.group)
    one.beat("names as well", SubscribedTopicNames=[right.name])
    one.own()
    describe(s, one.group, "both")
    one.beat("no expression", SubscribedTopicRegex="")
    one.own()
    describe(s, one.group, "names alone")
    one.beat("a bad expression", SubscribedTopicRegex="[")
    describe(s, one.group, "unchanged")


@case
def consumer_offsets_are_checked(s):
    topic = topic_for_groups(s, partitions=2)
    other = Topic("no-such-topic", NOBODYS_ID)
    one = Consumer(s, s.name("g"), topics=[topic.name])
    one.join()
    one.own()

    def commit(label, **more):
        body = commit_body(one.group, topic, 7, member=one.id, generation=one.epoch)
        s.ask("OffsetCommit", {**body, **more}, label=label)

    commit("as it should be")
    commit("epoch ahead", GenerationIdOrMemberEpoch=one.epoch + 1)
    commit("epoch behind", GenerationIdOrMemberEpoch=one.epoch - 1)
    commit("epoch far behind", GenerationIdOrMemberEpoch=0)
    commit("unknown member", MemberId="nobody")
    commit("no member", MemberId="", GenerationIdOrMemberEpoch=-1)
    commit("unknown topic", Topics=commit_body(one.group, other, 1)["Topics"])
    for label, member, epoch in (
        ("as it should be", one.id, one.epoch), ("epoch ahead", one.id, one.epoch + 1), ("epoch behind", one.id, one.epoch - 1),
        ("unknown member", "nobody", one.epoch), ("no member", None, -1), ("no member, but an epoch", None, 3), ("empty member", "", -1),
    ):  # fmt: skip
        s.ask("OffsetFetch", fetch_offsets_body(one.group, topic, member=member, epoch=epoch), range(8, 11), label=label)
    s.ask(
        "OffsetDelete",
        {"GroupId": one.group, "Topics": [{"Name": topic.name, "Partitions": [{"PartitionIndex": 0}]}]},
        label="subscribed",
    )
    s.ask("DeleteGroups", {"GroupsNames": [one.group]}, label="with a member")
    one.full["SubscribedTopicNames"] = [topic.name]
    one.beat("a new epoch", SubscribedTopicNames=[topic.name, "another"])
    commit("the epoch before, which held the partition", GenerationIdOrMemberEpoch=one.epoch - 1)
    one.leave()
    s.ask(
        "OffsetDelete",
        {"GroupId": one.group, "Topics": [{"Name": topic.name, "Partitions": [{"PartitionIndex": 0}]}]},
        label="empty",
    )
    commit("no members", MemberId="", GenerationIdOrMemberEpoch=-1)
    s.ask("DeleteGroups", {"GroupsNames": [one.group]}, 2, label="empty")
    describe(s, one.group, "deleted")


@case
def consumer_session_ends(s):
    topic = topic_for_groups(s, partitions=2)
    group = s.name("g")
    group_config(s, group, consumer_session_timeout_ms=1000, consumer_heartbeat_interval_ms=500)
    one = Consumer(s, group, topics=[topic.name])
    one.join("the heartbeat interval is the group's")
    one.own()
    s.until("ConsumerGroupDescribe", {"GroupIds": [group]}, lambda got: got["Groups"][0]["GroupState"] == "Empty", seconds=10)
    one.beat("the session has ended")
    describe(s, group)


@case
def consumer_that_does_not_revoke_is_dropped(s):
    topic = topic_for_groups(s, partitions=2)
    group = s.name("g")
    one = Consumer(s, group, "a", topics=[topic.name], rebalance=1000)
    two = Consumer(s, group, "b", topics=[topic.name], rebalance=1000)
    one.join()
    one.own()
    two.join()
    one.beat("told to give up one")
    s.until("ConsumerGroupDescribe", {"GroupIds": [group]}, lambda got: len(got["Groups"][0]["Members"]) == 1, seconds=10)
    one.beat("dropped")
    two.beat("gets everything")
    describe(s, group)


@case
def consumer_static_member_stays_away(s):
    topic = topic_for_groups(s)
    group = s.name("g")
    group_config(s, group, consumer_session_timeout_ms=1000, consumer_heartbeat_interval_ms=500)
    one = Consumer(s, group, topics=[topic.name], instance="one")
    one.join()
    one.own()
    one.leave("leaves for a while", epoch=-2)
    s.until("ConsumerGroupDescribe", {"GroupIds": [group]}, lambda got: got["Groups"][0]["GroupState"] == "Empty", seconds=10)
    describe(s, group, "stayed away too long")


@case
def consumer_groups_described_together(s):
    topic = topic_for_groups(s)
    one = Consumer(s, s.name("g"), topics=[topic.name])
    one.join()
    s.ask("ConsumerGroupDescribe", {"GroupIds": [one.group, s.name("none"), "", one.group]})
    s.ask("ConsumerGroupDescribe", {"GroupIds": []}, label="none")
    s.ask("ConsumerGroupDescribe", {"GroupIds": [one.group], "IncludeAuthorizedOperations": False}, label="without operations")


@case
def consumer_member_joins_a_classic_group(s):
    topic = topic_for_groups(s, partitions=2)
    group = s.name("g")
    old = Member(s, group, 9, (("range", subscription(topic.name)),))
    old.join()
    old.sync([(old, assignment((topic.name, [0, 1])))])
    old.commit(topic, 5)
    new = Consumer(s, group, topics=[topic.name])
    new.join("the first of the new protocol")
    describe(s, group, "converted")
    s.ask("ListGroups", {}, 5, mine="Groups.GroupId")
    s.ask("DescribeGroups", {"Groups": [group]}, label="as a classic group")
    old.beat("told to join again")
    old.protocols = (("range", subscription(topic.name, owned=[(topic.name, [0, 1])], generation=old.generation)),)
    old.join("gives up some")
    old.sync()
    old.beat()
    old.protocols = (("range", subscription(topic.name, owned=[(topic.name, [0])], generation=old.generation)),)
    new.own("gets some")
    old.beat()
    old.commit(topic, 6, "commit of the classic member", versions=range(2, 11))
    describe(s, group, "both")
    old.leave("the classic member leaves")
    new.own()
    new.own()
    describe(s, group, "the new alone")
    s.ask("OffsetFetch", fetch_offsets_body(group, topic), 10)


@case
def classic_member_joins_a_consumer_group(s):
    topic = topic_for_groups(s, partitions=2)
    group = s.name("g")
    new = Consumer(s, group, topics=[topic.name])
    new.join()
    new.own()
    old = Member(s, group, 9, (("range", subscription(topic.name)),))
    old.join("a classic member")
    old.sync()
    describe(s, group, "mixed")
    new.beat("told to give up some")
    new.own("gave up some")
    old.beat()
    old.join("joins again")
    old.sync()
    describe(s, group, "shared")
    for label, more in (
        ("old generation", {"GenerationId": old.generation - 1}),
        ("generation to come", {"GenerationId": 99}),
        ("nobody", {"MemberId": "nobody"}),
    ):
        old.beat(label, **more)
        old.sync(label=label, **more)
    Member(s, group, 9, (("range", b"\xff"),)).join("metadata that is none")
    Member(s, group, 9, (("range", subscription(topic.name)),), kind="connect").join("another type")
    new.leave("the last of the new protocol leaves")
    group_state(s, group, ("PreparingRebalance", "CompletingRebalance", "Stable"))
    s.ask("ListGroups", {}, 5, mine="Groups.GroupId", label="converted back")
    old.beat("converted back")
    old.join("joins the classic group")
    s.ask("DescribeGroups", {"Groups": [group]}, label="converted back")


@case
def consumer_takes_over_an_empty_group(s):
    topic = topic_for_groups(s)
    group = s.name("g")
    s.ask("OffsetCommit", commit_body(group, topic, 5), 9)
    one = Consumer(s, group, topics=[topic.name])
    one.join("in place of a simple group")
    s.ask("OffsetFetch", fetch_offsets_body(group, topic, member=one.id, epoch=one.epoch), 9)
    one.leave()
    old = Member(s, group, 9, (("range", subscription(topic.name)),))
    old.join("in place of an empty consumer group")
    s.ask("ListGroups", {}, 5, mine="Groups.GroupId")
    old.leave()


@case
def consumer_cannot_join_other_groups(s):
    topic = topic_for_groups(s)
    connect = Member(s, s.name("connect"), 9, (("compatible", b"c"),), kind="connect")
    connect.join()
    connect.sync([(connect, b"x")])
    Consumer(s, connect.group, topics=[topic.name]).join("a connect group")
    junk = Member(s, s.name("junk"), 9, (("range", b"\xff"),))
    junk.join()
    junk.sync([(junk, b"x")])
    Consumer(s, junk.group, topics=[topic.name]).join("a group whose metadata is none")
    describe(s, connect.group)


@case
def consumer_assignment_of_no_topic(s):
    one = Consumer(s, s.name("g"), topics=["no-such-topic"])
    one.join()
    one.own()
    describe(s, one.group)
    two = Consumer(s, s.name("g"), "b", topics=[])
    two.join("subscribed to nothing")
    describe(s, one.group, "two")
    one.beat("owns what is not there", TopicPartitions=[{"TopicId": ZERO_UUID, "Partitions": [0]}])
