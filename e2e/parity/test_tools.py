"""Apache Kafka's tools print the same against Apache Kafka and against the broker under test.

Every command runs against both; ids, times, paths, sizes and figures are masked, and nothing else.
"""

import json
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka import TopicPartition

from harness.broker import QUICK_GROUPS, ApacheKafka
from harness.clients import READ_SECONDS_MAX, Confluent
from harness.members import KINDS, SETTLE_SECONDS_MAX, Member
from harness.process import wait_until
from harness.records import Record
from harness.toolbox import TOOLS, Toolbox

SMALL_HEAP = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
# Settings of topics that are Esker's own, and the one whose default differs on purpose.
OURS = re.compile(r"^ +(validation|remote\.storage\.enable)=.*\n", re.MULTILINE)
TOPICS = f"{TOOLS}.TopicCommand"
CONFIGS = "kafka.admin.ConfigCommand"
GROUP = f"{TOOLS}.consumer.group.ConsumerGroupCommand"
GROUPS = f"{TOOLS}.GroupsCommand"
OFFSETS = f"{TOOLS}.GetOffsetShell"
CONSOLE_PRODUCER = f"{TOOLS}.ConsoleProducer"
CONSOLE_CONSUMER = f"{TOOLS}.consumer.ConsoleConsumer"
BOOTSTRAP = ("--bootstrap-server", "HOST:PORT")

# A figure alone may be below zero: on a busy machine the consumer's tool makes less than nothing of a time.
FIGURES = (re.compile(r"((?<=, )-)?\d+([.,]\d+)?"), "N")
# What answers for the metadata is one broker on its only listener, and no voter of a quorum.
CONTROLLER = (re.compile(r"(\"directoryId\": \"\S+\", )?\"endpoints\": \[\"[A-Z]+:/+[\d.]+:\d+\"\]"), "ENDPOINTS")
RECORDS = 30
TURNS = 3
TURN_SECONDS = 0.5


class Both:
    """Apache Kafka and the broker under test, and one JVM for the tools."""

    def __init__(self, oracle, broker, folder):
        self.brokers = (oracle, broker)
        self.folder = folder
        self.toolbox = Toolbox()
        self.differences = []
        # Processes die with the thread that started them, so the threads stay.
        self.pool = ThreadPoolExecutor(len(self.brokers))

    def close(self):
        self.toolbox.close()
        self.pool.shutdown()

    def role(self, broker):
        return "oracle" if broker is self.brokers[0] else "tested"

    def run(self, main, *arguments, stdin=""):
        """Runs a tool against both, and returns what each printed."""
        return [
            self.toolbox.run(main, *(broker.bootstrap if word == "HOST:PORT" else word for word in arguments), stdin=stdin)
            for broker in self.brokers
        ]

    def same(self, main, *arguments, stdin="", masks=(), status=0, about=""):
        """Runs a tool against both and expects the same; returns the lines.

        `about` picks the lines of a list that other tests add to.
        """
        for turn in range(TURNS if {"--describe", "--list"} & set(arguments) else 1):
            # Changes of metadata are answered before every reader sees them.
            time.sleep(turn * TURN_SECONDS)
            printed = self.run(main, *arguments, stdin=stdin)
            expected, got = ([line for line in each.masked(*masks) if about in line] for each in printed)
            if got == expected:
                break
        assert printed[0].status == status, printed[0]
        self.compare(expected, got, f"{main.rsplit('.')[-1]} {' '.join(map(str, arguments))}")
        return expected

    def await_line(self, text, main, *arguments):
        """Waits until Apache Kafka shows a change."""
        wait_until(
            lambda: any(text in line for line in self.run(main, *arguments)[0].masked()), SETTLE_SECONDS_MAX, text
        )

    def compare(self, expected, got, what):
        """Keeps a difference for the end of the test, so that one run shows all of them."""
        if got != expected:
            missing = [line for line in expected if line not in got]
            instead = [line for line in got if line not in expected]
            self.differences.append(f"{what}\n  expected {missing or expected}\n  got {instead or got}")

    def each(self, action):
        """Does something to both at once, and returns what came of it."""
        return list(self.pool.map(action, self.brokers))

    def topic(self, name, partitions=2, records=RECORDS, partition=1):
        keep = ("--config", "retention.ms=-1")
        self.same(TOPICS, *BOOTSTRAP, "--create", "--topic", name, "--partitions", partitions, *keep)
        content = [Record(b"value-%d" % n, b"key-%d" % n, (), 1_700_000_000_000 + n) for n in range(records)]
        self.each(lambda broker: Confluent().write(broker.bootstrap, name, content, "none", partition=partition))

    def members(self, kind, group, topic, partitions=2, **options):
        """One member on each broker, when it owns the whole topic."""

        def start(broker):
            member = Member(
                KINDS[kind], self.folder / self.role(broker) / group, group, bootstrap=broker.bootstrap, group=group,
                topics=topic, **options,
            )  # fmt: skip
            wait_until(lambda: len(member.owned()) == partitions, SETTLE_SECONDS_MAX, f"{group} to own {topic}")
            return member

        return self.each(start)


