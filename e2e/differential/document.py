"""Writes into the page on compatibility which cases compare each version of each API.

    python -m e2e.differential --only kafka --json COVERAGE
    python -m e2e.differential.document COVERAGE [PAGE]

`DIFFERENTIAL_JSON=COVERAGE make differential` writes the same COVERAGE. The rest of the page is written by hand; a test of
the server checks that its APIs and versions are those that are served. Of each API a few cases are named, as few as show
every version, and those that the page names already stay as long as a run bears them out: the page changes only where what
it says is no longer so.
"""

import argparse
import json
import re
from collections import Counter
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "compatibility.md"
SECTION = "## APIs served"
COLUMNS = ("API", "versions", "remarks", "compared by")
HOW = "python -m e2e.differential --only kafka --json FILE && python -m e2e.differential.document FILE"
CLAIM = re.compile(r"`([^`]+)` (\d+(?:-\d+)?(?:, \d+(?:-\d+)?)*)")
WORD = re.compile(r"[A-Z][a-z]+")
ROW = re.compile(r"\| (?P<api>\w+) \| (?P<low>\d+)-(?P<high>\d+) \| (?P<remarks>.*?)\s?\| ?(?P<cases>.*?) ?\|")


def spans(versions):
    """Sorted versions as ranges: `0-2, 4`."""
    found = []
    for version in versions:
        if found and version == found[-1][1] + 1:
            found[-1][1] = version
        else:
            found.append([version, version])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in found)


def numbers(ranges):
    """The versions of what `spans` wrote."""
    for span in ranges.split(", "):
        low, _, high = span.partition("-")
        yield from range(int(low), int(high or low) + 1)


class Uncovered(Exception):
    """A served version that no case reached."""


def breadths(versions):
    """How many APIs each case reaches: the fewer, the more it is about them."""
    return Counter(case for reached in versions.values() for case in {case for cases in reached.values() for case in cases})


def kinship(api, case):
    """How many words of the API's name the case has in its own."""
    return sum(any(part.startswith(word.lower().rstrip("s")) for part in case.split("-")) for word in WORD.findall(api))


def chosen(api, wanted, reached, breadth):
    """As few cases as show all wanted versions: (case, the versions it is named for)."""

    def rank(case):
        return -len(shows[case] & left), -kinship(api, case), breadth[case], case

    left = set(wanted)
    shows = {}
    for version in wanted:
        for case in reached.get(str(version), ()):
            shows.setdefault(case, set()).add(version)
    found = []
    while left:
        best = min(shows, key=rank, default=None)
        if best is None or not shows[best] & left:
            raise Uncovered(f"no case reached {api} {spans(sorted(left))}")
        found.append((best, sorted(shows[best] & left)))
        left -= shows[best]
    return sorted(found, key=lambda item: item[1])


def borne_out(written, wanted, reached):
    """Whether what the page says of an API is so: every wanted version once, with a case that reached it."""
    claims = [(case, version) for case, ranges in CLAIM.findall(written) for version in numbers(ranges)]
    said = sorted(version for _, version in claims)
    return said == list(wanted) and all(case in reached.get(str(version), ()) for case, version in claims)


def cell(found):
    return "; ".join(f"`{case}` {spans(versions)}" for case, versions in found)


def page(text, coverage):
    """The page with the column of cases as a run gives it."""
    versions = coverage["versions"]
    breadth = breadths(versions)
    before, title, rest = text.partition(f"{SECTION}\n")
    if not title:
        raise ValueError(f"the page has no section {SECTION!r}")
    section, divider, after = rest.partition("\n## ")
    lines = []
    for line in section.split("\n"):
        row = ROW.fullmatch(line)
        if row:
            api, wanted = row["api"], range(int(row["low"]), int(row["high"]) + 1)
            reached = versions.get(api, {})
            cases = row["cases"] if borne_out(row["cases"], wanted, reached) else cell(chosen(api, wanted, reached, breadth))
            line = f"| {api} | {row['low']}-{row['high']} | {row['remarks']} | {cases} |"
        elif line.startswith("| ") and line != f"| {' | '.join(COLUMNS)} |":
            raise ValueError(f"no row of the table: {line}")
        lines.append(line)
    return before + title + "\n".join(lines) + divider + after


def main():
    parser = argparse.ArgumentParser(prog="document", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("coverage", type=Path, metavar="COVERAGE")
    parser.add_argument("page", type=Path, metavar="PAGE", nargs="?", default=PAGE)
    options = parser.parse_args()
    options.page.write_text(page(options.page.read_text(), json.loads(options.coverage.read_text())))


if __name__ == "__main__":
    main()
