"""Groups of every client while members join, leave, die and stand still: the checker has nothing to say."""

import pytest

from harness import tools
from harness.clients import create_topic
from harness.members import KINDS, LONG_ONLY, Group, Load
from harness.ownership import COMPLAINTS_MAX, check
from harness.serving import JAVA

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
            ends = load.finish()
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


# Time enough for a program to start again on a machine that is busy.
LONG_SESSION_MS = 30_000
# Members that keep their place by name; the classic ones do not leave when they close.
NAMED = [KINDS[name] for name in ("java-cooperative", "java-consumer", "confluent-range", "confluent-consumer", "kafka-python-range")]


def return_in_time(broker, folder, kind):
    """A static member restarts within its session: it gets back what it had, and nobody else notices."""
    group = Group(broker, kind, folder, session=LONG_SESSION_MS)
    if kind.consumer_protocol:
        setting = {"name": "consumer.session.timeout.ms", "value": str(LONG_SESSION_MS)}
        JAVA.ask("alter_config", broker.bootstrap, type="GROUP", entity=group.name, **setting)
    try:
        with Load(broker, group.topic, len(group.partitions)) as load:
            first = group.start(instance="first")
            second = group.start(instance="second")
            group.settle(first, second)
            owned = first.owned()
            heard = changes(second)
            # A KIP-848 member that died holds its name until its session ends; one that closed does not.
            (first.leave if kind.consumer_protocol else first.kill)()
            again = group.start(instance="first")
            group.settle(again, second)
            returned = again.owned()
            noticed = changes(second)[len(heard) :]
            ends = load.finish()
        group.await_committed(ends)
        again.leave()
        second.leave()
        complaints = check(group.tales(), ends, group.samples)
        if returned != owned or noticed:
            complaints.append(f"it had {sorted(owned)} and got {sorted(returned)}; the other noticed {noticed}")
        return complaints
    finally:
        group.close()


def changes(member):
    """What the member was told of its partitions, other than that nothing changed."""
    return [event for event in member.listen().of("assigned", "revoked", "lost") if event["partitions"]]


@of(NAMED)
@pytest.mark.job(run=return_in_time)
def test_a_static_member_returns_unnoticed(outcome, kind):
    complaints = outcome()
    assert not complaints, complaints[:COMPLAINTS_MAX]


# The server evaluates the pattern for KIP-848 members that ask it to, the client for all others.
MATCHING = [KINDS[name] for name in ("java-range", "java-consumer", "confluent-range", "confluent-consumer", "kafka-python-range", "kafkajs")]


def match(broker, folder, kind):
    """A subscription by pattern takes in the topics that match, also one that is made later."""
    first, other, later = (f"{name}-{kind.name}" for name in ("matched-1", "unmatched", "matched-2"))
    group = Group(broker, kind, folder, topic=create_topic(broker, 2, first), partitions=2)
    create_topic(broker, 2, other)
    try:
        member = group.start(topics=None, pattern=f"matched-[0-9]-{kind.name}")
        group.settle(member)
        create_topic(broker, 2, later)
        if kind.name == "kafkajs":
            # It looks at the names once, when it subscribes.
            member.leave()
            member = group.start(topics=None, pattern=f"matched-[0-9]-{kind.name}")
        group.settle(member, partitions=[*group.partitions, f"{later}-0", f"{later}-1"])
        member.leave()
        return []
    finally:
        group.close()


@of(MATCHING)
@pytest.mark.job(run=match)
def test_a_pattern_takes_in_what_matches(outcome, kind):
    assert not outcome()