@pytest.fixture(scope="module")
def pair(broker, folder):
    oracle = ApacheKafka(folder / "oracle", options=QUICK_GROUPS, heap=SMALL_HEAP).start()
    pair = Both(oracle, broker, folder / "parity")
    yield pair
    pair.close()
    oracle.kill()


@pytest.fixture
def both(pair):
    pair.differences.clear()
    yield pair
    assert not pair.differences, "\n".join(pair.differences)


def test_topics(both):
    both.topic("topics-a", partitions=3)
    both.same(TOPICS, *BOOTSTRAP, "--create", "--topic", "topics-b", "--config", "retention.ms=1000", "--config", "segment.ms=5")
    both.same(TOPICS, *BOOTSTRAP, "--create", "--topic", "topics-a", status=1)
    both.same(TOPICS, *BOOTSTRAP, "--create", "--topic", "topics-a", "--if-not-exists")
    both.same(TOPICS, *BOOTSTRAP, "--create", "--topic", "topics.with_both", "--partitions", 1)
    both.same(TOPICS, *BOOTSTRAP, "--create", "--topic", "no/slash", status=1)
    both.same(TOPICS, *BOOTSTRAP, "--create", "--topic", "too-many", "--replication-factor", 3, status=1)
    both.same(TOPICS, *BOOTSTRAP, "--create", "--topic", "none", "--partitions", 0, status=1)
    both.same(TOPICS, *BOOTSTRAP, "--create", "--topic", "placed", "--replica-assignment", "1,1")
    both.same(TOPICS, *BOOTSTRAP, "--describe", "--topic", "topics-.*")
    both.same(TOPICS, *BOOTSTRAP, "--describe", "--topic", "placed")
    both.same(TOPICS, *BOOTSTRAP, "--describe", "--topic", "absent", status=1)
    both.same(TOPICS, *BOOTSTRAP, "--describe", "--topic", "absent", "--if-exists")
    both.same(TOPICS, *BOOTSTRAP, "--describe", "--topic", "topics-b", "--topics-with-overrides")
    both.same(TOPICS, *BOOTSTRAP, "--describe", "--under-replicated-partitions")
    both.same(TOPICS, *BOOTSTRAP, "--describe", "--unavailable-partitions")
    both.same(TOPICS, *BOOTSTRAP, "--alter", "--topic", "topics-a", "--partitions", 5)
    both.same(TOPICS, *BOOTSTRAP, "--alter", "--topic", "topics-a", "--partitions", 4, status=1)
    both.same(TOPICS, *BOOTSTRAP, "--describe", "--topic", "topics-a")
    both.same(TOPICS, *BOOTSTRAP, "--list", "--topic", "topics-.*")
    both.same(TOPICS, *BOOTSTRAP, "--delete", "--topic", "topics-a")
    both.same(TOPICS, *BOOTSTRAP, "--delete", "--topic", "topics-a", status=1)
    both.same(TOPICS, *BOOTSTRAP, "--list", "--topic", "topics-.*")


def test_configs_of_topics(both):
    of = ("--entity-type", "topics", "--entity-name", "configured")
    both.topic("configured", records=0)
    both.same(CONFIGS, *BOOTSTRAP, "--describe", *of)
    both.same(CONFIGS, *BOOTSTRAP, "--alter", *of, "--add-config", "retention.ms=7,cleanup.policy=[compact,delete]")
    both.same(CONFIGS, *BOOTSTRAP, "--describe", *of)
    both.same(CONFIGS, *BOOTSTRAP, "--describe", *of, "--all", masks=((OURS, ""),))
    both.same(CONFIGS, *BOOTSTRAP, "--alter", *of, "--delete-config", "retention.ms")
    both.same(CONFIGS, *BOOTSTRAP, "--describe", *of)
    both.same(CONFIGS, *BOOTSTRAP, "--alter", *of, "--delete-config", "retention.ms")
    both.same(CONFIGS, *BOOTSTRAP, "--alter", *of, "--add-config", "retention.ms=soon", status=1)
    both.same(CONFIGS, *BOOTSTRAP, "--alter", *of, "--add-config", "no.such.setting=1", status=1)
    both.same(CONFIGS, *BOOTSTRAP, "--describe", "--entity-type", "topics", "--entity-name", "absent")


