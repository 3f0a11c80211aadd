"""Requests that parse and mean harm: extremes, junk, repetition. Each is answered, with a code of Kafka's, and the broker
stays small."""

import random

import pytest
from differential.codec import NUMBERS, ZERO_UUID, api, broker_apis, uuid_text
from differential.coverage import codes
from differential.link import Link

from harness import wire
from harness.clients import Confluent, create_topic
from harness.records import Record

MIB = 1024 * 1024
ANSWER_SECONDS_MAX = 20
# Where Apache Kafka stumbles over a number that means nothing (an isolation level, an operation), it answers -1, and so
# does Esker: `differential/` compares it. Nothing else is answered so.
STUMBLES = {"Fetch", "ListOffsets", "IncrementalAlterConfigs", "DescribeTopicPartitions"}
UNKNOWN_SERVER_ERROR, CODE_MAX = -1, 133
GROWTH_BYTES_MAX = 96 * MIB
STRING_BYTES = 2000
LISTED = (40, 40)
# What a request may ask the broker to wait for.
PATIENCE = {"MaxWaitMs": 0, "TimeoutMs": 500, "timeoutMs": 500, "Timeout": 500, "Acks": -1}


class Fill:
    """What stands in every field of a request."""

    nulls = False

    def list_length(self, depth):
        return 1

    def number(self, low, high):
        raise NotImplementedError

    def text(self):
        raise NotImplementedError

    def blob(self):
        return self.text().encode()

    def uuid(self):
        return ZERO_UUID

    def fields(self, message, fields, version, depth=0):
        return {field.name: self.value(message, field, version, depth) for field in fields if version in field.versions}

    def value(self, message, field, version, depth):
        if field.name in PATIENCE:
            return PATIENCE[field.name]
        if self.nulls and version in field.nullable:
            return None
        if field.array:
            return [self.one(message, field, version, depth + 1) for _ in range(self.list_length(depth))]
        return self.one(message, field, version, depth)

    def one(self, message, field, version, depth):
        kind = field.type
        if kind == "bool":
            return self.number(0, 1) == 1
        if kind == "float64":
            return float(self.number(-(2**31), 2**31))
        if kind in NUMBERS:
            bits = int(kind.lstrip("uint"))
            return self.number(0, 2**bits - 1) if kind.startswith("u") else self.number(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if kind == "string":
            return self.text()
        if kind in ("bytes", "records"):
            return self.blob()
        if kind == "uuid":
            return self.uuid()
        return self.fields(message, message.structs[kind], version, depth)


class Highest(Fill):
    def number(self, low, high):
        return high

    def text(self):
        return "\u00e9" * (STRING_BYTES // 2)

    def uuid(self):
        return uuid_text(b"\xff" * 16)


class Lowest(Fill):
    nulls = True

    def list_length(self, depth):
        return 0

    def number(self, low, high):
        return low

    def text(self):
        return ""


class LowestInside(Lowest):
    """The same in lists that are not empty."""

    nulls = False

    def list_length(self, depth):
        return 2


class Again(Fill):
    """The same small thing over and over."""

    def list_length(self, depth):
        return LISTED[depth] if depth < len(LISTED) else 1

    def number(self, low, high):
        return 1

    def text(self):
        return "again"


class Junk(Fill):
    def __init__(self, seed):
        self.source = random.Random(seed)
        self.nulls = self.source.random() < 0.2

    def list_length(self, depth):
        return self.source.randrange(4)

    def number(self, low, high):
        return self.source.choice((low, high, 0, 1, -1 if low < 0 else 2, self.source.randint(low, high)))

    def text(self):
        return "".join(chr(self.source.choice((0, 10, 46, 47, 65, 97, 0x7F, 0x130, 0x2028, 0x1F600))) for _ in range(self.source.randrange(40)))

    def blob(self):
        return self.source.randbytes(self.source.randrange(300))

    def uuid(self):
        return uuid_text(self.source.randbytes(16))


FILLS = {"highest": Highest(), "lowest": Lowest(), "lowest-inside": LowestInside(), "again": Again()}
FILLS |= {f"junk-{seed}": Junk(seed) for seed in range(4)}


@pytest.fixture(scope="module")
def served(broker):
    """The name of each API that the broker serves, with its versions."""
    link = Link(broker.bootstrap)
    link.send("ApiVersions", 0, {})
    keys = link.receive()["ApiKeys"]
    link.close()
    names = broker_apis()
    ranges = {names[key["ApiKey"]]: range(key["MinVersion"], key["MaxVersion"] + 1) for key in keys}
    # Old versions of Produce are advertised, for a client's sake, and served by nobody.
    return {name: [version for version in versions if version in api(name).versions] for name, versions in ranges.items()}


@pytest.fixture(scope="module", autouse=True)
def kept(broker):
    """A record from before the attacks that must be there after them."""
    topic = create_topic(broker, name="kept-through-requests")
    Confluent().write(broker.bootstrap, topic, [Record(b"before")], "none")
    yield
    assert [record.value for record in Confluent().read(broker.bootstrap, topic, 1)] == [b"before"]


@pytest.mark.parametrize("name", FILLS)
def test_every_request_that_parses_is_answered_with_a_code_of_kafkas(broker, served, name):
    before = broker.process.rss_bytes()
    wrong = []
    for api_name, versions in served.items():
        for version in versions:
            body = FILLS[name].fields(api(api_name).request, api(api_name).request.fields, version)
            link = Link(broker.bootstrap)
            try:
                link.send(api_name, version, body)
                found = set(codes(link.receive(ANSWER_SECONDS_MAX)))
                lowest = UNKNOWN_SERVER_ERROR if api_name in STUMBLES else 0
                if not all(lowest <= code <= CODE_MAX for code in found):
                    wrong.append(f"{api_name} {version}: {sorted(found)}")
            except Exception as error:  # noqa: BLE001
                wrong.append(f"{api_name} {version}: {type(error).__name__} {error}")
            finally:
                link.close()
    assert not wrong, "\n".join(wrong)
    assert wire.ping(broker.bootstrap) == (41, 0)
    broker.assert_sound()
    growth = broker.process.rss_bytes() - before
    assert growth <= GROWTH_BYTES_MAX, f"grew by {growth // MIB} MiB"
