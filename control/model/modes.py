"""How a pod's interface is made and by what its packets leave the node, as the ledger stores it.

The values are on disk, so a word here is never used again for something else. ``datapath`` has value types of
its own with the same words: it knows no ledger, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from control.model.ids import EniId


class LedgerWord(StrEnum):
    """Words that stand in ledgers. One that this release does not know is a later release's, and is kept."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        """A node that was rolled back has the later release's pods still, and its ledger is not damaged."""
        if not isinstance(value, str) or not value:
            return None
        word = str.__new__(cls, value)
        word._name_ = word._value_ = value
        return word


class NetworkMode(LedgerWord):
    """The datapath that made an attachment, and that alone checks, repairs and tears it down."""

    POLICY_ROUTE = "policy_route"
    """A veth pair; rules send what the pod sends out of a shared ENI."""
    IPVLAN = "ipvlan"
    """An IPvlan slave of a shared ENI in the pod."""
    VLAN = "vlan"
    """A member ENI: a VLAN of a trunk ENI."""
    EXCLUSIVE = "exclusive"
    """A whole ENI in the pod."""
    VPC_ROUTE = "vpc_route"
    """Addresses of the node's pod CIDR, which the VPC's route table leads here."""
    MACVLAN = "macvlan"
    """A macvlan slave of an ENI in the pod. It has no link on the host; the proof that the seam holds."""


class UplinkKind(LedgerWord):
    SHARED_ENI = "shared_eni"
    """A secondary ENI that many pods have addresses of."""
    TRUNK_MEMBER = "trunk_member"
    """A member ENI, reached by its VLAN on the trunk's device."""
    OWN_ENI = "own_eni"
    """An ENI of this pod alone."""
    NODE_ROUTE = "node_route"
    """The node's primary ENI, for addresses that the VPC routes to the node."""


UPLINK_OF: Mapping[NetworkMode, UplinkKind] = {
    NetworkMode.POLICY_ROUTE: UplinkKind.SHARED_ENI,
    NetworkMode.MACVLAN: UplinkKind.OWN_ENI,
}
"""By what a pod of each mode that there is leaves the node."""

HAS_HOST_LINK = frozenset({NetworkMode.POLICY_ROUTE})
"""Modes whose pods have a link on the host, named after the pod: what hangs on one asks here."""


class EniKind(LedgerWord):
    """What an ENI is for. The cloud calls an exclusive one Secondary as well."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    TRUNK = "trunk"
    MEMBER = "member"
    EXCLUSIVE = "exclusive"


@dataclass(frozen=True, slots=True)
class Uplink:
    """By what an endpoint's packets leave the node. Members of one trunk share its device."""

    kind: UplinkKind
    id: EniId
    """The ENI, as the cloud calls it; of a member its own, not the trunk's."""
    vlan: int = 0
    """VLAN of a member on its trunk, 1..4094; 0 for what has none."""


def shared_eni(eni_id: EniId) -> Uplink:
    return Uplink(UplinkKind.SHARED_ENI, eni_id)


def is_built(mode: NetworkMode, uplink: Uplink) -> bool:
    """This release sets such a pod up. One that another release has left is taken down, and nothing else."""
    return UPLINK_OF.get(mode) is uplink.kind
