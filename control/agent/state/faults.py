"""The points at which the daemon may die, by name, and what the next start does about each.

Intent is in the ledger before an effect and the outcome after it, so at every point one of two things is
true: nothing has happened that the ledger does not announce, or the ledger's intent says how to find out.

============================  ==============================================  ============================
point                         what exists                                     the replay
============================  ==============================================  ============================
``add-reserved``              attachment ADDING, address its own; kernel: no  tears down (nothing), frees it
``add-applied``               the same, kernel objects complete               tears them down, frees it
``add-committed``             attachment READY, the runtime has no answer     keeps it; its DEL frees it
``del-intent``                attachment DELETING, kernel objects complete    tears down, frees the address
``del-applied``               attachment DELETING, kernel objects gone        frees the address
``del-committed``             nothing of it                                   nothing; a second DEL succeeds
``grow-intent``               operation; the cloud may not have been asked    asks again with the same token
``grow-created``              an ENI in the cloud, its id unknown here        the same token gives its id
``grow-recorded``             ENI ATTACHING, perhaps not yet attached         attaches if needed, waits
``grow-attached``             ENI attached, not yet served                    waits for the witnesses
``grow-seen``                 all witnesses agree, kernel prepared            serves it
``grow-committed``            the ENI serves                                  nothing
``assign-intent``             operation; the cloud may not have been asked    asks again with the same token
``assign-called``             addresses in the cloud, unknown here            the same token names them
``assign-committed``          the addresses are free                          nothing
``release-intent``            addresses RELEASING, still in the cloud         unassigns again
``release-called``            gone from the cloud, RELEASING here             unassigns again: already so
``shed-intent``               ENI RELEASING, still attached                   detaches, deletes
``shed-detached``             ENI detached, not deleted                       deletes
``shed-deleted``              ENI gone from the cloud, RELEASING here         delete again: already so
============================  ==============================================  ============================

An ADD of a pod's second sandbox that is cut off gives the address that it has taken over back to the first
one, whose record stays until the second is committed. A link that was moved aside gets its name back.

After a reboot (another boot id) no kernel object exists: ADDING and DELETING are freed, READY becomes LOST
and waits for its pod or for Kubernetes to say that the pod is gone.

``TERWAY_FAULT=point`` in the environment makes the process kill itself there, with SIGKILL and therefore
without any clean-up; ``point:3`` at the third time. Tests use it, nothing else sets it.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum


class FaultPoint(StrEnum):
    ADD_RESERVED = "add-reserved"
    ADD_APPLIED = "add-applied"
    ADD_COMMITTED = "add-committed"
    DEL_INTENT = "del-intent"
    DEL_APPLIED = "del-applied"
    DEL_COMMITTED = "del-committed"
    GROW_INTENT = "grow-intent"
    GROW_CREATED = "grow-created"
    GROW_RECORDED = "grow-recorded"
    GROW_ATTACHED = "grow-attached"
    GROW_SEEN = "grow-seen"
    GROW_COMMITTED = "grow-committed"
    ASSIGN_INTENT = "assign-intent"
    ASSIGN_CALLED = "assign-called"
    ASSIGN_COMMITTED = "assign-committed"
    RELEASE_INTENT = "release-intent"
    RELEASE_CALLED = "release-called"
    SHED_INTENT = "shed-intent"
    SHED_DETACHED = "shed-detached"
    SHED_DELETED = "shed-deleted"


class Faults:
    """Where to die, if anywhere. The default reaches every point alive."""

    def __init__(self, spec: str = "") -> None:
        name, _, nth = spec.partition(":")
        self._point = FaultPoint(name) if name else None
        self._left = int(nth or 1)

    def reach(self, point: FaultPoint) -> None:
        if point is not self._point:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
