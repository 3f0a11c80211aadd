"""Apache Kafka's own command line tools, unchanged."""

import re

from confluent_kafka import TopicPartition

from harness import tools
from harness.clients import Confluent, create_topic
from harness.records import Record


def topics(broker, *arguments, **options):
    return tools.kafka(tools.TOPICS, "--bootstrap-server", broker.bootstrap, *arguments, **options).decode()


def test_topics_are_created_listed_described_and_deleted(broker):
    topics(broker, "--create", "--topic", "orders", "--partitions", 3, "--config", "segment.bytes=2097152")
    assert "orders" in topics(broker, "--list").split()

    described = topics(broker, "--describe", "--topic", "orders")
    assert "PartitionCount: 3" in described and "ReplicationFactor: 1" in described
    assert "segment.bytes=2097152" in described
    leaders = re.findall(r"Partition: (\d+)\s+Leader: (\S+)\s+Replicas: (\S+)\s+Isr: (\S+)", described)
    assert [partition for partition, *_ in leaders] == ["0", "1", "2"]
    for _, leader, replicas, isr in leaders:
        assert leader == replicas == isr and leader.isdigit()

    topics(broker, "--delete", "--topic", "orders")
    assert "orders" not in topics(broker, "--list").split()


def test_a_topic_that_exists_is_refused_unless_asked_otherwise(broker):
    topics(broker, "--create", "--topic", "twice", "--partitions", 1)
    again = tools.run(
        tools.java(tools.TOPICS, "--bootstrap-server", broker.bootstrap, "--create", "--topic", "twice"), check=False
    )
    assert again.returncode != 0 and b"already exists" in again.stdout + again.stderr
    topics(broker, "--create", "--topic", "twice", "--if-not-exists")


def test_a_deleted_name_is_free_at_once_and_starts_empty(broker):
    client = Confluent()
    for turn in (b"first", b"second"):
        topics(broker, "--create", "--topic", "phoenix", "--partitions", 1)
        client.write(broker.bootstrap, "phoenix", [Record(turn)], "none")
        read = client.read(broker.bootstrap, "phoenix", 1)
        assert [(record.offset, record.value) for record in read] == [(0, turn)]
        topics(broker, "--delete", "--topic", "phoenix")


def test_bad_topic_settings_are_refused_by_name(broker):
    for setting in ("segment.bytes=12", "no.such.setting=1", "cleanup.policy=sometimes"):
        refused = tools.run(
            tools.java(
                tools.TOPICS, "--bootstrap-server", broker.bootstrap, "--create", "--topic", "bad", "--config", setting
            ),
            check=False,
        )
        said = (refused.stdout + refused.stderr).decode()
        assert refused.returncode != 0 and setting.split("=")[0] in said, said
    assert "bad" not in topics(broker, "--list").split()


def test_configs_describe_topics_and_brokers(broker):
    topic = create_topic(broker, retention_ms=86_400_000)

    def configs(*arguments):
        return tools.kafka(tools.CONFIGS, "--bootstrap-server", broker.bootstrap, "--describe", *arguments).decode()

    assert "retention.ms=86400000" in configs("--entity-type", "topics", "--entity-name", topic)
    described = configs("--entity-type", "topics", "--entity-name", topic, "--all")
    for expected in ("cleanup.policy=delete", "max.message.bytes=1048588", "segment.bytes=1073741824", "retention.ms=86400000"):
        assert expected in described
    assert "log.segment.bytes=1073741824" in configs("--entity-type", "brokers", "--entity-name", "1", "--all")


def test_get_offsets_by_end_start_time_and_maximum(broker):
    topic = create_topic(broker, partitions=2)
    written = [Record(b"%d" % n, timestamp=1_700_000_000_000 + 1000 * (n % 7)) for n in range(20)]
    Confluent().write(broker.bootstrap, topic, written, "none", partition=1)

    def offsets(*arguments):
        lines = tools.kafka(
            tools.GET_OFFSETS, "--bootstrap-server", broker.bootstrap, "--topic", topic, *arguments
        ).decode()
        return {int(p): o for _, p, o in (line.split(":") for line in lines.split())}

    assert offsets() == {0: "0", 1: "20"}
    assert offsets("--time", "earliest") == {0: "0", 1: "0"}
    assert offsets("--time", "max-timestamp")[1] == "6"
    assert offsets("--time", 1_700_000_003_000)[1] == "3"


def test_producer_perf_test_writes_what_it_says(broker):
    topic = create_topic(broker, partitions=3)
    out = tools.kafka(
        tools.PRODUCER_PERF, "--bootstrap-server", broker.bootstrap, "--topic", topic, "--num-records", 20_000,
        "--record-size", 1000, "--throughput", -1, "--command-property", "acks=all",
    ).decode()  # fmt: skip
    assert "20000 records sent" in out
    consumer = Confluent().consumer(broker.bootstrap)
    ends = [consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=30) for n in range(3)]
    consumer.close()
    assert all(low == 0 for low, _ in ends) and sum(high for _, high in ends) == 20_000

