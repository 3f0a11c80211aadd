"""Produce: the good case in every version and codec, and every check of a batch in Kafka's order."""

import gzip
import struct
import time

import lz4.frame
import snappy
import zstandard

from ..batches import CODECS, CONTROL, HEAD_BYTES, LOG_APPEND_TIME, TIME, TRANSACTIONAL, Record, batch
from ..codec import NOBODYS_ID, ZERO_UUID
from ..script import Topic, fetch_body, produce_body
from . import case

# Before and after each change of the format of requests and answers.
TURNS = (3, 7, 8, 9, 10, 12, 13)
SOME = (7, 8, 13)
HOUR_MS = 3_600_000
UNKNOWN = Topic("no-such-topic", NOBODYS_ID)


def read(s, topic, partition=0, label="what is in the log"):
    s.ask("Fetch", fetch_body((topic, partition, 0)), 12, label=label)


def each(s, flaws, versions, **configs):
    """Produces each of (label, batch) to a partition of its own, so that what is accepted moves no other's offsets."""
    topic = s.topic(partitions=len(flaws), **configs)
    for partition, (label, data) in enumerate(flaws):
        s.ask("Produce", produce_body(topic, data, partition), versions, label=label)
        read(s, topic, partition, label)


@case
def produce_in_every_version_and_codec(s):
    for codec in CODECS:
        topic = s.topic(codec)
        for version in s.versions("Produce"):
            data = batch(
                Record(b"one", b"k"), Record(b"two", None, (("h", b"x"), ("n", None)), 3), Record(None, b"k"), codec=codec
            )
            s.ask("Produce", produce_body(topic, data), version, label=codec)
        s.ask("Fetch", fetch_body((topic, 0, 0)), label=codec)


@case
def produce_with_each_acks(s):
    topic = s.topic()
    for acks in (-1, 1):
        s.ask("Produce", produce_body(topic, batch(), acks=acks), label=f"acks {acks}")
    for acks in (-2, 2, 3, 32767):
        s.ask("Produce", produce_body(topic, batch(), acks=acks), label=f"acks {acks}")
    for version in s.versions("Produce"):
        s.send("Produce", produce_body(topic, batch(), acks=0), version, answered=False)
        s.ask("DescribeCluster", {}, 0, label=f"after acks 0 in version {version}")
    read(s, topic)


@case
def produce_without_acks_that_fails_closes_the_connection(s):
    topic = s.topic()
    for version in TURNS:
        s.send("Produce", produce_body(topic, batch(), partition=9, acks=0), version, answered=False)
        s.ask("DescribeCluster", {}, 0, label="after a failure nobody waits for")


@case
def produce_to_what_is_not_there(s):
    topic = s.topic()
    s.ask("Produce", produce_body(UNKNOWN, batch()), label="unknown topic")
    s.ask("Produce", produce_body(topic, batch(), partition=1), label="unknown partition")
    s.ask("Produce", produce_body(topic, batch(), partition=-1), label="negative partition")
    s.ask("Produce", produce_body(Topic("", ZERO_UUID), batch()), label="no name, no id")
    s.ask("Produce", produce_body(Topic("bad name!", ZERO_UUID), batch()), TURNS, label="bad name")
    s.ask("Produce", {"Acks": -1, "TimeoutMs": 1000, "TopicData": []}, label="nothing at all")
    s.ask(
        "Produce", {"Acks": -1, "TimeoutMs": 1000, "TopicData": [{"Name": topic.name, "TopicId": topic.id}]}, label="no partition"
    )


@case
def produce_to_several_partitions_answers_for_each(s):
    topic = s.topic(partitions=3)
    body = produce_body(topic, batch())
    body["TopicData"][0]["PartitionData"] = [
        {"Index": 2, "Records": batch()},
        {"Index": 7, "Records": batch()},
        {"Index": 0, "Records": batch(crc=1)},
        {"Index": 1, "Records": batch()},
    ]
    body["TopicData"].append({"Name": UNKNOWN.name, "TopicId": UNKNOWN.id, "PartitionData": [{"Index": 0, "Records": batch()}]})
    s.ask("Produce", body)
    for partition in range(3):
        read(s, topic, partition)


