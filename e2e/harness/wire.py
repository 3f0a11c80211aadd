"""Just enough of the wire to be rude: frames by hand over raw sockets."""

import socket
import struct

ANSWER_SECONDS_MAX = 20
API_VERSIONS, METADATA, PRODUCE, FETCH = 18, 3, 0, 1


def connect(address, seconds=ANSWER_SECONDS_MAX):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=seconds)


def frame(body):
    return struct.pack(">i", len(body)) + body


def request(api_key, version, body=b"", correlation=7, flexible=False):
    """A request with header version 1, or 2 when flexible."""
    client = b"rude"
    header = struct.pack(">hhih", api_key, version, correlation, len(client)) + client
    return frame(header + (b"\0" if flexible else b"") + body)


def receive(link):
    """The body of one answer, or None when the other side closed or reset the connection."""
    try:
        head = exactly(link, 4)
        return None if head is None else exactly(link, struct.unpack(">i", head)[0])
    except ConnectionError:
        return None


def exactly(link, count):
    data = b""
    while len(data) < count:
        more = link.recv(count - len(data))
        if not more:
            return None
        data += more
    return data


def closes(link, seconds=ANSWER_SECONDS_MAX):
    """Whether the other side ends the connection within `seconds`, whatever it answers before."""
    link.settimeout(seconds)
    try:
        while link.recv(65536):
            pass
        return True
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def ping(address):
    """A well-behaved ApiVersions request on a connection of its own: correlation id and error code."""
    with connect(address) as link:
        link.sendall(request(API_VERSIONS, 0, correlation=41))
        answer = receive(link)
        assert answer is not None, "a well-behaved connection was closed"
        return struct.unpack(">ih", answer[:6])