def test_configs_of_brokers_and_groups(both):
    broker = ("--entity-type", "brokers", "--entity-name", "1")
    brokers = ("--entity-type", "brokers", "--entity-default")
    group = ("--entity-type", "groups", "--entity-name", "configured-group")
    both.same(CONFIGS, *BOOTSTRAP, "--alter", *broker, "--add-config", "log.retention.ms=86400000")
    both.await_line(" log.retention.ms=86400000", CONFIGS, *BOOTSTRAP, "--describe", *broker)
    both.same(CONFIGS, *BOOTSTRAP, "--describe", *broker)
    both.same(CONFIGS, *BOOTSTRAP, "--alter", *broker, "--delete-config", "log.retention.ms")
    both.same(CONFIGS, *BOOTSTRAP, "--describe", *broker)
    both.same(CONFIGS, *BOOTSTRAP, "--alter", *brokers, "--add-config", "log.retention.bytes=1000000000")
    both.same(CONFIGS, *BOOTSTRAP, "--describe", *brokers)
    both.same(CONFIGS, *BOOTSTRAP, "--alter", *brokers, "--delete-config", "log.retention.bytes")
    both.same(CONFIGS, *BOOTSTRAP, "--alter", *broker, "--add-config", "log.dirs=elsewhere", status=1)
    both.same(CONFIGS, *BOOTSTRAP, "--alter", *group, "--add-config", "consumer.heartbeat.interval.ms=500")
    both.same(CONFIGS, *BOOTSTRAP, "--describe", *group)
    both.same(CONFIGS, *BOOTSTRAP, "--alter", *group, "--add-config", "consumer.heartbeat.interval.ms=1", status=1)
    both.same(CONFIGS, *BOOTSTRAP, "--alter", *group, "--delete-config", "consumer.heartbeat.interval.ms")


def test_offsets_and_records_deleted(both, tmp_path):
    both.topic("counted")
    both.same(OFFSETS, *BOOTSTRAP, "--topic", "counted")
    both.same(OFFSETS, *BOOTSTRAP, "--topic", "counted", "--time", "earliest")
    both.same(OFFSETS, *BOOTSTRAP, "--topic", "counted", "--time", "max-timestamp")
    both.same(OFFSETS, *BOOTSTRAP, "--topic", "counted", "--time", 1_700_000_000_010)
    both.same(OFFSETS, *BOOTSTRAP, "--topic-partitions", "counted:1")
    both.same(OFFSETS, *BOOTSTRAP, "--topic", "absent", status=1)
    deleted = f"{TOOLS}.DeleteRecordsCommand"
    for offset in (5, RECORDS + 1, -1):
        wanted = tmp_path / f"{offset}.json"
        wanted.write_text(json.dumps({"partitions": [{"topic": "counted", "partition": 1, "offset": offset}], "version": 1}))
        both.same(deleted, *BOOTSTRAP, "--offset-json-file", wanted)
    both.same(OFFSETS, *BOOTSTRAP, "--topic", "counted", "--time", "earliest")


