"""Hostile bytes on the wire: the broker closes or answers an error, serves everyone else, and stays small."""

import random
import struct

import pytest

from harness import wire
from harness.clients import Confluent, create_topic
from harness.process import wait_until
from harness.records import Record

MIB = 1024 * 1024
REQUEST_BYTES_MAX = 104_857_600
UNSUPPORTED_VERSION = 35
GARBAGE_ROUNDS = 200
CONNECTIONS = 1000
# What a thousand hostile connections may add to the memory of the process.
GROWTH_BYTES_MAX = 64 * MIB
IDLE_MS = 2000


@pytest.fixture(scope="module", autouse=True)
def kept(broker):
    """A record from before the attacks that must be there after them."""
    topic = create_topic(broker, name="kept-through-attacks")
    Confluent().write(broker.bootstrap, topic, [Record(b"before")], "none")
    yield
    assert [record.value for record in Confluent().read(broker.bootstrap, topic, 1)] == [b"before"]


def assert_serves(broker):
    assert wire.ping(broker.bootstrap) == (41, 0)
    broker.assert_sound()


def test_garbage_of_every_kind_leaves_the_broker_serving(broker):
    source = random.Random(1)
    for _ in range(GARBAGE_ROUNDS):
        with wire.connect(broker.bootstrap) as link:
            blob = source.randbytes(source.randrange(1, 2000))
            link.sendall(blob if source.random() < 0.5 else wire.frame(blob))
    assert_serves(broker)


@pytest.mark.parametrize("version", range(0, 20))
def test_every_api_with_random_bodies_answers_or_closes(broker, version):
    source = random.Random(version)
    for api_key in range(0, 95):
        with wire.connect(broker.bootstrap) as link:
            link.sendall(wire.request(api_key, version, source.randbytes(source.randrange(0, 200)), flexible=source.random() < 0.5))
    assert_serves(broker)


@pytest.mark.parametrize("size", [REQUEST_BYTES_MAX + 1, 2**31 - 1, -1, -(2**31)])
def test_a_frame_beyond_the_limit_closes_the_connection_at_once(broker, size):
    with wire.connect(broker.bootstrap) as link:
        link.sendall(struct.pack(">i", size) + b"x" * 100)
        assert wire.closes(link)
    assert_serves(broker)


def test_a_frame_cut_short_is_dropped_with_its_connection(broker):
    whole = wire.request(wire.METADATA, 1, struct.pack(">i", 0))
    for end in range(1, len(whole)):
        with wire.connect(broker.bootstrap) as link:
            link.sendall(whole[:end])
    assert_serves(broker)


def test_an_unknown_api_closes_the_connection(broker):
    for api_key in (999, -1, 32767):
        with wire.connect(broker.bootstrap) as link:
            link.sendall(wire.request(api_key, 0))
            assert wire.closes(link)
    assert_serves(broker)


def test_api_versions_of_an_unknown_version_answers_in_version_0(broker):
    with wire.connect(broker.bootstrap) as link:
        # From version 3 on the header is flexible, so a client of the future sends one.
        link.sendall(wire.request(wire.API_VERSIONS, 99, correlation=5, flexible=True))
        answer = wire.receive(link)
        correlation, error, count = struct.unpack(">ihi", answer[:10])
        assert (correlation, error) == (5, UNSUPPORTED_VERSION)
        entries = [struct.unpack(">hhh", answer[10 + 6 * n : 16 + 6 * n]) for n in range(count)]
        assert any(key == wire.API_VERSIONS for key, _, _ in entries)
        # The same connection goes on with a version that both know.
        link.sendall(wire.request(wire.API_VERSIONS, 0, correlation=6))
        assert struct.unpack(">ih", wire.receive(link)[:6]) == (6, 0)


def test_a_known_api_in_an_unknown_version_closes_the_connection(broker):
    with wire.connect(broker.bootstrap) as link:
        link.sendall(wire.request(wire.METADATA, 99))
        assert wire.closes(link)
    assert_serves(broker)


def test_a_thousand_connections_of_worst_small_frames_stay_within_a_memory_bound(broker):
    # Counts and lengths as large as the field holds, in frames of 64 bytes.
    many = struct.pack(">i", 2**31 - 1)
    worst = (
        wire.request(wire.METADATA, 1, many),
        wire.request(wire.METADATA, 9, b"\xff\xff\xff\xff\x0f" * 8, flexible=True),
        wire.request(wire.PRODUCE, 3, struct.pack(">hhi", -1, -1, 1000) + many * 8),
        wire.request(wire.FETCH, 4, struct.pack(">iiii", -1, 500, 1, 2**31 - 1) + b"\0" + many * 6),
        wire.request(wire.FETCH, 12, struct.pack(">iiii", -1, 500, 1, 2**31 - 1) + b"\xff\xff\xff\xff\x0f" * 6, flexible=True),
        # A length just below the limit, of which nothing more ever comes.
        struct.pack(">i", REQUEST_BYTES_MAX - 1) + b"\0\3\0\1" + b"x" * 56,
    )
    links = []
    before = broker.process.rss_bytes()
    highest = before
    for number in range(CONNECTIONS):
        link = wire.connect(broker.bootstrap)
        link.sendall(worst[number % len(worst)])
        links.append(link)
        if number % 50 == 0:
            highest = max(highest, broker.process.rss_bytes())
    assert_serves(broker)
    highest = max(highest, broker.process.rss_bytes())
    for link in links:
        link.close()
    assert highest - before <= GROWTH_BYTES_MAX, f"grew by {(highest - before) // MIB} MiB"
    Confluent().write(broker.bootstrap, create_topic(broker), [Record(b"after")], "none")


def test_slow_connections_do_not_stop_others_and_are_closed_when_idle(esker):
    broker = esker(object_store="none", options={"connections.max.idle.ms": IDLE_MS}).start()
    slow = [wire.connect(broker.bootstrap) for _ in range(300)]
    for link in slow:
        link.sendall(struct.pack(">i", 1000))

    # A byte now and then is no request: the drip does not keep a connection alive.
    def all_closed():
        assert_serves(broker)
        for link in list(slow):
            try:
                link.sendall(b"x")
            except ConnectionError:
                link.close()
                slow.remove(link)
        return not slow

    wait_until(all_closed, IDLE_MS / 1000 * 8, "slow connections to be closed")
    assert_serves(broker)
