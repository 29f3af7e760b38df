"""What the emulator boots: the kernel without its packing, and a first root file system of 3 MiB.

Sources: Documentation/x86/boot.rst (payload_offset and payload_length, protocol 2.08) and
Documentation/driver-api/early-userspace/buffer-format.rst ("newc").
"""

from __future__ import annotations

import lzma
import shlex
import shutil
import stat
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.vm import modules

_HERE = Path(__file__).resolve().parent
_BUSYBOX = Path("/usr/bin/busybox")
_FIRST_MODULES = ("virtio_pci", "virtiofs", "overlay")
_CONSOLE = (5, 1)


def unpacked_kernel(directory: Path) -> Path:
    """The ELF image out of ``directory``/vmlinuz, which saves the emulator 3 s of unpacking; or vmlinuz."""
    made = directory / "vmlinux"
    if made.exists():
        return made
    image = _payload((directory / "vmlinuz").read_bytes())
    if not image.startswith(b"\x7fELF"):
        return directory / "vmlinuz"
    made.write_bytes(image)
    return made


def _payload(packed: bytes) -> bytes:
    """Unpacked, where this machine can; else b""."""
    sectors = packed[0x1F1] or 4
    offset, length = struct.unpack_from("<II", packed, 0x248)
    payload = packed[(sectors + 1) * 512 + offset :][:length]
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(b"\x28\xb5\x2f\xfd") and shutil.which("zstd"):
        # The last four bytes are the unpacked size, which is the kernel's own.
        return subprocess.run(["zstd", "-dc"], input=payload[:-4], capture_output=True, check=True).stdout
    return b""


def first_root(directory: Path, command: str, settings: Mapping[str, str]) -> bytes:
    """A cpio archive with busybox, the first modules, and ``command`` where init.sh and inside.sh look.

    ``settings`` become shell variables of those two.
    """
    (where,) = (directory / "modules").resolve().iterdir()
    first = modules.in_order(where, _FIRST_MODULES)
    told = {
        **settings,
        "release": where.name,
        "module_directory": str(where),
        "modules": " ".join(one.name for one in first),
    }
    archive = Archive()
    for name in ("bin", "dev", "modules", "proc", "sys"):
        archive.directory(name)
    archive.device("dev/console", *_CONSOLE)
    archive.file("bin/busybox", _BUSYBOX.read_bytes())
    for one in first:
        archive.file(f"modules/{one.name}", modules.content(one))
    archive.file("settings", "".join(f"{k}={shlex.quote(v)}\n" for k, v in told.items()).encode())
    archive.file("command.sh", f"{command}\n".encode())
    archive.file("init", (_HERE / "init.sh").read_bytes())
    archive.file("inside.sh", (_HERE / "inside.sh").read_bytes())
    return archive.finished()


class Archive:
    """A cpio archive in the making."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._number = 0

    def directory(self, name: str) -> None:
        self._add(name, stat.S_IFDIR | 0o755)

    def file(self, name: str, data: bytes) -> None:
        self._add(name, stat.S_IFREG | 0o755, data)

    def device(self, name: str, major: int, minor: int) -> None:
        self._add(name, stat.S_IFCHR | 0o600, device=(major, minor))

    def finished(self) -> bytes:
        self._add("TRAILER!!!", 0)
        return b"".join(self._parts)

    def _add(self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self._number += 1
        title = name.encode() + b"\0"
        fields = (self._number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(title), 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields)
        self._parts += [_padded(head + title), _padded(data)]


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
