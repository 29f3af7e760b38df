"""Who wants to hear that what a watch shows has changed: any number, none of whom is in another's way.

Each has a thread that waits for a change and calls. So the watch's own thread never waits for anybody; who is
slow hears later, of several changes at once, and who raises is told again of the next one. After the last
change each is called once more at least.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from control.model.pod import Unsubscribe

log = logging.getLogger(__name__)


def _nothing() -> None:
    pass


class Subscribers:
    """``what`` names the watch in the log and in the threads' names."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.Lock()
        self._all: tuple[_Subscriber, ...] = ()
        self._closed = False

    def add(self, call: Callable[[], None], *, at_once: bool) -> Unsubscribe:
        """``at_once``: there is something to be seen already, of which no change tells any more."""
        with self._lock:
            if self._closed:
                return _nothing
            made = _Subscriber(call, self._what)
            self._all = (*self._all, made)
        if at_once:
            made.changed()

        def remove() -> None:
            with self._lock:
                self._all = tuple(one for one in self._all if one is not made)
            made.end()

        return remove

    def publish(self) -> None:
        for one in self._all:
            one.changed()

    def close(self) -> None:
        """No call begins after this, and each thread ends with the call that it is in."""
        with self._lock:
            left, self._all, self._closed = self._all, (), True
        for one in left:
            one.end()


class _Subscriber:
    def __init__(self, call: Callable[[], None], what: str) -> None:
        self._call = call
        self._what = what
        self._wake = threading.Event()
        self._ended = False
        threading.Thread(target=self._run, name=f"told-{what}", daemon=True).start()

    def changed(self) -> None:
        self._wake.set()

    def end(self) -> None:
        self._ended = True
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._ended:
                return
            try:
                self._call()
            except Exception:  # of somebody else's code: he hears of the next change all the same
                log.exception("one who listens to %s failed in a way nobody foresaw", self._what)