@case
def produce_of_one_partition_twice_in_a_request(s):
    topic = s.topic()
    body = produce_body(topic, batch(Record(b"first")))
    body["TopicData"][0]["PartitionData"].append({"Index": 0, "Records": batch(Record(b"second"))})
    s.ask("Produce", body, SOME)


@case
def produce_of_one_topic_twice_in_a_request(s):
    topic = s.topic(partitions=2)
    body = produce_body(topic, batch(Record(b"first")))
    again = produce_body(topic, batch(Record(b"second")))["TopicData"][0]
    again["PartitionData"].append({"Index": 1, "Records": batch()})
    body["TopicData"] += [produce_body(UNKNOWN, batch())["TopicData"][0], again]
    s.ask("Produce", body, SOME)
    s.ask("Produce", {**body, "Acks": 3}, SOME, label="refused")
    for partition in range(2):
        read(s, topic, partition)


@case
def produce_of_one_batch_among_others(s):
    topic = s.topic(partitions=3)
    for label, data in (
        ("damaged length", batch(length=10)),
        ("damaged magic", batch(magic=-1)),
        ("damaged magic of a transaction", batch(magic=-1, attributes=TRANSACTIONAL)),
        ("length of less than a header", batch(length=40)),
        ("wrong checksum", batch(crc=1)),
        ("nothing", b""),
        ("half", batch()[:40]),
        ("two", batch() + batch()),
        ("two, the second damaged", batch() + batch(magic=-1)),
        ("unknown codec", batch(attributes=6)),
        ("old magic", batch(magic=1)),
    ):
        body = produce_body(topic, batch())
        body["TopicData"][0]["PartitionData"] += [{"Index": 1, "Records": data}, {"Index": 2, "Records": batch()}]
        s.ask("Produce", body, SOME, label=label)
        s.ask("Produce", {**body, "Acks": 7}, SOME, label=f"{label}, no such acks")
        s.ask("Produce", {**body, "TransactionalId": "some"}, 8, label=f"{label}, a transactional id")
    for partition in range(3):
        read(s, topic, partition)


@case
def produce_without_patience(s):
    topic = s.topic()
    for timeout in (0, -1):
        s.ask("Produce", produce_body(topic, batch(), timeout=timeout), SOME, label=f"timeout {timeout}")


@case
def produce_of_no_batch_or_several(s):
    flaws = (
        ("empty", b""),
        ("two batches", batch() + batch()),
        ("half a batch", batch()[:40]),
        ("a batch and a half", batch() + batch()[:70]),
        ("a batch and a byte", batch() + b"\0"),
        ("a few bytes", b"\1\2\3"),
        ("zeros", bytes(100)),
    )
    each(s, flaws, TURNS)


@case
def produce_of_null_instead_of_a_batch(s):
    topic = s.topic()
    for version in (7, 12):
        s.send("Produce", produce_body(topic, None), version)
        s.receive("null", seconds=1)


@case(validates=True)
def produce_with_a_wrong_magic(s):
    each(s, [(f"magic {magic}", batch(magic=magic)) for magic in (-1, 0, 1, 3, 127)], TURNS)


@case(validates=True)
def produce_of_zstd_before_version_7(s):
    topic = s.topic()
    s.ask("Produce", produce_body(topic, batch(codec="zstd")), label="zstd")
    read(s, topic)


