"""Records as every client family must see them, and the sets that the round trips use."""

import random
from dataclasses import dataclass, field

# `max.message.bytes` by default: the largest batch on the wire.
BATCH_BYTES_MAX = 1_048_588
# A batch of one record without key or headers and a value of about a megabyte: 61 bytes of batch
# header, 3 of record length, 8 of record fields.
BATCH_OVERHEAD_BYTES = 72
VALUE_BYTES_MAX = BATCH_BYTES_MAX - BATCH_OVERHEAD_BYTES
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@dataclass(frozen=True)
class Record:
    """What a writer hands over. A timestamp of None lets the client choose."""

    value: bytes | None
    key: bytes | None = None
    headers: tuple = ()
    timestamp: int | None = None


@dataclass(frozen=True)
class Read:
    """What a reader got."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple = field(default=())


def letters(seed, size):
    """Printable bytes that compress a little, the same for the same seed."""
    source = random.Random(seed)
    return bytes(source.choices(b"abcdefghijklmnopqrstuvwxyz 0123456789", k=min(size, 4096))) * (size // 4096 + 1)


def text(seed, size):
    return letters(seed, size)[:size]


def sized():
    """Values from nothing to just under the limit, with and without keys and headers, in plain text."""
    sizes = (0, 1, 7, 64, 100, 1000, 4096, 16_383, 16_384, 65_536, 300_000, 1_000_000)
    for index, size in enumerate(sizes):
        key = None if index % 3 == 1 else b"k" + text(index, index)
        headers = tuple((f"h{n}", text(n, n * 3)) for n in range(1, index % 4 + 1))
        yield Record(text(size, size), key, headers, 1_700_000_000_000 + index * 1000)
    yield Record(text(1, 10), b"k", (("twice", b"a"), ("twice", b"b")), 1_700_000_100_000)


def binary():
    """What text cannot carry: every byte, null values, empty keys, null and empty headers."""
    every = bytes(range(256))
    yield Record(every, every, (("every", every),), 1)
    yield Record(None, b"tombstone", (), 2)
    yield Record(b"", None, (), 2)
    yield Record(b"", b"", (("empty", b""), ("null", None)), 3)
    yield Record(random.Random(7).randbytes(700_000), None, (), 1_700_000_000_000)
    yield Record("ünïcödé ✓".encode(), "schlüssel".encode(), (("größe", b"1"),), 1_600_000_000_000)
