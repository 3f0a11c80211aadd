"""Fixtures of every suite. Nothing here has a fixed port, path or bucket."""

import os

import pytest

from harness.broker import ApacheKafka, Esker
from harness.objects import Minio


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("session")


@pytest.fixture(scope="session")
def broker(folder):
    """One broker for all tests that do not stop it. PEER=kafka asks Apache Kafka the same questions."""
    if os.environ.get("PEER") == "kafka":
        running = ApacheKafka(folder / "kafka").start()
    else:
        running = Esker(folder / "esker").start()
    yield running
    running.assert_sound()
    running.kill()


@pytest.fixture
def esker(tmp_path):
    """Makes brokers of a test's own, and kills them afterwards."""
    made = []

    def make(name="esker", **options):
        made.append(Esker(tmp_path / name, **options))
        return made[-1]

    yield make
    for broker in made:
        broker.kill()


@pytest.fixture(scope="session")
def minio(folder):
    """A real S3 server on loopback."""
    server = Minio(folder / "minio").start()
    yield server
    server.kill()