@case(validates=True)
def produce_with_wrong_header_fields(s):
    flaws = (
        ("base offset", batch(base_offset=5)),
        ("leader epoch is ignored", batch(leader_epoch=77)),
        ("crc", batch(crc=0)),
        ("length too long", batch(length=100)),
        ("length too short", batch(length=48)),
        ("length below the header", batch(length=10)),
        ("length 0", batch(length=0)),
        ("length negative", batch(length=-1)),
        ("length huge", batch(length=2**31 - 1)),
        ("count too high", batch(count=2, last_delta=1)),
        ("count too low", batch(Record(), Record(), count=1, last_delta=0)),
        ("count 0", batch(count=0)),
        ("count negative", batch(count=-1)),
        ("count is not delta plus one", batch(Record(), Record(), last_delta=5)),
        ("delta negative", batch(last_delta=-1)),
        ("empty", batch(count=0, last_delta=-1, payload=b"")),
        ("control", batch(Record(b"\0\0\0\0\0\0", b"\0\0\0\1"), attributes=CONTROL)),
        ("unused attribute bits", batch(attributes=0x80)),
        ("delete horizon", batch(attributes=64)),
        ("max timestamp too low", batch(Record(time=5), max_time=TIME)),
        ("max timestamp too high", batch(Record(time=5), max_time=TIME + 50)),
    )
    each(s, flaws, SOME)


@case(validates=True)
def produce_of_records_that_do_not_parse(s):
    good = Record(b"value", b"key", (("h", b"x"),)).encode(0)

    flaws = (
        ("nothing", b""),
        ("cut", good[:-1]),
        ("a byte more", good + b"\0"),
        ("length too long", bytes([good[0] + 2]) + good[1:]),
        ("length too short", bytes([good[0] - 2]) + good[1:]),
        ("length negative", b"\1" + good[1:]),
        ("length 0", b"\0"),
        ("length without end", b"\xff" * 11),
        ("key longer than the record", b"\x14\0\0\0\x40\0\0\0\0\0\0"),
        ("key length below null", b"\x14\0\0\0\x03\0\0\0\0\0\0"),
        ("value length below null", b"\x14\0\0\0\x01\x03\0\0\0\0\0"),
        ("headers negative", b"\x0c\0\0\0\x01\x01\x01"),
        ("more headers than bytes", b"\x0c\0\0\0\x01\x01\x20"),
        ("header without a key", b"\x10\0\0\0\x01\x01\x02\x01\x01"),
        ("header key is no text", b"\x12\0\0\0\x01\x01\x02\x02\xff\x01"),
        ("header value below null", b"\x10\0\0\0\x01\x01\x02\x00\x05"),
    )
    each(s, [(label, batch(payload=payload)) for label, payload in flaws], SOME)


@case(validates=True)
def produce_of_records_with_odd_fields(s):
    for label, records in (
        ("attributes", (Record(attributes=7),)),
        ("empty key and value", (Record(b"", b""),)),
        ("nulls", (Record(None, None, (("", None),)),)),
        ("many headers", (Record(b"v", None, tuple((f"h{n}", b"x") for n in range(100))),)),
        ("times fall", (Record(time=9), Record(time=3), Record(time=-20))),
        ("offsets with a gap", (Record(), Record(offset=5))),
        ("offsets from one", (Record(offset=1), Record(offset=2))),
        ("offsets twice", (Record(), Record(offset=0))),
        ("offsets backwards", (Record(offset=1), Record(offset=0))),
    ):
        topic = s.topic(label.replace(" ", "-"))
        s.ask("Produce", produce_body(topic, batch(*records)), SOME, label=label)
        read(s, topic, label=label)


@case(validates=True)
def produce_of_what_does_not_decompress(s):
    flaws = []
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        for label, payload in (("rubbish", b"\1\2\3\4\5\6\7\x08\x09"), ("nothing", b""), ("plain records", Record().encode(0))):
            flaws.append((f"{codec}, {label}", batch(codec=codec, payload=payload)))
        records = [Record(b"some text " * 20)] * 5
        payload = batch(*records, codec=codec)[HEAD_BYTES:]
        flaws.append((f"{codec}, cut", batch(*records, codec=codec, payload=payload[:-6])))
        flaws.append((f"{codec}, bytes after the end", batch(*records, codec=codec, payload=payload + b"\0\0\0")))
    flaws += [(f"codec {number}", batch(attributes=number)) for number in (5, 6, 7)]
    each(s, flaws, SOME)


