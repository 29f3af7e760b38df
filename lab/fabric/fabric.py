"""The VPC's network on one machine: makes the kernel what a ``FabricView`` says, and reports what it dropped.

``apply`` is level-triggered: it compares the view with the devices that are there, so a lost device comes
back and a view applied twice changes nothing. What a packet meets is in ``bpf/fabric``.

    view ── policy (groups) ── rows ── tables (maps) ─┐
      └──── links (veth pairs), offload ──────────────┴── apply
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock

from datapath import namespace
from datapath.ebpf.libbpf import Direction, TcHook
from datapath.errors import KernelError
from lab.fabric import links, offload
from lab.fabric.capture import Tap
from lab.fabric.errors import NoSuchPort, PlugError
from lab.fabric.links import Cable
from lab.fabric.tables import AttachPoint, Plan, Tables
from lab.fabric.view import FabricView, Port


@dataclass(frozen=True, slots=True)
class _Plugged:
    port: Port
    cable: Cable
    place: namespace.Identity
    """The owner's namespace when the cable was plugged."""
    number: int
    """Its id in the tables."""

    @property
    def point(self) -> AttachPoint:
        return AttachPoint(self.number, self.cable.ifindex, self.port.vlan)

    def serves(self, port: Port, owner: namespace.Identity) -> bool:
        """Whether this cable is the one that ``port`` asks for: addresses and groups do not concern it."""
        old = self.port
        same = (old.kind, old.owner, old.mac, old.device) == (port.kind, port.owner, port.mac, port.device)
        return same and (old.trunk, old.vlan) == (port.trunk, port.vlan) and self.place == owner


