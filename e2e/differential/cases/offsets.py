"""Committed offsets: commit, fetch, delete; FindCoordinator and InitProducerId."""

from ..codec import NOBODYS_ID, ZERO_UUID
from ..script import Topic
from . import case
from .members import Member, commit_body, fetch_offsets_body, subscription

UNKNOWN = Topic("no-such-topic", NOBODYS_ID)


@case
def offsets_of_a_simple_group(s):
    topic = s.topic(partitions=3)
    group = s.name("g")
    for version in s.versions("OffsetCommit"):
        s.ask("OffsetCommit", commit_body(group, topic, 10 + version, version % 3, epoch=0), version)
        s.ask("OffsetFetch", fetch_offsets_body(group, topic, partitions=(0, 1, 2, 7)), label=f"after version {version}")
    s.ask("OffsetFetch", fetch_offsets_body(group), range(2, 11), label="all")
    s.ask("OffsetFetch", fetch_offsets_body(group, topic, partitions=()), label="no partition")
    s.ask("OffsetFetch", {"GroupId": group, "Topics": [], "Groups": [{"GroupId": group, "Topics": []}]}, label="no topic")
    s.ask("OffsetFetch", fetch_offsets_body(group, topic, stable=True), label="stable")
    s.ask("DescribeGroups", {"Groups": [group]})
    s.ask("ListGroups", {}, mine="Groups.GroupId")


@case
def offsets_with_odd_values(s):
    topic = s.topic()
    for label, more in (
        ("offset 0", {"offset": 0}),
        ("offset -1", {"offset": -1}),
        ("offset -2", {"offset": -2}),
        ("offset huge", {"offset": 2**63 - 1}),
        ("no metadata", {"offset": 5, "metadata": None}),
        ("empty metadata", {"offset": 5, "metadata": ""}),
        ("metadata at the limit", {"offset": 5, "metadata": "x" * 4096}),
        ("metadata beyond the limit", {"offset": 6, "metadata": "x" * 4097}),
        ("metadata beyond the limit in bytes", {"offset": 6, "metadata": "ß" * 2049}),
        ("epoch", {"offset": 7, "epoch": 3}),
        ("epoch -5", {"offset": 7, "epoch": -5}),
        ("partition -1", {"offset": 7, "partition": -1}),
        ("partition 9", {"offset": 7, "partition": 9}),
    ):
        s.ask("OffsetCommit", commit_body(s.name("g"), topic, **more), label=label)
        s.ask("OffsetFetch", fetch_offsets_body(s.name("g"), topic, partitions=(0, -1, 9)), (1, 5, 8, 10), label=label)


@case
def offsets_of_what_is_not_there(s):
    topic = s.topic()
    group = s.name("g")
    s.ask("OffsetCommit", commit_body(group, UNKNOWN, 1), label="unknown topic")
    s.ask("OffsetFetch", fetch_offsets_body(group, UNKNOWN), label="unknown topic")
    s.ask("OffsetCommit", commit_body(group, Topic("", ZERO_UUID), 1), label="no name, no id")
    s.ask("OffsetCommit", commit_body(group, Topic("bad name!", ZERO_UUID), 1), range(2, 10), label="bad name")
    both = commit_body(group, topic, 1)
    both["Topics"] += commit_body(group, UNKNOWN, 1)["Topics"]
    both["Topics"][0]["Partitions"].append({"PartitionIndex": 4, "CommittedOffset": 2, "CommittedMetadata": ""})
    s.ask("OffsetCommit", both, label="some of each")
    s.ask("OffsetCommit", {**commit_body(group, topic, 1), "Topics": []}, label="nothing")
    s.ask("OffsetFetch", fetch_offsets_body(group, topic, UNKNOWN, partitions=(0, 4)), label="some of each")
    twice = commit_body(group, topic, 3)
    twice["Topics"][0]["Partitions"].append({"PartitionIndex": 0, "CommittedOffset": 4, "CommittedMetadata": ""})
    s.ask("OffsetCommit", twice, label="twice")
    s.ask("OffsetFetch", fetch_offsets_body(group, topic), 8)


@case
def offsets_of_a_deleted_topic(s):
    topic = s.topic()
    s.ask("OffsetCommit", commit_body(s.name("g"), topic, 5), 10)
    s.quiet("DeleteTopics", {"Topics": [{"Name": topic.name}], "TimeoutMs": 30_000})
    s.gone(topic.name)
    s.until(
        "OffsetFetch",
        fetch_offsets_body(s.name("g"), topic),
        lambda got: got["Groups"][0]["Topics"][0]["Partitions"][0]["CommittedOffset"] == -1,
        8,
    )
    s.ask("OffsetFetch", fetch_offsets_body(s.name("g"), topic), label="deleted")
    again = s.topic()
    s.ask("OffsetFetch", fetch_offsets_body(s.name("g"), again), label="the name is another topic")


