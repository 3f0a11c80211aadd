"""What a case is written with: it asks one broker, and keeps a transcript of what was asked and answered.

A case is a function of a `Script`. It runs once against each broker, with the same bodies in the same order; what one
answer gives (ids, generations, epochs) goes into the next request. `ask` records, `quiet` and `until` do not: they
prepare, and wait for what takes its time.
"""

import time
from dataclasses import dataclass, field

from harness.process import POLL_SECONDS

from .codec import ZERO_UUID, Damaged, api
from .link import ANSWER_SECONDS_MAX, CLIENT, Closed, Link, Silent

CLOSED, SILENT = "closed the connection", "did not answer"
SETTLE_SECONDS_MAX = 30
# The versions of what is asked quietly.
CREATE, DESCRIBE, PRODUCE, ENDS = 7, 13, 12, 11


class Refused(Exception):
    """What a case stands on could not be had, so it ends here."""


@dataclass
class Exchange:
    """One request of a case and what came of it."""

    label: str
    api: str
    version: int
    answer: object


@dataclass
class Transcript:
    case: str
    exchanges: list = field(default_factory=list)
    # Why the case ended early, when it did.
    failure: str | None = None
    # The topics that were prepared: their ids, and what to call them.
    topics: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Topic:
    name: str
    id: str


