"""A lab that somebody is just bringing up is nobody else's to remove."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lab import client
from lab.cleanup import start_time
from lab.client import Lab
from lab.messages import LabError
from lab.spec import LabSpec
from lab.statedir import LabDir


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LabDir:
    monkeypatch.setenv("TERWAY_LAB_DIR", str(tmp_path))
    found = LabDir.of("x")
    found.root.mkdir()
    return found


class Launched(Exception):
    """In the place of a start."""


@pytest.fixture(autouse=True)
def removed(monkeypatch: pytest.MonkeyPatch) -> list[LabDir]:
    """What is removed, and was to be: the process that the tests name as a warden is their own."""
    seen: list[LabDir] = []

    def launch(*_: object) -> None:
        raise Launched

    monkeypatch.setattr(client, "_launch", launch)
    monkeypatch.setattr(client, "remove", seen.append)
    return seen


def record(directory: LabDir, **processes: int | None) -> None:
    directory.leftovers.write_text(json.dumps({"processes": processes, "groups": []}))


def test_a_lab_whose_warden_runs_stays(directory: LabDir, removed: list[LabDir]) -> None:
    record(directory, **{"1": None, str(os.getpid()): start_time(os.getpid())})
    with pytest.raises(LabError, match="'x' is being brought up or taken down; wait for that, or end it"):
        Lab.start(LabSpec(), name="x")
    assert removed == []


def test_what_a_dead_one_left_is_removed(directory: LabDir, removed: list[LabDir]) -> None:
    record(directory, **{"1": None, str(os.getpid()): 1})
    with pytest.raises(Launched):
        Lab.start(LabSpec(), name="x")
    assert removed == [directory]
