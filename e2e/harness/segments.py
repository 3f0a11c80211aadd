"""Segments as files: names, the dump tool of Apache Kafka, objects turned back into segments."""

import re
import shutil
from dataclasses import dataclass

from harness import tools

OBJECT = re.compile(r"/(?P<topic>[0-9a-f-]+)/(?P<partition>\d+)/(?P<base>\d{20})-(?P<end>\d{20})-(?P<epoch>-?\d+)-[0-9a-f-]+\.log\.zst$")
BATCH = re.compile(rb"baseOffset: (\d+) lastOffset: (\d+)")
BAD = (b"invalid bytes", b"isvalid: false", b"Mismatches in", b"Non-consecutive offsets", b"Could not find", b"Exception")


@dataclass(frozen=True)
class Object:
    """One object's place in its partition, read from its name."""

    key: str
    partition: int
    base: int
    end: int


def objects(keys):
    """The segment objects among `keys`, by partition, sorted by offset."""
    by_partition = {}
    for key in keys:
        match = OBJECT.search(key)
        if match:
            found = Object(key, int(match["partition"]), int(match["base"]), int(match["end"]))
            by_partition.setdefault(found.partition, []).append(found)
    return {partition: chain(found) for partition, found in by_partition.items()}


def chain(found):
    """The objects that touch and reach furthest from offset 0.

    An upload that a restart cut short leaves an object that no manifest names, over a range that another
    object holds too, until it is collected: either has the same bytes, one of them is enough.
    """
    reached = {0: []}
    for item in sorted(found, key=lambda item: (item.base, item.end)):
        if item.base in reached and item.end not in reached:
            reached[item.end] = [*reached[item.base], item]
    return reached[max(reached)]


def local(folder):
    """The log files of one partition directory, oldest first, as (base offset, path)."""
    return sorted((int(path.stem), path) for path in folder.glob("*.log"))


def tier_end(found):
    """Where the objects of one partition end; they must touch and begin at 0."""
    end = 0
    for item in found:
        assert item.base == end, f"objects do not touch: {item.key} after {end}"
        end = item.end
    return end


def decompress(data, target):
    """`zstd -t` and `zstd -d` of one object into `<base>.log`."""
    packed = target.with_suffix(".zst")
    packed.write_bytes(data)
    tools.run(["zstd", "-q", "-t", packed])
    tools.run(["zstd", "-q", "-f", "-d", packed, "-o", target])
    packed.unlink()
    return target


def dump(files):
    """Runs DumpLogSegments with deep iteration; returns (first, last) offsets of the batches per file."""
    files = list(files)
    assert files
    out = tools.kafka(tools.DUMP_LOG, "--deep-iteration", "--files", ",".join(map(str, files)))
    for bad in BAD:
        assert bad not in out, next(line for line in out.splitlines() if bad in line).decode()
    parts = re.split(rb"^Dumping ", out, flags=re.MULTILINE)[1:]
    assert len(parts) == len(files), f"{len(parts)} of {len(files)} files dumped"
    ranges = []
    for part in parts:
        batches = [(int(first), int(last)) for first, last in BATCH.findall(part)]
        for (_, last), (first, _) in zip(batches, batches[1:]):
            assert first == last + 1, f"batches do not touch at offset {first}"
        ranges.append((batches[0][0], batches[-1][1]) if batches else None)
    return ranges


def copy_logs(folder, target):
    """Copies one partition's log files out of a live or crashed data directory."""
    target.mkdir(parents=True, exist_ok=True)
    return [shutil.copy(path, target / path.name) for _, path in local(folder)]
