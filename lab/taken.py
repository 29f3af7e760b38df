"""Whether a lab may have the name that a command line gives it, asked before anything is installed.

``python3 -m lab.taken USUAL WORDS...``: exit status 1 and one line if a lab of that name is up. Without
--name a name that another clone has is no obstacle: the lab gets the next one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lab.cli.placement import behind
from lab.client import answers, is_up
from lab.ownership import free_name
from lab.statedir import LabDir


def refusal(usual: str, words: Sequence[str]) -> str:
    """ "" if the name is free. A name that is none is for the command itself to refuse."""
    name = _given(words) or free_name(usual)
    try:
        directory = LabDir.of(name)
    except ValueError:
        return ""
    return is_up(directory) if answers(directory) else ""


def _given(words: Sequence[str]) -> str:
    moved = behind(words)
    for at, word in enumerate(moved):
        if word.startswith("--name="):
            return word.partition("=")[2]
        if word == "--name" and at + 1 < len(moved):
            return moved[at + 1]
    return ""


if __name__ == "__main__":
    told = refusal(sys.argv[1], sys.argv[2:])
    if told:
        sys.exit(f"run: {told}")
