"""``FIELD=VALUE`` words: which fields there are, what each means, and which values some of them have."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from textwrap import TextWrapper
from typing import Any

from lab.cli.values import WrongWordError
from lab.cli.words import pairs

_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Field:
    """``text`` is for --help. ``words``: the only values there are, () for any."""

    text: str
    words: tuple[str, ...] = ()


Fields = Mapping[str, Field]


def describe(fields: Fields) -> str:
    """A line for each field, or more, to stand below the example in --help."""
    width = max(map(len, fields)) + 2
    lines = ["fields:"]
    for name, field in fields.items():
        words = f"; one of {', '.join(field.words)}" if field.words else ""
        wrapper = TextWrapper(
            _WIDTH,
            initial_indent=f"  {name:<{width}}",
            subsequent_indent=" " * (width + 2),
            break_on_hyphens=False,
            break_long_words=False,
        )
        lines += wrapper.wrap(field.text + words)
    return "\n".join(lines)


def read(words: list[str], fields: Fields, what: str) -> dict[str, Any]:
    """The values of ``words``. Raises ValueError for a field or a value that does not exist, naming all."""
    given = pairs(words)
    for name, value in given.items():
        if name not in fields:
            raise WrongWordError(f"{what} has no field {name!r}; {_choices(name, fields)}")
        allowed = fields[name].words
        if allowed and value not in allowed:
            raise WrongWordError(f"{name}={value} is unknown; {_choices(str(value), allowed)}")
    return given


def _choices(word: str, among: Collection[str]) -> str:
    """What was probably meant, and all that there is."""
    near = get_close_matches(word, among, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"{meant}there are {', '.join(among)}"
