"""Groups, members and fetch sessions without number: what would fill the memory is refused, who is there goes on."""

import pytest
from differential.link import Link
from differential.script import fetch_body

from harness import wire
from harness.clients import create_topic

MIB = 1024 * 1024
GROUPS = 10_000
PIPELINE = 40
MEMBER_ID_REQUIRED, GROUP_MAX_SIZE_REACHED, INVALID_REGULAR_EXPRESSION = 79, 81, 128
# For each group: its name several times, a timer, its members.
GROUP_BYTES_MAX = 12 * 1024
MEMBERS = 1000
MEMBERS_BYTES_MAX = 512 * MIB
# Frames and answers on their way, and what the allocator keeps.
SLACK_BYTES = 256 * MIB
SESSIONS = 3000
SESSION_GROWTH_MAX = 64 * MIB


def join(group, metadata=b"", member=""):
    return {
        "GroupId": group, "SessionTimeoutMs": 60_000, "RebalanceTimeoutMs": 60_000, "MemberId": member, "ProtocolType": "consumer",
        "Protocols": [{"Name": "range", "Metadata": metadata}],
    }  # fmt: skip


def subscribe(group, topics=(), regex=None, member="m", epoch=0):
    return {
        "GroupId": group, "MemberId": member, "MemberEpoch": epoch, "RebalanceTimeoutMs": 60_000,
        "SubscribedTopicNames": None if regex else list(topics), "SubscribedTopicRegex": regex, "TopicPartitions": [],
    }  # fmt: skip


def commit(group, topic):
    parts = [{"PartitionIndex": 0, "CommittedOffset": 1, "CommittedMetadata": "x" * 100}]
    return {"GroupId": group, "GenerationIdOrMemberEpoch": -1, "MemberId": "", "Topics": [{"Name": topic, "Partitions": parts}]}


def ask_all(broker, name, version, bodies, at_once=PIPELINE):
    """Many requests over one connection, some at a time; their answers."""
    link = Link(broker.bootstrap)
    answers = []
    for number, body in enumerate(bodies):
        link.send(name, version, body)
        if number >= at_once:
            answers.append(link.receive())
    while link.waiting:
        answers.append(link.receive())
    link.close()
    return answers


def coordinator_is_ready(broker):
    link = Link(broker.bootstrap)
    while True:
        link.send("OffsetFetch", 7, {"GroupId": "ready", "Topics": [], "RequireStable": False})
        if link.receive()["ErrorCode"] not in (14, 15, 16):
            link.close()
            return
        link.send("FindCoordinator", 3, {"Key": "ready", "KeyType": 0})
        link.receive()


def junk(number):
    return f"\U0001f600 {number} \x00/../{'x' * 60}"


def test_ten_thousand_groups_of_junk_names_cost_little(own_broker):
    coordinator_is_ready(own_broker)
    topic = create_topic(own_broker)
    before = own_broker.process.rss_bytes()
    names = [junk(number) for number in range(GROUPS)]
    joined = ask_all(own_broker, "JoinGroup", 5, (join(name) for name in names))
    assert {answer["ErrorCode"] for answer in joined} == {MEMBER_ID_REQUIRED}
    committed = ask_all(own_broker, "OffsetCommit", 7, (commit(name, topic) for name in names))
    assert {answer["Topics"][0]["Partitions"][0]["ErrorCode"] for answer in committed} == {0}
    begun = ask_all(own_broker, "ConsumerGroupHeartbeat", 1, (subscribe(name + "c", [topic]) for name in names))
    assert {answer["ErrorCode"] for answer in begun} == {0}
    described = ask_all(own_broker, "DescribeGroups", 5, ({"Groups": names[at : at + 100]} for at in range(0, GROUPS, 100)))
    assert {group["ErrorCode"] for answer in described for group in answer["Groups"]} == {0}
    (listed,) = ask_all(own_broker, "ListGroups", 5, [{}])
    assert len(listed["Groups"]) == 2 * GROUPS
    growth = own_broker.process.rss_bytes() - before
    assert growth <= 2 * GROUPS * GROUP_BYTES_MAX, f"{growth / GROUPS / 2:.0f} bytes a group"
    deleted = ask_all(own_broker, "DeleteGroups", 2, ({"GroupsNames": names[at : at + 100]} for at in range(0, GROUPS, 100)))
    assert {group["ErrorCode"] for answer in deleted for group in answer["Results"]} == {0}
    assert wire.ping(own_broker.bootstrap) == (41, 0)


