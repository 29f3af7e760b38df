"""The cloud's state behind one lock: what the actions write to and what everybody else looks at.

``transaction`` is the only way in. It fixes one time for all that happens inside, and calls the listeners,
outside the lock, if something was written. Views are taken inside too, and are values afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from ipaddress import ip_address

from lab.clock import LabClock
from lab.cloud import views
from lab.cloud.assignments import Assignments
from lab.cloud.calls import Call, CallLog
from lab.cloud.credentials import Credentials
from lab.cloud.faults import Fault, Faults, MetadataFault
from lab.cloud.idempotency import ClientTokens
from lab.cloud.instance_types import instance_type
from lab.cloud.interfaces import Interfaces
from lab.cloud.model import Address, Instance
from lab.cloud.quotas import Quotas
from lab.cloud.recording import Recorder
from lab.cloud.resources import Resources
from lab.cloud.route_table import RouteTable
from lab.cloud.rules import Groups
from lab.cloud.tagging import Tagging
from lab.cloud.throttle import Throttle
from lab.cloud.views import Json, Snapshot
from lab.fabric.view import FabricView
from lab.spec import Delays, LabSpec, NodeSpec, RuleSpec, SecurityGroupSpec


class CloudState:
    """Thread-safe. The instances of ``spec.nodes`` exist from the start, with their primary ENIs."""

    def __init__(self, spec: LabSpec, clock: LabClock) -> None:
        self.spec = spec
        self.clock = clock
        self.quotas = Quotas()
        self.throttle = Throttle()
        self.credentials = Credentials(spec.access_key, spec.access_secret)
        self.faults: Faults[Fault] = Faults()
        self.metadata_faults: Faults[MetadataFault] = Faults()
        self.tokens = ClientTokens()
        self.log = CallLog()
        self.metadata_log = CallLog()
        self.recorder = Recorder()
        self.resources = Resources(spec, clock.now())
        self.interfaces = Interfaces(self.resources, self.quotas)
        self.assignments = Assignments(self.resources, self.quotas)
        self.route_table = RouteTable(self.resources, self.quotas)
        self.groups = Groups(self.resources, self.quotas)
        self.tagging = Tagging(self.resources)
        self._lock = threading.RLock()
        self._depth = 0
        self._written = False
        self._listeners: list[Callable[[], None]] = []
        self._occupied: dict[str, tuple[Address, ...]] = {}
        for node in spec.nodes:
            self._create_instance(node)

    # --- the way in ---

    @contextmanager
    def transaction(self, *, writes: bool = True) -> Iterator[float]:
        """Hold the lock at one lab time, which is yielded. A failure inside must have changed nothing."""
        with self._lock:
            if self._depth == 0:
                self.resources.settle(self.clock.now())
            self._depth += 1
            try:
                yield self.resources.now
                self._written = self._written or writes
            finally:
                self._depth -= 1
                notify, self._written = self._depth == 0 and self._written, self._written and self._depth > 0
        if notify:
            for listener in list(self._listeners):
                listener()

    def on_change(self, listener: Callable[[], None]) -> None:
        """``listener`` is called after every write, in the writer's thread and outside the lock.

        Time alone changes views too: ask ``next_change`` when, and the clock to tell when it jumps.
        """
        self._listeners.append(listener)

    def next_change(self, now: float) -> float | None:
        """The next lab time after ``now`` at which a view changes by itself; None: not before a write."""
        with self.transaction(writes=False):
            return views.next_change(self.resources, now)

    # --- views; hold a transaction while using a Snapshot ---

    @property
    def current(self) -> Snapshot:
        return Snapshot(self.resources, self.resources.now)

    @property
    def described(self) -> Snapshot:
        """As Describe* answers show it."""
        return self._lagging(self.resources.delays.describe)

    @property
    def metadata(self) -> Snapshot:
        """As the metadata service shows it."""
        return self._lagging(self.resources.delays.metadata)

    def _lagging(self, delay: float) -> Snapshot:
        return Snapshot(self.resources, self.resources.now - delay)

    def fabric_view(self) -> FabricView:
        """The fabric as it should be now: devices and addresses each with their own delay."""
        with self.transaction(writes=False):
            delays = self.resources.delays
            return views.fabric_view(
                self.spec, devices=self._lagging(delays.device), addresses=self._lagging(delays.fabric)
            )

    def describe_state(self) -> Json:
        """Everything, as JSON-able values of the write state."""
        with self.transaction(writes=False):
            return views.describe_state(self.resources, self.current) | {
                "faults": {str(n): asdict(f) for n, f in self.faults.listing().items()},
                "metadata_faults": {str(n): asdict(f) for n, f in self.metadata_faults.listing().items()},
                "occupied": {vswitch: len(taken) for vswitch, taken in self._occupied.items()},
                "quotas": asdict(self.quotas),
                "throttle": dict(self.throttle.limits),
                "calls": self.log.counts(),
            }

    def instance_at(self, address: str) -> str | None:
        """The id of the instance that has ``address`` on one of its ENIs, as the caller of a service."""
        with self.transaction(writes=False):
            wanted = ip_address(address)
            found = (e.instance_id for e in self.current.enis() if e.has(wanted))
            return next(found, "") or self._behind(wanted)

    def _behind(self, address: Address) -> str | None:
        """The instance that the longest route entry leads to; none for what an entry for everything holds."""
        holding = [
            e
            for e in self.current.route_entries()
            if e.forwards and e.destination.prefixlen and address in e.destination
        ]
        if not holding:
            return None
        entry = max(holding, key=lambda e: e.destination.prefixlen)
        eni = self.current.eni(self.current.next_hop(entry))
        return eni.instance_id or None if eni is not None else None

    # --- the calls that came ---

    def calls(self) -> dict[str, int]:
        """How often each action was called since ``reset_calls``, refused calls included."""
        return self.log.counts()

    def recent_calls(self) -> tuple[Call, ...]:
        return self.log.recent()

    def metadata_calls(self) -> dict[str, int]:
        """How often each path of the metadata service was read since ``reset_calls``."""
        return self.metadata_log.counts()

    def reset_calls(self) -> None:
        self.log.reset()
        self.metadata_log.reset()

    # --- changing the cloud from outside, as its operator ---

    @property
    def delays(self) -> Delays:
        return self.resources.delays

    def set_delays(self, **changes: float) -> None:
        """Change some delays by name. What is under way keeps its end; views shift at once."""
        with self.transaction():
            self.resources.delays = replace(self.resources.delays, **changes)

    def add_instance(self, node: NodeSpec) -> str:
        """The id of the new instance, at once in every view. Raises ValueError for an impossible ``node``."""
        with self.transaction():
            return self._create_instance(node)

    def remove_instance(self, instance_id: str) -> None:
        """Release it at once, its primary ENI and those with DeleteOnRelease with it; no error if unknown."""
        with self.transaction():
            history = self.resources.instances.pop(instance_id, None)
            if history is not None:
                self.interfaces.release_with_instance(instance_id)

    def occupy(self, vswitch_id: str, leave: int) -> int:
        """Take addresses of a vSwitch for nobody so that ``leave`` remain; how many were taken."""
        with self.transaction():
            free = self.resources.pools[self.resources.vswitch(vswitch_id).vswitch_id].v4.available
            taken = self.resources.take_ipv4(vswitch_id, max(0, free - leave))
            self._occupied[vswitch_id] = self._occupied.get(vswitch_id, ()) + taken
            return len(taken)

    def fragment(self, vswitch_id: str) -> int:
        """Take one address of every free IPv4 prefix for nobody, so that none is left; how many."""
        with self.transaction():
            pool = self.resources.pools[self.resources.vswitch(vswitch_id).vswitch_id].v4
            taken = tuple(block[0] for block in pool.free_blocks(pool.network.num_addresses))
            pool.take_exactly(taken)
            self.resources.count_available(vswitch_id)
            self._occupied[vswitch_id] = self._occupied.get(vswitch_id, ()) + taken
            return len(taken)

    def release_occupied(self, vswitch_id: str) -> None:
        with self.transaction():
            self.resources.give_back(vswitch_id, self._occupied.pop(vswitch_id, ()))

    def edit_group(
        self, group_id: str, *, add: tuple[RuleSpec, ...] = (), remove: tuple[RuleSpec, ...] = ()
    ) -> SecurityGroupSpec:
        """Add and remove rules; the fabric follows after its delay. An unknown group is an ApiError."""
        with self.transaction():
            group = self.resources.group(group_id)
            rules = tuple(rule for rule in group.rules if rule not in remove)
            group = replace(group, rules=rules + tuple(rule for rule in add if rule not in rules))
            self.groups.put(group)
            return self.resources.group(group_id)

    def _create_instance(self, node: NodeSpec) -> str:
        instance_id = f"i-{node.name}"
        self._check_node(node, instance_id)
        instance = Instance(
            instance_id=instance_id,
            name=node.name,
            instance_type=node.instance_type,
            zone=node.zone,
            vswitch_id=node.vswitch_id,
            groups=node.groups,
            ram_role=node.ram_role,
            primary_eni=f"eni-{node.name}",
            created=self.resources.now,
        )
        self.interfaces.create_primary(instance)
        self.resources.put_instance(instance)
        return instance_id

    def _check_node(self, node: NodeSpec, instance_id: str) -> None:
        instance_type(node.instance_type)
        if instance_id in self.resources.instances:
            raise ValueError(f"node {node.name}: there is an instance {instance_id} already")
        vswitch = self.resources.vswitches.get(node.vswitch_id)
        if vswitch is None or vswitch.zone != node.zone:
            raise ValueError(f"node {node.name}: there is no vSwitch {node.vswitch_id} in zone {node.zone}")
        present = {group.group_id for group in self.resources.all_groups()}
        for group in node.groups:
            if group not in present:
                raise ValueError(f"node {node.name}: there is no security group {group}")
