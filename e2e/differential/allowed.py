"""The differences that are meant. Both lists are short, and every entry says why."""

import fnmatch
from dataclasses import dataclass
from typing import Callable

from .script import SILENT


@dataclass(frozen=True)
class Allowed:
    """Differences in one field (`Api:Path`, patterns allowed) of the named cases, which `holds` may narrow further."""

    where: str
    reason: str
    cases: str = "*"
    holds: Callable = lambda kafka, esker: True

    def covers(self, difference):
        return (
            fnmatch.fnmatchcase(f"{difference.api}:{difference.field}", self.where)
            and fnmatch.fnmatchcase(difference.case, self.cases)
            and self.holds(difference.kafka, difference.esker)
        )


# With `validation=full`.
ALLOWED = (
    Allowed("*:", "where Apache Kafka forgets a request and its client waits in vain, Esker answers", holds=lambda kafka, esker: kafka == SILENT and isinstance(esker, dict)),
)

# What `validation=default`, which does not look into records, adds to them.
ALLOWED_BY_DEFAULT = ()


def unexplained(differences, validation="full"):
    """The differences that no entry allows, and the entries that allowed one."""
    entries = ALLOWED if validation == "full" else ALLOWED + ALLOWED_BY_DEFAULT
    left, used = [], set()
    for difference in differences:
        entry = next((entry for entry in entries if entry.covers(difference)), None)
        if entry:
            used.add(entry)
        else:
            left.append(difference)
    return left, used
