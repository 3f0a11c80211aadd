"""The codec against itself and against Kafka's rules; no broker needed."""

import random

import pytest

from differential import batches, codec
from differential.codec import Damaged, Uuid, Versions, messages

NAMES = sorted(name for name, message in messages().items() if message.fields)


def sample(message, fields, version, source, sparse):
    """A body with a value in every field of the version, or in some of them."""
    body = {}
    for field in fields:
        if version not in field.versions:
            continue
        if sparse and source.random() < 0.5:
            continue
        if version in field.nullable and source.random() < 0.3:
            body[field.name] = None
        elif field.array:
            body[field.name] = [one(message, field, version, source, sparse) for _ in range(source.randrange(3))]
        else:
            body[field.name] = one(message, field, version, source, sparse)
    return body


def one(message, field, version, source, sparse):
    if field.type in codec.NUMBERS:
        bits = {"b": 8, "h": 16, "H": 16, "i": 32, "I": 32, "q": 64, "d": 16}[codec.NUMBERS[field.type]]
        number = source.randrange(2 ** (bits - 1))
        return (
            float(number)
            if field.type == "float64"
            else number
            if field.type.startswith("u")
            else number * source.choice((1, -1))
        )
    if field.type == "bool":
        return source.random() < 0.5
    if field.type == "string":
        return "".join(source.choices("abcßæ✓", k=source.randrange(200)))
    if field.type == "uuid":
        return codec.uuid_text(source.randbytes(16))
    if field.type in ("bytes", "records"):
        return source.randbytes(source.randrange(300))
    return sample(message, message.structs[field.type], version, source, sparse)


def filled(message, fields, version, body):
    """What decoding gives back: tagged fields at their default are not on the wire, all others are."""
    full = {}
    for field in fields:
        if version not in field.versions:
            continue
        value = body.get(field.name, field.default)
        if version in field.tagged and (field.name not in body or value == field.default):
            continue
        if value is None and version not in field.nullable:
            value = [] if field.array else "" if field.type == "string" else b""
        if field.type in message.structs and value is not None:
            inner = message.structs[field.type]
            value = (
                [filled(message, inner, version, item) for item in value]
                if field.array
                else filled(message, inner, version, value)
            )
        full[field.name] = value
    return full


@pytest.mark.parametrize("name", NAMES)
def test_every_version_of_every_message_survives_the_way_to_bytes_and_back(name):
    message = messages()[name]
    source = random.Random(name)
    for version in message.versions:
        for sparse in (False, True, True):
            body = sample(message, message.fields, version, source, sparse)
            data = message.encode(version, body)
            assert message.decode(version, data) == (filled(message, message.fields, version, body), len(data))


def test_a_cut_message_is_damaged():
    message = messages()["MetadataResponse"]
    data = message.encode(12, {"Brokers": [{"NodeId": 1, "Host": "h", "Port": 9}], "ClusterId": "c"})
    for size in range(len(data)):
        with pytest.raises(Damaged):
            message.decode(12, data[:size])


def test_an_unknown_tag_is_kept():
    message = messages()["ApiVersionsRequest"]
    data = message.encode(3, {"ClientSoftwareName": "n", f"{codec.TAG}77": b"abc"})
    assert message.decode(3, data)[0][f"{codec.TAG}77"] == b"abc"


def test_a_field_that_no_version_has_is_a_mistake():
    with pytest.raises(KeyError, match="Topic"):
        messages()["FetchRequest"].encode(4, {"Topic": []})


def test_known_bytes():
    """Worked out by hand from the protocol's guide."""
    request = codec.api("ApiVersions").encode_request(3, {"ClientSoftwareName": "a", "ClientSoftwareVersion": "1"}, 5, "c")
    assert request == bytes.fromhex("0012 0003 00000005 0001 63 00 02 61 02 31 00")
    request = codec.api("Metadata").encode_request(1, {"Topics": None}, 5, None)
    assert request == bytes.fromhex("0003 0001 00000005 ffff ffffffff")


def test_versions_read_as_descriptors_write_them():
    assert (2 in Versions("3+"), 3 in Versions("3+"), 900 in Versions("3+")) == (False, True, True)
    assert list(Versions("0-2")) == [0, 1, 2] and list(Versions("4")) == [4] and list(Versions("none")) == []


def test_ids_keep_their_text():
    text = Uuid("MkU3OEVBNTcwNTJENDM2Qg")
    assert codec.uuid_text(codec.uuid_bytes(text)) == text


def test_the_checksum_is_castagnoli():
    assert batches.crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("name", batches.CODECS)
def test_a_batch_reads_as_it_was_built(name):
    records = (
        batches.Record(b"one", b"key", (("h", b"x"), ("n", None)), 5),
        batches.Record(None, None, (), -7),
        batches.Record(b"x" * 300),
    )
    data = batches.batch(*records, codec=name, producer=(7, 1, 9))
    whole = batches.read(data + data[:70])
    (got,) = whole["batches"]
    assert whole["rest"] == 70 and got["CrcHolds"] and got["Count"] == 3 and got["MaxTimestamp"] == batches.TIME + 5
    assert (got["ProducerId"], got["ProducerEpoch"], got["BaseSequence"]) == (7, 1, 9)
    assert [(r["Value"], r["Key"], r["Time"], r["Offset"]) for r in got["Records"]] == [
        (b"one", b"key", 5, 0), (None, None, -7, 1), (b"x" * 300, None, 0, 2),
    ]  # fmt: skip
    assert got["Records"][0]["Headers"] == [[b"h", b"x"], [b"n", None]]