class Fabric:
    """One VPC. ``namespaces`` gives an open descriptor of an owner's network namespace, and keeps owning it.

    ``netns`` is a namespace for the fabric itself, which stays the caller's; without one it makes its own.
    All methods may be called from any thread.
    """

    def __init__(self, namespaces: Callable[[str], int], *, netns: int | None = None) -> None:
        """Load the program. Raises KernelError if the kernel refuses it, ObjectMissing if it is not built."""
        self._namespaces = namespaces
        self._lock = RLock()
        self._plugged: dict[str, _Plugged] = {}
        self._past: dict[str, Counter[str]] = {}
        self._wire = False
        self._numbers = itertools.count(1)
        with ExitStack() as undo:
            self._netns = os.dup(netns) if netns is not None else namespace.new()
            undo.callback(os.close, self._netns)
            with namespace.entered(self._netns):
                _silence_ipv6()
            self._tables = Tables()
            undo.pop_all()

    def __enter__(self) -> Fabric:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Unplug everything and unload. Idempotent."""
        with self._lock:
            if self._netns < 0:
                return
            for port_id in list(self._plugged):
                self._unplug(port_id)
            self._tables.close()
            os.close(self._netns)
            self._netns = -1

    @property
    def netns(self) -> int:
        """The fabric's own namespace; valid until ``close``."""
        return self._netns

    @property
    def program_fd(self) -> int:
        """The program of every port, for a test run (``datapath.ebpf.libbpf.run_program``)."""
        return self._tables.program_fd()

    def apply(self, view: FabricView) -> None:
        """Make it so. Packets between ports that both views have alike are not touched.

        Raises ViewError before any change, and PlugError after all else was applied.
        """
        with self._lock:
            plan = self._tables.plan(view)
            failures: dict[str, Exception] = {}
            owners = self._owners(view, failures)
            self._remove_stale(view, owners)
            fresh = [port for port in view.ports if port.port_id not in self._plugged]
            for port in sorted(fresh, key=lambda port: bool(port.trunk)):
                if port.port_id not in failures:
                    self._try_plug(port, plan, failures)
            self._tables.write(plan, {name: each.point for name, each in self._plugged.items()})
            self._connect([port.port_id for port in fresh if not port.trunk])
            for port in view.ports:
                self._refresh(port)
            if failures:
                raise _plug_error(failures)

    def counters(self, port_id: str | None = None) -> dict[str, int]:
        """How many frames came to which end, by reason: all of them since the start, or those of one port.

        A port that was unplugged and came back goes on where it was. Raises NoSuchPort for one never seen.
        """
        with self._lock:
            if port_id is not None:
                return self._counters_of(port_id)
            total = Counter(self._named(self._tables.counts()))
            for each in self._past.keys() | self._plugged.keys():
                total.update(self._counters_of(each))
            return dict(total)

    def drops(self, port_id: str | None = None) -> dict[str, int]:
        """Those of ``counters`` that are drops, and not zero."""
        names = {reason.name for reason in self._tables.reasons if reason.is_drop}
        return {name: n for name, n in self.counters(port_id).items() if n and name in names}

    def drops_by_port(self) -> dict[str, dict[str, int]]:
        """``drops`` of every port that has some, those that are unplugged too, by port id."""
        with self._lock:
            found = {each: self.drops(each) for each in sorted(self._past.keys() | self._plugged.keys())}
            return {port_id: drops for port_id, drops in found.items() if drops}

    def wire(self, on: bool) -> None:
        """Switch the offloads of both ends of every cable off (``True``) or on, also of those to come."""
        with self._lock:
            self._wire = on
            for each in self._plugged.values():
                if not each.port.trunk:
                    self._set_offloads(each)

    def capture(self, port_id: str) -> Tap:
        """A tap that sees what passes the port from now on, of a member its frames; the caller closes it."""
        with self._lock:
            each = self._find(port_id)
            return Tap(self._netns, each.cable.name, vlan=each.port.vlan)

    def bring_up(self, port_id: str) -> None:
        """Bring the owner's device up, as its own set-up would."""
        with self._lock:
            each = self._find(port_id)
            links.bring_up(self._namespaces(each.port.owner), each.cable)

    def device(self, port_id: str) -> str | None:
        """What the owner's device is called now; None if it was moved out of the owner's namespace."""
        with self._lock:
            each = self._find(port_id)
            return links.device_name(self._namespaces(each.port.owner), each.cable)

    def _owners(self, view: FabricView, failures: dict[str, Exception]) -> dict[str, namespace.Identity]:
        """The namespace of every port whose owner has one, by port id."""
        found: dict[str, namespace.Identity] = {}
        for port in view.ports:
            try:
                found[port.port_id] = namespace.identity(self._namespaces(port.owner))
            except (LookupError, OSError, KernelError) as exc:
                failures[port.port_id] = exc
        return found

    def _remove_stale(self, view: FabricView, owners: Mapping[str, namespace.Identity]) -> None:
        """Forget devices that vanished with their owner, unplug those that the view has no use for.

        A trunk's members go with it: their ports are made anew on its next cable.
        """
        there = links.present(self._netns)
        wanted = {port.port_id: port for port in view.ports if port.port_id in owners}
        stale: list[str] = []
        for port_id, each in sorted(self._plugged.items(), key=lambda item: bool(item[1].port.trunk)):
            port = wanted.get(port_id)
            alive = there.get(each.cable.ifindex) == (each.port.trunk or port_id)
            if port is None or not alive or not each.serves(port, owners[port_id]) or port.trunk in stale:
                stale.append(port_id)
        self._tables.forget([self._plugged[port_id].number for port_id in stale])
        for port_id in stale:
            self._unplug(port_id)

    def _try_plug(self, port: Port, plan: Plan, failures: dict[str, Exception]) -> None:
        try:
            if port.trunk:
                self._join(port)
            else:
                self._plug(port, plan.view.mtu)
        except (KernelError, NoSuchPort) as exc:
            failures[port.port_id] = exc

    def _join(self, port: Port) -> None:
        """A member takes part in the cable of its trunk, and counts for itself."""
        number, trunk = next(self._numbers), self._find(port.trunk)
        self._tables.watch(number)
        self._plugged[port.port_id] = _Plugged(port, trunk.cable, trunk.place, number)

    def _plug(self, port: Port, mtu: int) -> None:
        """The program is in place, and counting, before either end can be up."""
        owner = self._namespaces(port.owner)
        cable = links.plug(self._netns, port.port_id, links.Socket(owner, port.device, port.mac, mtu))
        with ExitStack() as undo:
            undo.callback(links.unplug, self._netns, cable.ifindex)
            number = next(self._numbers)
            self._tables.watch(number)
            with namespace.entered(self._netns):
                hook = TcHook(cable.ifindex, Direction.INGRESS)
                hook.create()
                hook.attach(self._tables.program_fd())
            each = _Plugged(port, cable, namespace.identity(owner), number)
            if self._wire:
                self._set_offloads(each)
            self._plugged[port.port_id] = each
            undo.pop_all()

    def _connect(self, fresh: list[str]) -> None:
        for port_id in fresh:
            if port_id in self._plugged:
                links.connect(self._netns, self._plugged[port_id].cable)

    def _refresh(self, port: Port) -> None:
        """Remember the port as the view has it now."""
        each = self._plugged.get(port.port_id)
        if each is not None:
            self._plugged[port.port_id] = replace(each, port=port)

    def _unplug(self, port_id: str) -> None:
        """Counts are taken over when no more frames can come."""
        each = self._plugged.pop(port_id)
        if not each.port.trunk:
            links.unplug(self._netns, each.cable.ifindex)
        self._past.setdefault(port_id, Counter()).update(self._named(self._tables.counts(each.number)))
        self._tables.unwatch(each.number)

    def _set_offloads(self, each: _Plugged) -> None:
        switch = offload.disable_offloads if self._wire else offload.enable_offloads
        with namespace.entered(self._netns):
            switch(each.cable.name)
        owner = self._namespaces(each.port.owner)
        name = links.device_name(owner, each.cable)
        if name is not None:
            with namespace.entered(owner):
                switch(name)

    def _find(self, port_id: str) -> _Plugged:
        try:
            return self._plugged[port_id]
        except KeyError:
            raise NoSuchPort(f"port {port_id!r} is not plugged in; there are {[*self._plugged]}") from None

    def _counters_of(self, port_id: str) -> dict[str, int]:
        total: Counter[str] = Counter()
        if port_id in self._plugged:
            total.update(self._named(self._tables.counts(self._plugged[port_id].number)))
        elif port_id not in self._past:
            raise NoSuchPort(f"port {port_id!r} was never plugged in")
        total.update(self._past.get(port_id, Counter()))
        return {reason.name: total[reason.name] for reason in self._tables.reasons}

    def _named(self, counts: list[int]) -> dict[str, int]:
        return {reason.name: counts[reason.number] for reason in self._tables.reasons}


def _plug_error(failures: Mapping[str, Exception]) -> PlugError:
    reasons = "; ".join(f"{name}: {exc}" for name, exc in failures.items())
    error = PlugError(f"ports that could not be plugged in: {reasons}")
    error.__cause__ = next(iter(failures.values()))
    return error


def _silence_ipv6() -> None:
    """The fabric's ends are ports of a switch: the kernel is to say nothing of its own there."""
    for path in _sysctls():
        path.write_text("1")


def _sysctls() -> Iterator[Path]:
    for scope in ("default", "all"):
        path = Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6")
        if path.exists():
            yield path
