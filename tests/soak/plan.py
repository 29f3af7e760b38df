"""Which steps a seed gives. Pure: the same seed gives the same steps, whatever comes of them.

A run is a row of episodes: some bad weather, a handful of actions, and a quiet moment. Pods are slots of a
node: ``add`` to a slot where a pod runs is a repeated ADD, ``delete`` of an empty one a repeated DEL. Node 0
is the rough one, whose agent is killed and whose disk suffers; the agent of node 1 lives as long as the run,
so that what leaks in it has the time to be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from random import Random

from tests.soak.step import QUIET, Step

SLOTS = 8
"""Pods of a node beside the steady one, in slots 1 to 8; slot 0 is the steady pod's and no step's."""
ROUGH = 0
CALM = 1

CODES = (
    "Throttling.User",
    "InvalidVSwitchId.IpNotEnough",
    "QuotaExceeded.PrivateIpAddress",
    "EniPerInstanceLimitExceeded",
    "SecurityGroupInstanceLimitExceed",
    "InvalidOperation.InvalidEniState",
    "Operation.Conflict",
    "Forbidden.RAM",
    "InternalError",
    "ServiceUnavailable",
    "InvalidAccessKeyId.NotFound",
)
ASSIGNMENTS = ("AssignPrivateIpAddresses", "AssignIpv6Addresses")
ASSIGNED = ("AssignPrivateIpAddresses", "AssignPrivateIpAddresses", "CreateNetworkInterface")
"""What most ADDs need that need the cloud at all."""
GROWTH = (*ASSIGNMENTS, "CreateNetworkInterface", "AttachNetworkInterface")
RELEASES = (
    "UnassignPrivateIpAddresses",
    "UnassignIpv6Addresses",
    "DetachNetworkInterface",
    "DeleteNetworkInterface",
)
LOOKS = ("DescribeNetworkInterfaces", "DescribeVSwitches")
DISTORTIONS = ("empty", "fewer", "another")
KERNEL = (
    "host link down",
    "host link mtu",
    "host link MAC",
    "host link alias",
    "host link name",
    "route of a pod",
    "rule of a pod",
    "neighbour of a pod",
    "forwarding of a host link",
    "reverse path filter of a host link",
    "rows of its addresses",
    "IPv6 of a host link",
    "rule of all pods",
    "forwarding of the node",
    "gateway address",
    "nft table",
    "ENI mtu",
    "ENI link down",
    "pins of maps",
    "tcx links of ENIs",
    "reverse path filter of the node",
    "forwarding of IPv6",
    "forwarding of an ENI",
    "reverse path filter of an ENI",
    "IPv6 of an ENI",
    "router's word on an ENI",
)
FOREIGN = (
    "address of the ENI",
    "virtual address on an ENI",
    "address of elsewhere on an ENI",
    "address on a host link",
    "route for an ENI's pods",
    "route to pods",
    "rule before all pods'",
    "rule beside a pod's",
    "rule that leads a pod astray",
    "neighbour on a host link",
    "MAC of a gateway",
    "neighbour on an ENI",
    "qdisc of an ENI",
    "filter before the pods'",
    "program at an ENI",
    "chain in our table",
)
NODE_ADDRESSES = ("virtual comes", "virtual goes", "IPv6 goes", "IPv6 comes")
MARKS = ("host link MAC", "host link alias", "host link name")
"""By which a link says whose it is."""
LEDGERS = ("directory", "wal", "emptied", "cut", "under the agent")
SOCKETS = ("removed", "open to all", "an empty file", "its directory removed")
VIEWS = ("describe", "metadata", "device", "fabric", "create", "attach", "delete")
POINTS = (
    "add-reserved",
    "add-applied",
    "add-committed",
    "del-intent",
    "del-applied",
    "del-committed",
    "grow-intent",
    "grow-created",
    "grow-recorded",
    "grow-attached",
    "grow-seen",
    "grow-committed",
    "assign-intent",
    "assign-called",
    "assign-committed",
    "release-intent",
    "release-called",
    "shed-intent",
    "shed-detached",
    "shed-deleted",
)
REQUESTS = 6
"""The first points are those of ADD and DEL."""

Maker = Callable[[Random], Step]


def steps(seed: int) -> Iterator[Step]:
    """Without an end."""
    rng = Random(seed)
    return chain.from_iterable(_episode(rng) for _ in repeat(None))


def _episode(rng: Random) -> Iterator[Step]:
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3))):
        bad = _one_of(rng, WEATHER)
        yield bad
        if bad.verb == "cloud_fault" and rng.random() < 0.7:  # what nobody asks for cannot go wrong
            yield Step("add_many", {"node": bad.values["node"], "slots": _slots(rng)})
    for _ in range(rng.randint(4, 10)):
        yield _one_of(rng, ACTIONS)
    yield Step(QUIET)


def _one_of(rng: Random, makers: tuple[tuple[int, Maker], ...]) -> Step:
    (make,) = rng.choices([m for _, m in makers], [weight for weight, _ in makers])
    return make(rng)


def _node(rng: Random) -> int:
    return rng.choice((ROUGH, CALM))


def _slot(rng: Random) -> int:
    return rng.randint(1, SLOTS)


def _slots(rng: Random) -> tuple[int, ...]:
    return tuple(sorted(rng.sample(range(1, SLOTS + 1), rng.randint(2, SLOTS))))


def _of_a_slot(verb: str) -> Maker:
    return lambda rng: Step(verb, {"node": _node(rng), "slot": _slot(rng)})


def _of_slots(verb: str) -> Maker:
    return lambda rng: Step(verb, {"node": _node(rng), "slots": _slots(rng)})


def _delete(rng: Random) -> Step:
    """``netns``: what the runtime does with the namespace before it says DEL. ``object``: kubelet's part."""
    how = rng.choice(("there", "there", "unnamed", "gone"))
    return Step(
        "delete",
        {"node": _node(rng), "slot": _slot(rng), "netns": how, "object": rng.random() < 0.7},
    )


