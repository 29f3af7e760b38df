"""Kernel modules as files: what each needs and is called, read from the modules themselves.

This machine need not have kmod: modules.dep and modules.alias, which modprobe reads, are written here.
Source: the .modinfo section of a module (an ELF64 object) is a list of NAME=VALUE, each ended by a zero byte.
"""

from __future__ import annotations

import lzma
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_SECTION = struct.Struct("<IIQQQQIIQQ")
_OFFSET, _SIZE = 4, 5


@dataclass(frozen=True, slots=True)
class Module:
    """``needs`` are names of other modules, ``aliases`` the patterns by which the kernel asks for it."""

    name: str
    path: Path
    needs: tuple[str, ...]
    aliases: tuple[str, ...]


def spelled(name: str) -> str:
    """A module's name as the kernel has it; file names may have dashes."""
    return name.replace("-", "_")


def found_below(directory: Path) -> dict[str, Module]:
    """By name."""
    read = (_read(path) for path in sorted(directory.rglob("*.ko*")))
    return {module.name: module for module in read}


def content(path: Path) -> bytes:
    """The object itself, unpacked. Debian packs its modules by xz or not at all."""
    raw = path.read_bytes()
    return lzma.decompress(raw) if path.suffix == ".xz" else raw


def with_needs(names: Iterable[str], known: Mapping[str, Module]) -> list[Module]:
    """These and whatever they need, each after all it needs. Names that are not known are built in."""
    ordered: dict[str, Module] = {}

    def visit(name: str) -> None:
        if name in known and name not in ordered:
            for needed in known[name].needs:
                visit(needed)
            ordered[name] = known[name]

    for name in names:
        visit(name)
    return list(ordered.values())


def write_lists(directory: Path, modules: Mapping[str, Module]) -> None:
    """modules.dep, in which a line has the deepest need last, and modules.alias."""
    lines, aliases = [], []
    for module in modules.values():
        chain = reversed(with_needs([module.name], modules))
        first, *needed = (str(one.path.relative_to(directory)) for one in chain)
        lines.append(f"{first}: {' '.join(needed)}\n")
        aliases += [f"alias {alias} {module.name}\n" for alias in module.aliases]
    (directory / "modules.dep").write_text("".join(lines))
    (directory / "modules.alias").write_text("".join(aliases))


def in_order(directory: Path, names: Iterable[str]) -> list[Path]:
    """Files of these modules and of all they need, in the order of loading, by modules.dep."""
    ordered: dict[Path, None] = {}
    for line in (directory / "modules.dep").read_text().splitlines():
        first, _, needed = line.partition(": ")
        if _name(Path(first)) in names:
            ordered |= dict.fromkeys(directory / one for one in (*reversed(needed.split()), first))
    return list(ordered)


def _name(path: Path) -> str:
    return spelled(path.name.partition(".ko")[0])


def _read(path: Path) -> Module:
    needs: list[str] = []
    aliases: list[str] = []
    for key, value in information(content(path)):
        if key == "depends":
            needs += [spelled(one) for one in value.split(",") if one]
        elif key == "softdep" and value.startswith("pre:"):
            needs += [spelled(one) for one in value.split()[1:]]
        elif key == "alias":
            aliases.append(value)
    return Module(_name(path), path, tuple(needs), tuple(aliases))


def information(module: bytes) -> Iterator[tuple[str, str]]:
    """The pairs of .modinfo; none if there is no such section."""
    (table,) = struct.unpack_from("<Q", module, 0x28)
    size, count, names = struct.unpack_from("<HHH", module, 0x3A)
    sections = [_SECTION.unpack_from(module, table + number * size) for number in range(count)]
    for section in sections:
        start = sections[names][_OFFSET] + section[0]
        if module[start : module.index(b"\0", start)] == b".modinfo":
            data = module[section[_OFFSET] : section[_OFFSET] + section[_SIZE]]
            for pair in data.split(b"\0"):
                key, equals, value = pair.decode("latin-1").partition("=")
                if equals:
                    yield key, value
