"""The checker itself: it passes a sound run and complains about every kind of damage."""

import pytest

from harness.history import History, check, fingerprint, value

SIZE = 100


def sound():
    """A run of two partitions with five acknowledged records each, and its content."""
    history = History(2)
    read = [[], []]
    for partition in range(2):
        for sequence in range(5):
            content = value(partition, sequence, SIZE)
            history.send(partition, sequence, content)
            history.acknowledge(partition, sequence, content)
            read[partition].append((sequence, content))
    return history, read


def test_a_sound_run_has_no_complaints():
    history, read = sound()
    assert check(history, read, [(0, 3, fingerprint(value(0, 3, SIZE)))]) == []


def test_an_unacknowledged_record_may_be_there_or_not():
    history, read = sound()
    extra = value(0, 5, SIZE)
    history.send(0, 5, extra)
    assert check(history, read) == []
    read[0].append((5, extra))
    assert check(history, read) == []


def lose_the_last(history, read):
    read[1].pop()


def cut_a_hole(history, read):
    del read[0][2]


def swap_two(history, read):
    read[0][1], read[0][2] = (1, read[0][2][1]), (2, read[0][1][1])


def repeat_one(history, read):
    read[0].append((5, value(0, 4, SIZE)))


def tear_one(history, read):
    offset, content = read[0][4]
    read[0][4] = (offset, content[: SIZE // 2] + b"\0" * (SIZE // 2))


def shift_by_one(history, read):
    read[0] = [(offset + 1, content) for offset, content in read[0]]


def cross_partitions(history, read):
    read[0][4] = (4, value(1, 4, SIZE))


def acknowledge_twice_at_one_place(history, read):
    other = value(0, 5, SIZE)
    history.send(0, 5, other)
    history.acknowledge(0, 4, other)


def fail_the_producer(history, read):
    history.errors.append("OUT_OF_ORDER_SEQUENCE_NUMBER")


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lose_the_last, "lost"),
        (cut_a_hole, "gap"),
        (swap_two, "order"),
        (repeat_one, "twice"),
        (tear_one, "torn"),
        (shift_by_one, "gap"),
        (cross_partitions, "torn"),
        (acknowledge_twice_at_one_place, "two records"),
        (fail_the_producer, "producer error"),
    ],
    ids=lambda argument: getattr(argument, "__name__", argument),
)
def test_every_damage_is_found(damage, complaint):
    history, read = sound()
    damage(history, read)
    assert any(complaint in found for found in check(history, read))


def test_what_a_reader_saw_may_not_change():
    history, read = sound()
    assert any("unseen" in found for found in check(history, read, [(0, 9, b"gone")]))
