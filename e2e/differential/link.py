"""One connection to a broker: requests out, decoded answers in."""

import struct

from harness import wire

from .codec import Damaged, api

CLIENT = "differential"
ANSWER_SECONDS_MAX = 30


class Closed(Exception):
    """The broker ended the connection where an answer was due."""


class Silent(Exception):
    """No answer came in time."""


class Link:
    def __init__(self, address):
        self.address = address
        self.socket = wire.connect(address, ANSWER_SECONDS_MAX)
        self.correlation = 0
        self.waiting = []

    def send(self, name, version, body, client_id=CLIENT, answered=True):
        """Sends a request and remembers that its answer is due, unless none is to come."""
        self.correlation += 1
        if answered:
            self.waiting.append((name, version, self.correlation))
        try:
            self.socket.sendall(wire.frame(api(name).encode_request(version, body, self.correlation, client_id)))
        except ConnectionError:
            # The answer, or rather that there is none, tells.
            pass

    def receive(self, seconds=ANSWER_SECONDS_MAX):
        """The answer to the oldest request that has none yet."""
        name, version, correlation = self.waiting.pop(0)
        self.socket.settimeout(seconds)
        try:
            data = wire.receive(self.socket)
        except TimeoutError:
            raise Silent(f"{name} version {version} got no answer") from None
        if data is None:
            raise Closed(f"{name} version {version} closed the connection")
        # A version nobody knows is answered in the format of version 0.
        if name == "ApiVersions" and (version not in api(name).versions or data[4:6] == struct.pack(">h", 35)):
            version = 0
        got, body = api(name).decode_response(version, data)
        if got != correlation:
            raise Damaged(f"{name} version {version}: correlation id {got}, not {correlation}")
        return body

    def close(self):
        self.socket.close()
