"""tests/kernels.toml as values."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "kernels"
_LIST = ROOT / "tests" / "kernels.toml"


@dataclass(frozen=True, slots=True)
class Kernel:
    """One of the list; its fields are told of there."""

    name: str
    release: str
    package: str
    threads: str
    fast_path: bool
    eni_hook: str
    conntrack: bool

    @property
    def directory(self) -> Path:
        """Where it is unpacked."""
        return CACHE / self.name


def listed() -> dict[str, Kernel]:
    """By name, in the order of the list."""
    return {one["name"]: Kernel(**one) for one in _read()["kernel"]}


def paths() -> tuple[str, ...]:
    """The tests that are run if nobody says which."""
    return tuple(_read()["tests"]["paths"])


def _read() -> dict[str, Any]:
    return tomllib.loads(_LIST.read_text())
