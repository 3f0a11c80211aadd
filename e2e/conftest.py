"""Fixtures of every suite. Nothing here has a fixed port, path or bucket."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.broker import QUICK_GROUPS, ApacheKafka, Esker
from harness.objects import Minio
from harness.serving import SERVED

JOBS_AT_ONCE = int(os.environ.get("JOBS", "5"))


def pytest_configure(config):
    config.addinivalue_line("markers", "job(run): what the fixture `outcome` runs beside the jobs of other tests")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("session")


@pytest.fixture(scope="session")
def broker(folder):
    """One broker for all tests that do not stop it. PEER=kafka asks Apache Kafka the same questions."""
    running = under_test(folder, options=QUICK_GROUPS).start()
    yield running
    running.assert_sound()
    for served in SERVED:
        served.close()
    running.kill()


def under_test(folder, **options):
    """The broker that the tests are about."""
    if os.environ.get("PEER") == "kafka":
        return ApacheKafka(folder / "kafka", **options)
    return Esker(folder / "esker", **options)


@pytest.fixture
def own_broker(tmp_path):
    """A broker of the kind under test for a test that stops it."""
    running = under_test(tmp_path, options=QUICK_GROUPS).start()
    yield running
    running.assert_sound()
    running.kill()


@pytest.fixture(scope="module")
def jobs(request, broker, folder):
    """Starts the job of every selected test of a module at once, a few at a time: most of it is waiting."""
    pool = ThreadPoolExecutor(JOBS_AT_ONCE)
    started = {}
    for item in request.session.items:
        marker = item.get_closest_marker("job")
        if marker and item.module is request.module:
            arguments = [value for value in item.callspec.params.values()]
            started[item.nodeid] = pool.submit(marker.kwargs["run"], broker, folder / item.name, *arguments)
    yield started
    pool.shutdown(wait=True, cancel_futures=True)


@pytest.fixture
def outcome(request, jobs):
    """What the job of this test returns, in the end: `@pytest.mark.job(run=function)` names it."""
    return jobs[request.node.nodeid].result


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
