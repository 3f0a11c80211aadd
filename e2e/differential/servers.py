"""The two brokers of a run, with one set of settings: Apache Kafka in KRaft mode, and Esker."""

import contextlib
import shutil
import tempfile
from pathlib import Path

from harness import tools
from harness.broker import ApacheKafka, Esker, connects
from harness.process import Process, wait_until

from .codec import api
from .link import Link

# Kafka cannot say which free port it took, so one is chosen for it; another program may be faster.
STARTS_MAX = 3
# A JVM takes long to start on a busy machine.
START_SECONDS_MAX = 240
WARM_SECONDS_MAX = 120
NOT_YET = {14, 15, 16}
# Small and quick to start; nothing here is measured.
JVM = ("-Xmx384m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")

# What both are told. Timers are short so that cases about them are quick, limits low so that they can be reached.
SETTINGS = {
    "node.id": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "100",
    "group.min.session.timeout.ms": "1000",
    "group.max.session.timeout.ms": "60000",
    "group.max.size": "4",
    "group.consumer.max.size": "4",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    # The assignment belongs to the heartbeat that asks for it, not to a later one.
    "group.consumer.assignment.interval.ms": "0",
    "group.consumer.min.assignment.interval.ms": "0",
}

# What Kafka cannot do without is told to Esker too: a file that was written for Kafka must do.
CONTROLLER = "127.0.0.1:1"
KRAFT = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "controller.quorum.voters": f"1@{CONTROLLER}",
}


class Peer:
    """What the comparison must know of a broker besides its address."""

    @property
    def port(self):
        return int(self.bootstrap.rsplit(":", 1)[1])

    def secrets(self):
        """Texts that only this broker can have, with what stands for them."""
        return ((self.bootstrap, "<address>"), (str(self.data_dir), "<log dir>"))


class Kafka(Peer, ApacheKafka):
    name = "kafka"

    def __init__(self, folder):
        super().__init__(folder, SETTINGS, JVM)
        # What it is by default, and Esker, which picks its port itself, could not be told it.
        del self.options["advertised.listeners"]
        self.controller = self.options["controller.quorum.voters"].partition("@")[2]

    def secrets(self):
        return ((f",CONTROLLER://{self.controller}", ""), (self.controller, CONTROLLER), *super().secrets())

    def spawn(self):
        self.starts += 1
        command = tools.java(tools.BROKER, self.properties, jvm=self.heap)
        self.process = Process(["nice", "-n", "5", *command], self.folder / "output", f"kafka-{self.starts}")
        return self.process

    def start(self):
        self.format()
        self.spawn()
        self.process.wait_for(lambda: connects(self.bootstrap), START_SECONDS_MAX, "the port of Kafka")
        return self


class Broker(Peer, Esker):
    """`esker broker` with the properties file that Kafka gets, as far as it concerns a broker."""

    name = "esker"

    def secrets(self):
        return (*super().secrets(), ("127.0.0.1:0", "<address>"))

    def command(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        properties = self.folder / "server.properties"
        listener = f"PLAINTEXT://{self.listen}"
        settings = {"listeners": listener, "log.dirs": self.data_dir, "http.listener": "127.0.0.1:0", **self.options}
        properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        return [self.binary, "broker", "--config", properties]


def start_kafka(folder):
    for attempt in range(1, STARTS_MAX + 1):
        broker = Kafka(folder / f"kafka-{attempt}")
        try:
            return broker.start()
        except RuntimeError:
            # It exited: most likely one of its ports was taken.
            broker.kill()
            if attempt == STARTS_MAX:
                raise


def start_esker(folder, validation="full"):
    broker = Broker(
        folder / f"esker-{validation}", options={**SETTINGS, **KRAFT, "log.durability": "relaxed", "validation": validation}
    )
    return broker.start()


def warm(server):
    """Waits until the broker gives out producer ids and, where it serves groups, has loaded them all."""
    link = Link(server.bootstrap)

    def ask(name, version, body):
        link.send(name, version, body)
        return link.receive()

    served = {item["ApiKey"] for item in ask("ApiVersions", 0, {})["ApiKeys"]}
    producer = {"TransactionalId": None, "TransactionTimeoutMs": 60_000, "ProducerId": -1, "ProducerEpoch": -1}
    wait_until(lambda: ask("InitProducerId", 4, producer)["ErrorCode"] == 0, WARM_SECONDS_MAX, "producer ids")
    if api("JoinGroup").key in served:
        groups = [f"warm-{index}" for index in range(4 * int(SETTINGS["offsets.topic.num.partitions"]))]
        find = {"KeyType": 0, "CoordinatorKeys": groups}
        fetch = {"Groups": [{"GroupId": group, "Topics": None} for group in groups]}

        def loaded():
            found = ask("FindCoordinator", 4, find)["Coordinators"]
            return not any(item["ErrorCode"] for item in found) and not any(
                group["ErrorCode"] in NOT_YET for group in ask("OffsetFetch", 8, fetch)["Groups"]
            )

        wait_until(loaded, WARM_SECONDS_MAX, "the group coordinator")
    link.close()


@contextlib.contextmanager
def running(start, *arguments):
    """A broker in a directory of its own, ready for cases; nothing of it remains."""
    folder = Path(tempfile.mkdtemp(prefix="esker-differential-"))
    server = None
    try:
        server = start(folder, *arguments)
        warm(server)
        yield server
    finally:
        if server:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)
