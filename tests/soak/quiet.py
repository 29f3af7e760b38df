"""A quiet moment: the weather clears, what is owed is paid, time goes by, and then all must be in order.

"Not yet" and "never" are told apart by the lab's clock, not by the machine's: minutes of it go by until all
is in order, at most as many as the slowest of the agent's loops needs twice. A busy machine makes them
longer, not more.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from lab.cni_call import CniError
from lab.messages import LabError
from lab.nodes.agent import Wait
from tests.e2e.witnesses import state, until
from tests.soak import agreement, causes, facts, foreign, hand, weather, wire
from tests.soak.agreement import STORY, Finding
from tests.soak.resources import HUSH, HUSH_EVERY, Gauge
from tests.soak.sandbox import collect
from tests.soak.site import Site
from tests.soak.world import World

MINUTE = 61
ROUNDS = 25
"""Minutes until "never". Pods that are gone are collected every 5 minutes and after 2 of grace, a frozen
address is given up after 10, an orphan is given back when it was seen twice, 5 apart."""
LONG_ROUND = 6 * 3600 + MINUTE
"""An orphan that nobody suspects is looked for every six hours: some of the rounds are as long."""
REPAIRED = 3
"""Minutes in which every repair has been made: one each, and some are made in two."""
TOUCHED = frozenset({"altered", "detached", "taken", "ledger", "replugged"})
"""Causes after which a pod's network may wait for a repair."""
ROUND_SECONDS = 600.0
"""Of the machine's clock, for work of seconds: what hangs for so long hangs for ever."""

TRAFFIC = "packets come and go"
REFUSAL = "a refusal has a cause"
CHECKED = "CHECK agrees"
LIVES = "the agent lives"


class Broken(Exception):
    """Invariants that do not hold, with the objects that break them."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings
        super().__init__("\n".join(f"{invariant}: {told}" for invariant, told in findings))


def quiet(world: World, gauges: list[Gauge], *, steps: int) -> str:
    """Raises Broken. In words how it was."""
    for site in world.sites:
        _alive(site)
    weather.good_weather(world)
    for site in world.sites:
        if weather.unknown_outcome(site):
            site.causes.add("unknown outcome")
    _explain(world)
    for site in world.sites:
        _settle_accounts(site)
    untouched = [one for one in world.running() if not one.broken and _undisturbed(world, one.node.name)]
    _hold(TRAFFIC, wire.silent(world.sites, untouched))
    rounds = _await_agreement(world)
    _hold(TRAFFIC, wire.silent(world.sites, world.running()))
    _hold(CHECKED, _checked(world))
    _explain(world)
    for gauge in gauges:
        found = list(gauge.findings(steps=steps, rounds=rounds))
        if found:
            raise Broken(found)
    _hush(gauges)
    for site in world.sites:
        _forget(site)
    told = ", ".join(
        f"{g.site.name} {len(g.site.pods)} pods {g.mib:.0f} MiB {sum(g.fds.values())} fds" for g in gauges
    )
    return f"in order after {rounds} min of the clock; {told}"


def _undisturbed(world: World, node: str) -> bool:
    """Nothing was done to the node's kernel that waits for a repair."""
    site = next(site for site in world.sites if site.name == node)
    return not site.causes & TOUCHED


def _hold(invariant: str, told: list[str]) -> None:
    if told:
        raise Broken([(invariant, one) for one in told])


def _alive(site: Site) -> None:
    """An agent that has ended was killed by a step, or fails the run."""
    if site.node.agent_pid is not None and not any(c.startswith("point") for c in site.causes):
        return
    if site.node.agent_pid is None and "kill" not in site.causes:
        log = " | ".join(site.node.agent_log().splitlines()[-3:])
        raise Broken([(LIVES, f"the agent of {site.name} has ended by itself: {log}")])
    site.node.stop_agent()
    site.start(wait=Wait.SOCKET)


def _explain(world: World) -> None:
    """Every refusal since the last time. Raises Broken for one without a cause."""
    found: list[Finding] = []
    for site in world.sites:
        refusals, site.refusals = site.refusals, []
        for one in refusals:
            badly_placed = one.command == "ADD" and causes.names_broken_eni(one.words)
            known = causes.of_refusal(one.words, site.causes) and not badly_placed
            if not known and not one.sandbox.broken:
                told = f"{one.command} of {one.sandbox}: {one.words}; causes were {sorted(site.causes)}"
                found.append((REFUSAL, told))
    if found:
        raise Broken(found)


