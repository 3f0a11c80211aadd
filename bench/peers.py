"""The brokers that are compared, and how: rounds interleaved in random order, medians, ranges, ratios."""

import os
import random
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))

from harness.broker import LOOPBACK, ApacheKafka, Esker, free_port  # noqa: E402

MIB = 1024 * 1024
GB = 1e9
SETTLE_SECONDS = 3
KAFKA = "kafka 4.3.0"


def esker(durability, store="none", settings=None):
    """Makes an Esker for a folder, with a port that stays over restarts."""

    def make(folder):
        url = store if store == "none" else f"file://{folder / 'objects'}"
        broker = Esker(folder, object_store=url, options={"log.durability": durability, **(settings or {})})
        broker.listen = broker.bootstrap = f"{LOOPBACK}:{free_port()}"
        return broker

    return make


def kafka(settings=None):
    """Makes an Apache Kafka for a folder, formatted."""

    def make(folder):
        broker = ApacheKafka(folder, options=settings)
        broker.format()
        return broker

    return make


def touch_memory(folder, mebibytes):
    """Fills the page cache once and lets it go: a virtual machine is given its memory at the first touch, which would
    cost whichever peer comes first."""
    chunk = os.urandom(MIB)
    path = folder / "touch"
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(chunk)
    path.unlink()


def chosen(peers):
    """The names in BENCH_PEERS, by default all."""
    return os.environ.get("BENCH_PEERS", ",".join(peers)).split(",")


def interleaved(peers, rounds, measure, touched_mebibytes):
    """Gives each peer's rows: one for each round, of what `measure(peer, folder)` found on an empty folder."""
    source = random.Random(int(os.environ.get("SEED", "1")))
    results = {peer: [] for peer in peers}
    scratch = Path(tempfile.mkdtemp(prefix="esker-bench-"))
    try:
        touch_memory(scratch, touched_mebibytes)
        for number in range(rounds):
            for peer in source.sample(peers, len(peers)):
                folder = scratch / f"{number}-{peer.replace(' ', '-')}"
                results[peer].append(measure(peer, folder))
                # The next peer's syncs must not wait for what deletion leaves to the file system.
                shutil.rmtree(folder, ignore_errors=True)
                os.sync()
                print(f"round {number + 1} of {rounds}: {peer}", file=sys.stderr)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return results


def table(title, results):
    """Medians and ranges per peer, with the ratio to Kafka where Kafka ran; a peer may lack rows."""
    names = list(dict.fromkeys(name for rows in results.values() for name in rows[0]))
    width = max(28, *(len(name) + 1 for name in names))
    lines = [title, " " * width + "".join(f"{peer:>36}" for peer in results)]
    for name in names:
        base = median(results.get(KAFKA, []), name)
        cells = [cell(rows, name, None if peer == KAFKA else base) for peer, rows in results.items()]
        lines.append(f"{name:{width}}" + "".join(f"{text:>36}" for text in cells))
    return "\n".join(lines)


def cell(rows, name, base):
    values = [row[name] for row in rows if name in row]
    if not values:
        return "-"
    ratio = f" x{median(rows, name) / base:.3f}" if base else ""
    return f"{median(rows, name):.3g} ({min(values):.3g}-{max(values):.3g}){ratio}"


def median(rows, name):
    values = [row[name] for row in rows if name in row]
    return statistics.median(values) if values else None
