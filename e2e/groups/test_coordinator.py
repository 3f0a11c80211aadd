"""Groups of every client while their coordinator is killed and started again under load."""

from concurrent.futures import ThreadPoolExecutor

from harness import tools
from harness.members import KINDS, SETTLE_SECONDS_MAX, Group, Load
from harness.ownership import COMPLAINTS_MAX, check
from harness.process import wait_until

KILLS = 8 if tools.full() else 2
CHOSEN = ("java-cooperative", "java-consumer", "confluent-range", "confluent-consumer", "kafka-python-range", "kafkajs", "kafka-go")
# Longer than the broker is away, also on a busy machine: nobody is to be missed for that.
SESSION_MS = 20_000
LOAD_PER_SECOND = 60
PROGRESS_RECORDS = 60


def progress(group):
    """Waits until the group has committed more than it had."""
    before = sum(group.sample().values())
    wait_until(
        lambda: sum(group.sample().values()) > before + PROGRESS_RECORDS, SETTLE_SECONDS_MAX, f"{group.name}: commits"
    )


def test_groups_go_on_when_the_coordinator_was_killed(own_broker, tmp_path):
    groups = [Group(own_broker, KINDS[name], tmp_path / name, partitions=4, session=SESSION_MS) for name in CHOSEN]
    loads = [Load(own_broker, group.topic, len(group.partitions), LOAD_PER_SECOND) for group in groups]
    with ThreadPoolExecutor(len(groups)) as pool:

        def all_groups(step):
            return list(pool.map(step, groups))

        try:
            for load in loads:
                load.thread.start()
            all_groups(lambda group: group.settle(group.start(), group.start()))
            for _ in range(KILLS):
                all_groups(progress)
                own_broker.kill()
                own_broker.start()
            all_groups(progress)
            all_groups(lambda group: group.settle(*group.members))
            ends = [load.finish() for load in loads]
            list(pool.map(Group.await_committed, groups, ends))
            all_groups(lambda group: [member.leave() for member in group.members])
        finally:
            for load in loads:
                load.stopped.set()
            for group in groups:
                group.close()
    for group, end in zip(groups, ends, strict=True):
        complaints = check(group.tales(), end, group.samples, forgiving=True)
        assert not complaints, f"{group.name}: {complaints[:COMPLAINTS_MAX]}"
