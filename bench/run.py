"""First figures beside Apache Kafka on one machine in one run.

    bench/run.py [--smoke]

Rounds are interleaved in random order; the table shows medians, ranges and the ratio to Kafka.
Sizes come from the environment: BENCH_MIB, BENCH_SMALL_MIB, BENCH_ROUNDS, BENCH_PEERS, SEED.
"""

import argparse
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))

import confluent_kafka  # noqa: E402
import first_ack  # noqa: E402

from harness import tools  # noqa: E402
from harness.broker import LOOPBACK, ApacheKafka, Esker, free_port  # noqa: E402
from harness.clients import Confluent, create_topic  # noqa: E402

MIB = 1024 * 1024
GB = 1e9
PARTITIONS = 6
SETTLE_SECONDS = 3
READ_SECONDS_MAX = 120
PRODUCE_SECONDS_MAX = 1800
KAFKA = "kafka 4.3.0"


def esker(**options):
    def make(folder):
        store = options.get("store", "none")
        url = store if store == "none" else f"file://{folder / 'objects'}"
        settings = {"log.durability": options["durability"]}
        if "segment" in options:
            settings["log.segment.bytes"] = options["segment"]
        broker = Esker(folder, object_store=url, options=settings)
        broker.listen = broker.bootstrap = f"{LOOPBACK}:{free_port()}"
        return broker

    return make


def kafka(folder):
    broker = ApacheKafka(folder)
    broker.format()
    return broker


PEERS = {
    KAFKA: kafka,
    "relaxed": esker(durability="relaxed"),
    "durable": esker(durability="durable"),
    # Segments small enough that most of the data is offloaded while it is measured.
    "durable+tier": esker(durability="durable", store="file", segment=16 * MIB),
}


def touch_memory(folder, mebibytes):
    """Fills the page cache once and lets it go: a virtual machine is given its memory at the first touch, which would
    cost whichever peer comes first."""
    chunk = os.urandom(MIB)
    path = folder / "touch"
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(chunk)
    path.unlink()


def spawn(broker):
    """Starts the process without waiting; returns when that was."""
    began = time.monotonic()
    broker.spawn()
    return began


def produce(broker, topic, record_bytes, mebibytes):
    """kafka-producer-perf-test with its defaults and acks=all."""
    count = mebibytes * MIB // record_bytes
    command = tools.java(
        tools.PRODUCER_PERF, "--bootstrap-server", broker.bootstrap, "--topic", topic, "--num-records", count,
        "--record-size", record_bytes, "--throughput", -1, "--command-property", "acks=all",
        jvm=(),
    )  # fmt: skip
    tools.run(command, seconds=PRODUCE_SECONDS_MAX)
    return count * record_bytes


def consume(broker, topic):
    """Reads all partitions from the start; returns the bytes of the values."""
    consumer = Confluent().consumer(broker.bootstrap, auto_offset_reset="earliest", queued_max_messages_kbytes=65536)
    everything = [confluent_kafka.TopicPartition(topic, n, 0) for n in range(PARTITIONS)]
    left = sum(consumer.get_watermark_offsets(where, timeout=READ_SECONDS_MAX)[1] for where in everything)
    consumer.assign(everything)
    total = 0
    while left:
        messages = consumer.consume(min(left, 10_000), READ_SECONDS_MAX)
        assert messages, f"{left} records were not read"
        for message in messages:
            assert message.error() is None, message.error()
            total += len(message.value())
        left -= len(messages)
    consumer.close()
    return total


def measured(broker, work):
    """Runs `work`; returns the broker's CPU seconds per GB and the GB per second of wall time."""
    cpu = broker.process.cpu_seconds()
    began = time.monotonic()
    done = work()
    elapsed = time.monotonic() - began
    # What the broker does in the background for these bytes belongs to them.
    time.sleep(SETTLE_SECONDS)
    return (broker.process.cpu_seconds() - cpu) / (done / GB), done / GB / elapsed


def measure(make, folder, sizes):
    """One round of one peer, on an empty directory: a figure for every row of the table."""
    broker = make(folder)
    row = {}
    try:
        row["start to first ack, s"] = first_ack.seconds(broker.bootstrap, spawn(broker))
        time.sleep(SETTLE_SECONDS)
        row["RSS idle, MiB"] = broker.process.rss_bytes() / MIB
        produce(broker, create_topic(broker, PARTITIONS), 1024, max(sizes["large"] // 8, 1))
        for name, record_bytes, mebibytes in (("1 KiB", 1024, sizes["large"]), ("100 B", 100, sizes["small"])):
            topic = create_topic(broker, PARTITIONS)
            cpu, rate = measured(broker, lambda: produce(broker, topic, record_bytes, mebibytes))
            row[f"produce {name}, CPU-s/GB"], row[f"produce {name}, MB/s"] = cpu, rate * 1000
            cpu, rate = measured(broker, lambda: consume(broker, topic))
            row[f"consume {name}, CPU-s/GB"], row[f"consume {name}, MB/s"] = cpu, rate * 1000
        row["RSS loaded, MiB"] = broker.process.rss_bytes() / MIB
        broker.kill()
        row["back after kill -9, s"] = first_ack.seconds(broker.bootstrap, spawn(broker))
    finally:
        broker.kill()
        shutil.rmtree(folder, ignore_errors=True)
    return row


def table(results, sizes, rounds):
    """Medians and ranges per peer, with the ratio to Kafka where Kafka ran."""
    lines = [f"{rounds} rounds, {sizes['large']} MiB of 1 KiB and {sizes['small']} MiB of 100 B records, {PARTITIONS} partitions"]
    lines.append(f"{'':28}" + "".join(f"{peer:>36}" for peer in results))
    for name in next(iter(results.values()))[0]:
        cells = []
        base = median(results[KAFKA], name) if KAFKA in results else None
        for peer, rows in results.items():
            values = [row[name] for row in rows]
            ratio = f" x{median(rows, name) / base:.3f}" if base and peer != KAFKA else ""
            cells.append(f"{median(rows, name):.3g} ({min(values):.3g}-{max(values):.3g}){ratio}")
        lines.append(f"{name:28}" + "".join(f"{cell:>36}" for cell in cells))
    return "\n".join(lines)


def median(rows, name):
    return statistics.median(row[name] for row in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="toy sizes, one round: shows that it runs, not how fast")
    smoke = parser.parse_args().smoke
    sizes = {
        "large": int(os.environ.get("BENCH_MIB", 16 if smoke else 1024)),
        "small": int(os.environ.get("BENCH_SMALL_MIB", 4 if smoke else 256)),
    }
    rounds = int(os.environ.get("BENCH_ROUNDS", 1 if smoke else 3))
    peers = os.environ.get("BENCH_PEERS", ",".join(PEERS)).split(",")
    source = random.Random(int(os.environ.get("SEED", "1")))
    results = {peer: [] for peer in peers}
    scratch = Path(tempfile.mkdtemp(prefix="esker-bench-"))
    try:
        touch_memory(scratch, 3 * (sizes["large"] + sizes["small"]))
        for number in range(rounds):
            for peer in source.sample(peers, len(peers)):
                results[peer].append(measure(PEERS[peer], scratch / f"{number}-{peer.replace(' ', '-')}", sizes))
                print(f"round {number + 1} of {rounds}: {peer}", file=sys.stderr)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(table(results, sizes, rounds))


if __name__ == "__main__":
    main()