@case(validates=True)
def produce_of_snappy_in_both_framings(s):
    records = [Record(b"some text " * 20), Record(b"more")]
    plain = b"".join(record.encode(index) for index, record in enumerate(records))
    first, second = (struct.pack(">i", len(block)) + block for block in map(snappy.compress, (plain[:100], plain[100:])))
    head = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)
    payloads = (
        ("raw", snappy.compress(plain)),
        ("framed", head + first + second),
        ("two framed streams", head + first + head + second),
        ("framed, a block too long", head + struct.pack(">i", 5000) + first),
        ("framed, no block", head),
    )
    each(s, [(label, batch(*records, codec="snappy", payload=payload)) for label, payload in payloads], SOME)


@case(validates=True)
def produce_of_several_members_and_frames(s):
    records = [Record(b"some text " * 20), Record(b"more")]
    plain = b"".join(record.encode(index) for index, record in enumerate(records))
    payloads = []
    for codec, squeeze in (
        ("gzip", lambda data: gzip.compress(data, mtime=0)),
        ("lz4", lambda data: lz4.frame.compress(data, block_linked=False)),
        ("zstd", zstandard.compress),
    ):
        payloads.append((codec, "two streams", squeeze(plain[:90]) + squeeze(plain[90:])))
    for label, options in (
        ("linked blocks", {"block_linked": True}),
        ("content size", {"store_size": True, "block_linked": False}),
        ("checksums", {"content_checksum": True, "block_checksum": True, "block_linked": False}),
    ):
        payloads.append(("lz4", label, lz4.frame.compress(plain, **options)))
    damaged = bytearray(lz4.frame.compress(plain, block_linked=False))
    damaged[6] ^= 1
    payloads.append(("lz4", "bad header checksum", bytes(damaged)))
    each(s, [(f"{codec}, {label}", batch(*records, codec=codec, payload=payload)) for codec, label, payload in payloads], SOME)


@case(validates=True)
def produce_of_streams_in_every_form(s):
    records = [Record(b"some text " * 20), Record(b"more")]
    plain = b"".join(record.encode(index) for index, record in enumerate(records))
    member = gzip.compress(plain, mtime=0)
    body = member[10:]
    named = b"\x1f\x8b\x08" + bytes([1 | 4 | 8 | 16]) + bytes(6) + b"\x02\0xx" + b"name\0" + b"comment\0"
    skipped = b"\x50\x2a\x4d\x18" + struct.pack("<I", 3) + b"abc"
    frame, lz = zstandard.compress(plain), lz4.frame.compress(plain, block_linked=False)
    block = snappy.compress(plain)
    framed = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1) + struct.pack(">i", len(block)) + block
    sized = zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(plain)
    payloads = (
        ("gzip", "with all fields", named + body),
        ("gzip", "with a checksum of the header", b"\x1f\x8b\x08\x02" + bytes(6) + b"\0\0" + body),
        ("gzip", "another method", b"\x1f\x8b\x07" + member[3:]),
        ("gzip", "wrong checksum", member[:-8] + bytes([member[-8] ^ 1]) + member[-7:]),
        ("gzip", "wrong size", member[:-1] + b"\1"),
        ("gzip", "18 bytes more", member + bytes(18)),
        ("gzip", "100 bytes more", member + bytes(100)),
        ("gzip", "a magic more", member + b"\x1f\x8b"),
        ("gzip", "a header more", member + member[:10] + b"\0" * 20),
        ("gzip", "half a member more", member + member[:-20]),
        ("gzip", "an empty member more", member + gzip.compress(b"", mtime=0)),
        ("gzip", "an empty member before", gzip.compress(b"", mtime=0) + member),
        ("gzip", "a cut trailer", member[:-3]),
        ("zstd", "with a checksum", sized),
        ("zstd", "with a wrong checksum", sized[:-1] + bytes([sized[-1] ^ 1])),
        ("zstd", "something skipped before", skipped + frame),
        ("zstd", "something skipped after", frame + skipped),
        ("zstd", "an empty frame more", frame + zstandard.compress(b"")),
        ("zstd", "half a frame more", frame + frame[:10]),
        ("zstd", "only an empty frame", zstandard.compress(b"")),
        ("lz4", "something skipped before", skipped + lz),
        ("lz4", "something skipped after", lz + skipped),
        ("lz4", "an empty frame more", lz + lz4.frame.compress(b"")),
        ("lz4", "half a frame more", lz + lz[:10]),
        ("lz4", "no end mark", lz[:-4]),
        ("lz4", "only an empty frame", lz4.frame.compress(b"", block_linked=False)),
        ("snappy", "an empty block", snappy.compress(b"")),
        ("snappy", "an empty block in a frame", framed + struct.pack(">i", 1) + snappy.compress(b"")),
        ("snappy", "a length of 0", framed + struct.pack(">i", 0)),
        ("snappy", "a negative length", framed + struct.pack(">i", -1)),
        ("snappy", "half a length", framed + b"\0\0"),
        ("snappy", "a newer version", framed[:8] + struct.pack(">ii", 9, 9) + framed[16:]),
    )
    flaws = [(f"{codec}, {label}", batch(*records, codec=codec, payload=payload)) for codec, label, payload in payloads]
    each(s, flaws, (7, 12))


