"""The server-side assignors against Kafka's own: the same random groups, answer by answer."""

import os
import random

from harness import groups, tools

GROUPS = 10_000 if tools.full() else 1_000
REPOSITORY = tools.E2E.parent
GOLDEN = REPOSITORY / "broker/coordinator/testdata"
GOLDEN_GROUPS = 200
GOLDEN_SEED = 848


def esker(script):
    return tools.run([os.environ["ESKER_ASSIGN_BIN"]], stdin=script.encode()).stdout.decode()


def kafka(script):
    return tools.run(tools.java(tools.E2E / "tools/assignors/Oracle.java"), stdin=script.encode()).stdout.decode()


def by_group(answers):
    found = {}
    for line in answers.splitlines():
        found.setdefault(line.split(" ", 1)[0], []).append(line)
    return found


def test_random_groups_are_assigned_as_kafka_assigns_them():
    seed = int(os.environ.get("SEED") or random.randrange(1 << 32))
    print(f"SEED={seed} groups={GROUPS}")
    scripts = groups.scripts(seed, range(GROUPS))
    together = "".join(scripts)
    ours, theirs = by_group(esker(together)), by_group(kafka(together))
    rounds = sum(line.split(" ")[1] == "done" for lines in theirs.values() for line in lines)
    print(f"{rounds} rounds, {sum(map(len, theirs.values())) - rounds} assignments of members")

    assert len(theirs) == GROUPS and rounds >= 2 * GROUPS
    wrong = [name for name in theirs if ours.get(name) != theirs[name]]
    for name in wrong[:1]:
        print(scripts[int(name)])
        for mine, right in zip(ours.get(name, []), theirs[name]):
            if mine != right:
                print(f"esker: {mine}\nkafka: {right}")
    assert not wrong, f"{len(wrong)} of {GROUPS} groups differ, replay with SEED={seed}"
    assert ours.keys() == theirs.keys()


def test_golden_answers_are_kafkas():
    """`UPDATE_GOLDEN=1` makes new ones; the crate's own tests read them without a JVM."""
    script, answers = GOLDEN / "groups.txt", GOLDEN / "assignments.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        script.write_text("".join(groups.scripts(GOLDEN_SEED, range(GOLDEN_GROUPS), small=True)))
        answers.write_text(kafka(script.read_text()))
    assert answers.read_text() == kafka(script.read_text())
