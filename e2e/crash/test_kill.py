"""Twenty kills under idempotent load: nothing lost, moved, torn or twice. Planted bugs must be found."""

import os

import pytest

from harness import tools
from harness.broker import planted_binary
from harness.crash import kill_again_and_again
from harness.history import COMPLAINTS_MAX, check

KILLS = 200 if tools.full() else 20
# A planted bug is looked for in short runs, each with another seed, until one shows it.
KILLS_PER_ATTEMPT = 3
ATTEMPTS = 7
SEED = int(os.environ.get("SEED", "1"))
PLANTED = ("ack-before-write", "cut-batch", "keep-truncated-tail")


def complaints_of(broker, kills, seed):
    history, seen, read, unreadable = kill_again_and_again(broker, kills, seed)
    return unreadable + check(history, read, seen), history


def test_twenty_kills_lose_and_repeat_nothing(esker):
    broker = esker()
    complaints, history = complaints_of(broker, KILLS, SEED)
    assert not complaints, f"seed {SEED}: {len(complaints)} complaints, first: {complaints[:COMPLAINTS_MAX]}"
    assert len(history.acknowledged) > KILLS * 200, "the load ran through all kills"
    assert broker.starts == KILLS + 1
    broker.assert_sound()


@pytest.mark.parametrize("bug", PLANTED)
def test_the_checker_finds_a_planted_bug(esker, bug):
    for attempt in range(ATTEMPTS):
        broker = esker(f"attempt-{attempt}", binary=planted_binary(), options={"planted.bug": bug})
        complaints, _ = complaints_of(broker, KILLS_PER_ATTEMPT, SEED + attempt)
        broker.kill()
        # What the producer noticed does not count: the content must show it.
        if any(not complaint.startswith("producer error") for complaint in complaints):
            return
    pytest.fail(f"seed {SEED}: {bug} was not noticed in {ATTEMPTS} attempts: {complaints}")
