"""What to ask the cloud for: the difference between what is wanted and what is there or under way.

Level-triggered: ``control.ipam.sizing`` compares, here the missing operations are begun. The first pod that
finds the pool dry causes a call at once; pods that come while it is under way are coalesced into the next
one.
"""

from __future__ import annotations

from collections.abc import Callable

from control.agent.allocation.operations import new_token
from control.ipam import sizing
from control.ipam.statistics import PoolStatistics
from control.model.ids import SecurityGroupId
from control.model.records import Operation, OperationKind


class Growth:
    """``begin`` starts an operation that asks for more."""

    def __init__(
        self,
        statistics: PoolStatistics,
        sizes: sizing.PoolSizes,
        security_groups: tuple[SecurityGroupId, ...],
        begin: Callable[[Operation], None],
    ) -> None:
        self._statistics = statistics
        self._sizes = sizes
        self._security_groups = security_groups
        self._begin = begin

    def is_due(self, now: float, *, waiting: int) -> bool:
        return waiting > 0 or self._statistics.usable(now) < self._sizes.min_pool

    def grow(self, now: float, under_way: tuple[Operation, ...], *, waiting: int) -> int:
        """Begin what is missing. How many of the ``waiting`` pods nothing can help now."""
        view = self._statistics.view(now, under_way, waiting=waiting)
        growth = sizing.grow(view, self._sizes)
        for step in growth.steps:
            self._begin(self._operation(step, now))
        return growth.short

    def _operation(self, step: sizing.Step, now: float) -> Operation:
        match step:
            case sizing.Assign():
                return Operation(
                    new_token(),
                    OperationKind.ASSIGN,
                    now,
                    step.eni_id,
                    ipv4_count=step.ipv4,
                    ipv6_count=step.ipv6,
                )
            case sizing.Create():
                return Operation(
                    new_token(),
                    OperationKind.CREATE_ENI,
                    now,
                    security_groups=self._security_groups,
                    ipv4_count=step.ipv4,
                    ipv6_count=step.ipv6,
                )
