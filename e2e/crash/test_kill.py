"""Twenty kills under idempotent load: nothing lost, moved, torn or twice. Planted bugs must be found."""

import os

import pytest

from harness import tools
from harness.broker import Esker, planted_binary
from harness.crash import kill_again_and_again
from harness.history import COMPLAINTS_MAX, check

KILLS = 200 if tools.full() else 20
# A planted bug is looked for in short runs, each with another seed, until one shows it.
KILLS_PER_ATTEMPT = 3
ATTEMPTS = 7
# A bug may leave the producer without an answer that it can use; the attempt is over then.
PROGRESS_SECONDS = 10
SEED = int(os.environ.get("SEED", "1"))
PLANTED = ("ack-before-write", "cut-batch", "keep-truncated-tail")


def complaints_of(broker, kills, seed, **more):
    history, seen, read, unreadable = kill_again_and_again(broker, kills, seed, **more)
    return unreadable + check(history, read, seen), history


def test_twenty_kills_lose_and_repeat_nothing(esker, jobs):
    broker = esker()
    complaints, history = complaints_of(broker, KILLS, SEED)
    assert not complaints, f"seed {SEED}: {len(complaints)} complaints, first: {complaints[:COMPLAINTS_MAX]}"
    assert len(history.acknowledged) > KILLS * 200, "the load ran through all kills"
    assert broker.starts == KILLS + 1
    broker.assert_sound()


def look_for(_, folder, bug):
    """Short runs of a binary with a bug until one shows it; its complaints, or those of the last."""
    for attempt in range(ATTEMPTS):
        broker = Esker(folder / f"attempt-{attempt}", binary=planted_binary(), options={"planted.bug": bug})
        try:
            complaints, _ = complaints_of(broker, KILLS_PER_ATTEMPT, SEED + attempt, progress_seconds=PROGRESS_SECONDS)
        finally:
            broker.kill()
        # What the producer noticed does not count: the content must show it.
        complaints = [complaint for complaint in complaints if not complaint.startswith("producer error")]
        if complaints:
            break
    return complaints


@pytest.mark.parametrize("bug", PLANTED)
@pytest.mark.job(run=look_for)
def test_the_checker_finds_a_planted_bug(outcome, bug):
    assert outcome(), f"seed {SEED}: {bug} was not noticed in {ATTEMPTS} attempts"
