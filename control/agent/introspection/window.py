"""What terway-cli may ask, route by route."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from control.agent.dataplane.fastpath import FastPathSwitch
from control.agent.dataplane.kernel import LinuxKernel
from control.agent.introspection.inspect import FACTORY, SERVICE, Inspector
from control.agent.state.known import Known
from control.model.cloud import Metadata, MetadataEni
from control.model.errors import RequestError, TerwayError
from control.model.ids import Mac
from control.process.http_api import HttpApi, Query
from control.process.timers import Timers


class Window:
    """``inspector`` raises a TerwayError while the node is not ready to be looked at."""

    def __init__(
        self,
        inspector: Callable[[], Inspector],
        *,
        metadata: Metadata,
        kernel: LinuxKernel,
        known: Known,
        timers: Timers,
        switch: FastPathSwitch,
        write_schema_1: Callable[[], None],
    ) -> None:
        self._inspector = inspector
        self._metadata = metadata
        self._kernel = kernel
        self._known = known
        self._timers = timers
        self._switch = switch
        self._write_schema_1 = write_schema_1

    def register(self, api: HttpApi, *, test_clock: bool) -> None:
        routes = {
            "resources": self._resources,
            "mapping": self._mapping,
            "mode": self._mode,
            "repairs": self._repairs,
            "state": self._state,
            "metadata": self._enis_of_metadata,
            "execute": self._execute,
            "fastpath": self._fastpath,
            "history": self._history,
        }
        for name, handler in routes.items():
            api.route("GET", name, handler)
        api.route("POST", "fastpath", self._switch_fastpath)
        api.route("POST", "ledger", self._downgrade)
        if test_clock:
            api.route("POST", "advance-clock", self._advance)

    async def _resources(self, path: list[str], query: Query) -> Any:
        if not path:
            return self._inspector().types()
        if len(path) == 1:
            return self._inspector().names(path[0])
        return self._inspector().show(path[0], query.get("name"))

    async def _mapping(self, _path: list[str], _query: Query) -> Any:
        return self._inspector().mapping()

    async def _mode(self, _path: list[str], _query: Query) -> Any:
        return self._inspector().mode()

    async def _repairs(self, _path: list[str], _query: Query) -> Any:
        return self._inspector().repairs()

    async def _state(self, _path: list[str], _query: Query) -> Any:
        return self._inspector().state()

    async def _fastpath(self, _path: list[str], _query: Query) -> Any:
        return self._switch.status().as_json()

    async def _switch_fastpath(self, path: list[str], _query: Query) -> Any:
        if path not in (["on"], ["off"]):
            raise RequestError("the fast path is switched on or off", remedy="POST /fastpath/on or /off")
        return self._switch.ask(path == ["on"]).as_json()

    async def _history(self, path: list[str], _query: Query) -> Any:
        return self._inspector().history("/".join(path))

    async def _downgrade(self, path: list[str], _query: Query) -> Any:
        if path != ["downgrade"]:
            raise RequestError(
                "the ledger can be written for the release before", remedy="POST /ledger/downgrade"
            )
        self._write_schema_1()
        return {"schema": 1}

    async def _advance(self, _path: list[str], query: Query) -> Any:
        try:
            seconds = float(query["seconds"])
        except (KeyError, ValueError) as exc:
            raise RequestError("no number of seconds", remedy="POST /advance-clock?seconds=5") from exc
        return self._timers.advance(seconds)

    async def _enis_of_metadata(self, _path: list[str], _query: Query) -> Any:
        """``failed`` names the ENIs that the service did not answer for, and why: the others are shown."""
        macs = sorted(await self._metadata.macs())
        found = await asyncio.gather(
            *(self._metadata.eni(mac, ipv6=True) for mac in macs), return_exceptions=True
        )
        enis, failed = [], []
        for mac, seen in zip(macs, found, strict=True):
            if isinstance(seen, TerwayError):
                failed.append({"mac": mac, "error": str(seen)})
            elif isinstance(seen, BaseException):
                raise seen
            elif seen is not None:
                enis.append(self._metadata_row(mac, seen))
        return {"enis": sorted(enis, key=lambda e: (not e["primary"], e["mac"])), "failed": failed}

    def _metadata_row(self, mac: Mac, seen: MetadataEni) -> dict[str, Any]:
        return {
            "mac": mac,
            "vswitch": seen.vswitch_id,
            "primary": self._known.primary_mac() == mac,
            "interface": self._kernel.device_of(mac),
            "primary_ipv4": str(seen.primary_ip),
            "secondary_ipv4s": sorted(str(a) for a in seen.ipv4 if a != seen.primary_ip),
            "ipv6s": sorted(str(a) for a in seen.ipv6),
        }

    async def _execute(self, path: list[str], _query: Query) -> list[str]:
        """Upstream's commands of a resource. Each answers lines of text."""
        if len(path) < 3:
            raise RequestError("too few arguments", remedy="give TYPE RESOURCE COMMAND")
        kind, name, command, inspector = path[0], path[1], path[2], self._inspector()
        inspector.show(kind, name)
        if kind == SERVICE and command == "resdb":
            return [json.dumps(r) for r in inspector.resources_of_pods()]
        if command == "mapping":
            return [json.dumps(inspector.mapping())]
        if kind == FACTORY and command == "audit":
            return await inspector.audit()
        own = {SERVICE: " and resdb", FACTORY: " and audit"}.get(kind, "")
        raise RequestError("can't recognize command", remedy=f"{kind} has mapping{own}")
