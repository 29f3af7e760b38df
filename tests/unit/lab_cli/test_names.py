"""Which lab a command means, and what a lab is called that nobody named: a name is the whole machine's."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import pytest

from lab import ownership
from lab.cli.labs import chosen_name
from lab.cli.words import name_of
from lab.client import is_up
from lab.messages import LabError
from lab.ownership import CLONE, Owner, age, free_name, note, own_labs, owner_of
from lab.statedir import LabDir

OTHER = "/somewhere/else"


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TERWAY_LAB_DIR", str(tmp_path))
    return tmp_path


def make(name: str, clone: str | None = str(CLONE)) -> LabDir:
    """What a lab of ``clone`` leaves to see; None: it does not say whose it is."""
    directory = LabDir.of(name)
    directory.root.mkdir()
    if clone is not None:
        owner = {"clone": clone, "pid": 4711, "since": time.time() - 330}
        directory.owner.write_text(json.dumps(owner))
    return directory


@pytest.mark.parametrize(
    ("own", "others", "given", "meant"),
    [
        ((), (), None, "lab"),
        (("cluster",), (), None, "cluster"),
        (("cluster", "lab"), (), None, "lab"),
        (("cluster",), (), "other", "other"),
        (("demo",), (), None, "demo"),
        ((), ("demo",), None, "lab"),
        (("demo",), ("lab",), None, "demo"),
        (("lab",), ("demo",), None, "lab"),
        ((), ("lab",), "lab", "lab"),
    ],
)
def test_the_lab_that_is_meant(
    own: tuple[str, ...], others: tuple[str, ...], given: str | None, meant: str
) -> None:
    for name in own:
        make(name)
    for name in others:
        make(name, OTHER)
    assert name_of(argparse.Namespace(name=given)) == meant


def test_another_clones_lab_is_not_meant_by_default() -> None:
    """`./run lab down` in a clone that has none must not end somebody else's."""
    make("lab", OTHER)
    with pytest.raises(LabError, match=f"this clone has no lab up; lab 'lab' is of {OTHER}.* --name lab"):
        name_of(argparse.Namespace(name=None))


def test_of_several_one_has_to_be_named() -> None:
    make("demo")
    make("cluster")
    with pytest.raises(LabError, match="labs cluster, demo are up; say which one with --name"):
        name_of(argparse.Namespace(name=None))


def test_a_lab_that_does_not_say_whose_it_is_is_meant_by_name_only() -> None:
    make("old", None)
    make("mine")
    assert own_labs() == ["mine"]


def test_another_clones_name_is_left_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    make("demo", OTHER)
    make("demo-2", OTHER)
    assert free_name("demo") == "demo-3"
    assert chosen_name(None, "demo") == "demo-3"
    told = capsys.readouterr().err
    assert f"lab 'demo' is up (of {OTHER}, pid 4711, for 5 min, since " in told
    assert told.rstrip().endswith("this one is 'demo-3'")


def test_a_name_that_was_given_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    make("demo", OTHER)
    assert chosen_name("demo", "demo") == "demo"
    assert capsys.readouterr().err == ""


def test_ones_own_name_is_not_avoided() -> None:
    make("demo")
    assert free_name("demo") == "demo"


def test_the_refusal_says_whose_it_is_and_how_it_ends() -> None:
    text = is_up(make("demo", OTHER))
    assert text.startswith(f"lab 'demo' is up already (of {OTHER}, pid 4711, for 5 min, since ")
    assert text.endswith("; end it with `./run lab down --name demo`, or choose another --name")


def test_a_note_is_read_back() -> None:
    directory = make("x", None)
    assert owner_of(directory) is None
    note(directory, os.getpid())
    owner = owner_of(directory)
    assert owner is not None
    assert (owner.pid, owner.is_this_clone) == (os.getpid(), True)
    assert str(owner).startswith(f"of this clone, pid {os.getpid()}, for ")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_a_damaged_note_is_none(content: str) -> None:
    directory = make("x", None)
    directory.owner.write_text(content)
    assert owner_of(directory) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7199, "1 h"), (200000, "2 d"), (-5, "0 s")],
)
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_a_clone_is_the_directory_of_its_source() -> None:
    assert Owner(str(ownership.CLONE), 1, 0.0).is_this_clone
    assert (ownership.CLONE / "pyproject.toml").exists()
