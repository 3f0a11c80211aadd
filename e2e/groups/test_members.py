"""Groups of every client while members join, leave, die and stand still: the checker has nothing to say."""

import pytest

from harness import tools
from harness.members import KINDS, LONG_ONLY, Group, Load
from harness.ownership import COMPLAINTS_MAX, check

CHOSEN = [kind for name, kind in KINDS.items() if tools.full() or name not in LONG_ONLY]
# One way to be fenced per client and protocol is enough.
PAUSED = [kind for kind in CHOSEN if tools.full() or not kind.name.endswith("cooperative")]


def of(kinds):
    return pytest.mark.parametrize("kind", kinds, ids=lambda kind: kind.name)


def come_and_go(broker, folder, kind):
    """Members join one by one, one leaves, one dies, another comes; at the end one starts all over."""
    group = Group(broker, kind, folder)
    try:
        with Load(broker, group.topic, len(group.partitions)) as load:
            first = group.start()
            group.settle(first)
            second = group.start()
            group.settle(first, second)
            third = group.start()
            group.settle(first, second, third)
            group.sample()
            third.leave()
            group.settle(first, second)
            group.sample()
            second.kill()
            fourth = group.start()
            group.settle(first, fourth)
            group.sample()
            first.leave()
            group.settle(fourth)
            ends = load.finish()
        group.await_committed(ends)
        fourth.leave()
        # Nothing is left to see for a member that comes later, but what is written from now on.
        with Load(broker, group.topic, len(group.partitions)) as load:
            fifth = group.start()
            group.settle(fifth)
            more = load.finish()
        ends = {partition: end + more[partition] for partition, end in ends.items()}
        group.await_committed(ends)
        fifth.leave()
        return check(group.tales(), ends, group.samples)
    finally:
        group.close()


@of(CHOSEN)
@pytest.mark.job(run=come_and_go)
def test_members_come_go_and_die_and_every_record_is_seen(outcome, kind):
    complaints = outcome()
    assert not complaints, complaints[:COMPLAINTS_MAX]


def stand_still(broker, folder, kind):
    """A member is stopped for longer than its session; the others take over, and it comes back."""
    group = Group(broker, kind, folder)
    try:
        with Load(broker, group.topic, len(group.partitions)) as load:
            first = group.start()
            group.settle(first)
            second = group.start()
            group.settle(first, second)
            first.pause()
            group.settle(second)
            group.sample()
            first.resume()
            group.settle(first, second)
            ends = load.finish()
        group.await_committed(ends)
        first.leave()
        second.leave()
        return check(group.tales(), ends, group.samples)
    finally:
        group.close()


@of(PAUSED)
@pytest.mark.job(run=stand_still)
def test_a_member_that_stood_still_is_replaced_and_comes_back(outcome, kind):
    complaints = outcome()
    assert not complaints, complaints[:COMPLAINTS_MAX]