def _remake(rng: Random) -> Step:
    late = rng.choice(("after", "after", "never", "during"))
    return Step("remake", {"node": _node(rng), "slot": _slot(rng), "late": late})


def _kill(rng: Random) -> Step:
    return Step(
        "kill_agent",
        {
            "node": ROUGH,
            "signal": rng.choice(("KILL", "KILL", "TERM")),
            "slots": _slots(rng) if rng.random() < 0.7 else (),
            "after": rng.choice((0.0, 0.02, 0.05, 0.1, 0.2, 0.4)),
        },
    )


def _kill_at(rng: Random) -> Step:
    """Requests come at once, so that the points of ADD are reached; those of others may be, or not."""
    point = rng.choice(POINTS if rng.random() < 0.5 else POINTS[:REQUESTS])
    return Step("kill_agent_at", {"node": ROUGH, "point": point, "slots": _slots(rng)})


def _clock(rng: Random) -> Step:
    who = rng.choice(("agent", "cloud", "both"))
    return Step(
        "clock",
        {"node": _node(rng), "who": who, "seconds": rng.choice((1, 11, 61, 301, 3700, 30000, 90000))},
    )


def _foreign(rng: Random) -> Step:
    return Step(
        "add_foreign",
        {
            "node": _node(rng),
            "what": rng.choice(FOREIGN),
            "slot": rng.choice((0, _slot(rng))),
            "stays": rng.random() < 0.8,
        },
    )


def _lose(rng: Random) -> Step:
    """``hand``: what somebody alters of the pod in ``slot`` before the agent is there again."""
    how, hand = rng.choice(LEDGERS), rng.choice(("", "", *MARKS))
    return Step("lose_ledger", {"node": ROUGH, "how": how, "hand": hand, "slot": rng.choice((0, _slot(rng)))})