@case
def offsets_of_a_group_with_members(s):
    topic = s.topic()
    one = Member(s, s.name("g"), 9, (("range", subscription(topic.name)),), instance="one")
    one.join()
    one.commit(topic, 1, "before the assignment", versions=range(2, 11))
    one.sync([(one, b"")])
    one.commit(topic, 2, versions=range(2, 11))
    one.commit(topic, 3, "older generation", versions=range(2, 11), GenerationIdOrMemberEpoch=one.generation - 1)
    one.commit(topic, 3, "generation to come", versions=range(2, 11), GenerationIdOrMemberEpoch=one.generation + 1)
    one.commit(topic, 3, "unknown member", versions=range(2, 11), MemberId="nobody", GroupInstanceId=None)
    one.commit(topic, 3, "unknown instance", versions=range(2, 11), GroupInstanceId="two")
    one.commit(topic, 3, "another's instance", versions=range(7, 11), MemberId="nobody")
    s.ask("OffsetCommit", commit_body(one.group, topic, 4), label="as if there were no members")
    s.ask("OffsetFetch", fetch_offsets_body(one.group, topic, member=one.id, epoch=one.generation), label="as a member")
    s.ask("OffsetFetch", fetch_offsets_body(one.group, topic, member="nobody", epoch=7), label="as nobody")
    s.ask("OffsetFetch", fetch_offsets_body(one.group, topic, member=one.id, epoch=99), label="with another epoch")


@case
def offsets_of_several_groups(s):
    topic = s.topic()
    for name in ("a", "b"):
        s.ask("OffsetCommit", commit_body(s.name(name), topic, ord(name)), 10)
    groups = [
        {"GroupId": s.name(name), "Topics": topics}
        for name, topics in (
            ("a", None),
            ("none", None),
            ("b", [{"Name": topic.name, "TopicId": topic.id, "PartitionIndexes": [0, 3]}]),
        )
    ]
    s.ask("OffsetFetch", {"Groups": groups}, range(8, 11))
    s.ask("OffsetFetch", {"Groups": [{"GroupId": "", "Topics": None}]}, range(8, 11), label="empty group id")
    s.ask("OffsetFetch", {"Groups": []}, range(8, 11), label="none")


@case
def offsets_are_deleted(s):
    topic = s.topic(partitions=2)
    other = s.topic("other")
    group = s.name("g")

    def delete(target, *partitions, label):
        s.ask(
            "OffsetDelete",
            {"GroupId": group, "Topics": [{"Name": target.name, "Partitions": [{"PartitionIndex": p} for p in partitions]}]},
            label=label,
        )

    for partition in range(2):
        s.ask("OffsetCommit", commit_body(group, topic, 5, partition), 9)
    s.ask("OffsetCommit", commit_body(group, other, 5), 9)
    delete(topic, 0, 0, 7, label="simple group")
    delete(UNKNOWN, 0, label="unknown topic")
    s.ask("OffsetFetch", fetch_offsets_body(group), 8)
    one = Member(s, group, 9, (("range", subscription(topic.name)),))
    one.join()
    delete(topic, 1, label="while members join")
    one.sync([(one, b"")])
    delete(topic, 1, label="subscribed")
    delete(other, 0, label="not subscribed")
    s.ask("OffsetDelete", {"GroupId": group, "Topics": []}, label="nothing")
    s.ask("OffsetFetch", fetch_offsets_body(group), 8)
    one.leave()
    delete(topic, 1, label="no members")
    s.ask("OffsetFetch", fetch_offsets_body(group), 8)


@case
def offsets_named_twice(s):
    topic, other = s.topic("a"), s.topic("b", partitions=2)
    group = s.name("g")
    twice = commit_body(group, topic, 1)
    twice["Topics"] += commit_body(group, other, 2, 1)["Topics"] + commit_body(group, topic, 3)["Topics"]
    s.ask("OffsetCommit", twice, label="topic twice")
    twice["Topics"] += commit_body(group, topic, 3, 9)["Topics"] + commit_body(group, other, 3, 9)["Topics"]
    s.ask("OffsetCommit", twice, label="topic twice, some of it not there")
    s.ask("OffsetFetch", fetch_offsets_body(group, topic, other, topic, partitions=(0, 0, 1)), label="topic and partition twice")
    asked = [{"GroupId": name, "Topics": None} for name in (group, s.name("none"), group)]
    s.ask("OffsetFetch", {"Groups": asked}, range(8, 11), label="group twice")
    parts = [{"PartitionIndex": index} for index in (0, 0, 5, 5)]
    body = {"GroupId": group, "Topics": [{"Name": topic.name, "Partitions": parts}] * 2}
    s.ask("OffsetDelete", body, label="topic and partition twice")
    s.ask("DeleteGroups", {"GroupsNames": [group, s.name("none"), group, s.name("none")]}, label="twice")
    s.ask("DescribeGroups", {"Groups": [group, group]}, label="twice")
    s.ask("FindCoordinator", {"KeyType": 0, "CoordinatorKeys": [group, group]}, range(4, 7), label="twice")


