"""Kafka's wire format, driven by the message descriptors that lie in the kafka-clients jar.

A message is a dictionary with Kafka's own field names. Decoding gives exactly the fields that the version has; encoding
takes any of the message's fields, leaves out those that the version lacks, and fills the others with their defaults, so
that one body serves every version of a request.
"""

import base64
import functools
import json
import re
import struct
import zipfile

from harness import tools

COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*')
DESCRIPTORS = "common/message/"
NUMBERS = {"int8": "b", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "float64": "d"}
UUID_BYTES = 16
# How deep a length may lie: a longer varint is damage.
VARINT_BYTES_MAX = 10
LATEST = 1 << 15
TAG = "?tag "


class Uuid(str):
    """A topic, directory or incarnation id in Kafka's text form: a type of its own, so that ids can be told from names."""


ZERO_UUID = Uuid("AAAAAAAAAAAAAAAAAAAAAA")
# Well formed, and given to nothing.
NOBODYS_ID = Uuid("AAAAAAAAAAAAAAAAAAAAAQ")


class Damaged(Exception):
    """Bytes that are not the message they should be."""


class Versions:
    """A range as descriptors write it: `3+`, `0-2`, `4` or `none`."""

    def __init__(self, text):
        low, _, high = (text or "none").partition("-")
        if low == "none":
            self.low, self.high = 1, 0
        elif low.endswith("+"):
            self.low, self.high = int(low[:-1]), LATEST
        else:
            self.low, self.high = int(low), int(high or low)

    def __contains__(self, version):
        return self.low <= version <= self.high

    def __iter__(self):
        return iter(range(self.low, self.high + 1))


class Field:
    """One field of a struct."""

    def __init__(self, text, structs):
        self.name = text["name"]
        self.array = text["type"].startswith("[]")
        self.type = text["type"].removeprefix("[]")
        self.versions = Versions(text.get("versions") or text.get("taggedVersions"))
        self.nullable = Versions(text.get("nullableVersions"))
        self.tagged = Versions(text.get("taggedVersions"))
        self.tag = text.get("tag")
        # A range of its own is rare: the client id of the request header is never flexible.
        self.flexible = Versions(text["flexibleVersions"]) if "flexibleVersions" in text else None
        self.key = text.get("mapKey", False)
        if "fields" in text:
            structs[self.type] = [Field(inner, structs) for inner in text["fields"]]
        self.default = self._default(text.get("default"))

    def _default(self, text):
        if text == "null":
            return None
        if self.array:
            return []
        if self.type in NUMBERS:
            return float(text or 0) if self.type == "float64" else int(str(text or "0"), 0)
        if self.type == "bool":
            return str(text).lower() == "true"
        if self.type == "string":
            return text or ""
        if self.type == "uuid":
            return ZERO_UUID
        if self.type in ("bytes", "records"):
            return b""
        return {}


class Message:
    """A request, response or header of all its versions."""

    def __init__(self, text):
        self.name = text["name"]
        self.api_key = text.get("apiKey")
        self.listeners = text.get("listeners", [])
        self.versions = Versions(text["validVersions"])
        self.flexible = Versions(text.get("flexibleVersions"))
        self.unstable = text.get("latestVersionUnstable", False)
        self.structs = {}
        for common in text.get("commonStructs", []):
            self.structs[common["name"]] = [Field(inner, self.structs) for inner in common["fields"]]
        self.fields = [Field(inner, self.structs) for inner in text.get("fields", [])]

    def encode(self, version, body):
        out = bytearray()
        Writer(self, version, out).struct(self.fields, body, self.name)
        return bytes(out)

    def decode(self, version, data, position=0):
        """The body and the position after it."""
        reader = Reader(self, version, data, position)
        body = reader.struct(self.fields)
        return body, reader.position


