"""The OpenAPI actions the agent uses, and how often a minute each may be called.

Source of the limits: Terway's own client (calls per minute and account, the burst is the same number).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Action(StrEnum):
    """Names on the wire. Keys of ``rate_limit`` and values of the metric label ``api`` are the same words."""

    CREATE_ENI = "CreateNetworkInterface"
    ATTACH_ENI = "AttachNetworkInterface"
    DETACH_ENI = "DetachNetworkInterface"
    DELETE_ENI = "DeleteNetworkInterface"
    DESCRIBE_ENIS = "DescribeNetworkInterfaces"
    ASSIGN_IPV4 = "AssignPrivateIpAddresses"
    UNASSIGN_IPV4 = "UnassignPrivateIpAddresses"
    ASSIGN_IPV6 = "AssignIpv6Addresses"
    UNASSIGN_IPV6 = "UnassignIpv6Addresses"
    DESCRIBE_INSTANCE_TYPES = "DescribeInstanceTypes"
    DESCRIBE_VSWITCHES = "DescribeVSwitches"


READS = frozenset({Action.DESCRIBE_ENIS, Action.DESCRIBE_INSTANCE_TYPES, Action.DESCRIBE_VSWITCHES})

OF_VPC = frozenset({Action.DESCRIBE_VSWITCHES})
"""Asked of the VPC's API; the others of ECS's."""

DEFAULT_PER_MINUTE = 500

PER_MINUTE: Mapping[Action, int] = MappingProxyType(
    {
        Action.CREATE_ENI: 500,
        Action.ATTACH_ENI: 500,
        Action.DETACH_ENI: 400,
        Action.DELETE_ENI: 500,
        Action.DESCRIBE_ENIS: 800,
        Action.ASSIGN_IPV4: 400,
        Action.UNASSIGN_IPV4: 400,
        Action.ASSIGN_IPV6: 400,
        Action.UNASSIGN_IPV6: 400,
        Action.DESCRIBE_INSTANCE_TYPES: 400,
        Action.DESCRIBE_VSWITCHES: 300,
    }
)
