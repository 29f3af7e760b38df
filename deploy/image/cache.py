"""Files and directories under a name that says what they were made of: found again, or made and renamed."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def digest(parts: Iterable[str | bytes]) -> str:
    """16 hexadecimal digits that differ if any part does."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "big") + data)
    return total.hexdigest()[:16]


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """One build at a time in ``directory``; another one waits."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def kept(path: Path, make: Callable[[Path], None]) -> bool:
    """Let ``make`` make ``path`` unless it is there; older ones of that kind go. False if it was there.

    ``path`` is named KIND-DIGEST, and appears when it is complete.
    """
    if path.exists():
        return False
    fresh = path.with_name(f"new-{path.name}")
    remove(fresh)
    make(fresh)
    kind = path.name.rpartition("-")[0]
    for old in path.parent.glob(f"{kind}-*"):
        remove(old)
    fresh.rename(path)
    return True


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