@case(validates=True)
def produce_to_a_compacted_topic_needs_keys(s):
    topic = s.topic(cleanup_policy="compact")
    for label, records in (
        ("keys", (Record(b"v", b"k"), Record(None, b"k"))),
        ("empty key", (Record(b"v", b""),)),
        ("no key", (Record(),)),
        ("some without key", (Record(b"v", b"k"), Record(), Record(b"v", b"l"), Record(None))),
    ):
        for codec in ("none", "gzip"):
            s.ask("Produce", produce_body(topic, batch(*records, codec=codec)), label=f"{label}, {codec}")
    read(s, topic)


@case(validates=True)
def produce_with_timestamps_out_of_bounds(s):
    now = int(time.time() * 1000)
    flaws = []
    for label, times in (
        ("now", (0,)),
        ("too old", (-2 * HOUR_MS,)),
        ("too new", (2 * HOUR_MS,)),
        ("one of three too new", (0, 2 * HOUR_MS, 0)),
        ("two of three too old", (-2 * HOUR_MS, 0, -3 * HOUR_MS)),
    ):
        for codec in ("none", "lz4"):
            flaws.append((f"{label}, {codec}", batch(*(Record(time=offset) for offset in times), time=now, codec=codec)))
    flaws += [("no timestamp", batch(time=-1)), ("the epoch", batch(time=0)), ("before the epoch", batch(time=-5))]
    each(s, flaws, None, message_timestamp_before_max_ms=HOUR_MS, message_timestamp_after_max_ms=HOUR_MS)


