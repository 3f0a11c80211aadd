"""Real bytes as records: what a system has in /usr/share, crate sources and jars, a line or a chunk each."""

import hashlib
import itertools
import os
from pathlib import Path

from harness import tools

CHUNK_BYTES = 16 * 1024
# One file of text in so many is sent line by line: enough small records, without days of them.
FILES_PER_LINEWISE_FILE = 8
FIRST_TIMESTAMP = 1_700_000_000_000
# Timestamps rise by a millisecond every few records, with steps back, as those of many writers do.
RECORDS_PER_MS = 3
JITTER_MS = 20


def sources():
    """Folders with real content, in the order in which they are read."""
    cargo = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    return [path for path in (cargo / "registry/src", tools.folder() / "kafka", Path("/usr/share")) if path.exists()]


def files():
    for source in sources():
        for folder, names, leaves in os.walk(source, followlinks=False):
            names.sort()
            for leaf in sorted(leaves):
                path = Path(folder, leaf)
                if path.is_file() and not path.is_symlink():
                    yield path


def values(bytes_max):
    """Lines of some text files and chunks of the other files, until `bytes_max` bytes have been given out."""
    left = bytes_max
    # What a small system has is read again until it is enough.
    for index, path in enumerate(itertools.chain.from_iterable(files() for _ in itertools.count())):
        try:
            content = path.read_bytes()
        except OSError:
            continue
        if index % FILES_PER_LINEWISE_FILE or b"\0" in content[:CHUNK_BYTES]:
            pieces = (content[at : at + CHUNK_BYTES] for at in range(0, len(content), CHUNK_BYTES))
        else:
            pieces = (line[:CHUNK_BYTES] for line in content.splitlines())
        for piece in pieces:
            yield piece
            left -= len(piece)
            if left <= 0:
                return


def timestamp(index):
    """The time of the n-th record of a partition."""
    return FIRST_TIMESTAMP + index // RECORDS_PER_MS - index * 7919 % JITTER_MS


class Digest:
    """A running hash of one partition: offsets, timestamps and values, in order."""

    def __init__(self):
        self.hash = hashlib.blake2b(digest_size=16)
        self.count = 0

    def add(self, offset, timestamp, value):
        self.hash.update(b"%d %d %d\n" % (offset, timestamp, len(value)))
        self.hash.update(value)
        self.count += 1

    def result(self):
        return self.count, self.hash.hexdigest()


def first_at_or_after(timestamps, wanted):
    """What ListOffsets must answer: the first offset whose timestamp is not below `wanted`."""
    for offset, timestamp in enumerate(timestamps):
        if timestamp >= wanted:
            return offset
    return None
