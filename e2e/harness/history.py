"""The checker of the crash tests: what was sent, acknowledged and read, compared by content.

Every value is unique and says which record it is, so a record that moved, vanished, came twice or
changed is told apart from every other.
"""

import hashlib
from dataclasses import dataclass, field

COMPLAINTS_MAX = 10


def value(partition, sequence, size):
    """The content of one record; it can be told from every other and made again for comparison."""
    head = b"%d/%d/" % (partition, sequence)
    block = hashlib.blake2b(head).hexdigest().encode()
    return (head + block * (size // len(block) + 1))[:size]


def sequence_of(content):
    """The (partition, sequence) that a value claims, or None for bytes that no writer made."""
    try:
        partition, sequence, _ = content.split(b"/", 2)
        return int(partition), int(sequence)
    except ValueError:
        return None


def fingerprint(content):
    return hashlib.blake2b(content, digest_size=16).digest()


@dataclass
class History:
    """One run: fingerprints of all values sent, places of those acknowledged, and errors."""

    partitions: int
    sent: list = field(default_factory=list)
    acknowledged: dict = field(default_factory=dict)
    twice: list = field(default_factory=list)
    errors: list = field(default_factory=list)

    def __post_init__(self):
        self.sent = [{} for _ in range(self.partitions)]

    def send(self, partition, sequence, content):
        self.sent[partition][fingerprint(content)] = sequence

    def acknowledge(self, partition, offset, content):
        place = (partition, offset)
        mark = fingerprint(content)
        if self.acknowledged.setdefault(place, mark) != mark:
            self.twice.append(place)


def check(history, read, seen=()):
    """Compares the final content with the history; returns complaints, none when all is well.

    `read` has one list per partition of (offset, value); `seen` is what a reader saw while brokers
    died, as (partition, offset, fingerprint): nothing that was shown may change or go.
    """
    complaints = [f"acknowledged two records at {place}" for place in history.twice]
    complaints += [f"producer error: {error}" for error in history.errors]
    final = {}
    for partition, records in enumerate(read):
        complaints += check_partition(history, partition, records, final)
    for place, mark in history.acknowledged.items():
        if place not in final:
            complaints.append(f"lost: acknowledged at {place} and not there")
        elif final[place] != mark:
            complaints.append(f"moved: {place} holds another record than the one acknowledged there")
    for partition, offset, mark in seen:
        if final.get((partition, offset)) != mark:
            complaints.append(f"unseen: a reader saw another record at {(partition, offset)} than there is now")
    return complaints


def check_partition(history, partition, records, final):
    """One partition by itself: dense, nothing twice, nothing foreign, in the order in which it was sent."""
    expected_offset = 0
    highest = -1
    known = set()
    for offset, content in records:
        mark = fingerprint(content)
        final[(partition, offset)] = mark
        if offset != expected_offset:
            yield f"gap: offset {offset} of partition {partition} follows {expected_offset - 1}"
        expected_offset = offset + 1
        sequence = history.sent[partition].get(mark)
        if sequence is None:
            yield f"torn: offset {offset} of partition {partition} holds what nobody sent"
            continue
        if mark in known:
            yield f"twice: sequence {sequence} of partition {partition} again at offset {offset}"
        elif sequence < highest:
            yield f"order: sequence {sequence} of partition {partition} at offset {offset} is behind {highest}"
        known.add(mark)
        highest = max(highest, sequence)
