"""Administration through every client: topics, settings, records, groups and their offsets."""

import pytest

from harness.admin import ADMINS
from harness.clients import Confluent
from harness.members import KINDS, Group
from harness.process import wait_until
from harness.records import Record
from harness.serving import Refused

RECORDS = 20
SECONDS_MAX = 30
TOPIC_ALREADY_EXISTS, UNKNOWN_TOPIC_OR_PARTITION, INVALID_PARTITIONS, INVALID_CONFIG = 36, 3, 37, 40
NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND, UNKNOWN_MEMBER_ID, OFFSET_OUT_OF_RANGE = 68, 69, 25, 1
EVERY_CLIENT = pytest.mark.parametrize("client", ADMINS)


def refused(code):
    """The client gets just this answer; those that hide the code are taken at their word."""
    return pytest.raises(Refused, check=lambda error: error.code in (code, None))


def becomes(expected, ask, op, **fields):
    """Changes of metadata are answered before every broker shows them."""
    try:
        wait_until(lambda: ask(op, **fields) == expected, SECONDS_MAX, f"{op} {fields} to be {expected}")
    except TimeoutError:
        assert ask(op, **fields) == expected


@EVERY_CLIENT
def test_topics_grow_change_and_go(broker, client):
    admin = ADMINS[client](broker.bootstrap)
    topic = f"administered-by-{client}"
    admin.ask("create_topic", topic=topic, partitions=2, config={"retention.ms": "86400000"})
    with refused(TOPIC_ALREADY_EXISTS):
        admin.ask("create_topic", topic=topic, partitions=2, config={})
    with refused(INVALID_CONFIG):
        admin.ask("create_topic", topic=f"{topic}-not", partitions=1, config={"retention.ms": "soon"})
    wait_until(lambda: topic in admin.ask("topics"), SECONDS_MAX, f"{topic} to be listed")
    assert f"{topic}-not" not in admin.ask("topics")

    admin.ask("create_partitions", topic=topic, total=5)
    with refused(INVALID_PARTITIONS):
        admin.ask("create_partitions", topic=topic, total=4)
    becomes(5, admin.ask, "partitions", topic=topic)

    becomes("86400000", admin.ask, "config", topic=topic, name="retention.ms")
    admin.ask("alter_config", topic=topic, name="retention.ms", value="-1")
    becomes("-1", admin.ask, "config", topic=topic, name="retention.ms")
    with refused(INVALID_CONFIG):
        admin.ask("alter_config", topic=topic, name="retention.ms", value="later")

    Confluent().write(broker.bootstrap, topic, [Record(b"%d" % n) for n in range(RECORDS)], "none", partition=4)
    assert admin.ask("offsets", topic=topic, partition=4) == [0, RECORDS]
    if "delete_records" not in admin.lacks:
        assert admin.ask("delete_records", topic=topic, partition=4, before=7) in (7, None)
        with refused(OFFSET_OUT_OF_RANGE):
            admin.ask("delete_records", topic=topic, partition=4, before=RECORDS + 1)
        assert admin.ask("offsets", topic=topic, partition=4) == [7, RECORDS]

    admin.ask("delete_topic", topic=topic)
    wait_until(lambda: topic not in admin.ask("topics"), SECONDS_MAX, f"{topic} to be gone")
    with refused(UNKNOWN_TOPIC_OR_PARTITION):
        admin.ask("delete_topic", topic=topic)


@EVERY_CLIENT
def test_groups_are_seen_moved_and_deleted(broker, tmp_path, client):
    admin = ADMINS[client](broker.bootstrap)
    # kafka-go cannot decode what newer clients say of themselves.
    kind = KINDS["kafka-go" if client == "kafka-go" else "confluent-range"]
    group = Group(broker, kind, tmp_path, partitions=2)
    try:
        Confluent().write(broker.bootstrap, group.topic, [Record(b"%d" % n) for n in range(RECORDS)], "none", partition=1)
        member = group.start()
        group.settle(member)
        group.await_committed({f"{group.topic}-1": RECORDS})

        listed = admin.ask("groups")
        assert group.name in listed and listed[group.name] in (["Classic", "Stable"], None)
        expected = {"state": "Stable", "members": 1, "assigned": sorted(group.partitions)}
        assert admin.ask("group", group=group.name) == expected
        with refused(NON_EMPTY_GROUP):
            admin.ask("delete_group", group=group.name)
        with refused(UNKNOWN_MEMBER_ID):
            admin.ask("commit", group=group.name, topic=group.topic, offsets={"1": 3})

        member.leave()
        assert admin.ask("group", group=group.name) == {"state": "Empty", "members": 0, "assigned": []}
        assert admin.ask("committed", group=group.name, topic=group.topic) == {"1": RECORDS}
        admin.ask("commit", group=group.name, topic=group.topic, offsets={"0": 0, "1": 5})
        assert admin.ask("committed", group=group.name, topic=group.topic) == {"0": 0, "1": 5}

        again = group.start()
        group.settle(again)
        group.await_committed({f"{group.topic}-0": 0, f"{group.topic}-1": RECORDS})
        again.leave()
        seen = [offset for event in again.tale.of("records") for offset in event["offsets"]]
        assert seen == list(range(5, RECORDS)), "it starts where it was moved to"

        if "delete_offsets" not in admin.lacks:
            admin.ask("delete_offsets", group=group.name, topic=group.topic, partitions=[1])
            assert admin.ask("committed", group=group.name, topic=group.topic) == {"0": 0}
        admin.ask("delete_group", group=group.name)
        assert group.name not in admin.ask("groups")
        with refused(GROUP_ID_NOT_FOUND):
            admin.ask("delete_group", group=group.name)
    finally:
        group.close()