@pytest.mark.parametrize("kind", ["classic", "consumer"])
def test_a_thousand_members_with_a_megabyte_each_are_refused_in_time(esker, kind):
    # Kafka's defaults: sessions outlast the test.
    own_broker = esker(options={"group.initial.rebalance.delay.ms": "0"}).start()
    coordinator_is_ready(own_broker)
    before = own_broker.process.rss_bytes()
    if kind == "classic":
        name, version, bodies = "JoinGroup", 3, (join(f"big-{number}", b"x" * MIB) for number in range(MEMBERS))
    else:
        topics = [f"{number:0>249}" for number in range(3000)]
        name, version = "ConsumerGroupHeartbeat", 1
        bodies = (subscribe(f"big-{number}", topics) for number in range(MEMBERS))
    codes = [answer["ErrorCode"] for answer in ask_all(own_broker, name, version, bodies, at_once=2)]
    assert set(codes) == {0, GROUP_MAX_SIZE_REACHED}, set(codes)
    assert codes.count(0) >= 200
    growth = own_broker.process.rss_bytes() - before
    assert growth <= MEMBERS_BYTES_MAX + SLACK_BYTES, f"grew by {growth // MIB} MiB"
    # Who is there goes on; who leaves makes room.
    if kind == "consumer":
        (left,) = ask_all(own_broker, name, version, [subscribe("big-0", epoch=-1)])
        (joined,) = ask_all(own_broker, name, version, [subscribe("small", ["t"])])
        assert (left["ErrorCode"], joined["ErrorCode"]) == (0, 0)
    own_broker.assert_sound()


@pytest.mark.parametrize(
    "regex",
    ["(" * 5000 + ")" * 5000, "((a{1000}){1000}){1000}", "[" * 10_000, "\\p{" * 1000, "*"],
    ids=["deep", "repeated", "open", "classes", "bad"],
)
def test_a_regular_expression_that_would_explode_is_refused(broker, regex):
    coordinator_is_ready(broker)
    before = broker.process.rss_bytes()
    (answer,) = ask_all(broker, "ConsumerGroupHeartbeat", 1, [subscribe("regex", regex=regex, member="one")])
    assert answer["ErrorCode"] == INVALID_REGULAR_EXPRESSION
    assert broker.process.rss_bytes() - before <= 64 * MIB


def test_fetch_sessions_are_as_many_as_there_are_slots(own_broker):
    from differential.script import Topic

    name = create_topic(own_broker, partitions=100)
    (described,) = ask_all(own_broker, "Metadata", 12, [{"Topics": [{"Name": name}], "AllowAutoTopicCreation": False}])
    topic = Topic(name, described["Topics"][0]["TopicId"])
    body = fetch_body(*((topic, number, 0) for number in range(100)), session=(0, 0), min_bytes=0)
    opened = ask_all(own_broker, "Fetch", 13, (body for _ in range(300)))
    before = own_broker.process.rss_bytes()
    opened += ask_all(own_broker, "Fetch", 13, (body for _ in range(SESSIONS)))
    assert {answer["ErrorCode"] for answer in opened} == {0}
    growth = own_broker.process.rss_bytes() - before
    assert growth <= SESSION_GROWTH_MAX, f"grew by {growth // MIB} MiB"
    # The slots are taken by sessions that are young; who finds none is served without.
    assert 0 < sum(answer["SessionId"] != 0 for answer in opened) <= 1000
