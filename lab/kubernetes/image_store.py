"""What containerd keeps of a node's first images, made once and given to every later node by hard links.

Unpacking costs seconds of processor per node, and files that containerd has committed never change: it only
adds and unlinks. Its databases do change, and are copied.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

_PREFIX = "store-"
_DATABASES = "*.db"
_KEPT = 3
"""Stores: with the product's image, without it, and one to spare. Each takes half a gigabyte."""


class ImageStore:
    """Of the docker-archives ``images``, below the directory ``cache``."""

    def __init__(self, cache: Path, images: Sequence[str]) -> None:
        self._cache = cache
        self._path = cache / f"{_PREFIX}{_key(images)}"

    def give(self, target: Path) -> bool:
        """Make ``target``, containerd's directory, of it. False, and nothing made, if there is none."""
        if not self._path.is_dir():
            return False
        try:
            _copy(self._path, target)
        except OSError:
            # Somebody else has just replaced it by a later one.
            shutil.rmtree(target, ignore_errors=True)
            return False
        return True

    def keep(self, source: Path) -> None:
        """Keep ``source``, which no containerd uses now, and drop the oldest stores. Raises OSError."""
        if self._path.is_dir():
            return
        self._cache.mkdir(parents=True, exist_ok=True)
        fresh = self._cache / f"new-{os.getpid()}-{self._path.name}"
        try:
            _copy(source, fresh)
            # Another lab may have been quicker.
            with contextlib.suppress(OSError):
                fresh.rename(self._path)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        stores = sorted(self._cache.glob(f"{_PREFIX}*"), key=_made, reverse=True)
        for old in stores[_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)


def _made(path: Path) -> float:
    """When it got its name; 0 if it has gone meanwhile."""
    try:
        return path.stat().st_ctime
    except FileNotFoundError:
        return 0.0


def _key(images: Sequence[str]) -> str:
    """Another archive at the same path has another time of change."""
    told = [(path, status.st_size, status.st_mtime_ns) for path in images if (status := os.stat(path))]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _copy(source: Path, target: Path) -> None:
    """With owners, devices and extended attributes, as layers have them. Raises OSError."""
    if not _cp("--link", source, target):
        shutil.rmtree(target, ignore_errors=True)
        if not _cp("--reflink=auto", source, target):  # another file system
            raise OSError(f"{source} cannot be copied to {target}")
    for linked in list(target.glob(f"*/{_DATABASES}")):
        own = linked.with_name(f"{linked.name}.own")
        shutil.copy2(linked, own)
        own.rename(linked)


def _cp(how: str, source: Path, target: Path) -> bool:
    words = ["cp", "--archive", how, "--no-target-directory", str(source), str(target)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0
