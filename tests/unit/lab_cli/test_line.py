"""What may stand where in a line of ``./run lab``, what it answers, and how it ends."""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cli.failures import sentence
from lab.cli.main import main, parser
from lab.cli.placement import behind
from lab.cli.table import few, utc
from lab.ownership import CLONE


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No lab is up, and root is asked for nothing."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("TERWAY_LAB_DIR", str(tmp_path / "labs"))


@pytest.mark.parametrize(
    "words",
    [
        ["--name", "x", "--json", "node", "list"],
        ["node", "--name", "x", "list", "--json"],
        ["node", "list", "--json", "--name=x"],
        ["--json", "node", "--name=x", "list"],
    ],
)
def test_options_may_stand_anywhere(words: list[str]) -> None:
    args = parser().parse_args(behind(words))
    assert (args.name, args.json) == ("x", True)


def test_what_stands_behind_the_dashes_is_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["node", "exec", "node1", "--name", "mine", "--", "ls", "--name", "other"]) == 1
    assert "no lab 'mine' is up" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nosuch",
        "status --nosuch",
        "status --name",
        "status --name Bad_Name",
        "up --nodes -1",
        "up --nodes many",
        "up --mtu 100",
        "up --mtu 9000",
        "ecs occupy vsw-pods --leave -3",
        "capture eni-1 -w x -c -1",
        "capture eni-1",
    ],
)
def test_an_error_of_usage_is_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(line.split())
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith("usage: ./run lab")


@pytest.mark.parametrize("line", ["status", "status --name x", "node list", "events", "ecs state"])
def test_what_fails_is_1_and_one_line_with_a_command_that_exists(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "`./run lab up" in told


def leaves(top: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Every parser below ``top``, and itself."""
    yield top
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from leaves(below)


def test_no_help_names_a_command_that_does_not_exist() -> None:
    found = list(leaves(parser()))
    assert len(found) > 25
    for each in found:
        text = each.format_help()
        assert "terway-lab" not in text, each.prog
        assert text.startswith("usage: ./run lab")
        assert not each.epilog or "./run lab" in each.epilog


def test_every_example_is_understood() -> None:
    for each in leaves(parser()):
        for line in (each.epilog or "").splitlines()[:1]:
            for command in line.removeprefix("example: ").split(" && "):
                words = command.removeprefix("./run lab ").split(" -- ")[0].split()
                parser().parse_args(behind(words))


def test_nothing_a_person_reads_names_terway_lab() -> None:
    """Messages of the whole lab: string literals, not the names of files and of processes."""
    for path in (CLONE / "lab").rglob("*.py"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert "`terway-lab" not in line, f"{path}:{number}"


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    project = tomllib.loads((CLONE / "pyproject.toml").read_text())["project"]
    assert capsys.readouterr().out.strip() == f"{project['name']} {project['version']}"


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--spec", str(tmp_path / "nosuch")]) == 1
    assert capsys.readouterr().err == f"lab: {tmp_path}/nosuch: No such file or directory\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"mtu": 1500,\n "mtu" 1}', "is no JSON: line 2, column 8: Expecting ':' delimiter"),
        (b"\xff\xfe", "is no text: byte 0 is not UTF-8"),
        (b"[]", "spec: [] is not an object"),
        (b'{"mtuu": 1}', "spec: unknown field 'mtuu'; known are region"),
        (b'{"mtu": "x"}', "spec.mtu: 'x' is not a whole number"),
        (b'{"wire": 1}', "spec.wire: 1 is not true or false"),
    ],
)
def test_a_bad_specification_is_named_with_the_place(
    content: bytes, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "spec.json"
    file.write_bytes(content)
    assert main(["up", "--spec", str(file)]) == 1
    text = capsys.readouterr().err
    assert text.startswith(f"lab: {file}")
    assert told in text


def test_the_specification_in_the_help_is_one() -> None:
    from lab.cli.labs import _SPEC
    from lab.spec_json import decode_spec

    example = _SPEC[_SPEC.index("  {") : _SPEC.index("\nAn unknown")]
    spec = decode_spec(json.loads(example))
    assert [node.zone for node in spec.nodes] == ["cn-hangzhou-a", "cn-hangzhou-b"]


@pytest.mark.parametrize(
    ("exc", "text"),
    [
        (FileNotFoundError(2, "No such file or directory", "/x/y"), "/x/y: No such file or directory"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("said\n at length"), "said at length"),
    ],
)
def test_no_error_number_is_shown(exc: Exception, text: str) -> None:
    assert sentence(exc) == text


@pytest.mark.parametrize(
    ("addresses", "text"),
    [
        ([], ""),
        (["10.0.0.1", "2001:db8::1"], "10.0.0.1,2001:db8::1"),
        (["10.0.0.1", "10.0.0.2", "10.0.0.3"], "10.0.0.1 (3 IPv4)"),
        (["10.0.0.1", "10.0.0.2", "2001:db8::1"], "10.0.0.1 (2 IPv4, 1 IPv6)"),
    ],
)
def test_a_cell_of_addresses_is_short(addresses: list[str], text: str) -> None:
    assert few(addresses) == text


def test_times_are_said_in_utc() -> None:
    assert utc(1796099207.68) == "2026-12-01 04:26:47 UTC"