@case(validates=True)
def produce_far_in_the_future_by_default(s):
    topic = s.topic()
    now = int(time.time() * 1000)
    s.ask("Produce", produce_body(topic, batch(time=now + 2 * HOUR_MS)), label="two hours ahead")
    s.ask("Produce", produce_body(topic, batch(time=now + HOUR_MS // 2)), label="half an hour ahead")
    s.ask("Produce", produce_body(topic, batch(time=-1)), SOME, label="no timestamp")
    s.ask("Produce", produce_body(topic, batch(time=-1, attributes=LOG_APPEND_TIME)), SOME, label="no timestamp, append time")
    s.ask("Produce", produce_body(topic, batch(attributes=LOG_APPEND_TIME)), SOME, label="append time on a create time topic")
    s.ask("Fetch", fetch_body((topic, 0, 0)), 12)


@case(validates=True)
def produce_to_a_topic_with_append_time(s):
    topic = s.topic(message_timestamp_type="LogAppendTime")
    for codec in CODECS:
        data = batch(Record(b"a"), Record(b"b", time=7), codec=codec)
        s.ask("Produce", produce_body(topic, data), label=codec)
    s.ask("Produce", produce_body(topic, batch(attributes=LOG_APPEND_TIME)), SOME, label="bit set")
    s.ask("Produce", produce_body(topic, batch(time=-1)), SOME, label="no timestamp")
    s.ask("Produce", produce_body(topic, batch(time=1)), SOME, label="an old timestamp")
    read(s, topic)


@case(validates=True)
def produce_to_topics_with_a_codec_of_their_own(s):
    for wanted in ("uncompressed", "gzip", "snappy", "lz4", "zstd", "producer"):
        topic = s.topic(wanted, compression_type=wanted)
        for codec in CODECS:
            records = (Record(b"text " * 50, b"k", (("h", b"x"),)), Record(None, b"k", time=4))
            data = batch(*records, codec=codec, producer=(60_000, 0, 2 * list(CODECS).index(codec)))
            s.ask("Produce", produce_body(topic, data), 12, label=f"{codec} to {wanted}")
        read(s, topic, label=wanted)


@case
def produce_beyond_the_largest_batch(s):
    topic = s.topic(max_message_bytes=1000)
    for size in (100, 900, 1000, 5000):
        s.ask("Produce", produce_body(topic, batch(Record(b"x" * size))), label=f"{size} bytes")
    exact = 1000 - len(batch(Record(b"x" * 800))) + 800
    for size in (exact, exact + 1):
        s.ask("Produce", produce_body(topic, batch(Record(b"x" * size))), SOME, label=f"{size - exact} beyond the limit")
    s.ask("Produce", produce_body(topic, batch(Record(b"x" * 5000), codec="gzip")), SOME, label="large, but compressed")


@case
def produce_beyond_the_default_limit(s):
    topic = s.topic()
    s.ask("Produce", produce_body(topic, batch(Record(b"x" * 1_048_600))), (7, 12), label="a byte too many")


@case
def produce_beyond_a_segment(s):
    topic = s.topic(segment_bytes=1_048_576, max_message_bytes=4_000_000)
    s.ask("Produce", produce_body(topic, batch(Record(b"x" * 1_100_000))), (7, 8, 12, 13), label="larger than a segment")
    s.ask("Produce", produce_body(topic, batch(Record(b"x" * 700_000))), 12, label="fits")
    s.ask("Produce", produce_body(topic, batch(Record(b"x" * 700_000))), 12, label="the next segment")


@case
def produce_to_internal_topics(s):
    internal = Topic("__consumer_offsets", s.serving("__consumer_offsets", 4).id)
    s.ask("Produce", produce_body(internal, batch(Record(b"v", b"k"))), label="as anybody")


@case
def produce_with_fewer_replicas_than_the_minimum(s):
    topic = s.topic(min_insync_replicas=3)
    for acks in (-1, 1):
        s.ask(
            "Produce",
            produce_body(topic, batch(), acks=acks),
            label=f"acks {acks}: the minimum counts only the replicas there are",
        )


@case
def produce_twice_is_stored_once(s):
    topic = s.topic()
    data = batch(Record(b"a"), Record(b"b"), producer=(7001, 0, 0))
    s.ask("Produce", produce_body(topic, data), label="first and again")
    s.ask("Produce", produce_body(topic, batch(producer=(7001, 0, 2))), 12, label="next")
    s.ask("Produce", produce_body(topic, data), SOME, label="older duplicate")
    s.ask(
        "Produce",
        produce_body(topic, batch(Record(b"other"), Record(b"bytes"), producer=(7001, 0, 0))),
        SOME,
        label="same numbers, other bytes",
    )
    s.ask("Produce", produce_body(topic, batch(Record(b"a"), producer=(7001, 0, 0))), SOME, label="half of the duplicate")
    s.ask("Produce", produce_body(topic, batch(Record(), Record(), producer=(7001, 0, 2))), SOME, label="last sequence differs")
    read(s, topic)


@case
def produce_of_a_duplicate_beyond_five(s):
    topic = s.topic()
    for sequence in range(7):
        s.ask("Produce", produce_body(topic, batch(producer=(7002, 0, sequence))), 12, label="in order")
    for sequence in range(7):
        s.ask("Produce", produce_body(topic, batch(producer=(7002, 0, sequence))), SOME, label=f"duplicate {sequence}")


@case
def produce_out_of_order(s):
    topic = s.topic()
    s.ask("Produce", produce_body(topic, batch(producer=(7003, 0, 5))), 12, label="a new producer may begin anywhere")
    s.ask("Produce", produce_body(topic, batch(producer=(7003, 0, 7))), label="gap")
    s.ask("Produce", produce_body(topic, batch(producer=(7003, 0, 6))), 12, label="next")
    s.ask("Produce", produce_body(topic, batch(producer=(7003, 1, 4))), SOME, label="new epoch, not from 0")
    s.ask("Produce", produce_body(topic, batch(producer=(7003, 1, 0))), 12, label="new epoch")
    s.ask("Produce", produce_body(topic, batch(producer=(7003, 0, 7))), label="old epoch")
    s.ask("Produce", produce_body(topic, batch(producer=(7003, 3, 0))), SOME, label="an epoch further")
    read(s, topic)


@case
def produce_over_the_end_of_sequences(s):
    topic = s.topic()
    last = 2**31 - 1
    s.ask("Produce", produce_body(topic, batch(producer=(7004, 0, last - 1))), 12)
    s.ask("Produce", produce_body(topic, batch(Record(), Record(), Record(), producer=(7004, 0, last))), 12, label="wraps")
    s.ask("Produce", produce_body(topic, batch(producer=(7004, 0, 2))), 12, label="after the wrap")
    s.ask(
        "Produce",
        produce_body(topic, batch(Record(), Record(), Record(), producer=(7004, 0, last))),
        12,
        label="duplicate of the wrap",
    )
    s.ask("Produce", produce_body(topic, batch(producer=(7004, 0, last))), SOME, label="far behind")


@case
def produce_with_half_a_producer(s):
    topic = s.topic()
    for label, producer in (
        ("sequence negative", (7005, 0, -1)),
        ("sequence very negative", (7005, 0, -5)),
        ("epoch negative", (7005, -1, 0)),
        ("only a sequence", (-1, -1, 0)),
        ("only an epoch", (-1, 0, -1)),
        ("id very negative", (-5, 0, 0)),
    ):
        s.ask("Produce", produce_body(topic, batch(producer=producer)), SOME, label=label)
    read(s, topic)


@case
def produce_of_a_transaction_without_its_id(s):
    topic = s.topic()
    s.ask("Produce", produce_body(topic, batch(producer=(7006, 0, 0), attributes=TRANSACTIONAL)), label="no transactional id")
    body = produce_body(topic, batch())
    body["TopicData"][0]["PartitionData"].append({"Index": 7, "Records": batch(attributes=TRANSACTIONAL)})
    s.ask("Produce", body, SOME, label="one batch of two")
    s.ask("Produce", {**body, "Acks": 5}, SOME, label="no such acks either")
    read(s, topic)


@case
def produce_is_the_same_after_a_producer_id_was_given(s):
    topic = s.topic()
    given = s.ask("InitProducerId", {"TransactionalId": None, "TransactionTimeoutMs": 60_000}, 4)
    producer, epoch = given["ProducerId"], given["ProducerEpoch"]
    for sequence in range(3):
        s.ask("Produce", produce_body(topic, batch(producer=(producer, epoch, sequence))), 12)
    s.ask("Produce", produce_body(topic, batch(producer=(producer, epoch, 9))), SOME, label="gap")
    read(s, topic)
