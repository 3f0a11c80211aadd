"""`esker group`, `esker config` and `esker cluster` against a broker that serves; PEER=kafka asks Apache Kafka."""

import json
import subprocess

import confluent_kafka
import pytest

from harness.broker import esker_binary
from harness.clients import Confluent, create_topic
from harness.process import wait_until
from harness.records import Record

RECORDS = 10
PARTITIONS = 2
SECONDS_MAX = 30


def run(broker, *words):
    """Status, lines and complaint of a command."""
    done = subprocess.run([esker_binary(), *words, "--bootstrap", broker.bootstrap], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout.splitlines(), done.stderr.strip()


def rows(broker, *words):
    """What a command prints for programs."""
    status, lines, complaint = run(broker, *words, "--output", "json")
    assert status == 0, complaint
    return [json.loads(line) for line in lines]


@pytest.fixture
def topic(broker):
    name = create_topic(broker, PARTITIONS)
    for partition in range(PARTITIONS):
        Confluent().write(broker.bootstrap, name, [Record(b"%d" % n) for n in range(RECORDS)], "none", partition=partition)
    return name


def member(broker, group, topic, protocol):
    """A member that owns all partitions and has committed offset 4 of the first."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": group, "group.protocol": protocol, "enable.auto.commit": False}
    )
    consumer.subscribe([topic])

    def owns_all():
        consumer.poll(0.1)
        return len(consumer.assignment()) == PARTITIONS

    wait_until(owns_all, SECONDS_MAX, "the assignment")
    consumer.commit(offsets=[confluent_kafka.TopicPartition(topic, 0, 4)], asynchronous=False)
    return consumer


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_groups_lag_is_seen_and_its_offsets_are_reset(broker, topic, protocol):
    group = f"cli-{protocol}"
    consumer = member(broker, group, topic, protocol)
    (described,) = rows(broker, "group", "describe", group)
    assert (described["type"], described["state"], len(described["members"])) == (protocol, "Stable", 1)
    assert described["members"][0]["assignment"] == {topic: list(range(PARTITIONS))}
    by_partition = {row["partition"]: (row["current"], row["end"], row["lag"]) for row in described["offsets"]}
    assert by_partition == {0: (4, RECORDS, RECORDS - 4), 1: (None, RECORDS, None)}
    assert (described["lag"], described["lag_unknown_partitions"]) == (RECORDS - 4, 1)

    status, _, complaint = run(broker, "group", "reset", group, "--topic", topic, "--to-latest")
    assert status != 0 and "members" in complaint
    consumer.close()
    wait_until(lambda: rows(broker, "group", "describe", group)[0]["state"] == "Empty", SECONDS_MAX, "the group to be empty")
    assert run(broker, "group", "reset", group, "--topic", topic, "--to-earliest", "--dry-run")[0] == 0
    assert offsets(broker, group) == {0: 4}
    assert run(broker, "group", "reset", group, "--topic", f"{topic}:1", "--to-offset", "7")[0] == 0
    assert run(broker, "group", "reset", group, "--topic", f"{topic}:0", "--shift-by", "-1")[0] == 0
    assert offsets(broker, group) == {0: 3, 1: 7}
    assert group in {row["group"] for row in rows(broker, "group", "list")}
    assert run(broker, "group", "delete", group)[0] == 0
    assert group not in {row["group"] for row in rows(broker, "group", "list")}
    status, _, complaint = run(broker, "group", "describe", group)
    assert status != 0 and "GROUP_ID_NOT_FOUND" in complaint


def offsets(broker, group):
    (described,) = rows(broker, "group", "describe", group)
    return {row["partition"]: row["current"] for row in described["offsets"]}


def test_settings_are_shown_changed_and_taken_back(broker, topic):
    def retention():
        _, lines, _ = run(broker, "config", "describe", "--topic", topic)
        return next((line.split()[1] for line in lines if line.startswith("retention.ms")), None)

    before = retention()
    assert run(broker, "config", "set", "--topic", topic, "retention.ms=86400000", "--dry-run")[0] == 0
    status, _, complaint = run(broker, "config", "set", "--topic", topic, "retention.ms=soon")
    assert status != 0 and "INVALID_CONFIG" in complaint
    assert retention() == before
    assert run(broker, "config", "set", "--topic", topic, "retention.ms=86400000")[0] == 0
    wait_until(lambda: retention() == "86400000", SECONDS_MAX, "the setting to be seen")
    assert run(broker, "config", "delete", "--topic", topic, "retention.ms")[0] == 0
    wait_until(lambda: retention() is None, SECONDS_MAX, "the setting to be gone")


def test_the_cluster_is_described(broker):
    status, lines, complaint = run(broker, "cluster", "describe")
    assert status == 0, complaint
    assert any(broker.bootstrap in line for line in lines)
    status, lines, _ = run(broker, "cluster", "features")
    assert status == 0 and any(line.startswith("group.version") for line in lines)
    assert {"topic", "broker"} <= {row["resource"] for row in rows(broker, "config", "list")}