class Writer:
    def __init__(self, message, version, out):
        self.structs = message.structs
        self.version = version
        self.is_flexible = version in message.flexible
        self.out = out

    def struct(self, fields, body, where):
        unknown = set(body) - {field.name for field in fields}
        if any(not name.startswith(TAG) for name in unknown):
            raise KeyError(f"{where} has no {sorted(unknown)}")
        tagged = {int(name.removeprefix(TAG)): body[name] for name in unknown}
        for field in fields:
            if self.version not in field.versions:
                continue
            value = body.get(field.name, field.default)
            if self.version in field.tagged:
                if field.name in body and value != field.default:
                    inner = Writer.__new__(Writer)
                    inner.__dict__.update(self.__dict__, out=bytearray())
                    inner.field(field, value, where)
                    tagged[field.tag] = bytes(inner.out)
            else:
                self.field(field, value, where)
        if self.is_flexible:
            self.varint(len(tagged))
            for tag, content in sorted(tagged.items()):
                self.varint(tag)
                self.varint(len(content))
                self.out += content

    def field(self, field, value, where):
        where = f"{where}.{field.name}"
        compact = self.is_flexible if field.flexible is None else self.version in field.flexible
        if value is None and self.version not in field.nullable:
            # Where an older version has no null, its default or emptiness says the same.
            value = field.default if field.default is not None else ([] if field.array else "" if field.type == "string" else b"")
        if field.array:
            self.length(value, compact, "i")
            for item in value or ():
                self.value(field, item, compact, where)
        else:
            self.value(field, value, compact, where)

    def value(self, field, value, compact, where):
        kind = field.type
        try:
            if kind in NUMBERS:
                self.out += struct.pack(">" + NUMBERS[kind], value)
            elif kind == "bool":
                self.out.append(1 if value else 0)
            elif kind == "string":
                data = None if value is None else value.encode()
                self.length(data, compact, "h")
                self.out += data or b""
            elif kind == "uuid":
                self.out += uuid_bytes(value)
            elif kind in ("bytes", "records"):
                self.length(value, compact, "i")
                self.out += value or b""
            else:
                if self.version in field.nullable and not field.array:
                    self.out += b"\xff" if value is None else b"\x01"
                if value is not None:
                    self.struct(self.structs[kind], value, where)
        except (struct.error, AttributeError, TypeError) as error:
            raise TypeError(f"{where}: {value!r} is no {kind}: {error}") from error

    def length(self, value, compact, code):
        if compact:
            self.varint(0 if value is None else len(value) + 1)
        else:
            self.out += struct.pack(">" + code, -1 if value is None else len(value))

    def varint(self, number):
        while number > 0x7F:
            self.out.append(number & 0x7F | 0x80)
            number >>= 7
        self.out.append(number)


