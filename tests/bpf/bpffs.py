"""A bpf file system of a test's own."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def mounted(where: Path) -> Iterator[Path]:
    """Mounted on the directory, which is made, for the length of the block."""
    where.mkdir(parents=True, exist_ok=True)
    if _libc.mount(b"bpf", str(where).encode(), b"bpf", 0, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(where))
    try:
        yield where
    finally:
        _libc.umount2(str(where).encode(), _MNT_DETACH)
