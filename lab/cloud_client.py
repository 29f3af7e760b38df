"""The cloud's operator at a lab: look at its state, count calls, inject faults, move time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from lab.spec import RuleSpec
from lab.spec_json import encode


class Ask(Protocol):
    def __call__(self, verb: str, **arguments: Any) -> Any: ...


class AskWithFiles(Protocol):
    def __call__(self, verb: str, files: Sequence[int] = (), **arguments: Any) -> tuple[Any, list[int]]: ...


class CloudClient:
    def __init__(self, ask: Ask, ask_with_files: AskWithFiles) -> None:
        self._ask = ask
        self._ask_with_files = ask_with_files

    def state(self) -> dict[str, Any]:
        """The write state, nothing lagging: instances, enis, vswitches, groups, delays, faults, calls."""
        state: dict[str, Any] = self._ask("ecs.state")
        return state

    def calls(self) -> dict[str, int]:
        """How often each API action was called since ``reset_calls``, refused calls included."""
        calls: dict[str, int] = self._ask("ecs.calls")
        return calls

    def metadata_calls(self) -> dict[str, int]:
        calls: dict[str, int] = self._ask("ecs.metadata_calls")
        return calls

    def recent_calls(self) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = self._ask("ecs.recent_calls")
        return calls

    def reset_calls(self) -> None:
        self._ask("ecs.reset_calls")

    def start_record(self, file: int) -> None:
        """Requests and answers of both services go into ``file`` from now on, secrets left out.

        Raises LabError if a record runs. The lab has a descriptor of its own.
        """
        self._ask_with_files("ecs.start_record", (file,))

    def stop_record(self) -> tuple[int, str]:
        """Calls in the record, and why it ended by itself, "" if it did not."""
        calls, ended = self._ask("ecs.stop_record")
        return int(calls), str(ended)

    def set_delays(self, **seconds: float) -> dict[str, float]:
        """Change some of ``lab.spec.Delays``; all of them as they are now."""
        delays: dict[str, float] = self._ask("ecs.delays", changes=seconds)
        return delays

    def occupy(self, vswitch: str, leave: int = 0) -> int:
        """Take a vSwitch's free addresses but ``leave``; how many were taken."""
        return int(self._ask("ecs.occupy", vswitch=vswitch, leave=leave))

    def fragment(self, vswitch: str) -> int:
        """Take an address of each free IPv4 prefix of a vSwitch, which has none left then; how many."""
        return int(self._ask("ecs.fragment", vswitch=vswitch))

    def release(self, vswitch: str) -> None:
        """Give back what ``occupy`` and ``fragment`` took."""
        self._ask("ecs.release", vswitch=vswitch)

    def advance(self, seconds: float) -> float:
        """Move the lab's clock ahead; its new time, seconds since the epoch."""
        return float(self._ask("ecs.advance", seconds=seconds))

    def edit_group(
        self, group: str, *, add: Sequence[RuleSpec] = (), remove: Sequence[RuleSpec] = ()
    ) -> None:
        self._ask(
            "ecs.edit_group", group=group, add=[encode(r) for r in add], remove=[encode(r) for r in remove]
        )

    def add_fault(self, **fault: Any) -> int:
        """Fields of ``lab.cloud.faults.Fault``; the fault's number."""
        return int(self._ask("ecs.add_fault", fault=fault))

    def add_metadata_fault(self, **fault: Any) -> int:
        """Fields of ``lab.cloud.faults.MetadataFault``; the fault's number."""
        return int(self._ask("ecs.add_fault", fault=fault, metadata=True))

    def faults(self) -> dict[str, dict[str, Any]]:
        faults: dict[str, dict[str, Any]] = self._ask("ecs.faults")
        return faults

    def remove_fault(self, number: int) -> None:
        """One of the OpenAPI's. Nothing happens if it is gone."""
        self._ask("ecs.remove_fault", number=number)

    def clear_faults(self) -> None:
        self._ask("ecs.clear_faults")

    def settle(self, timeout: float = 120.0) -> None:
        """Wait until the fabric is what the cloud says now; what lags by a delay is not waited for."""
        self._ask("ecs.settle", timeout=timeout)