@pytest.mark.parametrize(("kind", "name"), [("confluent-range", "classic"), ("confluent-consumer", "consumer")])
def test_groups_and_their_members(both, kind, name):
    topic, group = f"grouped-{name}", f"group-{name}"
    both.topic(topic)
    members = both.members(kind, group, topic)
    both.each(lambda broker: wait_until(lambda: committed(broker, group, topic), SETTLE_SECONDS_MAX, "commits"))
    both.same(GROUP, *BOOTSTRAP, "--describe", "--group", group)
    both.same(GROUP, *BOOTSTRAP, "--describe", "--group", group, "--verbose")
    both.same(GROUP, *BOOTSTRAP, "--describe", "--group", group, "--members")
    both.same(GROUP, *BOOTSTRAP, "--describe", "--group", group, "--members", "--verbose")
    both.same(GROUP, *BOOTSTRAP, "--describe", "--group", group, "--state")
    both.same(GROUP, *BOOTSTRAP, "--describe", "--group", group, "--state", "--verbose")
    both.same(GROUP, *BOOTSTRAP, "--delete", "--group", group)
    both.same(GROUP, *BOOTSTRAP, "--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--execute")
    both.same(GROUP, *BOOTSTRAP, "--delete-offsets", "--group", group, "--topic", topic)
    assert both.same(GROUPS, *BOOTSTRAP, "--list", "--group-type", name, about=group)
    for member in members:
        member.leave()
    both.same(GROUP, *BOOTSTRAP, "--describe", "--group", group, "--state")
    both.same(GROUP, *BOOTSTRAP, "--describe", "--group", group, "--members")
    both.same(GROUP, *BOOTSTRAP, "--describe", "--group", group)
    both.same(GROUP, *BOOTSTRAP, "--list", "--state", "Empty", "--type", name, about=group)
    both.same(GROUP, *BOOTSTRAP, "--delete-offsets", "--group", group, "--topic", topic)
    both.same(GROUP, *BOOTSTRAP, "--describe", "--group", group)
    both.same(GROUP, *BOOTSTRAP, "--delete", "--group", group)
    both.same(GROUP, *BOOTSTRAP, "--delete", "--group", group)
    both.same(GROUP, *BOOTSTRAP, "--describe", "--group", group)


def committed(broker, group, topic):
    """Whether the group has committed all there is."""
    consumer = Confluent().consumer(broker.bootstrap, group_id=group)
    try:
        return consumer.committed([TopicPartition(topic, 1)], READ_SECONDS_MAX)[0].offset == RECORDS
    finally:
        consumer.close()


def test_offsets_are_reset_in_every_way(both, tmp_path):
    both.topic("reset")
    group = ("--group", "resetting")
    reset = (GROUP, *BOOTSTRAP, "--reset-offsets", *group, "--topic", "reset")
    both.same(*reset, "--to-latest", "--dry-run")
    both.same(*reset, "--to-latest", "--execute")
    both.same(GROUP, *BOOTSTRAP, "--describe", *group)
    both.same(*reset, "--to-earliest", "--execute")
    both.same(*reset, "--to-offset", 7, "--execute")
    both.same(*reset, "--to-offset", RECORDS + 70, "--execute")
    both.same(*reset, "--shift-by", -3, "--execute")
    both.same(*reset, "--to-datetime", "2023-11-14T22:13:20.010", "--execute")
    both.same(*reset, "--by-duration", "PT0S", "--execute")
    both.same(*reset, "--to-current", "--execute")
    exported = both.same(GROUP, *BOOTSTRAP, "--reset-offsets", *group, "--topic", "reset:1", "--to-offset", 4, "--dry-run", "--export")
    plan = tmp_path / "plan.csv"
    plan.write_text("".join(f"{line}\n" for line in exported if "," in line))
    both.same(GROUP, *BOOTSTRAP, "--reset-offsets", *group, "--from-file", plan, "--execute")
    both.same(GROUP, *BOOTSTRAP, "--describe", *group, "--offsets")
    both.same(GROUP, *BOOTSTRAP, "--list", "--state", about="resetting")
    both.same(GROUPS, *BOOTSTRAP, "--list", about="resetting")
    both.same(GROUP, *BOOTSTRAP, "--delete", *group)


def test_console_producer_and_consumer_with_a_group(both):
    both.topic("console", partitions=1, records=0)
    content = "".join(f"key-{n}:value {n}\n" for n in range(10))
    keys = ("--reader-property", "parse.key=true", "--reader-property", "key.separator=:")
    both.same(CONSOLE_PRODUCER, *BOOTSTRAP, "--topic", "console", *keys, stdin=content)
    read = ("--topic", "console", "--formatter-property", "print.key=true", "--timeout-ms", 30_000)
    first = both.same(CONSOLE_CONSUMER, *BOOTSTRAP, *read, "--group", "console-group", "--from-beginning", "--max-messages", 4)
    assert "key-0 value 0" in first and "key-4 value 4" not in first
    # The group goes on where it was.
    second = both.same(CONSOLE_CONSUMER, *BOOTSTRAP, *read, "--group", "console-group", "--max-messages", 6)
    assert "key-4 value 4" in second and "key-0 value 0" not in second
    protocol = ("--command-property", "group.protocol=consumer")
    both.same(CONSOLE_CONSUMER, *BOOTSTRAP, *read, *protocol, "--group", "console-new", "--from-beginning", "--max-messages", 10)
    both.same(GROUP, *BOOTSTRAP, "--describe", "--group", "console-group")
    both.same(GROUP, *BOOTSTRAP, "--describe", "--group", "console-new")


