"""Where the compiled BPF objects are: ``bpf/.output/NAME.bpf.o``, made by ``make -C bpf``."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_OUTPUT = _ROOT / "bpf" / ".output"


class ObjectMissing(Exception):
    """The object was not compiled; the message names the command that does it."""


def header(name: str) -> Path:
    """Path of the programs' header ``name``, which an image has as well: its words are read at run time."""
    return _ROOT / "bpf" / "include" / name


def path(name: str) -> Path:
    """Path of the object of program ``name``, such as ``fabric``. Raises ObjectMissing if it is not built."""
    return path_in(_OUTPUT, name)


def path_in(directory: Path, name: str) -> Path:
    """The same in another directory than the product's own."""
    found = directory / f"{name}.bpf.o"
    if not found.is_file():
        raise ObjectMissing(
            f"BPF object {name} is not built ({found} is missing): run make -C {_ROOT / 'bpf'}"
        )
    return found
