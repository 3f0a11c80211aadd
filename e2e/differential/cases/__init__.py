"""The scripts. A module holds the cases of a few APIs; every function decorated with `case` is one."""

import importlib
import pkgutil
from dataclasses import dataclass
from typing import Callable


@dataclass(frozen=True)
class Case:
    """One script; its name is unique and begins the names of its topics and groups."""

    name: str
    play: Callable
    # Whether what it shows depends on `validation`, so that it also runs against Esker's default.
    validates: bool = False


_cases = {}


def case(function=None, *, validates=False):
    """Registers a function of a `Script` as a case named like the function."""

    def register(play):
        name = play.__name__.replace("_", "-")
        if name in _cases:
            raise ValueError(f"two cases are named {name}")
        _cases[name] = Case(name, play, validates)
        return play

    return register(function) if function else register


def every():
    """All cases, by name, in the order of their modules."""
    for module in sorted(item.name for item in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{module}")
    return dict(_cases)
