"""Clients in other languages that write, read and administer on request: one process for a whole test run."""

import base64
import json
import subprocess
import threading
from dataclasses import replace

from harness import tools
from harness.process import die_with_parent
from harness.records import CODECS, Read

# What kafkajs can write without packages of others.
KAFKAJS_CODECS = ("none", "gzip")


class Refused(Exception):
    """The client reported an error; `code` is Kafka's, or None when the client hides it."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code = code


class Served:
    """A client family behind a program that takes requests as lines of JSON. It starts when first used."""

    binary = True
    sets_timestamps = True

    def __init__(self, name, command, codecs=CODECS, lacks=(), null_headers=True, empty_is_null=False):
        self.name = name
        self.command = command
        self.codecs = codecs
        self.lacks = lacks
        self.null_headers = null_headers
        self.empty_is_null = empty_is_null
        self.child = None
        self.lock = threading.Lock()

    def ask(self, op, bootstrap, **fields):
        with self.lock:
            if self.child is None or self.child.poll() is not None:
                words, env = self.command()
                self.child = subprocess.Popen(
                    [str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env,
                    preexec_fn=die_with_parent,
                )  # fmt: skip
            line = json.dumps({"op": op, "bootstrap": bootstrap, **fields})
            self.child.stdin.write(line.encode() + b"\n")
            self.child.stdin.flush()
            answer = self.child.stdout.readline()
        assert answer, f"{self.name} ended while it carried out {line[:200]}"
        answer = json.loads(answer)
        if "ok" not in answer:
            raise Refused(answer.get("code"), answer["message"])
        return answer["ok"]

    def shows(self, record):
        """A record as this client shows it to its readers."""
        if not self.empty_is_null:
            return record
        headers = tuple((name, value or None) for name, value in record.headers)
        return replace(record, key=record.key or None, value=record.value or None, headers=headers)

    def close(self):
        """Ends the program: with its input."""
        if self.child is not None:
            self.child.stdin.close()
            self.child.wait(tools.TOOL_SECONDS_MAX)
            self.child = None

    def write(self, bootstrap, topic, records, codec, partition=0):
        asked = [
            {
                "key": encoded(record.key),
                "value": encoded(record.value),
                "headers": [[name, encoded(value)] for name, value in record.headers],
                "timestamp": record.timestamp,
            }
            for record in records
        ]
        self.ask("write", bootstrap, topic=topic, partition=partition, codec=codec, records=asked)

    def read(self, bootstrap, topic, count, partition=0, offset=0):
        answer = self.ask("read", bootstrap, topic=topic, partition=partition, count=count, offset=offset)
        return [
            Read(
                record["offset"],
                record["timestamp"],
                decoded(record["key"]),
                decoded(record["value"]),
                tuple((name, decoded(value)) for name, value in record["headers"]),
            )
            for record in answer
        ]


def encoded(content):
    return None if content is None else base64.b64encode(content).decode()


def decoded(text):
    return None if text is None else base64.b64decode(text)


JAVA = Served("java", lambda: (tools.java("Serve"), None))
KAFKAJS = Served(
    "kafkajs",
    lambda: (["node", tools.E2E / "tools/kafkajs/serve.js"], tools.kafkajs_environment()),
    codecs=KAFKAJS_CODECS,
    lacks=("delete_offsets",),
    null_headers=False,
)
KAFKA_GO = Served(
    "kafka-go",
    lambda: ([tools.folder() / "kafka-go/kafka-go", "serve"], None),
    lacks=("delete_records",),
    empty_is_null=True,
)
SERVED = (JAVA, KAFKAJS, KAFKA_GO)
