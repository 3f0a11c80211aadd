"""A real data set through twelve partitions into a real S3 server, and back through another client."""

import bisect

import confluent_kafka
import kafka
import pytest

from harness import dataset, segments
from harness.broker import Esker
from harness.clients import Confluent, create_topic
from harness.process import wait_until
from harness.tools import full

MIB = 1024 * 1024
PARTITIONS = 12
# The long form is a gigabyte with the segments of the promise; the short one scales both down.
DATA_BYTES = 1024 * MIB + 64 * MIB if full() else 128 * MIB
SEGMENT_BYTES = 16 * MIB if full() else 2 * MIB
LOCAL_BYTES = SEGMENT_BYTES
BATCH_BYTES_MAX = 1_048_588
OFFLOAD_SECONDS_MAX = 300 if full() else 90
READ_SECONDS_MAX = 120


class Written:
    """What was acknowledged: a digest and all timestamps of each partition."""

    def __init__(self):
        self.digests = [dataset.Digest() for _ in range(PARTITIONS)]
        self.timestamps = [[] for _ in range(PARTITIONS)]

    def results(self):
        return [digest.result() for digest in self.digests]


def write(bootstrap, topic, values, written):
    """Sends `values` over all partitions; every offset must be the one that follows."""
    failures = []
    producer = Confluent().producer(bootstrap, enable_idempotence=True, compression_codec="none", batch_size=500_000)

    def delivered(error, message):
        if error:
            failures.append(str(error))

    for index, value in enumerate(values):
        partition = index % PARTITIONS
        offset = len(written.timestamps[partition])
        timestamp = dataset.timestamp(offset)
        while True:
            try:
                producer.produce(topic, value, None, partition, on_delivery=delivered, timestamp=timestamp)
                break
            except BufferError:
                producer.poll(1)
        written.digests[partition].add(offset, timestamp, value)
        written.timestamps[partition].append(timestamp)
        if index % 1000 == 0:
            producer.poll(0)
    left = producer.flush(READ_SECONDS_MAX)
    assert not failures and not left, f"{failures[:3]}, {left} left"


def read_with_kafka_python(bootstrap, topic, counts):
    """Digests of all partitions from offset 0, by a client that shares no code with the writer."""
    digests = [dataset.Digest() for _ in range(PARTITIONS)]
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, fetch_max_bytes=32 * MIB,
        max_partition_fetch_bytes=4 * MIB,
    )  # fmt: skip
    everything = [kafka.TopicPartition(topic, n) for n in range(PARTITIONS)]
    consumer.assign(everything)
    for where in everything:
        consumer.seek(where, 0)
    left = sum(counts)
    while left:
        polled = consumer.poll(READ_SECONDS_MAX * 1000, max_records=20_000)
        assert polled, f"no records for {READ_SECONDS_MAX} s with {left} left"
        for where, messages in polled.items():
            digest = digests[where.partition]
            for message in messages:
                assert message.offset == digest.count
                digest.add(message.offset, message.timestamp, message.value)
            left -= len(messages)
    consumer.close()
    return [digest.result() for digest in digests]


def local_starts(broker, topic):
    return [segments.local(broker.partition_dir(topic, n))[0][0] for n in range(PARTITIONS)]


def local_bytes(broker, topic, partition):
    return sum(path.stat().st_size for _, path in segments.local(broker.partition_dir(topic, partition)))


@pytest.fixture(scope="module")
def tiered(minio, folder):
    """A broker on MinIO that holds the whole data set, restarted half-way, with the cold part offloaded."""
    bucket, url = minio.bucket()
    broker = Esker(folder / "tiered", object_store=url, env=minio.environment()).start()
    topic = create_topic(
        broker, PARTITIONS, segment_bytes=SEGMENT_BYTES, local_retention_bytes=LOCAL_BYTES
    )
    written = Written()
    values = dataset.values(DATA_BYTES)
    half = (next(values) for _ in range(estimate_half()))
    write(broker.bootstrap, topic, half, written)
    broker.stop()
    broker.start()
    write(broker.bootstrap, topic, values, written)
    broker.topic, broker.bucket, broker.written = topic, bucket, written
    yield broker
    broker.kill()


