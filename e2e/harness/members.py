"""Members of consumer groups, one process each, through every client, and groups made of them.

Every member program speaks alike: it prints what it was assigned, what it gave up, which offsets it
saw and committed, one JSON object a line with the time in microseconds; SIGTERM makes it leave.
"""

import itertools
import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field

from confluent_kafka import KafkaException, TopicPartition

from harness import tools
from harness.clients import READ_SECONDS_MAX, Confluent, create_topic
from harness.ownership import Sample, Tale, micros
from harness.process import Process, wait_until

# Kafka's smallest session without any configuration; long enough for a machine that is busy.
SESSION_MS = 6000
HEARTBEAT_MS = 300
# A rebalance waits for a session at most, and then for members that are busy starting.
SETTLE_SECONDS_MAX = 60
PARTITIONS = 6
LOAD_PER_SECOND = 150
# What a client that asks once is told while a coordinator starts.
COORDINATOR_MOVES = ("NOT_COORDINATOR", "COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE")

_names = itertools.count()


@dataclass(frozen=True)
class Kind:
    """A client with one way to be a member."""

    name: str
    program: str
    options: dict = field(default_factory=dict, hash=False)

    @property
    def consumer_protocol(self):
        return self.options.get("protocol") == "consumer"

    def command(self, options):
        words = [f"{key}={value}" for key, value in {**self.options, **options}.items()]
        return {
            "java": lambda: tools.java("Member", *words),
            "python": lambda: [sys.executable, tools.E2E / "tools/member.py", *words],
            "kafkajs": lambda: ["node", tools.E2E / "tools/kafkajs/member.js", *words],
            "kafka-go": lambda: [tools.folder() / "kafka-go/kafka-go", "member", *words],
        }[self.program]()


def _kinds(*kinds):
    return {kind.name: kind for kind in kinds}


KINDS = _kinds(
    Kind("java-range", "java", {"assignor": "range"}),
    Kind("java-cooperative", "java", {"assignor": "cooperative"}),
    Kind("java-consumer", "java", {"protocol": "consumer"}),
    Kind("confluent-range", "python", {"library": "confluent", "assignor": "range"}),
    Kind("confluent-cooperative", "python", {"library": "confluent", "assignor": "cooperative"}),
    Kind("confluent-consumer", "python", {"library": "confluent", "protocol": "consumer"}),
    Kind("kafka-python-range", "python", {"library": "kafka-python", "assignor": "range"}),
    Kind("kafka-python-cooperative", "python", {"library": "kafka-python", "assignor": "cooperative"}),
    Kind("kafkajs", "kafkajs"),
    Kind("kafka-go", "kafka-go"),
    # Only the long form runs these: another assignor and nothing else that is new.
    Kind("java-sticky", "java", {"assignor": "sticky"}),
    Kind("java-consumer-range", "java", {"protocol": "consumer", "assignor": "range"}),
    Kind("kafka-go-roundrobin", "kafka-go", {"assignor": "roundrobin"}),
)
LONG_ONLY = ("java-sticky", "java-consumer-range", "kafka-go-roundrobin")


class Member:
    """One process of a group."""

    def __init__(self, kind, folder, name, **options):
        self.kind = kind
        self.tale = Tale(name, instance=options.get("instance"))
        command = kind.command({"client": name, "session": SESSION_MS, "heartbeat": HEARTBEAT_MS, **options})
        self.process = Process(command, folder, name, tools.kafkajs_environment())
        self.position = 0

    @property
    def name(self):
        return self.tale.name

    def listen(self):
        """Takes in what the member has told since the last time."""
        with open(self.process.stdout_path, "rb") as told:
            told.seek(self.position)
            content = told.read()
        whole = content[: content.rfind(b"\n") + 1]
        self.position += len(whole)
        self.tale.events += [json.loads(line) for line in whole.splitlines()]
        return self.tale

    def owned(self):
        return self.listen().owned()

    def leave(self):
        """Asks it to leave, and waits until it has."""
        self.process.terminate()
        events = self.listen().events
        assert events and events[-1]["event"] == "closed", f"{self.name} did not close: {events[-2:]} {self.said()}"

    def kill(self):
        self.tale.died_at = micros()
        self.process.kill()
        self.listen()

    def pause(self):
        self.tale.pauses.append(micros())
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def said(self):
        return self.process.stderr()[-2000:]