@case
def offsets_of_groups_with_odd_names(s):
    topic = s.topic()
    for group in ("x" * 300, "a b", "ä", "g/1"):
        s.ask("OffsetCommit", commit_body(group, topic, 5), (2, 8, 10), label=group[:5])
        s.ask("OffsetFetch", fetch_offsets_body(group, topic), (1, 8, 10), label=group[:5])
    s.ask("FindCoordinator", {"Key": "x" * 300, "KeyType": 0, "CoordinatorKeys": ["x" * 300, "ä", ""]}, label="odd keys")


@case
def offsets_with_a_retention(s):
    topic = s.topic()
    for time in (0, 1, 1_000_000, -2):
        s.ask("OffsetCommit", {**commit_body(s.name("g"), topic, 5), "RetentionTimeMs": time}, (2, 3, 4), label=f"for {time} ms")
        s.ask("OffsetFetch", fetch_offsets_body(s.name("g"), topic), (1, 5, 8), label=f"for {time} ms")


@case
def offsets_of_members_that_are_none(s):
    topic = s.topic()
    group = s.name("g")
    s.ask("OffsetCommit", commit_body(group, topic, 5, member="m"), label="a member without a generation")
    s.ask("OffsetCommit", commit_body(group, topic, 5, generation=3), label="a generation without a member")
    s.ask("OffsetCommit", commit_body(group, topic, 5, instance="i"), range(7, 11), label="an instance alone")
    s.ask("OffsetFetch", fetch_offsets_body(group, topic, member="m", epoch=3), (9, 10), label="as a member of a simple group")
    for name in (group, s.name("none")):
        s.ask("OffsetFetch", fetch_offsets_body(name, topic, epoch=3), (9, 10), label="an epoch without a member")
    s.ask("OffsetFetch", fetch_offsets_body(group, Topic("bad name!", ZERO_UUID)), label="bad name")
    s.ask("OffsetFetch", fetch_offsets_body(group, topic, partitions=(-1, -2)), label="negative partitions")


@case
def offset_deletes_that_reach_no_partition(s):
    nowhere = {"Topics": [{"Name": UNKNOWN.name, "Partitions": [{"PartitionIndex": 0}]}]}
    s.ask("OffsetDelete", {"GroupId": s.name("none"), **nowhere}, label="unknown group and topic")
    s.ask("OffsetDelete", {"GroupId": s.name("none"), "Topics": []}, label="unknown group, nothing")
    connect = Member(s, s.name("connect"), 9, (("compatible", b"c"),), kind="connect")
    connect.join()
    connect.sync([(connect, b"x")])
    s.ask("OffsetDelete", {"GroupId": connect.group, **nowhere}, label="a group with members that are no consumers")
    s.ask("OffsetDelete", {"GroupId": connect.group, "Topics": []}, label="such a group, nothing")


@case
def find_coordinator(s):
    s.ask("FindCoordinator", {"Key": s.name("g"), "KeyType": 0, "CoordinatorKeys": [s.name("g"), s.name("h")]}, label="groups")
    s.ask("FindCoordinator", {"Key": "", "KeyType": 0, "CoordinatorKeys": [""]}, label="empty key")
    s.ask("FindCoordinator", {"KeyType": 0, "CoordinatorKeys": []}, range(4, 7), label="no key")
    for kind in (-1, 3, 7):
        s.ask("FindCoordinator", {"Key": "k", "KeyType": kind, "CoordinatorKeys": ["k", "l"]}, range(1, 7), label=f"type {kind}")
    s.ask("FindCoordinator", {"KeyType": 2, "CoordinatorKeys": ["k"]}, (4, 5), label="share, before its version")
    s.ask("FindCoordinator", {"KeyType": 2, "CoordinatorKeys": ["no share key"]}, 6, label="share, badly formed")


@case
def init_producer_id(s):
    for version in s.versions("InitProducerId"):
        s.ask("InitProducerId", {"TransactionalId": None, "TransactionTimeoutMs": 60_000}, version, label="new")
        s.ask(
            "InitProducerId", {"TransactionalId": None, "TransactionTimeoutMs": -1}, version, label="the timeout does not matter"
        )
        s.ask("InitProducerId", {"TransactionalId": "", "TransactionTimeoutMs": 60_000}, version, label="empty transactional id")
    for producer, epoch in ((5, -1), (-1, 5), (5, 5), (-2, -1), (-1, -2)):
        body = {"TransactionalId": None, "TransactionTimeoutMs": 60_000, "ProducerId": producer, "ProducerEpoch": epoch}
        s.ask("InitProducerId", body, range(3, 6), label=f"producer {producer}, epoch {epoch}")
