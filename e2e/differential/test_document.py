"""The page on compatibility is what a run gives, and the same from run to run."""

import pytest

from .document import PAGE, Uncovered, borne_out, chosen, numbers, page, spans

WRITTEN = """# Page

| API | versions | remarks | compared by |
|---|---|---|---|

## APIs served

| API | versions | remarks | compared by |
|---|---|---|---|
| Fetch | 4-6 | fast, | `old` 4-5 |
| Metadata | 0-2 | | |

After.

## More

| Fetch | 4-6 | not in the section | |
"""
COVERAGE = {
    "versions": {
        "Fetch": {"4": ["a", "b"], "5": ["b"], "6": ["c"]},
        "Metadata": {"0": ["a", "m"], "1": ["a", "m"], "2": ["a", "m"], "3": ["x"]},
    }
}


def test_versions_are_shown_as_ranges():
    for versions, shown in (([3], "3"), ([0, 1, 2], "0-2"), ([0, 1, 3, 5, 6], "0-1, 3, 5-6")):
        assert spans(versions) == shown
        assert list(numbers(shown)) == versions


def test_only_the_column_of_cases_is_written():
    new = page(WRITTEN, COVERAGE)
    assert new == WRITTEN.replace("| `old` 4-5 |", "| `b` 4-5; `c` 6 |").replace(
        "| Metadata | 0-2 | | |", "| Metadata | 0-2 |  | `m` 0-2 |"
    )
    assert page(new, COVERAGE) == new


def test_as_few_cases_as_show_every_version_are_named():
    reached = {"0": ["a", "b"], "1": ["a", "c"], "2": ["b", "c"]}
    assert chosen("Fetch", range(3), reached, {"a": 1, "b": 1, "c": 1}) == [("a", [0, 1]), ("b", [2])]


def test_of_cases_that_show_as_much_the_one_that_is_most_about_the_api_is_named():
    assert chosen("Fetch", range(1), {"0": ["a", "b"]}, {"a": 2, "b": 1}) == [("b", [0])]
    reached = {"0": ["a", "groups", "groups-are-deleted"]}
    assert chosen("DeleteGroups", range(1), reached, {"a": 1, "groups": 2, "groups-are-deleted": 3}) == [
        ("groups-are-deleted", [0])
    ]


@pytest.mark.parametrize(
    ("written", "holds"),
    [
        ("`b` 4-5; `c` 6", True),
        ("`a` 4; `b` 5; `c` 6", True),
        ("`b` 4-5", False),
        ("`b` 4-6", False),
        ("`b` 4-5; `a` 4; `c` 6", False),
        ("`b` 4-5; `gone` 6", False),
        ("", False),
    ],
)
def test_the_page_may_name_any_cases_that_show_each_version_once(written, holds):
    reached = COVERAGE["versions"]["Fetch"]
    assert borne_out(written, range(4, 7), reached) == holds
    kept = page(WRITTEN.replace("`old` 4-5", written), COVERAGE)
    assert f"| {written if holds else '`b` 4-5; `c` 6'} |" in kept


def test_a_served_version_that_no_case_reached_is_an_error():
    with pytest.raises(Uncovered, match="Fetch 5"):
        page(WRITTEN, {"versions": {**COVERAGE["versions"], "Fetch": {"4": ["a"], "6": ["a"]}}})


@pytest.mark.parametrize("line", ["| Fetch | 4 to 6 | | |", "| Fetch | 4-6 |"])
def test_a_row_that_cannot_be_read_is_an_error(line):
    with pytest.raises(ValueError, match="no row"):
        page(WRITTEN.replace("| Metadata | 0-2 | | |", line), COVERAGE)


def test_every_row_of_the_committed_page_names_cases():
    section = PAGE.read_text().partition("## APIs served\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| API ")]
    assert rows and all(line.rstrip(" |").endswith(tuple("0123456789")) and "`" in line for line in rows)
