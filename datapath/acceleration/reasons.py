"""What each reason, hook and verdict means, in the words of ``bpf/include/reasons.h``.

BTF carries names and numbers but no comments, so the comments are read from the header itself: whoever
explains a number, in the window, on the command line or in the docs, has it from there and types nothing
twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from datapath.ebpf import objects

_ENUM = r"enum {name} {{(.*?)\n}};"
_ITEM = re.compile(
    r"(?:/\*(?P<before>(?:(?!\*/).)*)\*/\s*)?"
    r"\b(?P<name>[A-Z][A-Z0-9_]*) = (?P<number>\d+),"
    r"(?:[ \t]*/\*(?P<behind>(?:(?!\*/).)*)\*/)?",
    re.DOTALL,
)


class ReasonClass(StrEnum):
    """The prefix of a reason's name: where the packet went on."""

    FAST = "fast"
    """Past the stack."""
    STACK = "stack"
    """On to the stack."""
    DROP = "drop"
    """Nowhere."""
    SEEN = "seen"
    """Where the stack had sent it: the programs on the way out only look."""


def class_of(reason: str) -> ReasonClass:
    """By the name, as ``bpf/lib/reason.h`` has it; numbers say nothing."""
    return ReasonClass(reason.partition("_")[0].lower())


@dataclass(frozen=True, slots=True)
class Meaning:
    """One name of an enum of the header. ``name`` is the C name in lower case, ``text`` a sentence or ""."""

    name: str
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class ReasonText:
    """One reason. ``text`` is a sentence."""

    name: str
    number: int
    kind: ReasonClass
    text: str


def header() -> Path:
    """Where the header is; also for objects of another directory."""
    return objects.header("reasons.h")


@cache
def reasons() -> tuple[ReasonText, ...]:
    """By number. Raises OSError if the header cannot be read."""
    return reasons_of(header().read_text())


def reasons_of(source: str) -> tuple[ReasonText, ...]:
    """The same of the text of a header. Raises ValueError for one that says it otherwise."""
    return tuple(ReasonText(m.name, m.number, class_of(m.name), m.text) for m in meanings(source, "reason"))


def meanings(source: str, enum: str, prefix: str = "") -> tuple[Meaning, ...]:
    """The numbered names of ``enum`` in the text of a header, by number, each with the comment at it.

    ``prefix`` in lower case, such as ``hook_``, is left out of the names, as ``layout.Names`` does.
    The comment stands before the name or behind it on its line. Raises ValueError if there is no such enum,
    or one without numbers.
    """
    body = re.search(_ENUM.format(name=re.escape(enum)), source, re.DOTALL)
    found = [_meaning(item, prefix) for item in _ITEM.finditer(body[1])] if body else []
    if not found:
        raise ValueError(f"the header has no enum {enum} whose names have numbers")
    return tuple(sorted(found, key=lambda one: one.number))


def _meaning(item: re.Match[str], prefix: str) -> Meaning:
    text = item["before"] or item["behind"] or ""
    return Meaning(item["name"].lower().removeprefix(prefix), int(item["number"]), _sentence(text))


def _sentence(comment: str) -> str:
    """Of one comment: without the stars of its lines, and whole also where the next one goes on with it."""
    words = re.sub(r"\s*\n\s*\*?\s*", " ", comment).strip().rstrip(",;")
    return words if not words else f"{words[0].upper()}{words[1:].rstrip('.')}."