class Group:
    """Members of one kind that share a topic, and everything needed to check them."""

    def __init__(self, broker, kind, folder, topic=None, partitions=PARTITIONS, **options):
        self.broker = broker
        self.kind = kind
        self.folder = folder
        self.name = f"{kind.name}-{next(_names)}"
        self.topic = topic or create_topic(broker, partitions, f"of-{self.name}")
        self.partitions = [f"{self.topic}-{n}" for n in range(partitions)]
        self.options = options
        self.members = []
        self.samples = []

    def start(self, **options):
        options = {"bootstrap": self.broker.bootstrap, "group": self.name, "topics": self.topic, **self.options, **options}
        if options["topics"] is None:
            del options["topics"]
        self.members.append(Member(self.kind, self.folder, f"{self.name}-m{len(self.members)}", **options))
        return self.members[-1]

    def settle(self, *members, partitions=None):
        """Waits until these members, and nobody else, own everything, each at least one partition."""
        expected = sorted(partitions or self.partitions)

        def settled():
            for member in members:
                if not member.process.running():
                    raise RuntimeError(f"{member.name} ended: {member.listen().events[-2:]} {member.said()}")
            owned = [member.owned() for member in members]
            return all(owned) and sorted(itertools.chain.from_iterable(owned)) == expected

        try:
            wait_until(settled, SETTLE_SECONDS_MAX, f"{self.name}: an owner for every partition")
        except TimeoutError as error:
            owned = {member.name: sorted(member.owned()) for member in members}
            raise AssertionError(f"{error}; owned now: {owned}; {[member.said()[-300:] for member in members]}") from error

    def tales(self):
        return [member.listen() for member in self.members]

    def sample(self):
        """Asks the broker what is committed, and keeps the answer for the checker."""
        consumer = Confluent().consumer(self.broker.bootstrap, group_id=self.name)
        wanted = [TopicPartition(self.topic, n) for n in range(len(self.partitions))]

        def ask():
            asked_at = micros()
            try:
                return asked_at, consumer.committed(wanted, READ_SECONDS_MAX)
            except KafkaException as error:
                if error.args[0].name() not in COORDINATOR_MOVES:
                    raise
                return None

        try:
            asked_at, answer = wait_until(ask, READ_SECONDS_MAX, f"{self.name}: a coordinator")
        finally:
            consumer.close()
        committed = {f"{each.topic}-{each.partition}": each.offset for each in answer if each.offset >= 0}
        self.samples.append(Sample(asked_at, committed))
        return committed

    def await_committed(self, ends):
        """Waits until the broker says that everything is committed."""
        try:
            wait_until(lambda: self.sample() == ends, SETTLE_SECONDS_MAX, f"{self.name}: commits up to the ends")
        except TimeoutError as error:
            raise AssertionError(f"{error}: {self.samples[-1].committed} of {ends}") from error

    def close(self):
        """Kills what still runs, paused or not."""
        for member in self.members:
            member.process.kill()


class Load:
    """A steady trickle of records into every partition of a topic, on a thread of its own."""

    def __init__(self, broker, topic, partitions, per_second=LOAD_PER_SECOND):
        self.topic = topic
        self.bootstrap = broker.bootstrap
        self.counts = dict.fromkeys(range(partitions), 0)
        self.per_second = per_second
        self.errors = []
        self.stopped = threading.Event()
        self.producer = Confluent().producer(
            broker.bootstrap, enable_idempotence=True, linger_ms=5, message_timeout_ms=120_000, reconnect_backoff_ms=20,
            reconnect_backoff_max_ms=200, retry_backoff_ms=50,
        )  # fmt: skip
        self.thread = threading.Thread(target=self.run, name=f"load of {topic}")

    def run(self):
        began = time.monotonic()
        for number in itertools.count():
            if self.stopped.is_set():
                break
            self.producer.produce(
                self.topic, b"%d" % number, partition=number % len(self.counts), on_delivery=self.delivered
            )
            self.producer.poll(max(0, began + number / self.per_second - time.monotonic()))
        if self.producer.flush(120):
            self.errors.append("records were neither acknowledged nor refused")

    def delivered(self, error, message):
        if error:
            self.errors.append(str(error))
        else:
            self.counts[message.partition()] += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.finish()

    def finish(self):
        """Stops, and says where every partition ends: behind all that was acknowledged."""
        self.stopped.set()
        self.thread.join()
        assert not self.errors, self.errors[:3]
        consumer = Confluent().consumer(self.bootstrap)
        ends = {}
        for partition, count in self.counts.items():
            _, end = consumer.get_watermark_offsets(TopicPartition(self.topic, partition), READ_SECONDS_MAX)
            assert end >= count, f"{self.topic}-{partition} ends at {end}, and {count} records were acknowledged"
            ends[f"{self.topic}-{partition}"] = end
        consumer.close()
        return ends
