"""Deletes the links of pods that are gone, many at once and off the caller's path.

Deleting a link costs the kernel 10 to 50 ms of waiting for readers, but thirty of one group cost no more than
one. So a DEL only takes a link out of use (down, renamed, ``names.GROUP_DOOMED``: 0.2 ms), and this thread
deletes the group. A crash between the two leaves doomed links, which the next start's first round removes.
"""

from __future__ import annotations

import errno
import logging
import threading

from datapath.errors import KernelError
from datapath.netlink import link
from datapath.netlink.link import Link
from datapath.netlink.socket import Socket
from datapath.netlink.wire import Request
from datapath.pod import names

log = logging.getLogger(__name__)

LINGER = 0.05
"""Seconds a round waits for more to come: a round holds up every other writer of links for some ms."""


def doom(doomed: Link) -> tuple[Request, ...]:
    """Take a link out of use. Its routes and neighbours go with it being down, on the pod's side its carrier.

    Down comes first, as older kernels rename no link that is up. Done if it is gone.
    """
    return (
        link.change(doomed.index, up=False).also_done_if(errno.ENODEV),
        link.rename(doomed.index, names.doomed_name(doomed.index)).also_done_if(errno.ENODEV),
        link.change(doomed.index, alias="", group=names.GROUP_DOOMED).also_done_if(errno.ENODEV),
    )


class Reaper:
    """One thread, started by the first ``wake``, that ends with ``close``."""

    def __init__(self, netns: int | None) -> None:
        """``netns`` as for ``Socket``; it must stay open until ``close``."""
        self._netns = netns
        self._socket: Socket | None = None
        self._changed = threading.Condition()
        self._asked = 0
        self._done = 0
        self._hurry = False
        self._closing = False
        self._error: KernelError | None = None
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """There is something in the doomed group. Returns at once."""
        with self._changed:
            self._asked += 1
            if self._thread is None:
                self._start()
            self._changed.notify_all()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="link-reaper", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:
            log.warning("links of pods that are gone stay for now; the next DEL tries again: %s", exc)
        else:
            self._thread = thread

    def is_due(self) -> bool:
        """What is in the doomed group is about to go, unless the round fails."""
        with self._changed:
            return self._thread is not None and self._asked > self._done

    def flush(self) -> None:
        """Wait until nothing that was doomed before this call is left.

        Tries again what failed before. Raises KernelError if it fails now.
        """
        with self._changed:
            if self._error is not None:
                self._asked += 1
            asked = self._asked
            self._hurry = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._done >= asked or self._thread is None)
            if self._error is not None:
                raise self._error

    def close(self) -> None:
        """Finish what was asked for, then end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._asked > self._done or self._closing)
                if self._asked == self._done:
                    return
                self._changed.wait_for(lambda: self._hurry or self._closing, timeout=LINGER)
                self._hurry = False
                asked = self._asked
            error = self._round()
            with self._changed:
                self._done, self._error = asked, error
                self._changed.notify_all()

    def _round(self) -> KernelError | None:
        try:
            if self._socket is None:
                self._socket = Socket(self._netns)
            remove_doomed(self._socket)
        except KernelError as exc:
            log.warning("links of pods that are gone could not be removed; the next DEL tries again: %s", exc)
            return exc
        except Exception as exc:  # the last resort: who waits for a round would wait for ever
            log.exception("links of pods that are gone could not be removed; the next DEL tries again")
            if self._socket is not None:
                self._socket.close()
                self._socket = None
            return KernelError("delete links of pods that are gone", detail=str(exc))
        return None


def remove_doomed(socket: Socket) -> None:
    """Delete the group; one by one if something in it cannot be deleted that way."""
    try:
        socket.one(link.delete_group(names.GROUP_DOOMED))
    except KernelError:
        socket.transact(*(link.delete(one.index) for one in doomed_links(socket)))


def doomed_links(socket: Socket) -> list[Link]:
    return [
        one
        for one in link.list_all(socket)
        if one.group == names.GROUP_DOOMED and one.name.startswith(names.DOOMED_PREFIX)
    ]