def estimate_half():
    """Records in about half of the data; the place of the restart matters to nothing."""
    return sum(1 for _ in dataset.values(DATA_BYTES // 2))


def assert_cold_part_is_in_the_bucket_alone(broker, minio):
    """Local disks keep the local retention and the active segment; objects hold all below, without a gap."""

    def shrunk():
        return all(
            local_bytes(broker, broker.topic, n) <= LOCAL_BYTES + SEGMENT_BYTES + BATCH_BYTES_MAX for n in range(PARTITIONS)
        )

    wait_until(shrunk, OFFLOAD_SECONDS_MAX, "local copies to go")
    found = segments.objects(minio.keys(broker.bucket))
    for partition, start in enumerate(local_starts(broker, broker.topic)):
        assert start > 0, f"partition {partition} still has everything on its disk"
        assert segments.tier_end(found[partition]) >= start


def test_everything_reads_back_through_another_client_across_the_seam(tiered, minio):
    assert_cold_part_is_in_the_bucket_alone(tiered, minio)
    expected = tiered.written.results()
    assert read_with_kafka_python(tiered.bootstrap, tiered.topic, [count for count, _ in expected]) == expected
    tiered.stop()
    tiered.start()
    assert_cold_part_is_in_the_bucket_alone(tiered, minio)
    assert read_with_kafka_python(tiered.bootstrap, tiered.topic, [count for count, _ in expected]) == expected
    tiered.assert_sound()


def test_offsets_by_timestamp_agree_with_a_scan_on_both_sides_of_the_seam(tiered):
    consumer = Confluent().consumer(tiered.bootstrap)
    cold = hot = 0
    for partition, seam in enumerate(local_starts(tiered, tiered.topic)):
        timestamps = tiered.written.timestamps[partition]
        # Running maxima are sorted, and a new maximum is the only place where a search can end.
        highest = running_maxima(timestamps)
        offsets = {0, 1, seam // 2, seam - 1, seam, seam + 1, (seam + len(timestamps)) // 2, len(timestamps) - 1}
        wanted = {timestamps[offset] + step for offset in offsets for step in (-1, 0, 1)}
        for timestamp in sorted(wanted):
            place = bisect.bisect_left(highest, timestamp)
            expected = place if place < len(timestamps) else confluent_kafka.OFFSET_END
            asked = confluent_kafka.TopicPartition(tiered.topic, partition, timestamp)
            [got] = consumer.offsets_for_times([asked], timeout=READ_SECONDS_MAX)
            assert got.error is None and got.offset == expected, f"{timestamp} in partition {partition}"
            cold += 0 <= expected < seam
            hot += expected >= seam
        low, high = consumer.get_watermark_offsets(confluent_kafka.TopicPartition(tiered.topic, partition), timeout=30)
        assert (low, high) == (0, len(timestamps))
    consumer.close()
    assert cold and hot, "both sides were asked"


def running_maxima(timestamps):
    highest, maxima = timestamps[0], []
    for timestamp in timestamps:
        highest = max(highest, timestamp)
        maxima.append(highest)
    return maxima


def test_zstd_restores_every_object_and_the_dump_tool_accepts_it(tiered, minio, tmp_path):
    found = segments.objects(minio.keys(tiered.bucket))
    assert sorted(found) == list(range(PARTITIONS))
    for partition, items in found.items():
        folder = tmp_path / str(partition)
        folder.mkdir()
        logs = [
            segments.decompress(minio.get(tiered.bucket, item.key), folder / f"{item.base:020}.log") for item in items
        ]
        assert segments.dump(logs) == [(item.base, item.end - 1) for item in items]
        for log in logs:
            log.unlink()


def test_a_point_read_in_the_cold_part_gives_that_record(tiered):
    client = Confluent()
    for partition, seam in enumerate(local_starts(tiered, tiered.topic)):
        for offset in (0, seam // 3, seam - 1, seam):
            [record] = client.read(tiered.bootstrap, tiered.topic, 1, partition, offset)
            assert (record.offset, record.timestamp) == (offset, dataset.timestamp(offset))
