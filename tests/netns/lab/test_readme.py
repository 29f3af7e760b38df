"""What README says of ``./run lab``, typed as it stands there: each line is understood, the story is true."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from lab.cli import faults
from lab.cli.fields import read
from lab.cli.main import main, parser
from lab.cli.placement import behind
from lab.client import take_down
from lab.nodes.remote import SOURCE
from tests.netns.lab.conftest import fresh_name
from tests.netns.lab.waiting import wait_for

_README = (SOURCE / "README.md").read_text()
_PROMPT = "# ./run lab "


def commands(text: str) -> list[list[str]]:
    """The words of each ``./run lab`` line, without its comment."""
    lines = (line.removeprefix(_PROMPT) for line in text.splitlines() if line.startswith(_PROMPT))
    return [shlex.split(line, comments=True) for line in lines]


def story() -> list[tuple[list[str], list[str]]]:
    """Each command of the block that fills a vSwitch, and the lines that are shown below it."""
    block = next(part for part in _README.split("```") if "occupy vsw-pods --leave 0" in part)
    told: list[tuple[list[str], list[str]]] = []
    for line in block.splitlines():
        if line.startswith(_PROMPT):
            told.append((commands(line)[0], []))
        elif told and line:
            told[-1][1].append(line)
    return told


@pytest.mark.parametrize("words", commands(_README), ids=" ".join)
def test_every_line_is_understood(words: list[str]) -> None:
    own = words[: words.index("--")] if "--" in words else words
    args = parser().parse_args(behind(own))
    if own[:3] == ["ecs", "fault", "add"]:
        assert read(args.fields, faults.FIELDS, "a fault")


@pytest.fixture
def name() -> Iterator[str]:
    chosen = fresh_name()
    yield chosen
    take_down(chosen)


def expected(line: str) -> str:
    """A pattern for a line of README: "..." is anything, and so are times, milliseconds and ids."""
    pattern = re.escape(" ".join(line.split()))
    for volatile in (r"\d{4}\\-\d\d\\-\d\d\\ \d\d:\d\d:\d\d", r"\d+\\\.\d+(?=\\ |$)", r"\b[0-9a-f]{13}\b"):
        pattern = re.sub(volatile, "[-0-9a-f.: ]+", pattern)
    return pattern.replace(r"\.\.\.", ".*").replace(r"\ ", r"\s+")


def test_the_story_of_a_full_vswitch(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = story()
    assert len(told) == 6
    for words, lines in told:
        wanted = r"\s+".join(map(expected, lines))
        fails = bool(lines) and lines[0].startswith("lab: ")

        def told_so(words: list[str] = words, wanted: str = wanted, fails: bool = fails) -> bool:
            status = main([*words, "--name", name])
            shown = " ".join("".join(capsys.readouterr()).split())
            return status == int(fails) and re.search(wanted, shown) is not None

        if words[0] == "up":
            assert told_so()
        else:
            # An event is sent in a calm moment, and after a failure the agent holds off for some seconds.
            wait_for(f"{words} says {wanted}", told_so, timeout=120.0)
