"""tests/budget.toml as values: what each suite runs, in its short and its long form, and for how long."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "tests" / "budget.toml"
PART_TIMES = "TERWAY_PART_TIMES"
"""Names a file that gets what the parts of ``./run test`` took: a JSON object, minutes by name."""


@dataclass(frozen=True, slots=True)
class Form:
    """``words`` go to ``./run``. ``minutes``: on two quiet cores, from empty caches."""

    words: tuple[str, ...]
    minutes: float


@dataclass(frozen=True, slots=True)
class Suite:
    """``short`` is None for what continuous integration leaves to ``./run verify``."""

    name: str
    about: str
    piece: str
    long: Form
    short: Form | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Of ``./run test``: tests with one of ``names`` in their id, or below one of ``paths``."""

    name: str
    minutes: float
    names: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    def has(self, test: str) -> bool:
        """Whether ``test``, a pytest node id that starts at the repository, belongs to this part."""
        return any(name in test for name in self.names) or test.startswith(
            tuple(f"{path}/" for path in self.paths)
        )


@dataclass(frozen=True, slots=True)
class Budget:
    """Minutes: of all ``short`` forms, of a ``piece``, and the ``last``, at which a run is ended."""

    short: float
    piece: float
    last: float
    suites: tuple[Suite, ...]
    parts: tuple[Part, ...]

    def pieces(self) -> Mapping[str, Sequence[Suite]]:
        """In the order of the file."""
        pieces: dict[str, list[Suite]] = {}
        for suite in self.suites:
            pieces.setdefault(suite.piece, []).append(suite)
        return pieces

    def part_of(self, test: str) -> Part | None:
        return next((part for part in self.parts if part.has(test)), None)


def read(file: Path = FILE) -> Budget:
    """Raises KeyError or TypeError for a file that is not as the one in this tree."""
    table = tomllib.loads(file.read_text())
    return Budget(
        **table["bounds"],
        suites=tuple(_suite(**suite) for suite in table["suite"]),
        parts=tuple(_part(**part) for part in table["part"]),
    )


def _suite(
    name: str, about: str, piece: str, long: dict[str, object], short: dict[str, object] | None = None
) -> Suite:
    return Suite(name, about, piece, _form(long), None if short is None else _form(short))


def _form(table: dict[str, object]) -> Form:
    words, minutes = table["words"], table["minutes"]
    if not isinstance(words, list) or not isinstance(minutes, int | float):
        raise TypeError(f"a form has a list of words and minutes, not {table}")
    return Form(tuple(map(str, words)), minutes)


def _part(name: str, minutes: float, names: Sequence[str] = (), paths: Sequence[str] = ()) -> Part:
    return Part(name, minutes, tuple(names), tuple(paths))
