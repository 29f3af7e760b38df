"""Which allocator serves which kind of uplink on this node."""

from __future__ import annotations

from collections.abc import Mapping

from control.ipam.allocator import AllocationRequest, Allocator, Reservation
from control.model.errors import Cause, RequestError
from control.model.modes import UplinkKind

NAMES = {
    UplinkKind.SHARED_ENI: "addresses of shared ENIs",
    UplinkKind.TRUNK_MEMBER: "member ENIs of a trunk",
    UplinkKind.OWN_ENI: "ENIs of a pod's own",
    UplinkKind.NODE_ROUTE: "addresses of the node's pod CIDR",
}


class Allocators:
    """Implements ``control.ipam.allocator.Allocator`` for requests of every kind that the node has."""

    def __init__(self, allocators: Mapping[UplinkKind, Allocator]) -> None:
        self._allocators = dict(allocators)

    async def acquire(self, request: AllocationRequest) -> Reservation:
        """Also raises RequestError for a kind that this node has not."""
        allocator = self._allocators.get(request.kind)
        if allocator is None:
            raise self._has_not(request)
        return await allocator.acquire(request)

    def kick(self) -> None:
        for allocator in self._allocators.values():
            allocator.kick()

    def sync(self) -> None:
        for allocator in self._allocators.values():
            allocator.sync()

    async def close(self) -> None:
        for allocator in self._allocators.values():
            await allocator.close()

    def _has_not(self, request: AllocationRequest) -> RequestError:
        kinds = " and ".join(NAMES[kind] for kind in self._allocators) or "none of any kind"
        return RequestError(
            f"pod {request.pod} asks for {NAMES[request.kind]}, this node has {kinds}",
            cause=Cause.UNSUPPORTED,
            remedy="have the pod run on a node that is set up for it, or do not ask for it by annotation",
        )
