"""The brokers under test: Esker, and Apache Kafka as its peer and oracle."""

import os
import re
import socket
from pathlib import Path

from harness import tools
from harness.process import Process

READY = re.compile(r"^ready kafka=(\S+) http=(\S+)$", re.MULTILINE)
READY_SECONDS_MAX = 60
LOOPBACK = "127.0.0.1"
# Groups form without Kafka's wait for more members, and KIP-848 members are missed as soon as classic ones.
QUICK_GROUPS = {
    "group.initial.rebalance.delay.ms": "0",
    "group.consumer.min.heartbeat.interval.ms": "300",
    "group.consumer.heartbeat.interval.ms": "300",
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.assignment.interval.ms": "0",
}


def esker_binary():
    return Path(os.environ["ESKER_BIN"])


def planted_binary():
    return Path(os.environ["ESKER_PLANTED_BIN"])


class Files:
    """What both brokers share: Kafka's files below `data_dir`."""

    def partition_dir(self, topic, partition):
        """Where Kafka's files of one partition are."""
        found = [path for path in self.data_dir.rglob(f"{topic}-{partition}") if path.is_dir()]
        assert len(found) == 1, f"one directory of {topic}-{partition} expected, found {found}"
        return found[0]


class Esker(Files):
    """One `esker dev` on its own data directory. The first start picks free ports; later ones keep them."""

    name = "esker"

    def __init__(self, folder, object_store=None, options=None, binary=None, env=None, data_dir=None):
        self.folder = Path(folder)
        self.data_dir = Path(data_dir or self.folder / "data")
        self.object_store = object_store
        self.options = dict(options or {})
        self.binary = binary or esker_binary()
        self.env = env or {}
        self.listen = f"{LOOPBACK}:0"
        self.starts = 0
        self.process = None
        self.bootstrap = None
        self.http = None

    def command(self):
        words = [self.binary, "dev", "--data-dir", self.data_dir, "--listen", self.listen, "--http", f"{LOOPBACK}:0"]
        if self.object_store:
            words += ["--object-store", self.object_store]
        for key, value in self.options.items():
            words += ["-o", f"{key}={value}"]
        return words

    def spawn(self, user=None):
        """Starts the process without waiting for it to serve."""
        self.starts += 1
        self.process = Process(self.command(), self.folder / "output", f"esker-{self.starts}", self.env, user)
        return self.process

    def start(self):
        process = self.spawn()
        ready = process.wait_for(lambda: READY.search(process.stdout()), READY_SECONDS_MAX, "the ready line")
        self.bootstrap, self.http = ready.groups()
        self.listen = self.bootstrap
        return self

    def kill(self):
        if self.process:
            self.process.kill()

    def stop(self):
        status = self.process.terminate()
        assert status == 0, f"a clean stop exited with {status}: {self.process.stderr()[-2000:]}"

    def assert_sound(self):
        """It still runs and never panicked."""
        assert self.process.running(), f"exited with {self.process.child.returncode}"
        assert "panicked" not in self.process.stderr(), self.process.stderr()[-4000:]


class ApacheKafka(Files):
    """A KRaft node with Kafka's defaults and nothing else."""

    name = "kafka"
    # The heap of Kafka's own start script.
    JVM = ("-Xmx1G", "-Xms1G", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35")

    def __init__(self, folder, options=None, heap=JVM):
        self.folder = Path(folder)
        self.data_dir = self.folder / "data"
        self.heap = heap
        self.bootstrap = f"{LOOPBACK}:{free_port()}"
        controller = f"{LOOPBACK}:{free_port()}"
        self.options = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "controller.quorum.voters": f"1@{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.data_dir),
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            **(options or {}),
        }
        self.starts = 0
        self.process = None
        self.properties = self.folder / "server.properties"

    def format(self):
        """Writes the configuration and formats the directory, once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.properties.write_text("".join(f"{key}={value}\n" for key, value in self.options.items()))
        tools.kafka(tools.STORAGE, "format", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c", self.properties)

    def spawn(self):
        """Starts the process without waiting for it to serve."""
        self.starts += 1
        command = tools.java(tools.BROKER, self.properties, jvm=self.heap)
        self.process = Process(command, self.folder / "output", f"kafka-{self.starts}")
        return self.process

    def start(self):
        if not self.properties.exists():
            self.format()
        self.spawn()
        self.process.wait_for(lambda: connects(self.bootstrap), READY_SECONDS_MAX, "the port of Kafka")
        return self

    def kill(self):
        if self.process:
            self.process.kill()

    def assert_sound(self):
        assert self.process.running(), f"exited with {self.process.child.returncode}"


def free_port():
    """A port that was free a moment ago, for programs that cannot pick one themselves."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


def connects(address):
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
        return True
    except OSError:
        return False
