"""The lists in requirements/: whole, of the pinned versions, and refusing files that are others."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from deploy import lock
from deploy.image import stage
from deploy.image.errors import ImageError

LISTS = {group: lock.DIRECTORY / f"{group}.txt" for group in lock.GROUPS}
_ITEM = re.compile(
    r"^(?P<name>[a-z0-9-]+)==(?P<version>\S+)(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n", re.M
)


def versions(group: str) -> dict[str, str]:
    return {item["name"]: item["version"] for item in _ITEM.finditer(LISTS[group].read_text())}


@pytest.mark.parametrize("group", LISTS)
def test_every_line_is_a_version_with_hashes(group: str) -> None:
    text = LISTS[group].read_text()
    rest = _ITEM.sub("", text)
    assert [line for line in rest.splitlines() if not line.startswith("#")] == []
    assert (
        lock.written(
            f"requirements/{group}.txt",
            {
                item["name"]: (item["version"], set(re.findall(r"sha256:(\w+)", item["hashes"])))
                for item in _ITEM.finditer(text)
            },
        )
        == text
    )


@pytest.mark.parametrize("group", LISTS)
def test_it_is_made_of_the_constraints_and_has_what_is_wanted(group: str) -> None:
    """Run `python -m deploy.lock` after a change of either file."""
    lines = (lock.ROOT / "constraints.txt").read_text().splitlines()
    pinned = {lock.normal(name): version for name, _, version in (line.partition("==") for line in lines)}
    found = versions(group)
    assert found.items() <= pinned.items()
    assert {lock.normal(re.split(r"[<>=\[ ]", one)[0]) for one in lock.wanted(group)} <= found.keys()


def test_one_list_is_within_the_next() -> None:
    assert versions("agent").items() <= versions("lab").items() <= versions("dev").items()


def wheel(directory: Path, body: str) -> Path:
    """A package of one module."""
    path = directory / "lonely-1.0-py3-none-any.whl"
    info = "lonely-1.0.dist-info"
    parts = {
        "lonely.py": body,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: lonely\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},sha256={_digest(text)},{len(text)}\n" for name, text in parts.items())
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**parts, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def test_another_file_of_the_same_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the very command that makes the image, from an index that has been tampered with."""
    honest = hashlib.sha256(wheel(tmp_path, "x = 1").read_bytes()).hexdigest()
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/agent.txt").write_text(
        lock.written("requirements/agent.txt", {"lonely": ("1.0", {honest})})
    )
    monkeypatch.setattr(stage, "ROOT", tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr(stage, "_CHECKS", ())
    stage._install(tmp_path / "site")
    assert (tmp_path / "site/lonely.py").read_text() == "x = 1"
    wheel(tmp_path, "import os  # somebody else's")
    with pytest.raises(ImageError, match=r"(?i)hash"):
        stage._install(tmp_path / "other")


def test_the_front_door_asks_for_hashes() -> None:
    text = (lock.ROOT / "run").read_text()
    install = text[text.index("install_python()") :]
    assert install.index("--require-hashes") < install.index('-c "$here/constraints.txt"')
    for groups in ("lab", "lab,dev"):
        assert f"setup {groups}\n" in text
        assert (lock.DIRECTORY / f"{groups.rpartition(',')[2]}.txt").is_file()
    assert sys.version_info[:2] == (3, 11), "whose files the lists have"
    assert subprocess.run(["bash", "-n", str(lock.ROOT / "run")], check=False).returncode == 0
