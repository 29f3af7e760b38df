"""The fast path of a node, as the agent sees it: open, say what is there, attach, count, trace.

All state is the kernel's: pinned maps, filters, links. A process that opens after another was killed goes on
where that one was, and one with other programs puts them in place of the old ones without losing a packet.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any
from weakref import WeakSet

from datapath import namespace
from datapath.acceleration import bpf_call, pins
from datapath.acceleration.attach import Attacher, Hooks
from datapath.acceleration.bpf_call import ProgramInfo
from datapath.acceleration.errors import Unavailable
from datapath.acceleration.feature_sets import SetState
from datapath.acceleration.flows import Refusals
from datapath.acceleration.layout import MAPS, PROGRAMS, Names
from datapath.acceleration.load import Loaded, Options
from datapath.acceleration.open_lock import Closed, OpenLock
from datapath.acceleration.pod_table import Snapshot
from datapath.acceleration.rows import Pod, UplinkName, UplinkRow, keys_of
from datapath.acceleration.salvage import salvage
from datapath.acceleration.stack_prefixes import Compared
from datapath.acceleration.tables import EndpointCounts, Tables
from datapath.acceleration.take_over import take_over
from datapath.acceleration.tc import Shaped
from datapath.acceleration.trace import Trace
from datapath.difference import Difference, ObjectKind
from datapath.ebpf import libbpf
from datapath.ebpf.btf import BtfError
from datapath.ebpf.objects import ObjectMissing
from datapath.errors import KernelError
from datapath.netlink.wire import Address, Network


@dataclass(frozen=True, slots=True)
class MapInfo:
    """``entries`` is how many rows there are, None for the ring buffer."""

    name: str
    path: Path
    key_size: int
    value_size: int
    max_entries: int
    entries: int | None


_DEFAULT = Options()


class FastPath:
    """Make it by ``open``. Safe from several threads. Verbs are idempotent and raise KernelError.

    After ``close`` they raise Closed, but for prefixes, which a thread may still be about: it does nothing.
    """

    def __init__(self, loaded: Loaded, netns: int | None) -> None:
        self._lock = OpenLock()
        self._turning = Lock()
        self._loaded = loaded
        self._netns = None if netns is None else os.dup(netns)
        self._tables = Tables(loaded, self._lock)
        self._attacher = Attacher(loaded, netns)
        self._pins = pins.Kept()
        self._traces: WeakSet[Trace] = WeakSet()

    @classmethod
    def open(
        cls,
        pin_dir: Path,
        *,
        netns: int | None = None,
        options: Options = _DEFAULT,
        prepare: Callable[[FastPath], object] | None = None,
    ) -> FastPath:
        """Load the programs, or take over what an earlier process left, and put ours in its place.

        ``pin_dir`` lies in a bpf file system. ``netns`` is the node's namespace, None for the process's own.
        ``prepare`` may write rows before the first packet meets the programs. The first time on a node the
        fast path is off: see ``switch``. Raises Unavailable if this kernel, or this node, will not have it;
        what was there goes on then.
        """
        with ExitStack() as undo:
            try:
                found = salvage(pin_dir, netns)
                if found is not None:
                    undo.callback(shutil.rmtree, found, ignore_errors=True)
                loaded = Loaded(pin_dir, options)
                undo.callback(loaded.close)
                made = cls(loaded, netns)
                undo.callback(made._attacher.close)
                loaded.fill()
                made._tell_timeouts()
                take_over(loaded, made._tables, made._attacher, lambda: prepare and prepare(made))
            except (KernelError, ObjectMissing, BtfError, OSError, ValueError) as exc:
                raise Unavailable(str(exc)) from exc
            undo.pop_all()
        return made

    def __enter__(self) -> FastPath:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it; packets do not notice. A trace that is read is closed as well. Idempotent."""
        self._tables.stack_prefixes.close()
        with self._turning:
            try:
                with self._lock:
                    for trace in tuple(self._traces):
                        trace.close()
                    self._lock.shut()
            except Closed:
                return
            self._attacher.close()
            self._tables.flows.close()
            self._loaded.close()
            if self._netns is not None:
                os.close(self._netns)

    def remove(self) -> None:
        """Detach everything and unpin it: afterwards the node routes as if there had been no fast path."""
        with self._lock:
            self._attacher.detach_all()
            self._loaded.remove()

    @property
    def names(self) -> Names:
        """Reasons, verdicts and hooks of the programs."""
        return self._loaded.names

    @property
    def directory(self) -> Path:
        """Where maps and programs are pinned; ``links`` of the ENIs are beside it."""
        return self._loaded.directory

    # What is there

    def put_endpoint(self, pod: Pod, *, earlier: bool = False) -> None:
        """``earlier``: the pod may have sent before the fast path heard of it."""
        with self._lock:
            self._tables.put_pod(pod, earlier=earlier)

    def drop_endpoint(self, host_ifindex: int) -> None:
        """Succeeds for the absent."""
        with self._lock:
            self._tables.drop_pod(host_ifindex)

    def endpoints(self) -> Mapping[int, Pod]:
        """By host veth; the very same while the rows read as they did."""
        with self._lock:
            return self._tables.pods()

    def snapshot(self, pod: Pod | None = None) -> Snapshot:
        """The rows of ``pod``, of all of them if None, as they are now."""
        with self._lock:
            return self._tables.snapshot(pod)

    def fingerprint(self) -> tuple[bytes, ...]:
        """All that ``pod_differences`` looks at, as bytes: what reads as it did needs no comparison."""
        with self._lock:
            return self._tables.fingerprint()

    def pod_differences(self, pod: Pod, found: Snapshot) -> list[str]:
        """What rows of ``found`` are otherwise than ``put_endpoint`` leaves them."""
        with self._lock:
            return self._tables.pod_differences(pod, found)

    def mend_endpoint(self, pod: Pod, found: Snapshot) -> None:
        """``put_endpoint`` for a pod whose rows somebody may have altered, its slot among them."""
        with self._lock:
            self._tables.put_pod(pod, earlier=True, taken=found.sharing(pod.host_ifindex))

    def remove_strays(self) -> list[str]:
        """Rows of addresses and of uplinks that belong to none; what they were."""
        with self._lock:
            return self._tables.remove_strays()

    def put_uplink(self, uplink: UplinkRow) -> None:
        with self._lock:
            self._tables.put_uplink(uplink)

    def uplink_differences(self, uplink: UplinkRow) -> list[str]:
        """What its row is otherwise than ``put_uplink`` leaves it, in every field."""
        with self._lock:
            return self._tables.uplink_differences(uplink)

    def drop_uplink(self, name: UplinkName) -> None:
        """Its pods go by the stack from now on; their rows, which name it by id, stay."""
        with self._lock:
            self._tables.drop_uplink(name)

    def uplinks(self) -> dict[int, UplinkRow]:
        """By id, those that can be used."""
        with self._lock:
            return self._tables.uplinks()

    def set_stack_prefixes(
        self,
        *,
        service: Iterable[Network] = (),
        host_cidrs: Iterable[Network] = (),
        node: Iterable[Address],
        hosts: AbstractSet[Address] = frozenset(),
    ) -> None:
        """Destinations that always take the stack: exactly these. ``node``: every address of the node.

        ``hosts``: addresses of Services outside ``service``, tens of thousands perhaps; only what has changed
        since the call before is written. From a thread it keeps nobody waiting who has the event loop.
        """
        self._tables.set_prefixes(service, host_cidrs, node, hosts)

    def compare_stack_prefixes(self) -> Compared:
        """Read all of them, and put right what is not as it was set. In a thread if they are many."""
        return self._tables.compare_prefixes()

    @property
    def stack_prefix_count(self) -> int:
        """How many there should be."""
        return len(self._tables.stack_prefixes)

    def set_home(self, ifindex: int) -> None:
        """The node's own ENI: what has an address of the node's leaves by it, whatever it was routed to."""
        with self._lock:
            self._tables.set_home(ifindex)

    def mend_settings(self, home: int) -> list[Difference]:
        """``home`` as for ``set_home``, 0 if it is not known yet. Whether it is on is the switch's matter."""
        flags = {"SETTING_CONNTRACK": not self.unasked, "SETTING_ASK": False}
        with self._lock:
            told = self._tables.mend_settings(flags, home)
        return [
            Difference(ObjectKind.ROW, "map settings", f"{field} set otherwise by somebody") for field in told
        ]

    def mend_pins(self) -> list[Difference]:
        """Of maps and programs; those of ENIs' links are part of their attachment."""
        with self._lock:
            return self._pins.mend(self._loaded.map_pins() | self._loaded.program_pins())

    # Switches

    def switch(self, on: bool) -> None:
        """The whole node. Flows that began by the stack stay with it, so neither way loses a packet."""
        with self._lock:
            self._tables.set_flag("SETTING_FAST", on)

    def is_on(self) -> bool:
        with self._lock:
            return self._tables.flag("SETTING_FAST")

    def switch_pod(self, address: Address, on: bool) -> bool:
        """One pod, both directions, both families. False if no pod of this node has the address."""
        with self._lock:
            return self._tables.switch_pod(address, on)

    def set_pod_down(self, host_ifindex: int, down: bool) -> bool:
        """Whether the pod's link is down: then what is for it is dropped, counted as drop_pod_down.

        The first frame that comes by the link ends it as well. True if that is news; False for the absent.
        """
        with self._lock:
            return self._tables.set_pod_down(host_ifindex, down)

    # Devices

    def attach_pod(self, host_ifindex: int) -> None:
        with self._lock:
            self._attacher.attach_pod(host_ifindex)

    def detach_pod(self, host_ifindex: int) -> None:
        with self._lock:
            self._attacher.detach_pod(host_ifindex)

    def attach_eni(self, ifindex: int) -> None:
        with self._lock:
            self._attacher.attach_eni(ifindex)

    def detach_eni(self, ifindex: int) -> None:
        with self._lock:
            self._attacher.detach_eni(ifindex)

    def attached(self) -> dict[int, str]:
        """How each device is attached: ``block``, ``tcx`` or ``clsact``, by index."""
        with self._lock:
            return self._attacher.attached()

    def mend_blocks(self, hooks: Hooks) -> list[Difference]:
        """The programs of all pods that share blocks, and none beside them."""
        with self._lock:
            return self._attacher.mend_blocks(hooks)

    def hooks(self) -> Hooks:
        with self._lock:
            return self._attacher.look()

    def hook_differences(self, ifindex: int, hooks: Hooks, *, eni: bool) -> list[str]:
        """What is otherwise at the device than ``attach_pod`` or ``attach_eni`` leaves it."""
        with self._lock:
            if eni:
                return self._attacher.eni_differences(ifindex)
            return self._attacher.pod_differences(ifindex, hooks)

    def take_place(self, host_ifindex: int) -> bool:
        """Into the blocks with a pod whose clsact somebody added and left empty. False if it is in use."""
        with self._lock:
            return self._attacher.take_place(host_ifindex)

    def foreign(self, ifindex: int, hooks: Hooks, *, eni: bool) -> list[str]:
        """Programs of others at a device of ours; at a pod's those by tcx are for ``tcx_at_pods``."""
        with self._lock:
            return self._attacher.foreign(ifindex, hooks, eni=eni)

    def tcx_at_pods(self, devices: Collection[int]) -> dict[int, list[str]]:
        """Programs at pods' host links by tcx, where we have none; of those that have any."""
        with self._lock:
            return self._attacher.tcx_at_pods(devices)

    def shaped(self) -> Shaped:
        """Devices with qdiscs of somebody else's, which the fast path would slip past or be in the way of."""
        with self._lock:
            return self._attacher.shaped()

    # What it does

    def counters(self) -> dict[str, dict[str, int]]:
        """Packets by hook and reason, since the maps were made."""
        with self._lock:
            return self._tables.reasons()

    def endpoint_counters(self) -> dict[int, EndpointCounts]:
        """By host veth."""
        with self._lock:
            return self._tables.endpoint_counts()

    def refusals(self) -> dict[int, Refusals]:
        """By host veth: packets whose flow got no record. Of pods that had any."""
        with self._lock:
            return self._tables.refusals()

    def sets(self) -> tuple[SetState, ...]:
        """What the fast path is made of, and what of it is off and why; ``tcx``: links for ENIs."""
        no_tcx = "the kernel has no tcx (Linux 6.6): ENIs have filters of clsact, which others may take off"
        return (*self._loaded.states, SetState("tcx", "" if self._attacher.tcx else no_tcx))

    @property
    def unasked(self) -> str:
        """Why the programs do not ask conntrack of flows but keep records of all; "" if they do."""
        return self._loaded.unasked

    def turn_flows(self, *, at_once: bool = False) -> None:
        """Forget flows that are over, if that is due; ``at_once``: in any case.

        To be called every minute or so. Without it records are kept, until pods have used up their shares.
        """
        flows = self._tables.flows
        with self._turning:  # and not the other lock: no pod waits for what may take a second
            if not self._lock.is_open or (not at_once and not flows.due):
                return
            with self._lock:
                timeouts, epoch = self._tell_timeouts(), self._tables.epoch
            if not flows.finish(epoch, timeouts):
                return
            flows.begin(epoch + 1)
            with self._lock:
                self._tables.set_epoch(epoch + 1)
            flows.follow(epoch + 1, timeouts)

    def _tell_timeouts(self) -> tuple[int, ...]:
        with self._inside():
            found = self._tables.flows.timeouts()
        self._tables.set_timeouts(found)
        return found

    def _inside(self) -> AbstractContextManager[None]:
        return nullcontext() if self._netns is None else namespace.entered(self._netns)

    def trace(self, address: Address | None = None) -> Trace:
        """Events of packets from or to ``address``, None for all, until it is closed."""
        with self._lock:
            size = self._loaded.map_shape("trace").max_entries
            self._tables.trace_only(address)
            reader = Trace(self._loaded.map_fd("trace"), size, self.names, self._trace_off)
            self._traces.add(reader)
            self._tables.set_flag("SETTING_TRACE", True)
            return reader

    def trace_only(self, address: Address | None) -> None:
        """The same for a trace that goes on: from now on packets from or to ``address``, None for all."""
        with suppress(Closed), self._lock:
            self._tables.trace_only(address)

    def maps(self) -> tuple[MapInfo, ...]:
        with self._lock:
            return tuple(map(self._map_info, MAPS))

    def _map_info(self, name: str) -> MapInfo:
        shape, path = self._loaded.map_shape(name), self._loaded.directory / name
        entries = None
        if name != "trace":
            entries = len(libbpf.map_keys(self._loaded.map_fd(name), shape.key_size))
        return MapInfo(name, path, shape.key_size, shape.value_size, shape.max_entries, entries)

    def rows(self, name: str) -> list[tuple[Any, Any]]:
        """A map's keys and values as numpy records; of a per-CPU map a value per CPU."""
        found = []
        with self._lock:
            table = self._loaded.table(name)
            for raw in libbpf.map_keys(table.fd, table.shape.key_size):
                key = keys_of(table, [raw])
                value = table.get(key)
                if value is not None:
                    found.append((key[0], value if table.shape.per_cpu else value[0]))
        return found

    def programs(self) -> tuple[ProgramInfo, ...]:
        with self._lock:
            return tuple(bpf_call.program_info(self._loaded.program_fd(name)) for name in PROGRAMS)

    def program_fd(self, name: str) -> int:
        """For a test run; valid until ``close``."""
        with self._lock:
            return self._loaded.program_fd(name)

    def map_fd(self, name: str) -> int:
        """For whoever reads a map by other means; valid until ``close``."""
        with self._lock:
            return self._loaded.map_fd(name)

    def _trace_off(self) -> None:
        with suppress(Closed), self._lock:
            self._tables.set_flag("SETTING_TRACE", False)