def _code(rng: Random) -> Step:
    return Step(
        "cloud_fault",
        {
            "node": _node(rng),
            "action": rng.choice((*GROWTH, *GROWTH, *RELEASES, *LOOKS, "*")),
            "code": rng.choice(CODES),
            "count": rng.choice((1, 2, 5, 1000)),
        },
    )


def _lost(rng: Random) -> Step:
    return Step(
        "cloud_fault",
        {
            "node": _node(rng),
            "action": rng.choice((*ASSIGNED, *ASSIGNED, *GROWTH, *GROWTH, *RELEASES, "*")),
            "drop": rng.choice(("before", "after", "after", "after")),
            "count": rng.choice((1, 1, 1, 2, 2, 3, 1000)),
        },
    )


def _distorted(rng: Random) -> Step:
    return Step(
        "cloud_fault",
        {
            "node": _node(rng),
            "action": rng.choice((*ASSIGNMENTS, "CreateNetworkInterface", *LOOKS)),
            "distortion": rng.choice(DISTORTIONS),
            "count": rng.choice((1, 1, 3)),
        },
    )


def _slow(rng: Random) -> Step:
    return Step(
        "cloud_fault",
        {
            "node": _node(rng),
            "action": rng.choice((*GROWTH, *RELEASES, "*")),
            "latency": rng.choice((0.2, 1.0, 3.0, 12.0)),
            "count": rng.choice((1, 2, 4)),
        },
    )


def _partial(rng: Random) -> Step:
    return Step(
        "cloud_fault",
        {"node": _node(rng), "action": "AssignPrivateIpAddresses", "partial": 1, "count": rng.choice((1, 3))},
    )


def _metadata(rng: Random) -> Step:
    return Step(
        "metadata_fault",
        {
            "node": _node(rng),
            "path": rng.choice(("", "meta-data/network/interfaces/macs/0")),
            "status": rng.choice((503, 503, 404, 0)),
            "latency": rng.choice((0.0, 0.0, 0.5, 3.0)),
            "count": rng.choice((1, 3, 1000)),
        },
    )


def _lag(rng: Random) -> Step:
    return Step("lag", {"view": rng.choice(VIEWS), "seconds": rng.choice((0.5, 2.0, 8.0))})


WEATHER: tuple[tuple[int, Maker], ...] = (
    (4, _code),
    (7, _lost),
    (2, _distorted),
    (2, _slow),
    (1, _partial),
    (2, _metadata),
    (2, _lag),
    (3, lambda _rng: Step("api_server_away")),
    (1, lambda rng: Step("vswitch_full", {"leave": rng.choice((0, 1, 3))})),
    (1, lambda _rng: Step("disk_full", {"node": ROUGH})),
)
ACTIONS: tuple[tuple[int, Maker], ...] = (
    (6, _of_a_slot("add")),
    (5, _delete),
    (5, _of_slots("add_many")),
    (3, _of_slots("delete_many")),
    (4, _remake),
    (3, _of_a_slot("race")),
    (2, _of_a_slot("hang_up")),
    (2, _of_a_slot("check")),
    (1, lambda rng: Step("collect", {"node": _node(rng)})),
    (3, _kill),
    (3, _kill_at),
    (2, lambda rng: Step("kill_worker", {"node": _node(rng)})),
    (3, _clock),
    (3, lambda rng: Step("alter", {"node": _node(rng), "what": rng.choice(KERNEL), "slot": _slot(rng)})),
    (3, _foreign),
    (1, lambda rng: Step("node_address", {"node": _node(rng), "what": rng.choice(NODE_ADDRESSES)})),
    (2, _of_a_slot("delete_link")),
    (1, _of_a_slot("delete_netns")),
    (1, _lose),
    (2, lambda rng: Step("spoil_socket", {"node": _node(rng), "how": rng.choice(SOCKETS)})),
    (1, lambda rng: Step("detach_eni", {"node": _node(rng), "again": rng.random() < 0.5})),
    (1, lambda rng: Step("take_address", {"node": _node(rng)})),
    (2, lambda _rng: Step("good_weather")),
)
