"""What makes the world around a node bad for a while: the cloud, metadata, the API server, disks, clocks."""

from __future__ import annotations

from dataclasses import asdict

from lab.spec import Delays
from tests.soak.site import DISK_OF_THE_LEDGER, Site
from tests.soak.world import World

POD_VSWITCH = "vsw-pods"
BALLAST = f"{DISK_OF_THE_LEDGER}/ballast"
MORE_THAN_THE_DISK = 8 * 1024
"""Kilobytes: more than the file system of the ledger has (``world.DISK``)."""
LONG = 4
"""A fault that happens so often or more may outlive an operation's attempts, which then is settled by what
there is; one that happens less often must leave no trace at all. Faults of one action count together."""
OPERATION_LIFE = 900
"""Seconds after which one attempt that failed is enough for that."""
TOKEN_LIFE = 20 * 3600
"""Seconds after which an operation that was cut off is not asked for with its token any more: the agent has
given the token up after them, and the cloud has forgotten it four hours later. What was made is then found
by what it is."""


def cloud_fault(world: World, *, node: int, action: str, count: int, **what: str | int | float) -> str:
    """``what`` as in ``lab.cloud.faults.Fault``: a code, a lost answer, a distorted one, latency."""
    site = world.sites[node]
    (kind,) = what
    name = f"{kind} {what[kind]}" if kind in ("code", "distortion") else kind
    fault = {**what, "status": _STATUS.get(str(what.get("code", "")), 400)} if kind == "code" else what
    # A released ENI is no instance's: then the fault would not be this node's.
    narrowed = {} if action == "DeleteNetworkInterface" else {"instance_id": site.instance_id}
    for one in (site,) if narrowed else world.sites:
        one.causes.add(name)
        one.faults.append((action, count))
    world.lab.cloud.add_fault(action=action, count=count, **narrowed, **fault)
    return f"{action} of {site.name}: {name}, {count} times"


def unknown_outcome(site: Site) -> bool:
    """Whether an operation may have outlived its attempts, its patience or its token since the last time."""
    distorted = any(cause.startswith("distortion") for cause in site.causes)
    outlived = any(_times(site, action) >= LONG for action, _ in site.faults)
    failed = bool(site.faults) or bool(site.causes & {"metadata", "worker"})
    return distorted or outlived or site.jumped >= (OPERATION_LIFE if failed else TOKEN_LIFE)


def _times(site: Site, action: str) -> int:
    return sum(count for other, count in site.faults if "*" in (action, other) or action == other)


_STATUS = {"InternalError": 500, "ServiceUnavailable": 503, "Forbidden.RAM": 403}


def metadata_fault(world: World, *, node: int, path: str, status: int, latency: float, count: int) -> str:
    site = world.sites[node]
    site.causes.add("metadata")
    world.lab.cloud.add_metadata_fault(
        instance_id=site.instance_id, path=path, status=status, latency=latency, count=count
    )
    return f"metadata of {site.name} at /{path}: status {status}, latency {latency} s, {count} times"


def lag(world: World, *, view: str, seconds: float) -> str:
    """A view that goes back in time shows what was; a device that is there does not go again by that."""
    world.caused("lag")
    if view == "device":
        world.lab.cloud.advance(seconds + 1)
    world.lab.cloud.set_delays(**{view: seconds})
    return f"{view} lags by {seconds} s"


def vswitch_full(world: World, *, leave: int) -> str:
    world.caused("code InvalidVSwitchId.IpNotEnough")
    world.lab.cloud.occupy(POD_VSWITCH, leave)
    return f"{POD_VSWITCH} has {leave} addresses left"


def api_server_away(world: World) -> str:
    if not world.api_server:
        return "the API server is away already"
    world.caused("kubernetes")
    world.lab.stop_kubernetes()
    world.api_server = False
    return "the API server is away"


def disk_full(world: World, *, node: int) -> str:
    site = world.sites[node]
    site.causes.add("disk")
    told = site.exec("dd", "if=/dev/zero", f"of={BALLAST}", "bs=1k", f"count={MORE_THAN_THE_DISK}")
    if "No space left" not in told:
        raise AssertionError(f"the ledger of {site.name} is on another disk than its own: {told}")
    return f"the disk of {site.name}'s ledger is full"


def clock(world: World, *, node: int, who: str, seconds: int) -> str:
    """Ahead. A restart of an agent takes its clock back to the machine's, which is a jump backwards."""
    site = world.sites[node]
    if who != "agent":
        world.lab.cloud.advance(seconds)
    if who != "cloud":
        site.advance(seconds)
    site.causes.add("clock")
    for one in world.sites if who != "agent" else (site,):
        one.jumped += seconds
    return f"clock of {who if who != 'agent' else site.name} {seconds} s ahead"


def good_weather(world: World) -> str:
    """Everything above ends; what it has caused may show until the next quiet moment."""
    world.lab.cloud.clear_faults()
    world.lab.cloud.release(POD_VSWITCH)
    world.lab.cloud.set_delays(**asdict(Delays()))
    for site in world.sites:
        site.exec("rm", "-f", BALLAST)
    if not world.api_server:
        try:
            world.lab.start_kubernetes()
        finally:
            world.api_server = True
    for site in world.sites:
        site.delete_unwanted()
    return "good weather"