class Script:
    def __init__(self, case, server):
        self.case = case
        self.server = server
        self.transcript = Transcript(case)
        self.links = []
        self.main = None

    # Connections.

    def link(self):
        """One more connection of its own."""
        self.links.append(Link(self.server.bootstrap))
        return self.links[-1]

    def close(self):
        for link in self.links:
            link.close()

    def _main(self):
        if self.main is None:
            self.main = self.link()
        return self.main

    def _drop(self, link):
        link.close()
        if link is self.main:
            self.main = None

    # Requests.

    def ask(self, name, body=None, versions=None, label="", link=None, client_id=CLIENT, mine=None):
        """Sends one body in every version asked for (all by default) and records each answer; returns the last one.

        `mine` names the path of a list and the field that must begin with this case's name, for answers that hold what
        other cases left behind.
        """
        answer = None
        for version in self.versions(name, versions):
            self.send(name, body, version, link=link, client_id=client_id)
            answer = self.receive(label=label, link=link, mine=mine)
        return answer

    def versions(self, name, wanted=None):
        """The versions of an API that are asked: all, one, some, or `range` objects."""
        if wanted is None:
            return api(name).versions
        return [wanted] if isinstance(wanted, int) else list(wanted)

    def send(self, name, body, version, link=None, client_id=CLIENT, answered=True):
        (link or self._main()).send(name, version, {} if body is None else body, client_id, answered)

    def receive(self, label="", link=None, mine=None, seconds=ANSWER_SECONDS_MAX):
        """The answer to what was sent first on the link, recorded."""
        link = link or self._main()
        name, version, _ = link.waiting[0]
        try:
            answer = link.receive(seconds)
        except Closed:
            answer = CLOSED
        except Silent:
            answer = SILENT
        except Damaged as error:
            answer = f"sent what cannot be decoded: {error}"
        if isinstance(answer, str):
            self._drop(link)
        elif mine:
            path, key = mine.split(".")
            answer[path] = [item for item in answer[path] if item[key].startswith(self.case)]
        self.transcript.exchanges.append(Exchange(label, name, version, answer))
        return None if isinstance(answer, str) else answer

    def quiet(self, name, body, version=None):
        """An answer that is not recorded, on a connection of its own."""
        link = Link(self.server.bootstrap)
        try:
            link.send(name, api(name).versions[-1] if version is None else version, body)
            return link.receive()
        except Closed as error:
            raise Refused(str(error)) from error
        finally:
            link.close()

    def until(self, name, body, holds, version=None, seconds=SETTLE_SECONDS_MAX):
        """Asks quietly until the answer is as it should be; a function makes a new body for each time."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self.quiet(name, body() if callable(body) else body, version)
            if holds(answer):
                return answer
            if time.monotonic() > deadline:
                raise Refused(f"{name} did not settle within {seconds} s: {answer}")
            time.sleep(POLL_SECONDS)

    def pause(self, seconds):
        """Real brokers have real timers; only cases about timers wait."""
        time.sleep(seconds)

    # Topics.

    def name(self, suffix="t"):
        """A name that no other case uses."""
        return f"{self.case}-{suffix}"

    def topic(self, suffix="t", partitions=1, **configs):
        """A new topic that serves: every partition has a leader that answers."""
        name = self.name(suffix)
        settings = [{"Name": key.replace("_", "."), "Value": str(value)} for key, value in configs.items()]
        body = {
            "Topics": [{"Name": name, "NumPartitions": partitions, "ReplicationFactor": 1, "Configs": settings}],
            "timeoutMs": 30_000,
        }
        (made,) = self.quiet("CreateTopics", body, CREATE)["Topics"]
        if made["ErrorCode"]:
            raise Refused(f"CreateTopics of {name}: {made['ErrorCode']} {made['ErrorMessage']}")
        return self.serving(name, partitions)

    def serving(self, name, partitions=1):
        """Waits until every partition of a topic answers, and gives the topic."""
        wanted = {"Topics": [{"Name": name}], "AllowAutoTopicCreation": False}
        described = self.until("Metadata", wanted, lambda got: len(got["Topics"][0]["Partitions"]) == partitions, DESCRIBE)
        ends = [{"PartitionIndex": index, "Timestamp": -1} for index in range(partitions)]
        self.until(
            "ListOffsets",
            {"ReplicaId": -1, "Topics": [{"Name": name, "Partitions": ends}]},
            lambda got: not any(part["ErrorCode"] for part in got["Topics"][0]["Partitions"]),
            ENDS,
        )
        topic = Topic(name, described["Topics"][0]["TopicId"])
        self.transcript.topics.setdefault(topic.id, f"<id of {name}, {len(self.transcript.topics) + 1}>")
        return topic

    def gone(self, name):
        """Waits until a deleted topic is nowhere to be seen."""
        wanted = {"Topics": [{"Name": name}], "AllowAutoTopicCreation": False}
        self.until("Metadata", wanted, lambda got: got["Topics"][0]["ErrorCode"] == 3, DESCRIBE)

    def produce(self, topic, data, partition=0, version=PRODUCE):
        """Appends quietly; what a case reads must have been written."""
        answer = self.quiet("Produce", produce_body(topic, data, partition), version)
        part = answer["Responses"][0]["PartitionResponses"][0]
        if part["ErrorCode"]:
            raise Refused(f"Produce to {topic.name}: {part['ErrorCode']}")
        return part["BaseOffset"]

    def producer_id(self):
        """A new producer id. The first ever asked for may take a moment."""
        body = {"TransactionalId": None, "TransactionTimeoutMs": 60_000, "ProducerId": -1, "ProducerEpoch": -1}
        return self.until("InitProducerId", body, lambda got: got["ErrorCode"] == 0, 5)["ProducerId"]


def fetch_body(*wanted, max_bytes=1 << 20, wait=0, min_bytes=1, isolation=0, session=(0, -1), forgotten=(), rack="", **more):
    """A fetch of (topic, partition, offset) triples, or of dictionaries of a partition's fields with a topic."""
    topics = []
    for topic, partition, offset, *fields in wanted:
        part = {"Partition": partition, "FetchOffset": offset, "PartitionMaxBytes": 1 << 20, **(fields[0] if fields else {})}
        if topics and topics[-1]["Topic"] == topic.name:
            topics[-1]["Partitions"].append(part)
        else:
            topics.append({"Topic": topic.name, "TopicId": topic.id, "Partitions": [part]})
    return {
        "MaxWaitMs": wait, "MinBytes": min_bytes, "MaxBytes": max_bytes, "IsolationLevel": isolation,
        "SessionId": session[0], "SessionEpoch": session[1], "Topics": topics, "RackId": rack,
        "ForgottenTopicsData": [{"Topic": t.name, "TopicId": t.id, "Partitions": list(parts)} for t, *parts in forgotten],
        **more,
    }  # fmt: skip


def produce_body(topic, data, partition=0, acks=-1, transactional_id=None, timeout=30_000):
    """One batch (or None, or rubbish) for one partition. A topic given by its name alone has no id."""
    name, topic_id = (topic.name, topic.id) if isinstance(topic, Topic) else (topic, ZERO_UUID)
    parts = [{"Index": partition, "Records": data}]
    return {
        "TransactionalId": transactional_id,
        "Acks": acks,
        "TimeoutMs": timeout,
        "TopicData": [{"Name": name, "TopicId": topic_id, "PartitionData": parts}],
    }


def run(case, server):
    """Plays one case against one broker."""
    script = Script(case.name, server)
    try:
        case.play(script)
    except (Refused, KeyError, IndexError, TypeError, ValueError, OSError) as error:
        script.transcript.failure = f"{type(error).__name__}: {error}"
    finally:
        script.close()
    return script.transcript
