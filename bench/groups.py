"""Groups, commits and compaction beside Apache Kafka on one machine in one run.

    bench/groups.py [--smoke]

`esker-load` is the clients; the broker's CPU time is read from /proc when a phase of it ends. Every peer has a fresh
directory and a fresh process in each round, and does everything once at small size before it is measured. Rounds are
interleaved in random order; the table shows medians, ranges and the ratio to Kafka.
From the environment: BENCH_SCENARIOS, BENCH_PEERS, BENCH_ROUNDS, BENCH_MEMBERS, BENCH_GROUPS, BENCH_HOLD, BENCH_RECORDS, SEED.
"""

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass

# First, since it says where `harness` is.
from peers import GB, KAFKA, MIB, SETTLE_SECONDS, chosen, esker, interleaved, kafka, table

from harness.process import die_with_parent

IDLE_SECONDS = 5
# All else is at its default, on both sides. The cleaner looks for work as often as it has some.
SETTINGS = {"log.cleaner.backoff.ms": "1000"}
# Kafka answers before it syncs, so `relaxed` is like with like; `durable` is how Esker runs.
PEERS = {
    KAFKA: kafka(SETTINGS),
    "relaxed": esker(durability="relaxed", settings=SETTINGS),
    "durable": esker(durability="durable", settings=SETTINGS),
}
EVERYBODY = tuple(PEERS)
# Where hardly anything is written, syncs make no difference.
DEFAULTS = (KAFKA, "durable")


@dataclass(frozen=True)
class Scenario:
    """What `esker-load` is asked to do, and what is told of it."""

    words: tuple
    warm: tuple
    figures: object
    peers: tuple


def sizes(smoke):
    """How large everything is."""
    read = lambda name, small, large: int(os.environ.get(name, small if smoke else large))  # noqa: E731
    return {
        "members": read("BENCH_MEMBERS", 20, 1000),
        "groups": read("BENCH_GROUPS", 40, 10_000),
        "connections": 40 if smoke else 1000,
        "hold": read("BENCH_HOLD", 2, 30),
        "seconds": 1 if smoke else 15,
        "rate": 200 if smoke else 5000,
        "records": read("BENCH_RECORDS", 60_000, 3_000_000),
        "keys": 1000 if smoke else 100_000,
        "segment": MIB if smoke else 4 * MIB,
        "partitions": 2 if smoke else 6,
        "settle": 4 if smoke else 10,
    }


