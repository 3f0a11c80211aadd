"""A disk that runs full: produce is refused with a retriable error, reads go on, nothing acknowledged is lost."""

import subprocess

import confluent_kafka
import pytest

from harness import segments, wire
from harness.clients import Confluent, create_topic
from harness.history import History, check, value
from harness.records import Record

DISK_MIB = 96
RESERVE_BYTES = 8 * 1024 * 1024
VALUE_BYTES = 100_000
SEGMENT_BYTES = 4 * 1024 * 1024
READ_SECONDS_MAX = 30


@pytest.fixture
def disk(tmp_path):
    """A small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", folder], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs privileges: " + mounted.stderr.decode())
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(broker, topic, history):
    """Produces until the broker refuses, and returns the refusals."""
    refusals = []

    def delivered(error, message):
        if error:
            refusals.append(error)
        else:
            history.acknowledge(0, message.offset(), message.value())

    producer = Confluent().producer(broker.bootstrap, linger_ms=0, message_timeout_ms=4000, compression_codec="none")
    for sequence in range(3 * DISK_MIB * 1024 * 1024 // VALUE_BYTES):
        content = value(0, sequence, VALUE_BYTES)
        history.send(0, sequence, content)
        producer.produce(topic, content, None, 0, on_delivery=delivered)
        producer.poll(0)
        if sequence % 20 == 0:
            producer.flush(READ_SECONDS_MAX)
        if refusals:
            break
    assert producer.flush(READ_SECONDS_MAX) == 0
    return refusals


def read(broker, topic):
    consumer = Confluent().consumer(broker.bootstrap, auto_offset_reset="earliest")
    _, high = consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, 0), timeout=READ_SECONDS_MAX)
    consumer.close()
    return [[(record.offset, record.value) for record in Confluent().read(broker.bootstrap, topic, high)]]


def test_a_full_disk_refuses_writes_and_loses_nothing(esker, disk, tmp_path):
    broker = esker(data_dir=disk / "data", object_store="none", options={"log.dir.reserve.bytes": RESERVE_BYTES}).start()
    topic = create_topic(broker, segment_bytes=SEGMENT_BYTES)
    history = History(1)
    refusals = fill(broker, topic, history)
    assert refusals, "a full disk refuses"
    # The client repeats retriable errors until its own patience ends.
    for error in refusals:
        assert error.code() in (confluent_kafka.KafkaError._MSG_TIMED_OUT, confluent_kafka.KafkaError.KAFKA_STORAGE_ERROR), error
    assert len(history.acknowledged) * VALUE_BYTES > DISK_MIB * 1024 * 1024 // 4
    assert wire.ping(broker.bootstrap) == (41, 0)
    broker.assert_sound()
    assert check(history, read(broker, topic)) == []
    # Every byte on the full disk is still a segment of whole batches.
    segments.dump(segments.copy_logs(broker.partition_dir(topic, 0), tmp_path / "logs"))

    # With room again it takes records again, also after a kill.
    broker.kill()
    subprocess.run(["mount", "-o", f"remount,size={2 * DISK_MIB}m", disk], check=True)
    broker.start()
    assert check(history, read(broker, topic)) == []
    Confluent().write(broker.bootstrap, topic, [Record(b"room again")], "none")
