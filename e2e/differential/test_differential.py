"""Every case against Apache Kafka and against Esker, and what the whole list reached.

DIFFERENTIAL_JSON=FILE keeps which case reached which version and which error code.
"""

import itertools
import json
import os
from pathlib import Path

import pytest

from . import cases, servers
from .allowed import ALLOWED, ALLOWED_BY_DEFAULT, unexplained
from .compare import differences, lines
from .coverage import Coverage
from .document import HOW, PAGE, page
from .normal import normalise
from .script import run

PAIRS_MIN = 120
SHOWN_MAX = 40
CASES = cases.every()


class Oracle:
    """Apache Kafka plays every case once; its transcripts serve each comparison."""

    def __init__(self, server):
        self.server = server
        self.coverage = Coverage()
        self.played = {}

    def transcript(self, case):
        if case.name not in self.played:
            transcript = run(case, self.server)
            self.coverage.add(transcript)
            self.played[case.name] = normalise(transcript, self.server)
        return self.played[case.name]


@pytest.fixture(scope="module")
def oracle():
    with servers.running(servers.start_kafka) as server:
        oracle = Oracle(server)
        yield oracle
        if file := os.environ.get("DIFFERENTIAL_JSON"):
            Path(file).write_text(json.dumps(oracle.coverage.json(), indent=1) + "\n")


@pytest.fixture(scope="module")
def used():
    """The allowed differences that occurred."""
    return set()


@pytest.fixture(scope="module")
def full():
    with servers.running(servers.start_esker, "full") as server:
        yield server
        server.assert_sound()


@pytest.fixture(scope="module")
def default():
    with servers.running(servers.start_esker, "default") as server:
        yield server
        server.assert_sound()


def compare(case, oracle, esker, validation, used):
    kafka = oracle.transcript(case)
    assert kafka.failure is None, f"the script does not fit Apache Kafka: {kafka.failure}"
    left, allowed = unexplained(differences(kafka, normalise(run(case, esker), esker)), validation)
    used |= allowed
    shown = "\n".join(itertools.islice(lines(left), SHOWN_MAX))
    assert not left, f"{len(left)} unexplained differences\n{shown}"


@pytest.mark.parametrize("name", CASES)
def test_esker_answers_as_kafka_does(name, oracle, full, used):
    compare(CASES[name], oracle, full, "full", used)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.validates])
def test_the_default_validation_differs_only_where_it_is_meant_to(name, oracle, default, used):
    compare(CASES[name], oracle, default, "default", used)


def everything_ran(request):
    return sum(item.originalname == "test_esker_answers_as_kafka_does" for item in request.session.items) == len(CASES)


def test_the_cases_reach_every_version_and_many_errors(request, oracle):
    if not everything_ran(request):
        pytest.skip("only a part of the cases ran")
    print("\n".join(oracle.coverage.lines()))
    assert len(oracle.coverage.pairs()) >= PAIRS_MIN
    assert not oracle.coverage.missing()


def test_the_page_on_compatibility_names_what_ran(request, oracle):
    if not everything_ran(request):
        pytest.skip("only a part of the cases ran")
    written = PAGE.read_text()
    assert page(written, oracle.coverage.json()) == written, f"{PAGE.name} is not what this run gives; write it anew: {HOW}"


def test_every_allowed_difference_occurs(request, used):
    if not everything_ran(request):
        pytest.skip("only a part of the cases ran")
    assert [entry for entry in ALLOWED + ALLOWED_BY_DEFAULT if entry not in used] == []
