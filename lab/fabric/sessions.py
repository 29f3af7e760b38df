"""The tables of each instance: its sessions, so many and no more, and its datagrams in fragments.

The program finds both by the port's id. All ENIs of an instance share them, so an ENI that is detached and
comes back, or an address that moves between them, ends no session.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass

from datapath.ebpf import libbpf
from datapath.ebpf.btf import Btf
from datapath.ebpf.libbpf import HashShape, Object
from lab.fabric.view import Port, PortKind

_DATAGRAMS = 4096
"""How many in fragments are followed at once; the oldest is forgotten."""


@dataclass(frozen=True, slots=True)
class _Instance:
    number: int
    sessions: int
    datagrams: int
    """Descriptors of the two maps."""


class InstanceTables:
    """Not thread-safe. ``loaded`` has to outlive it."""

    def __init__(self, loaded: Object, btf: Btf) -> None:
        self._sessions = loaded.map_fd("sessions")
        self._datagrams = loaded.map_fd("datagrams")
        self._sizes = {name: btf.dtype(btf.type_id(name)).itemsize for name in _STRUCTS}
        self._instances: dict[str, _Instance] = {}
        self._ports: dict[int, str] = {}
        self._numbers = itertools.count(1)

    def close(self) -> None:
        """The kernel keeps what the program still uses."""
        for owner in list(self._instances):
            self._forget(owner)

    def number(self, port: Port) -> int:
        """Of the port's instance, after ``write``; 0 for a port that is no ENI."""
        return self._instances[port.owner].number if port.kind is PortKind.ENI else 0

    def write(self, ports: Mapping[int, Port]) -> None:
        """Make the tables those of ``ports``, by their ids. An instance keeps the limit it began with."""
        with_tables = {number: port for number, port in ports.items() if port.kind is not PortKind.SERVICE}
        for number in self._ports.keys() - with_tables.keys():
            self._unplug(number)
        for number, port in with_tables.items():
            if number not in self._ports:
                self._plug(number, port)
        for owner in self._instances.keys() - set(self._ports.values()):
            self._forget(owner)

    def _plug(self, number: int, port: Port) -> None:
        found = self._instances.get(port.owner) or self._create(port.owner, port.sessions)
        key = number.to_bytes(4, "little")
        if port.kind is PortKind.ENI:  # the outside has no groups, and no limit
            libbpf.map_update(self._sessions, key, found.sessions.to_bytes(4, "little"))
        libbpf.map_update(self._datagrams, key, found.datagrams.to_bytes(4, "little"))
        self._ports[number] = port.owner

    def _unplug(self, number: int) -> None:
        for outer in (self._sessions, self._datagrams):
            libbpf.map_delete(outer, number.to_bytes(4, "little"))
        del self._ports[number]

    def _create(self, owner: str, limit: int) -> _Instance:
        flow, state, datagram, datagram_state = (self._sizes[name] for name in _STRUCTS)
        sessions = libbpf.create_hash(HashShape("sessions", flow, state, limit))
        try:
            datagrams = libbpf.create_hash(
                HashShape("datagrams", datagram, datagram_state, _DATAGRAMS, lru=True)
            )
        except Exception:
            os.close(sessions)
            raise
        self._instances[owner] = _Instance(next(self._numbers), sessions, datagrams)
        return self._instances[owner]

    def _forget(self, owner: str) -> None:
        found = self._instances.pop(owner)
        os.close(found.sessions)
        os.close(found.datagrams)


_STRUCTS = ("flow", "flow_state", "datagram", "datagram_state")
