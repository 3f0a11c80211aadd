"""Kafka Connect, distributed, with the file source and sink: its three topics carry it over every restart."""

import json
import urllib.error
import urllib.request

import pytest

from confluent_kafka.admin import AdminClient

from harness import tools
from harness.broker import LOOPBACK, free_port
from harness.process import Process, wait_until

SECONDS_MAX = 90
LINES = 40
FILES = "org.apache.kafka.connect.file.FileStream"
# Offsets live in several partitions, everything else of Connect in one.
STORED = {"connect-offsets": 5, "connect-configs": 1, "connect-status": 2}


class Worker:
    """One Connect process; it keeps nothing but what is in its topics."""

    def __init__(self, broker, folder):
        self.folder = folder
        self.address = f"{LOOPBACK}:{free_port()}"
        self.starts = 0
        self.process = None
        settings = {
            "bootstrap.servers": broker.bootstrap,
            "group.id": "connect-workers",
            "listeners": f"http://{self.address}",
            "plugin.discovery": "service_load",
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.storage.StringConverter",
            "offset.storage.topic": "connect-offsets",
            "offset.storage.replication.factor": 1,
            "offset.storage.partitions": STORED["connect-offsets"],
            "config.storage.topic": "connect-configs",
            "config.storage.replication.factor": 1,
            "status.storage.topic": "connect-status",
            "status.storage.replication.factor": 1,
            "status.storage.partitions": STORED["connect-status"],
            "offset.flush.interval.ms": 500,
            "scheduled.rebalance.max.delay.ms": 0,
            "consumer.fetch.max.wait.ms": 100,
        }
        folder.mkdir()
        self.properties = folder / "worker.properties"
        self.properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))

    def start(self):
        self.starts += 1
        command = tools.java("org.apache.kafka.connect.cli.ConnectDistributed", self.properties)
        self.process = Process(command, self.folder, f"worker-{self.starts}")
        self.process.wait_for(self.serves, SECONDS_MAX, "the REST interface of Connect")

    def serves(self):
        try:
            return self.ask("GET", "/connectors") is not None
        except (urllib.error.URLError, OSError):
            return False

    def ask(self, method, path, body=None):
        request = urllib.request.Request(
            f"http://{self.address}{path}", None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"}, method=method,
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=SECONDS_MAX) as answer:
            content = answer.read()
        return json.loads(content) if content else {}

    def runs(self, name):
        """Whether the connector and its task run."""
        try:
            status = self.ask("GET", f"/connectors/{name}/status")
        except urllib.error.HTTPError:
            return False
        states = [status["connector"]["state"], *(task["state"] for task in status["tasks"])]
        return states == ["RUNNING", "RUNNING"]

    def stop(self):
        self.process.terminate()


@pytest.fixture
def worker(own_broker, tmp_path):
    worker = Worker(own_broker, tmp_path / "connect")
    yield worker
    worker.process.kill()


def test_connectors_and_offsets_survive_restarts(own_broker, worker, tmp_path):
    source, sink = tmp_path / "source.txt", tmp_path / "sink.txt"
    expected = []

    def append(word):
        lines = [f"{word}-{n}" for n in range(LINES)]
        expected.extend(lines)
        with source.open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def sunk():
        return sink.read_text().splitlines() if sink.exists() else []

    def await_lines(word):
        wait_until(lambda: set(sunk()) >= set(expected), SECONDS_MAX, f"{word} to arrive")

    worker.start()
    append("first")
    source_config = {"connector.class": f"{FILES}SourceConnector", "file": str(source), "topic": "lines", "tasks.max": "1"}
    sink_config = {"connector.class": f"{FILES}SinkConnector", "file": str(sink), "topics": "lines", "tasks.max": "1"}
    worker.ask("PUT", "/connectors/from-file/config", source_config)
    worker.ask("PUT", "/connectors/to-file/config", sink_config)
    await_lines("the first lines")

    # Both were stopped in the meantime: what was read is not read again, and the connectors are still known.
    worker.stop()
    append("second")
    own_broker.kill()
    own_broker.start()
    worker.start()
    await_lines("the lines after the restart of both")
    assert sunk() == expected
    for name in ("from-file", "to-file"):
        wait_until(lambda name=name: worker.runs(name), SECONDS_MAX, f"{name} to run")

    # The broker dies under a worker that runs: at least once is what Connect promises here.
    own_broker.kill()
    append("third")
    own_broker.start()
    append("fourth")
    await_lines("the lines after the kill of the broker")
    assert list(dict.fromkeys(sunk())) == expected

    metadata = AdminClient({"bootstrap.servers": own_broker.bootstrap}).list_topics(timeout=SECONDS_MAX)
    assert {name: len(metadata.topics[name].partitions) for name in STORED} == STORED
    assert sorted(worker.ask("GET", "/connectors")) == ["from-file", "to-file"]
    worker.ask("DELETE", "/connectors/from-file")
    wait_until(lambda: worker.ask("GET", "/connectors") == ["to-file"], SECONDS_MAX, "the connector to go")
    worker.stop()