def scenarios(size):
    """By name, in the order in which they run."""

    def members(protocol):
        def words(count, hold):
            return ("members", "--protocol", protocol, "--members", count, "--partitions", count, "--hold", hold)

        return Scenario(words(size["members"], size["hold"]), words(50, 2), membership, DEFAULTS)

    def groups(protocol):
        def words(count, connections, hold):
            return ("groups", "--protocol", protocol, "--groups", count, "--connections", connections, "--hold", hold)

        full = words(size["groups"], size["connections"], size["hold"])
        return Scenario(full, words(100, 50, 2), membership, DEFAULTS)

    def commits(connections, seconds, *more):
        return ("commits", "--connections", connections, "--groups", 1000, "--seconds", seconds, *more)

    # Closed loops ask for as much as a broker gives; here both do the same work in the same time.
    paced = commits(size["connections"], size["seconds"], "--rate", size["rate"])

    def compact(records, settle):
        return (
            "compact", "--records", records, "--keys", size["keys"], "--segment-bytes", size["segment"],
            "--partitions", size["partitions"], "--settle", settle,
        )  # fmt: skip

    return {
        "classic": members("classic"),
        "consumer": members("consumer"),
        "groups classic": groups("classic"),
        "groups consumer": groups("consumer"),
        "commits": Scenario(commits(100, size["seconds"]), commits(20, 3), committing, EVERYBODY),
        "commits paced": Scenario(paced, commits(20, 3), committing, EVERYBODY),
        "compact": Scenario(
            compact(size["records"], size["settle"]), compact(max(size["records"] // 10, 60_000), 4), compaction, EVERYBODY
        ),
    }


def load(broker, name, words):
    """Runs `esker-load`; gives its phases with the broker's CPU seconds in each and its memory at the end of each."""
    arguments = ["--bootstrap", broker.bootstrap, "--name", name, *map(str, words)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = subprocess.Popen(
        [os.environ["ESKER_LOAD_BIN"], *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, preexec_fn=die_with_parent, text=True,
    )  # fmt: skip
    phases, began, last = {}, broker.process.cpu_seconds(), None
    for line in child.stdout:
        now = broker.process.cpu_seconds()
        told = json.loads(line)
        phase = told.pop("phase")
        if phase != last:
            # Several lines of one phase: the last one counts, from where the phase began.
            began, last = (phases[last]["until"] if last else began), phase
        phases[phase] = {**told, "cpu": now - began, "until": now, "rss": broker.process.rss_bytes()}
    said = child.stderr.read()
    if child.wait() != 0:
        raise RuntimeError(f"esker-load {shlex.join(arguments)}: {said}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return phases, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def membership(phases):
    """Of members that come, stay and go."""
    row = {"until stable, s": phases["join"]["seconds"], "joining, CPU-s": phases["join"]["cpu"]}
    if "commit" in phases:
        row["a commit each, CPU-s"] = phases["commit"]["cpu"]
    hold = phases["hold"]
    row["staying, CPU-ms/s"] = hold["cpu"] / hold["seconds"] * 1000
    row["staying, CPU-us/heartbeat"] = hold["cpu"] / max(hold["heartbeats"], 1) * 1e6
    if "change" in phases:
        row["one for another, s"] = phases["change"]["seconds"]
        row["one for another, CPU-s"] = phases["change"]["cpu"]
    row["leaving, CPU-s"] = phases["leave"]["cpu"]
    row["all, CPU-s"] = sum(phase["cpu"] for name, phase in phases.items() if name != "prepare")
    row["RSS steady, MiB"] = hold["rss"] / MIB
    return row


def committing(phases):
    """Of offsets without members."""
    commit = phases["commit"]
    return {
        "rate, 1000/s": commit["commits"] / commit["seconds"] / 1000,
        "CPU-us/commit": commit["cpu"] / commit["commits"] * 1e6,
        "p50, ms": commit["p50_ms"],
        "p99, ms": commit["p99_ms"],
        "RSS steady, MiB": commit["rss"] / MIB,
    }


def compaction(phases):
    """Of a compacted topic."""
    produce, clean, read = phases["produce"], phases["clean"], phases["read"]
    written = produce["bytes"]
    return {
        "produce, MB/s": written / produce["seconds"] / 1e6,
        "produce and clean, CPU-s": produce["cpu"] + clean["cpu"],
        "produce and clean, CPU-s/GB": (produce["cpu"] + clean["cpu"]) / written * GB,
        "cleaned after, s": clean["seconds"],
        "cleaned, MB": (written - clean["bytes_left"]) / 1e6,
        "left, MB": clean["bytes_left"] / 1e6,
        "records left, 1000": read["records"] / 1000,
        "reading, CPU-s": read["cpu"],
        "RSS steady, MiB": clean["rss"] / MIB,
    }


def measure(peer, folder, plan, warm):
    """One round of one peer: a figure for every row of the table."""
    broker = PEERS[peer](folder)
    plan = {name: scenario for name, scenario in plan.items() if peer in scenario.peers}
    row = {}
    try:
        broker.start()
        if warm:
            for name, scenario in plan.items():
                load(broker, topic(f"warm {name}"), scenario.warm)
        time.sleep(SETTLE_SECONDS)
        cpu = broker.process.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        row["idle, CPU-ms/s"] = (broker.process.cpu_seconds() - cpu) / IDLE_SECONDS * 1000
        row["RSS idle, MiB"] = broker.process.rss_bytes() / MIB
        for name, scenario in plan.items():
            broker.process.forget_rss_peak()
            phases, clients = load(broker, topic(name), scenario.words)
            figures = scenario.figures(phases)
            figures["RSS peak, MiB"] = broker.process.rss_peak_bytes() / MIB
            figures["clients, CPU-s"] = clients
            row.update({f"{name}: {figure}": value for figure, value in figures.items()})
            print(f"{peer}: {name}", file=sys.stderr)
        broker.assert_sound()
    finally:
        broker.kill()
    return row


def topic(name):
    return name.replace(" ", "-")


def title(plan, rounds):
    """What was done, as commands that do it again."""
    settings = " ".join(f"{key}={value}" for key, value in SETTINGS.items())
    lines = [
        f"{rounds} rounds; both brokers: {settings}, all else at its default",
        "durable: acknowledged when synced; relaxed and Kafka: before",
    ]
    lines += [f"  {name}: esker-load {shlex.join(map(str, scenario.words))}" for name, scenario in plan.items()]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="toy sizes, one round: shows that it runs, not how fast")
    smoke = parser.parse_args().smoke
    rounds = int(os.environ.get("BENCH_ROUNDS", 1 if smoke else 3))
    plan = scenarios(sizes(smoke))
    wanted = os.environ.get("BENCH_SCENARIOS", ",".join(plan)).split(",")
    plan = {name: plan[name] for name in wanted}
    touched = 16 if smoke else 1024
    results = interleaved(chosen(PEERS), rounds, lambda peer, folder: measure(peer, folder, plan, not smoke), touched)
    print(table(title(plan, rounds), results))


if __name__ == "__main__":
    main()
