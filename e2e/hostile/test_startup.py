"""What is wrong at the start is said in one clear line, with the exit status of its kind, and nothing is touched."""

import os
import socket
import tempfile
import shutil
from pathlib import Path

import pytest

from harness.broker import LOOPBACK
from harness.clients import Confluent, create_topic
from harness.records import Record

EXIT_SECONDS_MAX = 20
FAILED, BAD_USAGE = 1, 2
NOBODY = 65534


def refused(broker, status, *needles, user=None):
    """Starts a broker that must refuse: its status, and one line of stderr that names all `needles`."""
    process = broker.spawn(user)
    assert process.child.wait(EXIT_SECONDS_MAX) == status, process.stderr()
    said = process.stderr()
    assert "panicked" not in said and "ready " not in process.stdout()
    lines = [line for line in said.splitlines() if all(needle in line for needle in needles)]
    assert len(lines) == 1, f"one line with {needles} expected in:\n{said}"
    if status == BAD_USAGE:
        assert len(said.strip().splitlines()) == 1, said
    return lines[0]


def snapshot(folder):
    """Every file below a folder with its bytes."""
    return {path: path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


@pytest.fixture
def used(esker):
    """A broker that stopped cleanly with one record in its log."""
    broker = esker(object_store="none").start()
    topic = create_topic(broker, name="kept")
    Confluent().write(broker.bootstrap, topic, [Record(b"kept")], "none")
    broker.stop()
    yield broker


def assert_nothing_lost(broker):
    broker.start()
    assert [record.value for record in Confluent().read(broker.bootstrap, "kept", 1)] == [b"kept"]


@pytest.mark.parametrize(
    ("given", "nearest"),
    [("log.segment.byte", "log.segment.bytes"), ("log.retention.mss", "log.retention.ms"), ("log.durabilty", "log.durability")],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(esker, given, nearest):
    broker = esker(options={given: "1"})
    refused(broker, BAD_USAGE, given, nearest)
    assert not broker.data_dir.exists(), "nothing is made before the configuration is sound"


@pytest.mark.parametrize(
    ("key", "value"), [("log.segment.bytes", "many"), ("log.durability", "maybe"), ("num.partitions", "-3")]
)
def test_a_bad_value_is_refused_with_its_key(esker, key, value):
    refused(esker(options={key: value}), BAD_USAGE, key, value)


def test_a_bad_address_and_a_bad_store_are_refused(esker):
    for broker, needle in ((esker(object_store="ftp://nowhere"), "ftp"), (esker("listener"), "nowhere")):
        if needle == "nowhere":
            broker.listen = "nowhere"
        refused(broker, BAD_USAGE, needle)


def meta_properties(broker):
    found = list(broker.data_dir.rglob("meta.properties"))
    assert found
    return found


def test_a_directory_of_another_cluster_is_refused(used):
    for path in meta_properties(used):
        lines = path.read_text().splitlines()
        path.write_text("\n".join("cluster.id=AAAAAAAAAAAAAAAAAAAAAA" if line.startswith("cluster.id=") else line for line in lines) + "\n")
    before = {path: data for path, data in snapshot(used.data_dir).items() if path.suffix == ".log"}
    refused(used, FAILED, "AAAAAAAAAAAAAAAAAAAAAA", "cluster")
    assert {path: path.read_bytes() for path in before} == before


def test_a_directory_of_a_newer_version_is_refused(used):
    original = {path: path.read_text() for path in meta_properties(used)}
    for path, text in original.items():
        path.write_text("\n".join("version=99" if line.startswith("version=") else line for line in text.splitlines()) + "\n")
    refused(used, FAILED, "99", "version")
    for path, text in original.items():
        path.write_text(text)
    assert_nothing_lost(used)


def test_a_port_in_use_is_named(used):
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        address = f"{LOOPBACK}:{taken.getsockname()[1]}"
        used.listen = address
        refused(used, FAILED, address)
    used.listen = f"{LOOPBACK}:0"
    assert_nothing_lost(used)


def test_a_directory_in_use_by_another_process_is_refused(used, esker):
    used.start()
    refused(esker("second", data_dir=used.data_dir, object_store="none"), FAILED, str(used.data_dir))
    used.assert_sound()


@pytest.fixture
def foreign():
    """A folder that the user `nobody` may enter, with a binary it may run."""
    folder = Path(tempfile.mkdtemp(prefix="esker-e2e-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_directory_without_permission_is_named(esker, foreign):
    data_dir = foreign / "data"
    data_dir.mkdir(mode=0o700)
    binary = Path(shutil.copy(os.environ["ESKER_BIN"], foreign / "esker"))
    binary.chmod(0o755)
    if os.geteuid() == 0:
        refused(esker(data_dir=data_dir, binary=binary), FAILED, str(data_dir), "ermission", user=NOBODY)
    else:
        data_dir.chmod(0)
        refused(esker(data_dir=data_dir, binary=binary), FAILED, str(data_dir), "ermission")
        data_dir.chmod(0o700)
