"""Trunk ENIs and their members: which VLAN a member gets, and how many of them an instance may have.

A member is a secondary ENI that was attached with TrunkNetworkInstanceId. It has no device of its own: its
frames pass the trunk's, tagged (802.1Q) with the VLAN that Describe shows as Attachment.DeviceIndex. The
parameter is in ECS's reference ("not yet available"), its rules are not: what is inferred, and from what, is
in docs/lab-rules.md.
"""

from __future__ import annotations

from collections.abc import Iterable

from lab.cloud import errors
from lab.cloud.instance_types import InstanceType
from lab.cloud.model import Eni, EniStatus, EniType
from lab.spec import VLANS


def members_of(trunk_id: str, enis: Iterable[Eni]) -> list[Eni]:
    """Also those on their way in or out, which hold their VLANs."""
    return [eni for eni in enis if eni.trunk_id == trunk_id]


def check_trunk(trunk: Eni, instance_id: str, member: Eni) -> None:
    """Whether ``member`` may be attached to ``trunk`` on the instance."""
    if trunk.eni_type != EniType.TRUNK:
        raise errors.wrong_type(trunk, "it is no trunk ENI")
    if trunk.status != EniStatus.IN_USE:
        raise errors.wrong_state(trunk, "InUse")
    if trunk.instance_id != instance_id:
        raise errors.invalid_parameter(
            "TrunkNetworkInstanceId", f"{trunk.eni_id} is attached to {trunk.instance_id}"
        )
    if member.eni_type != EniType.SECONDARY:
        raise errors.wrong_type(member, "only a secondary ENI becomes a member")


def check_room(kind: InstanceType, present: Iterable[Eni], *, member: bool) -> None:
    """One more ENI for an instance that has ``present``.

    EniQuantity bounds those with a device, EniTotalQuantity all: both of upstream's limits of members, that
    minus EniQuantity and that minus 2 (primary and trunk), follow. Raises EniPerInstanceLimitExceeded.
    """
    all_enis = list(present)
    if not member and sum(not eni.trunk_id for eni in all_enis) >= kind.eni:
        raise errors.too_many_enis(kind.name, kind.eni)
    if len(all_enis) >= kind.eni_total:
        raise errors.too_many_enis(kind.name, kind.eni_total)


def free_vlan(members: Iterable[Eni]) -> int:
    """The lowest that no member has: one that was given up comes back at once, the hardest for a node."""
    taken = {eni.vlan for eni in members}
    return next(vlan for vlan in VLANS if vlan not in taken)
