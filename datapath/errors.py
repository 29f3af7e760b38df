"""What the datapath raises when the kernel says no.

    KernelError
    ├── NameTaken       the interface name is in use, and not by us
    ├── AddressTaken    a link of another pod carries the address
    ├── Unenforced      nobody would refuse what the pod may not send
    └── UplinkUnusable  the pod's packets would not leave by its uplink

Each carries what was tried, the errno (0 if the refusal had none) and the object it was tried on, so that a
caller can decide by value and never by text.
"""

from __future__ import annotations

import os


class KernelError(Exception):
    """The kernel (or libbpf on its behalf) refused. ``what`` was tried on ``object``.

    ``detail`` is what an operator needs beyond the errno: the end of a verifier log, or what to do.
    """

    def __init__(self, what: str, *, errno: int = 0, object: str = "", detail: str = "") -> None:
        reason = os.strerror(errno) if errno else ""
        text = ": ".join(part for part in (what, object, reason, detail) if part)
        super().__init__(text)
        self.what = what
        self.errno = errno
        self.object = object
        self.detail = detail


class NameTaken(KernelError):
    """The name that was asked for belongs to an object that is not ours."""


class UplinkUnusable(KernelError):
    """The uplink's device is gone, or packets proven to reach the pod would not leave by it.

    Nothing that a pod does in its own namespace is told so.
    """


class Unenforced(KernelError):
    """Nobody would refuse that the pod sends as somebody else, so it does not start. Nothing is left."""


class AddressTaken(KernelError):
    """Packets to the address already go to a live link of another pod. Nothing of that pod was touched."""
