"""Record batches of format 2: built with any flaw a test wants, and read into plain values."""

import gzip
import struct
import time as clock
from dataclasses import dataclass

import lz4.frame
import snappy
import zstandard

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
HEAD = struct.Struct(">qiibIhiqqqhii")
HEAD_BYTES = HEAD.size
CRC_FROM = 21
LENGTH_FROM = 12
LOG_APPEND_TIME, TRANSACTIONAL, CONTROL = 8, 16, 32
CODEC_MASK = 7
POLYNOMIAL = 0x82F63B78
DAY_MS = 86_400_000
# When records are from: longer ago than what counts as now, and not so long that retention takes them.
TIME = (int(clock.time() * 1000) // DAY_MS - 2) * DAY_MS


def _table():
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (POLYNOMIAL if byte & 1 else 0)
        yield byte


TABLE = tuple(_table())


def crc32c(data):
    crc = 0xFFFFFFFF
    table = TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def zigzag(number):
    number = number << 1 ^ number >> 63
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def unzigzag(data, position):
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number >> 1 ^ -(number & 1), position


def blob(content):
    return zigzag(-1) if content is None else zigzag(len(content)) + content


@dataclass(frozen=True)
class Record:
    """One record of a batch to build; times and offsets count from the batch's own."""

    value: bytes | None = b"v"
    key: bytes | None = None
    headers: tuple = ()
    time: int = 0
    offset: int | None = None
    attributes: int = 0

    def encode(self, index):
        offset = index if self.offset is None else self.offset
        body = struct.pack("b", self.attributes) + zigzag(self.time) + zigzag(offset) + blob(self.key) + blob(self.value)
        body += zigzag(len(self.headers))
        for name, content in self.headers:
            body += blob(name.encode()) + blob(content)
        return zigzag(len(body)) + body


def compress(codec, data):
    if codec == "gzip":
        return gzip.compress(data, mtime=0)
    if codec == "snappy":
        return snappy.compress(data)
    if codec == "lz4":
        return lz4.frame.compress(data, block_linked=False)
    if codec == "zstd":
        return zstandard.compress(data)
    return data


def decompress(codec, data):
    if codec == "gzip":
        return gzip.decompress(data)
    if codec == "snappy":
        if data.startswith(b"\x82SNAPPY\0"):
            return xerial(data)
        return snappy.decompress(data)
    if codec == "lz4":
        return lz4.frame.decompress(data)
    if codec == "zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data


def xerial(data):
    """Snappy in the frames that Java writes: a header of 16 bytes, then blocks with their lengths."""
    out, position = b"", 16
    while position < len(data):
        (size,) = struct.unpack_from(">i", data, position)
        out += snappy.decompress(data[position + 4 : position + 4 + size])
        position += 4 + size
    return out


def batch(*records, codec="none", producer=(-1, -1, -1), time=TIME, attributes=0, base_offset=0, magic=2, count=None,
          last_delta=None, crc=None, leader_epoch=-1, length=None, max_time=None, payload=None):  # fmt: skip
    """The bytes of one batch. Everything after `attributes` is there to be wrong."""
    records = records or (Record(),)
    body = compress(codec, b"".join(record.encode(index) for index, record in enumerate(records))) if payload is None else payload
    latest = time + max(record.time for record in records) if max_time is None else max_time
    tail = struct.pack(
        ">hiqqqhii",
        CODECS[codec] | attributes,
        len(records) - 1 if last_delta is None else last_delta,
        time,
        latest,
        *producer,
        len(records) if count is None else count,
    )
    checked = tail + body
    size = HEAD_BYTES - LENGTH_FROM + len(body) if length is None else length
    return struct.pack(">qiibI", base_offset, size, leader_epoch, magic, crc32c(checked) if crc is None else crc) + checked


def read(data):
    """What lies in the records field of a fetch: whole batches as dictionaries, then the size of a cut-off rest."""
    found = []
    position = 0
    while position + HEAD_BYTES <= len(data):
        (size,) = struct.unpack_from(">i", data, position + 8)
        end = position + LENGTH_FROM + size
        if size < HEAD_BYTES - LENGTH_FROM or end > len(data):
            break
        found.append(read_batch(data[position:end]))
        position = end
    return {"batches": found, "rest": len(data) - position}


def read_batch(data):
    base, size, epoch, magic, crc, attributes, last, first_time, max_time, pid, producer_epoch, sequence, count = (
        HEAD.unpack_from(data)
    )
    codec = next((name for name, number in CODECS.items() if number == attributes & CODEC_MASK), None)
    result = {
        "BaseOffset": base, "Bytes": size, "LeaderEpoch": epoch, "Magic": magic, "CrcHolds": crc == crc32c(data[CRC_FROM:]),
        "Attributes": attributes, "LastOffsetDelta": last, "BaseTimestamp": first_time, "MaxTimestamp": max_time,
        "ProducerId": pid, "ProducerEpoch": producer_epoch, "BaseSequence": sequence, "Count": count,
    }  # fmt: skip
    try:
        result["Records"] = read_records(decompress(codec, data[HEAD_BYTES:]), count)
    except Exception:  # noqa: BLE001 - bytes made to be wrong cannot be read, and are compared as they are
        result["Records"] = data[HEAD_BYTES:]
    return result


def read_records(data, count):
    found = []
    position = 0
    for _ in range(count):
        size, position = unzigzag(data, position)
        end = position + size
        attributes = data[position]
        time, position = unzigzag(data, position + 1)
        offset, position = unzigzag(data, position)
        key, position = read_blob(data, position)
        value, position = read_blob(data, position)
        headers, position = unzigzag(data, position)
        pairs = []
        for _ in range(headers):
            name, position = read_blob(data, position)
            content, position = read_blob(data, position)
            pairs.append([name, content])
        if position != end:
            raise ValueError("a record does not fill its length")
        found.append({"Attributes": attributes, "Time": time, "Offset": offset, "Key": key, "Value": value, "Headers": pairs})
    if position != len(data):
        raise ValueError("bytes after the last record")
    return found


def read_blob(data, position):
    size, position = unzigzag(data, position)
    if size < 0:
        return None, position
    if position + size > len(data):
        raise ValueError("a field beyond the end")
    return data[position : position + size], position + size