class Reader:
    def __init__(self, message, version, data, position):
        self.structs = message.structs
        self.version = version
        self.is_flexible = version in message.flexible
        self.data = data
        self.position = position

    def struct(self, fields):
        body = {}
        tagged = {}
        for field in fields:
            if self.version in field.tagged:
                tagged[field.tag] = field
            elif self.version in field.versions:
                body[field.name] = self.field(field)
        if self.is_flexible:
            for _ in range(self.varint()):
                tag, size = self.varint(), self.varint()
                end = self.position + size
                field = tagged.get(tag)
                if field is None:
                    body[f"{TAG}{tag}"] = self.take(size)
                    continue
                body[field.name] = self.field(field)
                if self.position != end:
                    raise Damaged(f"tagged field {field.name} does not fill its {size} bytes")
        return body

    def field(self, field):
        compact = self.is_flexible if field.flexible is None else self.version in field.flexible
        if not field.array:
            return self.value(field, compact)
        count = self.length(compact, "i", field)
        return None if count is None else [self.value(field, compact) for _ in range(count)]

    def value(self, field, compact):
        kind = field.type
        if kind in NUMBERS:
            code = ">" + NUMBERS[kind]
            return struct.unpack(code, self.take(struct.calcsize(code)))[0]
        if kind == "bool":
            byte = self.take(1)[0]
            if byte > 1:
                raise Damaged(f"{field.name}: {byte} is no bool")
            return byte == 1
        if kind == "uuid":
            return uuid_text(self.take(UUID_BYTES))
        if kind == "string":
            size = self.length(compact, "h", field)
            return None if size is None else self.take(size).decode()
        if kind in ("bytes", "records"):
            size = self.length(compact, "i", field)
            return None if size is None else bytes(self.take(size))
        if self.version in field.nullable and not field.array:
            if struct.unpack("b", self.take(1))[0] < 0:
                return None
        return self.struct(self.structs[kind])

    def length(self, compact, code, field):
        if compact:
            size = self.varint() - 1
        else:
            size = struct.unpack(">" + code, self.take(struct.calcsize(code)))[0]
        if size < -1 or size > len(self.data):
            raise Damaged(f"{field.name}: length {size}")
        if size == -1:
            if self.version not in field.nullable:
                raise Damaged(f"{field.name} is null in version {self.version}")
            return None
        return size

    def take(self, count):
        if count > len(self.data) - self.position:
            raise Damaged(f"{count} bytes wanted at {self.position} of {len(self.data)}")
        self.position += count
        return self.data[self.position - count : self.position]

    def varint(self):
        number = 0
        for index in range(VARINT_BYTES_MAX):
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return number
        raise Damaged("varint without end")


def uuid_text(data):
    return Uuid(base64.urlsafe_b64encode(data).decode().rstrip("="))


def uuid_bytes(text):
    data = base64.urlsafe_b64decode(text + "==")
    if len(data) != UUID_BYTES:
        raise TypeError(f"{text!r} is no id")
    return data


@functools.cache
def messages():
    """Every descriptor of the jar by its name, headers and records included."""
    jar = next((tools.folder() / "kafka").glob("kafka-clients-*.jar"))
    found = {}
    with zipfile.ZipFile(jar) as archive:
        for name in archive.namelist():
            if name.startswith(DESCRIPTORS) and name.endswith(".json"):
                text = json.loads(COMMENT.sub(lambda match: match[1] or "", archive.read(name).decode()))
                if "validVersions" in text:
                    message = Message(text)
                    found[message.name] = message
    return found


class Api:
    """One request with its response."""

    def __init__(self, name):
        self.name = name
        self.request = messages()[f"{name}Request"]
        self.response = messages()[f"{name}Response"]
        self.key = self.request.api_key
        # The newest version of a few requests is still being worked on and never advertised.
        self.versions = [
            version for version in self.request.versions if not (self.request.unstable and version == self.request.versions.high)
        ]

    def encode_request(self, version, body, correlation, client_id):
        """Header and body, without the length of the frame."""
        header = messages()["RequestHeader"]
        fields = {"RequestApiKey": self.key, "RequestApiVersion": version, "CorrelationId": correlation, "ClientId": client_id}
        flexible = version in self.request.flexible
        content = body if isinstance(body, bytes) else self.request.encode(version, body)
        return header.encode(2 if flexible else 1, fields) + content

    def decode_response(self, version, data):
        """The correlation id and the body. The header of ApiVersions never grew."""
        flexible = version in self.response.flexible and self.name != "ApiVersions"
        header, position = messages()["ResponseHeader"].decode(1 if flexible else 0, data)
        body, end = self.response.decode(version, data, position)
        if end != len(data):
            raise Damaged(f"{self.name} version {version}: {len(data) - end} bytes after the response")
        return header["CorrelationId"], body


@functools.cache
def api(name):
    return Api(name)


@functools.cache
def broker_apis():
    """The names of all APIs that a broker listens to, by key."""
    found = {
        m.api_key: m.name.removesuffix("Request")
        for m in messages().values()
        if m.name.endswith("Request") and "broker" in m.listeners
    }
    return dict(sorted(found.items()))
