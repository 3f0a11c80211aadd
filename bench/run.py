"""First figures beside Apache Kafka on one machine in one run.

    bench/run.py [--smoke]

Rounds are interleaved in random order; the table shows medians, ranges and the ratio to Kafka.
Sizes come from the environment: BENCH_MIB, BENCH_SMALL_MIB, BENCH_ROUNDS, BENCH_PEERS, SEED.
"""

import argparse
import os
import time

# First, since it says where `harness` is.
from peers import GB, KAFKA, MIB, SETTLE_SECONDS, chosen, esker, interleaved, kafka, table

import confluent_kafka
import first_ack

from harness import tools
from harness.clients import Confluent, create_topic

PARTITIONS = 6
READ_SECONDS_MAX = 120
PRODUCE_SECONDS_MAX = 1800

PEERS = {
    KAFKA: kafka(),
    "relaxed": esker(durability="relaxed"),
    "durable": esker(durability="durable"),
    # Segments small enough that most of the data is offloaded while it is measured.
    "durable+tier": esker(durability="durable", store="file", settings={"log.segment.bytes": 16 * MIB}),
}


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
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="toy sizes, one round: shows that it runs, not how fast")
    smoke = parser.parse_args().smoke
    sizes = {
        "large": int(os.environ.get("BENCH_MIB", 16 if smoke else 1024)),
        "small": int(os.environ.get("BENCH_SMALL_MIB", 4 if smoke else 256)),
    }
    rounds = int(os.environ.get("BENCH_ROUNDS", 1 if smoke else 3))
    results = interleaved(
        chosen(PEERS),
        rounds,
        lambda peer, folder: measure(PEERS[peer], folder, sizes),
        3 * (sizes["large"] + sizes["small"]),
    )
    title = f"{rounds} rounds, {sizes['large']} MiB of 1 KiB and {sizes['small']} MiB of 100 B records, {PARTITIONS} partitions"
    print(table(title, results))


if __name__ == "__main__":
    main()
