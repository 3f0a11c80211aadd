"""From nothing to the first acknowledged record, as fast as a client can ask: raw frames, no client library."""

import struct
import time

from harness import wire

TOPIC = b"first"
TIMEOUT_MS = 1000
PAUSE_SECONDS = 0.001
SECONDS_MAX = 180


def crc32c_table():
    for index in range(256):
        for _ in range(8):
            index = index >> 1 ^ (0x82F63B78 if index & 1 else 0)
        yield index


TABLE = tuple(crc32c_table())


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def batch():
    """One record with the value `x` in a version 2 batch."""
    record = bytes([0, 0, 0, 1, 2]) + b"x" + bytes([0])
    now = int(time.time() * 1000)
    body = struct.pack(">hiqqqhii", 0, 0, now, now, -1, -1, -1, 1) + bytes([len(record) * 2]) + record
    checked = struct.pack(">iBI", -1, 2, crc32c(body)) + body
    return struct.pack(">qi", 0, len(checked)) + checked


def string(text):
    return struct.pack(">h", len(text)) + text


def metadata():
    return wire.request(wire.METADATA, 4, struct.pack(">i", 1) + string(TOPIC) + b"\1")


def produce():
    data = batch()
    body = struct.pack(">hhii", -1, -1, TIMEOUT_MS, 1) + string(TOPIC) + struct.pack(">iii", 1, 0, len(data)) + data
    return wire.request(wire.PRODUCE, 3, body)


def acknowledged(answer):
    """Whether a Produce answer of version 3 says that the record is safe."""
    if answer is None:
        return False
    at = 4 + 4 + 2 + len(TOPIC) + 4 + 4
    return struct.unpack_from(">h", answer, at)[0] == 0


def seconds(address, began):
    """Seconds from `began` to the first acknowledgement; the topic is made on the way if need be."""
    deadline = began + SECONDS_MAX
    while time.monotonic() < deadline:
        try:
            with wire.connect(address) as link:
                while time.monotonic() < deadline:
                    link.sendall(produce())
                    if acknowledged(wire.receive(link)):
                        return time.monotonic() - began
                    link.sendall(metadata())
                    wire.receive(link)
                    time.sleep(PAUSE_SECONDS)
        except OSError:
            time.sleep(PAUSE_SECONDS)
    raise TimeoutError(f"no acknowledgement from {address} within {SECONDS_MAX} s")
