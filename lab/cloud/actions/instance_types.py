"""DescribeInstanceTypes: the table of types, filtered as the API reference says.

A Minimum* leaves out types that have less, a Maximum* types that have more. Filters by what the lab's types
do not have (GPU and CPU models, local disks, clock speeds, credits) are refused by name.
"""

from __future__ import annotations

from collections.abc import Callable

from lab.cloud import errors
from lab.cloud.actions import paging
from lab.cloud.actions.action import Action, ActionCall, Answer
from lab.cloud.actions.parameters import Parameters
from lab.cloud.instance_types import INSTANCE_TYPES, InstanceType

_MOST_RESULTS = 100
_MOST_NAMES = 10
_FAMILY_LEVEL = "EnterpriseLevel"
_ARCHITECTURE = "X86"

_LEAST: dict[str, Callable[[InstanceType], float]] = {
    "MinimumCpuCoreCount": lambda kind: kind.cores,
    "MinimumMemorySize": lambda kind: kind.memory_gib,
    "MinimumEniQuantity": lambda kind: kind.eni,
    "MinimumEniPrivateIpAddressQuantity": lambda kind: kind.ipv4_per_eni,
    "MinimumEniIpv6AddressQuantity": lambda kind: kind.ipv6_per_eni,
    "MinimumEriQuantity": lambda kind: kind.eri,
    "MinimumGPUAmount": lambda _kind: 0,
    "MinimumInstanceBandwidthRx": lambda kind: kind.bandwidth_kbits,
    "MinimumInstanceBandwidthTx": lambda kind: kind.bandwidth_kbits,
    "MinimumInstancePpsRx": lambda kind: kind.packets_per_second,
    "MinimumInstancePpsTx": lambda kind: kind.packets_per_second,
    "MinimumPrimaryEniQueueNumber": lambda kind: kind.queues,
    "MinimumSecondaryEniQueueNumber": lambda kind: kind.queues,
    "MinimumQueuePairNumber": lambda _kind: 0,
}
_MOST: dict[str, Callable[[InstanceType], float]] = {
    "MaximumCpuCoreCount": lambda kind: kind.cores,
    "MaximumMemorySize": lambda kind: kind.memory_gib,
    "MaximumGPUAmount": lambda _kind: 0,
}
_WORDS: dict[str, Callable[[InstanceType], str]] = {
    "CpuArchitecture": lambda _kind: _ARCHITECTURE,
    "InstanceCategory": lambda kind: kind.category,
    "InstanceFamilyLevel": lambda _kind: _FAMILY_LEVEL,
    "InstanceTypeFamily": lambda kind: kind.family,
}
_LISTS: dict[str, Callable[[InstanceType], str]] = {
    "CpuArchitectures": lambda _kind: _ARCHITECTURE,
    "InstanceCategories": lambda kind: kind.category,
    "InstanceTypeFamilies": lambda kind: kind.family,
    "InstanceTypes": lambda kind: kind.name,
}


def describe(call: ActionCall) -> Answer:
    p = call.parameters
    for name in _LISTS:
        if len(p.listing(name)) > _MOST_NAMES:
            raise errors.invalid_parameter(name, f"at most {_MOST_NAMES} in one call")
    found = [kind for kind in INSTANCE_TYPES.values() if _is_wanted(kind, p)]
    page, token = paging.by_token(found, p, key=lambda k: k.name, most=_MOST_RESULTS, usual=_MOST_RESULTS)
    return {"InstanceTypes": {"InstanceType": [_answer(kind) for kind in page]}, "NextToken": token}


def _is_wanted(kind: InstanceType, p: Parameters) -> bool:
    return (
        all(has(kind) >= (p.amount(name) or 0) for name, has in _LEAST.items())
        and all((most := p.amount(name)) is None or has(kind) <= most for name, has in _MOST.items())
        and all(p.text(name) in ("", has(kind)) for name, has in _WORDS.items())
        and all(not (names := p.listing(name)) or has(kind) in names for name, has in _LISTS.items())
    )


def _answer(kind: InstanceType) -> Answer:
    return {
        "InstanceTypeId": kind.name,
        "InstanceTypeFamily": kind.family,
        "InstanceCategory": kind.category,
        "InstanceFamilyLevel": _FAMILY_LEVEL,
        "CpuCoreCount": kind.cores,
        "CpuArchitecture": _ARCHITECTURE,
        "MemorySize": kind.memory_gib,
        "GPUAmount": 0,
        "GPUSpec": "",
        "LocalStorageCategory": "",
        "EniQuantity": kind.eni,
        "EniPrivateIpAddressQuantity": kind.ipv4_per_eni,
        "EniIpv6AddressQuantity": kind.ipv6_per_eni,
        "EniTotalQuantity": kind.eni_total,
        "EniTrunkSupported": kind.trunk,
        "EriQuantity": kind.eri,
        "QueuePairNumber": 0,
        "PrimaryEniQueueNumber": kind.queues,
        "SecondaryEniQueueNumber": kind.queues,
        "MaximumQueueNumberPerEni": kind.queues,
        "TotalEniQueueQuantity": kind.queues * kind.eni,
        "InstanceBandwidthRx": kind.bandwidth_kbits,
        "InstanceBandwidthTx": kind.bandwidth_kbits,
        "InstancePpsRx": kind.packets_per_second,
        "InstancePpsTx": kind.packets_per_second,
        "NetworkCardQuantity": kind.network_cards,
    }


_TAKES = frozenset({*_LEAST, *_MOST, *_WORDS, *_LISTS}) | paging.BY_TOKEN

ACTIONS = (Action("DescribeInstanceTypes", describe, takes=_TAKES),)
