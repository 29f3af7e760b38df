"""What is installed is what constraints.txt says: the set-up of tomorrow is that of today."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_OF_THE_VENV = {"pip", "setuptools"}
"""They come from Debian's python3-venv and not from an index."""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_installed_package_has_the_pinned_version() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {_normal(name): version for name, _, version in (line.partition("==") for line in lines)}
    installed = {_normal(d.name): d.version for d in metadata.distributions() if d.name}
    strangers = {n: v for n, v in installed.items() if n not in _OF_THE_VENV and pinned.get(n) != v}
    assert "pytest" in installed
    assert not strangers, "not in constraints.txt, or with another version there"
