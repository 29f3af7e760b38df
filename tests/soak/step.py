"""One step of a run as a value: what ``plan`` yields, a run prints, and a file of a failed run holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Value = str | int | float | bool | tuple[int, ...]

QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class Step:
    """``verb`` names a function of ``operations``, ``damage`` or ``weather``, ``values`` its arguments."""

    verb: str
    values: Mapping[str, Value] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join((self.verb, *(f"{name}={_word(value)}" for name, value in self.values.items())))

    def encode(self) -> str:
        return json.dumps({"verb": self.verb, **self.values})


def _word(value: Value) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def decode(line: str) -> Step:
    """Raises ValueError for what no run has written."""
    values = json.loads(line)
    if not isinstance(values, dict) or not isinstance(values.get("verb"), str):
        raise ValueError(f"{line!r} is no step")
    return Step(
        values.pop("verb"),
        {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()},
    )


def write(path: Path, steps: Iterable[Step]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(step.encode() + "\n" for step in steps))


def read(path: Path) -> list[Step]:
    """Raises OSError, and ValueError for what no run has written."""
    return [decode(line) for line in path.read_text().splitlines() if line.strip()]
