"""The checker of groups finds what it is there for."""

import pytest

from harness.ownership import Sample, Tale, check

PARTITION = "t-0"


def tale(name, *events, **told):
    return Tale(name, [{"at": at, "event": event, **fields} for at, event, fields in events], **told)


def owns(at, generation=None):
    return at, "assigned", {"partitions": [PARTITION], "generation": generation}


def gives(at, event="revoked"):
    return at, event, {"partitions": [PARTITION]}


def sees(at, *offsets):
    return at, "records", {"partition": PARTITION, "offsets": list(offsets)}


def commits(at, offset):
    return at, "committed", {"offsets": {PARTITION: offset}}


SOUND = (
    tale("a", owns(1, 1), sees(2, 0, 1), commits(3, 2), gives(4)),
    tale("b", owns(5, 2), sees(6, 2), commits(7, 3), (8, "closed", {})),
)


def test_a_sound_run_has_no_complaints():
    assert check(SOUND, {PARTITION: 3}, [Sample(4, {PARTITION: 2}), Sample(9, {PARTITION: 3})]) == []


def test_what_a_dead_member_had_not_committed_may_come_again():
    dead = tale("a", owns(1), sees(2, 0), commits(3, 1), sees(4, 1), died_at=5)
    assert check([dead, tale("b", owns(9), sees(10, 1), commits(11, 2))], {PARTITION: 2}) == []


def test_what_a_stopped_member_still_believes_is_not_held_against_it():
    stopped = tale("a", owns(1), sees(2, 0), sees(20, 1), gives(21, "lost"), pauses=[3])
    assert check([stopped, tale("b", owns(10), sees(11, 0, 1), commits(12, 2))], {PARTITION: 2}) == []


def test_a_static_member_goes_on_in_the_same_generation():
    before = tale("a", owns(1, 5), sees(2, 0), commits(3, 1), died_at=4, instance="one")
    after = tale("b", owns(6, 5), sees(7, 1), commits(8, 2), instance="one")
    assert check([before, after], {PARTITION: 2}) == []
    after.instance = "two"
    assert check([before, after], {PARTITION: 2})


@pytest.mark.parametrize(
    ("word", "tales", "samples"),
    [
        ("two owners", [tale("a", owns(1), sees(2, 0, 1, 2), gives(9)), tale("b", owns(5))], []),
        ("two owners", [tale("a", owns(1, 7), sees(2, 0, 1, 2), gives(3)), tale("b", owns(5, 7))], []),
        ("two owners", [tale("a", owns(1), sees(2, 0, 1, 2), pauses=[9]), tale("b", owns(5))], []),
        ("lost", [tale("a", owns(1), sees(2, 0, 1))], []),
        ("order", [tale("a", owns(1), sees(2, 0, 2, 1))], []),
        ("twice", [tale("a", owns(1), sees(2, 0, 1), gives(3)), tale("b", owns(4), sees(5, 0, 1, 2))], []),
        ("twice", [tale("a", owns(1), sees(2, 0, 1, 2), gives(3), owns(4), sees(5, 0))], []),
        ("commit lost", [tale("a", owns(1), sees(2, 0, 1, 2), commits(3, 3), died_at=4), tale("b", owns(5), sees(6, 0))], []),
        ("commit lost", [tale("a", owns(1), sees(2, 0, 1, 2), commits(3, 3))], [Sample(4, {PARTITION: 2})]),
        ("commit lost", [tale("a", owns(1), sees(2, 0, 1, 2), commits(3, 1))], [Sample(4, {PARTITION: 1}), Sample(5, {})]),
        ("commit went back", [tale("a", owns(1), sees(2, 0, 1, 2), commits(3, 3), commits(4, 2))], []),
        ("did not own", [tale("a", sees(2, 0, 1, 2))], []),
        ("foreign", [tale("a", owns(1), sees(2, 0, 1, 2, 3))], []),
        ("met lost", [tale("a", owns(1), sees(2, 0, 1, 2), gives(3, "lost"))], []),
        ("failed", [tale("a", owns(1), sees(2, 0, 1, 2), (3, "failed", {"message": "no"}))], []),
    ],
)  # fmt: skip
def test_a_fault_is_named(word, tales, samples):
    assert any(word in complaint for complaint in check(tales, {PARTITION: 3}, samples))