def _settle_accounts(site: Site) -> None:
    """What a kubelet ends sooner or later, and what a hand took is given back."""
    until(lambda: _readiness(site), lambda told: told[0] == 200, seconds=ROUND_SECONDS)
    for slot, sandbox in list(site.pods.items()):
        if set(sandbox.addresses) & site.suspect:
            sandbox.broken = sandbox.broken or "its address was taken by a hand"
        if sandbox.broken:
            del site.pods[slot]
            site.owed.append(sandbox)
            site.cut(sandbox)
            sandbox.remove_netns()
    for sandbox in site.owed:
        try:
            sandbox.delete(named=False)
        except CniError as exc:
            raise Broken([(REFUSAL, f"DEL of {sandbox} in good weather: {exc}")]) from exc
    site.owed.clear()
    if {"ledger", "renamed"} <= site.causes:
        # Whose a renamed link is its address says, once every pod has told its own: none waits for ever.
        for slot in site.uids.keys() - site.pods.keys():
            site.forget_object(slot)
    site.report()
    if site.causes & {"ledger", "disk"}:
        _collect(site)


def _readiness(site: Site) -> tuple[int, str]:
    """Status and body; status 0 while the agent's window is not there, as a step may have removed it."""
    try:
        return site.node.agent_get("/readyz")
    except OSError as exc:
        return 0, str(exc)


def _collect(site: Site) -> None:
    """As a runtime does when it starts: rows that a lost ledger brought back are of no sandbox."""
    collect(site.node, site.running())


def _await_agreement(world: World) -> int:
    """Minutes of the lab's clock until all agree. Raises Broken if they never do."""
    found: list[Finding] = []
    touched = any(site.causes & TOUCHED for site in world.sites)
    for number in range(ROUNDS):
        for site in world.sites:
            _work_ends(site)
        found = agreement.findings(world)
        found += [one for site in world.sites for one in (*foreign.unsettled(site), *facts.findings(site))]
        if not found and number >= (REPAIRED if touched else 1):
            return number
        _clean_up_after_hands(world)
        seconds = LONG_ROUND if number % 8 == 7 else MINUTE
        world.lab.cloud.advance(seconds)
        for site in world.sites:
            site.advance(seconds)
    raise Broken(found)


def _work_ends(site: Site) -> None:
    """What the agent has begun, and its return to an API server that was away: that waits by no lab's clock.

    One that hangs is told by what it says it does.
    """
    try:
        until(lambda: state(site.node), _is_done, seconds=ROUND_SECONDS)
    except (OSError, LabError, AssertionError) as exc:
        raise Broken([(STORY, f"{site.name}: work that was begun does not end: {exc}")]) from exc


def _is_done(told: Mapping[str, Any]) -> bool:
    return bool(told["settled"] and told["pods_listed"])


def _clean_up_after_hands(world: World) -> None:
    """Whoever detached an ENI for good deletes it. An agent that has taken it back keeps it."""
    for site in world.sites:
        for eni in list(site.detached):
            found = [e for e in world.lab.cloud.state()["enis"] if e["id"] == eni]
            if found and found[0]["status"] == "Available":
                hand.call(world.lab, "DeleteNetworkInterface", NetworkInterfaceId=eni)
            site.detached.remove(eni)


def _checked(world: World) -> list[str]:
    lost: list[str] = []
    for site in world.sites:
        for sandbox in site.running():
            try:
                sandbox.check()
            except CniError as exc:
                lost.append(f"{sandbox}: {exc}")
    return lost


def _hush(gauges: list[Gauge]) -> None:
    """Now and then: whether agents with nothing to do say nothing. Raises Broken."""
    longest = max(gauge.moments for gauge in gauges)
    if longest % HUSH_EVERY:
        return
    time.sleep(HUSH)
    found = [one for gauge in gauges for one in gauge.chatter()]
    if found:
        raise Broken(found)


def _forget(site: Site) -> None:
    """What was done is past; pods that the ledger has not learned of again stay a cause."""
    unrecorded = {one["container_id"] for one in state(site.node)["unrecorded"]}
    for sandbox in site.running():
        sandbox.unrecorded = sandbox.container_id in unrecorded
    # A question that was slow when the faults were cleared may end, unanswered, after a short quiet moment.
    on_their_way = {f"{cause} late" for cause in ("metadata", "latency") if cause in site.causes}
    site.causes.clear()
    site.causes.update(on_their_way)
    if unrecorded:
        site.causes.add("unrecorded")
    site.suspect.clear()
    site.faults.clear()
    site.jumped = 0
    site.linkless.clear()
