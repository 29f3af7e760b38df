"""The lock of a fast path that is open: who comes after its end gets an error, and not its descriptors.

Their numbers are another file's by then, another fast path's maps perhaps, and libbpf's objects are freed.
"""

from __future__ import annotations

import errno
from threading import RLock
from types import TracebackType

from datapath.errors import KernelError


class Closed(KernelError):
    """The fast path was closed: its owner has another one, or none."""


class OpenLock:
    """Taken as ``with lock``, again by the thread that has it. Raises Closed once it was shut."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._shut = False

    @property
    def is_open(self) -> bool:
        return not self._shut

    def shut(self) -> None:
        """For who has the lock: nobody gets it after that."""
        self._shut = True

    def __enter__(self) -> None:
        self._lock.acquire()
        if self._shut:
            self._lock.release()
            detail = "it was closed; `terway-cli mode` says what carries packets by now"
            raise Closed("use the fast path", errno=errno.ENODEV, detail=detail)

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._lock.release()
