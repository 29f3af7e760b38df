"""Pods' namespaces by the paths that a runtime gave, without trusting the paths.

A path may be gone, be another namespace's by now, be closed to us, or lie on a mount that does not answer.
What cannot be told apart from a namespace that is there is no proof that it is gone.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from datapath import namespace
from datapath.errors import KernelError
from datapath.namespace import Identity

OPEN_TIMEOUT = 1.0
"""Seconds. Opening takes microseconds; what takes this long hangs, and nobody is to hang with it."""
_NO_SUCH = frozenset({errno.ENOENT, errno.ESRCH, errno.ENOTDIR})


class PathGone(KernelError):
    """There is nothing at the path, where there would be if its namespace lived."""


class PathReused(KernelError):
    """Another namespace is at the path."""


@dataclass(slots=True)
class _Opening:
    path: str
    done: threading.Event = field(default_factory=threading.Event)
    found: int | KernelError | None = None
    given_up: bool = False


class NamespaceReach:
    """Opens namespaces by path. One opening that hangs makes the others fail at once until it has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hanging: _Opening | None = None

    @contextmanager
    def opened(self, path: str, identity: Identity | None) -> Iterator[int]:
        """A descriptor for the length of the block.

        ``identity``: which namespace it has to be, None if nobody knows. Raises PathGone, PathReused, or
        KernelError for what is neither: no permission, no descriptor left, no answer, no namespace at all.
        """
        fd = self._open(path)
        try:
            if identity is not None and namespace.identity(fd) != identity:
                raise PathReused(
                    "open a pod's namespace", object=path, detail="it is another namespace's now"
                )
            yield fd
        finally:
            os.close(fd)

    def _open(self, path: str) -> int:
        if not path:
            raise KernelError("open a pod's namespace", detail="the runtime has not told where it is")
        opening = _Opening(path)
        with self._lock:
            if self._hanging is not None and not self._hanging.done.is_set():
                raise _hangs(path, self._hanging.path)
            self._hanging = opening
        try:
            threading.Thread(target=self._run, args=(opening,), name="open-netns", daemon=True).start()
        except RuntimeError as exc:  # no thread to be had: nothing hangs
            opening.done.set()
            raise KernelError("open a pod's namespace", object=path, detail=str(exc)) from exc
        opening.done.wait(OPEN_TIMEOUT)
        with self._lock:
            opening.given_up = opening.found is None
        if isinstance(opening.found, int):
            return opening.found
        if opening.found is None:
            raise _hangs(path, path)
        raise _meaning(path, opening.found)

    def _run(self, opening: _Opening) -> None:
        found: int | KernelError
        try:
            found = namespace.open_path(opening.path)
        except KernelError as exc:
            found = exc
        except OSError as exc:
            found = KernelError("open a pod's namespace", errno=exc.errno or 0, object=opening.path)
        with self._lock:
            if opening.given_up and isinstance(found, int):
                os.close(found)
            opening.found = found
        opening.done.set()


def _hangs(path: str, hanging: str) -> KernelError:
    detail = f"opening {hanging} hangs; is it on a mount that does not answer?"
    return KernelError("open a pod's namespace", errno=errno.ETIMEDOUT, object=path, detail=detail)


def _meaning(path: str, error: KernelError) -> KernelError:
    """Of a refusal. A directory that is missing as well says that we do not see what the runtime sees.

    /proc/PID/ns goes with the process, so there it says nothing of the kind.
    """
    if error.errno not in _NO_SUCH:
        return error
    if not path.startswith("/proc/") and not os.path.isdir(os.path.dirname(path)):
        detail = "the directory is not there either: is it mounted into the agent's container?"
        return KernelError("open a pod's namespace", errno=error.errno, object=path, detail=detail)
    return PathGone("open a pod's namespace", errno=error.errno, object=path)