def test_performance_tools(both):
    both.topic("performance", records=0)
    sent = (f"{TOOLS}.ProducerPerformance", *BOOTSTRAP, "--topic", "performance", "--record-size", 100, "--throughput", -1)
    assert any("N records sent" in line for line in both.same(*sent, "--num-records", 2000, masks=(FIGURES,)))
    for protocol in ("classic", "consumer"):
        both.same(
            f"{TOOLS}.ConsumerPerformance", *BOOTSTRAP, "--topic", "performance", "--num-records", 2000,
            "--group", f"performance-{protocol}", "--command-property", f"group.protocol={protocol}",
            "--command-property", "auto.offset.reset=earliest", masks=(FIGURES,),
        )  # fmt: skip
    both.same(
        f"{TOOLS}.EndToEndLatency", *BOOTSTRAP, "--topic", "performance", "--num-records", 50, "--producer-acks", "all",
        "--record-size", 100, masks=(FIGURES,),
    )  # fmt: skip


def test_verifiable_producer_and_consumer(both):
    both.topic("verified", partitions=1, records=0)

    def run(broker, main, *arguments):
        to = broker.bootstrap
        process = both.toolbox.start(
            f"{TOOLS}.{main}", "--bootstrap-server", to, *arguments, folder=both.folder / both.role(broker), name=main
        )
        try:
            status = process.child.wait(SETTLE_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            status = "it did not end"
        lines = [json.loads(line) for line in process.stdout().splitlines()]
        return status, [{key: shown(key, value) for key, value in line.items()} for line in lines]

    def shown(key, value):
        return "N" if key in ("timestamp", "avg_throughput") else value

    expected, got = both.each(
        lambda broker: run(broker, "VerifiableProducer", "--topic", "verified", "--max-messages", 20, "--repeating-keys", 5)
    )
    both.compare(expected, got, "VerifiableProducer")
    assert sum(line["name"] == "producer_send_success" for line in expected[1]) == 20
    for protocol in ("classic", "consumer"):
        expected, got = both.each(
            lambda broker: run(
                broker, "VerifiableConsumer", "--topic", "verified", "--max-messages", 20, "--group-id", f"verified-{protocol}",
                "--group-protocol", protocol, "--reset-policy", "earliest", "--verbose",
            )  # fmt: skip
        )
        both.compare(summary(expected), summary(got), f"VerifiableConsumer with {protocol}")
        assert len(summary(expected)[1]) == 20


def summary(told):
    """How many records came at a time, and were committed together, is chance; this is not."""
    status, lines = told
    records = [line for line in lines if line["name"] == "record_data"]
    commits = [line["offsets"] for line in lines if line["name"] == "offsets_committed"]
    return status, records, commits[-1:], sorted({line["name"] for line in lines})


def test_replica_verification(both):
    both.topic("replicated")

    def run(broker):
        process = both.toolbox.start(
            f"{TOOLS}.ReplicaVerificationTool", "--broker-list", broker.bootstrap, "--topics-include", "replicated",
            "--report-interval-ms", 500, folder=both.folder / both.role(broker), name="replica-verification",
        )  # fmt: skip
        process.wait_for(lambda: "max lag is" in process.stdout(), SETTLE_SECONDS_MAX, "the report on replicas")
        process.kill()
        return sorted({line for line in re.sub(r"\d+", "N", process.stdout()).splitlines() if "replicated" in line})

    expected, got = both.each(run)
    both.compare(expected, got, "ReplicaVerificationTool")
    assert len(expected) == 1, expected


def test_streams_reset(both):
    both.topic("streamed")
    reset = (f"{TOOLS}.StreamsResetter", *BOOTSTRAP, "--application-id", "streaming")
    both.same(*reset, "--input-topics", "streamed", "--dry-run")
    both.same(*reset, "--input-topics", "streamed")
    both.same(*reset, "--input-topics", "streamed", "--to-latest")
    both.same(GROUP, *BOOTSTRAP, "--describe", "--group", "streaming")
    both.same(*reset, "--input-topics", "absent", status=1)


def test_log_dirs(both):
    both.topic("placed-in-dirs")
    printed = both.run(f"{TOOLS}.LogDirsCommand", *BOOTSTRAP, "--describe", "--topic-list", "placed-in-dirs")
    both.compare(*(directories(each) for each in printed), "LogDirsCommand")
    both.same(f"{TOOLS}.LogDirsCommand", *BOOTSTRAP, "--describe", "--broker-list", "7", status=1)


def directories(printed):
    """What is said of the partitions, without sizes and paths."""
    line = next((line for line in printed.out.splitlines() if line.startswith("{")), None)
    if line is None:
        return printed.masked()
    described = json.loads(line)
    for broker in described["brokers"]:
        for directory in broker["logDirs"]:
            directory["logDir"] = "PATH"
            directory["partitions"] = sorted(({**each, "size": "N"} for each in directory["partitions"]), key=str)
    return [described]


def test_features(both):
    # Not offered before there is something behind them: share and streams groups, transactions; and what
    # only Apache Kafka's own metadata log has.
    absent = ("share.version", "streams.version", "transaction.version", "kraft.version", "metadata.version", "eligible.leader.replicas.version")
    expected, got = (
        [line for line in each.masked((re.compile(r"Epoch: \d+"), "Epoch: N")) if not any(name in line for name in absent)]
        for each in both.run(f"{TOOLS}.FeatureCommand", *BOOTSTRAP, "describe")
    )
    both.compare(expected, got, "FeatureCommand")
    assert any("group.version" in line for line in expected)


def test_metadata_quorum(both):
    both.same(
        f"{TOOLS}.MetadataQuorumCommand", *BOOTSTRAP, "describe", "--status",
        masks=((re.compile(r"(ClusterId:) +\S+"), r"\1 ID"), (re.compile(r"(Epoch|Watermark|FollowerLag|LagTimeMs): +-?\d+"), r"\1: N"), CONTROLLER),
    )  # fmt: skip
    both.same(
        f"{TOOLS}.MetadataQuorumCommand", *BOOTSTRAP, "describe", "--replication",
        masks=((re.compile(r"^(\d+)\s+\S{22}\s+\d+", re.MULTILINE), r"\1 ID N"),),
    )  # fmt: skip


# Not served yet: transactions, security, quotas, movement, telemetry, share and streams groups, and what
# only members of Apache Kafka's own quorum ask each other.
NOT_SERVED = set(
    """
    AddPartitionsToTxn AddOffsetsToTxn EndTxn WriteTxnMarkers TxnOffsetCommit DescribeTransactions ListTransactions
    SaslHandshake SaslAuthenticate DescribeAcls CreateAcls DeleteAcls CreateDelegationToken RenewDelegationToken
    ExpireDelegationToken DescribeDelegationToken DescribeUserScramCredentials AlterUserScramCredentials
    DescribeClientQuotas AlterClientQuotas AlterReplicaLogDirs ElectLeaders AlterPartitionReassignments
    ListPartitionReassignments UnregisterBroker GetTelemetrySubscriptions PushTelemetry
    UpdateFeatures DescribeProducers AddRaftVoter RemoveRaftVoter
    ShareGroupHeartbeat ShareGroupDescribe ShareFetch ShareAcknowledge DescribeShareGroupOffsets
    AlterShareGroupOffsets DeleteShareGroupOffsets StreamsGroupHeartbeat StreamsGroupDescribe
    InitializeShareGroupState ReadShareGroupState WriteShareGroupState DeleteShareGroupState
    ReadShareGroupStateSummary
    """.split()
)


def test_broker_api_versions(both):
    expected, got = both.run(f"{TOOLS}.BrokerApiVersionsCommand", *BOOTSTRAP)
    shown = [[line for line in each.masked() if line.split("(")[0].strip() not in NOT_SERVED] for each in (expected, got)]
    both.compare(*shown, "BrokerApiVersionsCommand")


def test_cluster(both):
    tool = f"{TOOLS}.ClusterTool"
    both.same(tool, "cluster-id", *BOOTSTRAP)
    both.same(tool, "list-endpoints", *BOOTSTRAP, masks=((re.compile(r"HOST +\d+|127\.0\.0\.1 +\d+"), "HOST"),))
    both.same(tool, "list-endpoints", *BOOTSTRAP, "--include-fenced-brokers", masks=((re.compile(r"127\.0\.0\.1 +\d+"), "HOST"),))
