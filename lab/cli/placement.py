"""Options that stand before, between or behind the words of a command: moved to where argparse looks."""

from __future__ import annotations

from collections.abc import Sequence

FLAGS = ("--json",)
VALUED = ("--name",)


def behind(words: Sequence[str]) -> list[str]:
    """``words``, among them no "--", with FLAGS and VALUED options and their values behind all others."""
    others: list[str] = []
    moved: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in FLAGS or word.startswith(tuple(f"{option}=" for option in VALUED)):
            moved.append(word)
        elif word in VALUED:
            moved += [word, *rest[:1]]
            del rest[:1]
        else:
            others.append(word)
    return others + moved
