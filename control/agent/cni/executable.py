"""The CNI executable in the runtime's directory: put there at the start, and put back for as long as we live.

What is put back is held in memory (22 KB): neither the image's layer nor the node's disk is needed for it.
The agent brings the executable of its own release, so that the wire has the same version at both ends.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import cni
from cni.conf import PLUGIN_TYPE
from control.process.private_socket import require_on_disk

BUILT = Path(cni.__file__).parent / ".output" / "terway"
"""That of this installation."""
_MODE = 0o755
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class Executable:
    """``DIRECTORY/terway``, a thing that is kept (``control.process.keeper.Kept``)."""

    name = "cni-executable"

    def __init__(self, content: bytes, directory: Path) -> None:
        self._content = content
        self._target = directory / PLUGIN_TYPE
        self._same: tuple[int, ...] = ()
        """What told the file when its content was compared last, and was right."""
        self._refused: tuple[int, ...] = ()
        """The same of another executable that could not be replaced."""

    pods_need_it = True

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self._target,)

    def wrong(self) -> str:
        """An executable that is another's and stands on a read-only mount is said once and left.

        The manifest of the release before mounts the directory read-only, and its init container has put an
        executable there that works.
        """
        try:
            found = os.lstat(self._target)
        except (FileNotFoundError, NotADirectoryError):
            return f"{self._target} was removed"
        if not stat.S_ISREG(found.st_mode):
            return f"{self._target} is no file"
        if found.st_mode & _MODE != _MODE or found.st_mode & 0o022:
            return f"{self._target} has mode {stat.S_IMODE(found.st_mode):o}"
        now = _told_by(found)
        if now in (self._same, self._refused):
            return ""
        if found.st_size == len(self._content) and self._target.read_bytes() == self._content:
            self._same = now
            return ""
        return f"{self._target} is another program ({found.st_size} bytes) than the agent's"

    def mend(self) -> str:
        """By rename, as the runtime may be executing what stands there. What stands there is replaced."""
        self._target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        require_on_disk(self._target.parent)
        try:
            self._write()
        except OSError as exc:
            works = os.access(self._target, os.X_OK) and self._target.is_file()
            if exc.errno not in _READ_ONLY or not works:
                raise
            self._refused = _told_by(os.lstat(self._target))
            return (
                f"it is left there, as it cannot be replaced ({exc.strerror}); mount the directory writable"
            )
        return f"terway of this release is installed, with mode {_MODE:o}"

    def _write(self) -> None:
        fresh = self._target.with_name(f".{self._target.name}.new")
        fresh.unlink(missing_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(self._content)
                file.flush()
                os.fchmod(fd, _MODE)
                os.fsync(fd)
            fresh.rename(self._target)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise


def kept_executable(source: Path | None, directory: Path | None) -> Executable | None:
    """None: there is nothing to install, or nowhere to.

    ``source`` None is that of this installation. In a directory that is not there no runtime looks.
    """
    if directory is None or not directory.is_dir():
        return None
    try:
        content = (BUILT if source is None else source).read_bytes()
    except OSError:
        return None
    return Executable(content, directory) if content else None


def _told_by(found: os.stat_result) -> tuple[int, ...]:
    """Changes with whatever is done to a file but reading it."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
