"""Each page names files, links and commands that there are."""

from __future__ import annotations

import argparse
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.cli import main as terway_cli
from lab.cli import main as lab_cli
from lab.kubernetes import command_line as cluster_cli

ROOT = Path(__file__).resolve().parents[3]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "ARCHITECTURE.md"]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
_CODE = re.compile(r"`([^`\n]+)`|^(#? ?[./$]\S.*)$", re.MULTILINE)
_FILE = re.compile(r"(?<![\w./-])[\w-][\w./-]*\.(?:py|c|h|toml|md|sh)(?![\w.])")
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def files() -> set[str]:
    """Of the repository, as git has them or would; each with every end of its path."""
    words = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, capture_output=True, text=True, check=False).stdout.split()
    return {"/".join(Path(name).parts[n:]) for name in listed for n in range(len(Path(name).parts))}


KNOWN = files()


def unknown_files(text: str) -> set[str]:
    """Files with an end that source files have, which are not in the repository."""
    named = {name for code in _CODE.finditer(text) for name in _FILE.findall(code[0])}
    return named - KNOWN


def broken_links(page: Path, text: str) -> set[str]:
    found = set()
    for target, anchor in _LINK.findall(text):
        path = (page.parent / target) if target else page
        if not path.exists() or (anchor and anchor not in anchors(path.read_text())):
            found.add(f"{target}#{anchor}")
    return found


def anchors(text: str) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def words_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, frozenset[str]]]:
    """First words, each with its second ones; none: what follows is its own."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield name, frozenset(word for word, _ in words_of(inner))


COMMANDS: dict[str, dict[str, frozenset[str]]] = {
    "terway-cli": dict(words_of(terway_cli._parser())),
    "./run lab": dict(words_of(lab_cli.parser())),
    "./run cluster": dict(words_of(cluster_cli.parser())),
    "./run": {
        name: frozenset() for name in re.findall(r"^(\w+)\)$", (ROOT / "run").read_text(), re.MULTILINE)
    },
}


def unknown_commands(text: str) -> set[str]:
    found = set()
    for command, words in COMMANDS.items():
        for first, second in re.findall(rf"{re.escape(command)} ([a-z]+)(?: ([a-z]+))?", text):
            if first not in words or (words[first] and second and second not in words[first]):
                found.add(f"{command} {first} {second}".strip())
    return found


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    code = "\n".join(found[0] for found in _CODE.finditer(text))
    assert not unknown_files(text)
    assert not broken_links(page, text)
    assert not unknown_commands(code)


def test_what_is_not_there_is_found() -> None:
    assert unknown_files("see `control/daemon/pool.py` and `control/agent/main.py`") == {
        "control/daemon/pool.py"
    }
    assert broken_links(PAGES[0], "[a](gone.md) [b](install.md#gone) [c](install.md#afterwards)") == {
        "gone.md#",
        "install.md#gone",
    }
    said = "`terway-cli bpf counts` `terway-cli mode` `./run cluster upp` `./run lab ecs state` `./run tests`"
    assert unknown_commands(said) == {"terway-cli bpf counts", "./run cluster upp", "./run tests"}
