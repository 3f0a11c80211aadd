"""Every writer family against every reader family: keys, values, headers, timestamps, offsets."""

import time

import pytest

from harness import records
from harness.clients import BINARY, FAMILIES, Confluent, create_topic
from harness.records import Read, Record
from harness.serving import SERVED

TEXT = list(records.sized())
BYTES = list(records.binary())


def named(families):
    return pytest.mark.parametrize("writer", families, ids=lambda family: family.name)


def writable(writer, written):
    return [record for record in written if writer.null_headers or all(value is not None for _, value in record.headers)]


def assert_same(written, read, writer, started_ms):
    """Offsets are dense from 0, and everything else is what was written."""
    assert [record.offset for record in read] == list(range(len(written)))
    for expected, got in zip(written, read, strict=True):
        assert (got.key, got.value, got.headers) == (expected.key, expected.value, expected.headers), got.offset
        if writer.sets_timestamps and expected.timestamp is not None:
            assert got.timestamp == expected.timestamp, got.offset
        else:
            assert started_ms <= got.timestamp <= time.time() * 1000, got.offset


@pytest.mark.parametrize("codec", records.CODECS)
@named(FAMILIES)
def test_text_is_the_same_for_every_reader(broker, writer, codec):
    topic = create_topic(broker)
    started_ms = int(time.time() * 1000)
    writer.write(broker.bootstrap, topic, TEXT, codec)
    seen = {reader.name: reader.read(broker.bootstrap, topic, len(TEXT)) for reader in FAMILIES}
    assert_same(TEXT, seen[Confluent.name], writer, started_ms)
    for name, read in seen.items():
        assert read == seen[Confluent.name], f"{name} reads something else"


@pytest.mark.parametrize("codec", records.CODECS)
@named(BINARY)
def test_any_bytes_nulls_and_empty_fields_survive(broker, writer, codec):
    topic = create_topic(broker)
    written = writable(writer, BYTES)
    writer.write(broker.bootstrap, topic, written, codec)
    for reader in BINARY:
        assert_same(written, reader.read(broker.bootstrap, topic, len(written)), writer, 0)


@pytest.mark.parametrize(
    ("writer", "codec"), [(family, codec) for family in SERVED for codec in family.codecs], ids=lambda value: getattr(value, "name", value)
)
def test_what_clients_of_other_languages_write_is_the_same_for_every_reader(broker, writer, codec):
    topic = create_topic(broker)
    started_ms = int(time.time() * 1000)
    written = writable(writer, TEXT + BYTES)
    writer.write(broker.bootstrap, topic, written, codec)
    for reader in BINARY:
        assert_same(written, reader.read(broker.bootstrap, topic, len(written)), writer, started_ms)
    assert_served(broker, topic, written, writer, codec, started_ms)


@named(BINARY)
def test_clients_of_other_languages_read_the_same(broker, writer):
    topic = create_topic(broker)
    started_ms = int(time.time() * 1000)
    written = writable(writer, TEXT + BYTES)
    writer.write(broker.bootstrap, topic, written, "gzip")
    assert_served(broker, topic, written, writer, "gzip", started_ms)


def assert_served(broker, topic, written, writer, codec, started_ms):
    for reader in SERVED:
        if codec in reader.codecs:
            expected = [reader.shows(record) for record in written]
            assert_same(expected, reader.read(broker.bootstrap, topic, len(written)), writer, started_ms)


def test_a_batch_of_exactly_the_limit_is_taken_and_one_byte_more_is_not(broker):
    topic = create_topic(broker)
    client = Confluent()
    largest = Record(records.text(1, records.VALUE_BYTES_MAX))
    client.write(broker.bootstrap, topic, [largest], "none")
    with pytest.raises(AssertionError, match="MSG_SIZE_TOO_LARGE"):
        client.write(broker.bootstrap, topic, [Record(largest.value + b"x")], "none")
    client.write(broker.bootstrap, topic, [Record(b"after")], "none")
    read = client.read(broker.bootstrap, topic, 2)
    assert [(record.offset, record.value) for record in read] == [(0, largest.value), (1, b"after")]


@pytest.mark.parametrize("reader", FAMILIES, ids=lambda family: family.name)
def test_a_reader_can_start_in_the_middle_of_a_compressed_batch(broker, reader):
    topic = create_topic(broker)
    written = [Record(b"%d" % n, b"k%d" % n, (), 1_700_000_000_000 + n) for n in range(1000)]
    Confluent().write(broker.bootstrap, topic, written, "lz4")
    read = reader.read(broker.bootstrap, topic, 300, offset=700)
    assert read == [Read(n, record.timestamp, record.key, record.value) for n, record in enumerate(written)][700:]


def test_a_topic_is_made_by_its_first_producer(broker):
    client = Confluent()
    client.write(broker.bootstrap, "made-by-first-use", [Record(b"one")], "none")
    assert [record.value for record in client.read(broker.bootstrap, "made-by-first-use", 1)] == [b"one"]


def test_log_append_time_replaces_the_clients_timestamps(broker):
    topic = create_topic(broker, message_timestamp_type="LogAppendTime")
    started_ms = int(time.time() * 1000)
    client = Confluent()
    client.write(broker.bootstrap, topic, [Record(b"%d" % n, timestamp=5) for n in range(10)], "gzip")
    for reader in BINARY:
        for record in reader.read(broker.bootstrap, topic, 10):
            assert started_ms <= record.timestamp <= time.time() * 1000
