"""Local files and objects are Kafka's segments, byte for byte, whatever the process lived through."""

from harness import segments
from harness.clients import Confluent, create_topic
from harness.process import wait_until
from harness.records import Record, text

MIB = 1024 * 1024
OFFLOAD_SECONDS_MAX = 60


def fill(broker, topic, mebibytes, codec="none"):
    """Records of a kilobyte, all acknowledged."""
    written = [Record(text(n, 1000), b"%d" % n, (), 1_700_000_000_000 + n) for n in range(mebibytes * 1024)]
    Confluent().write(broker.bootstrap, topic, written, codec)
    return len(written)


def test_an_object_is_byte_for_byte_the_local_segments(esker, minio, tmp_path):
    bucket, url = minio.bucket()
    broker = esker(object_store=url, env=minio.environment()).start()
    topic = create_topic(broker, segment_bytes=2 * MIB)
    fill(broker, topic, 9)

    def offloaded():
        found = segments.objects(minio.keys(bucket)).get(0, [])
        last_sealed_end = segments.local(broker.partition_dir(topic, 0))[-1][0]
        return found if found and found[-1].end == last_sealed_end else None

    found = wait_until(offloaded, OFFLOAD_SECONDS_MAX, "all sealed segments to be offloaded")
    local = segments.local(broker.partition_dir(topic, 0))
    for item in found:
        restored = segments.decompress(minio.get(bucket, item.key), tmp_path / f"{item.base:020}.log")
        expected = b"".join(path.read_bytes() for base, path in local if item.base <= base < item.end)
        assert restored.read_bytes() == expected, item.key


def test_the_dump_tool_accepts_local_files_after_a_kill_and_after_the_recovery(esker, tmp_path):
    broker = esker(object_store="none").start()
    topics = {codec: create_topic(broker, segment_bytes=1 * MIB) for codec in ("none", "zstd")}
    counts = {codec: fill(broker, topic, 3, codec) for codec, topic in topics.items()}
    broker.kill()
    for codec, topic in topics.items():
        killed = segments.dump(segments.copy_logs(broker.partition_dir(topic, 0), tmp_path / f"killed-{codec}"))
        assert killed[-1][1] == counts[codec] - 1
    broker.start()
    for codec, topic in topics.items():
        fill(broker, topic, 1, codec)
        recovered = segments.dump(segments.copy_logs(broker.partition_dir(topic, 0), tmp_path / f"recovered-{codec}"))
        assert recovered[-1][1] == counts[codec] + 1023
        read = Confluent().read(broker.bootstrap, topic, counts[codec] + 1024)
        assert [record.offset for record in read] == list(range(counts[codec] + 1024))
    broker.stop()
    for topic in topics.values():
        segments.dump(path for _, path in segments.local(broker.partition_dir(topic, 0)))
