"""What terway-cli may ask of the fast path: its maps, programs and counters, its pods, and live packets.

Reading the kernel may take a while, so it is done in threads; only who is who is asked on the event loop.
The answers are made in ``bpf_answers``, which is imported when there is a fast path to ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from control.model.errors import KernelError, RequestError
from control.model.ids import Address
from control.process.http_api import HttpApi, Query
from control.process.http_server import Stream
from datapath import errors as kernel_errors
from datapath.acceleration.trace_readers import TraceReaders

if TYPE_CHECKING:
    from datapath.acceleration.path import FastPath

_WORDS = "bpf/maps, bpf/map/NAME, bpf/progs, bpf/counters and bpf/endpoints"


class BpfWindow:
    """``fast`` gives the open fast path or raises TerwayError, from any thread; ``pod_of`` names who has an
    address, as ``namespace/name``, or ""; ``netns`` is the node's, None for the process's own.
    """

    def __init__(
        self, fast: Callable[[], FastPath], pod_of: Callable[[Address], str], *, netns: int | None = None
    ) -> None:
        self._fast = fast
        self._pod_of = pod_of
        self._netns = netns
        self._readers = TraceReaders(fast)

    def register(self, api: HttpApi) -> None:
        api.route("GET", "bpf", self._bpf)
        api.stream("trace", self._trace)

    async def _bpf(self, path: list[str], _query: Query) -> Any:
        fast = self._fast()
        from control.agent.introspection import bpf_answers as answers

        match path:
            case ["maps"]:
                return await _in_thread(answers.maps, fast)
            case ["map", name]:
                return await _in_thread(answers.rows, fast, name)
            case ["progs"]:
                return await _in_thread(answers.programs, fast, self._netns)
            case ["counters"]:
                return await _in_thread(answers.counters, fast)
            case ["endpoints"]:
                found = await _in_thread(answers.endpoints, fast)
                return sorted(map(self._named, found), key=lambda row: (row["pod"], row["ifindex"]))
        raise RequestError(f"no bpf/{'/'.join(path)}", remedy=f"there are {_WORDS}")

    def _named(self, row: dict[str, Any]) -> dict[str, Any]:
        names = (self._pod_of(ip_address(one)) for one in row["addresses"])
        return {"pod": next(filter(None, names), ""), **row}

    def _trace(self, _path: list[str], query: Query) -> Stream:
        """``address``: one or several with commas between them; without it all packets."""
        asked = [_address(text) for text in query.get("address", "").split(",") if text]
        fast = self._fast()
        from control.agent.introspection.bpf_answers import TraceLines

        with _in_our_terms():
            return TraceLines(self._readers.join(asked), fast, self._netns)


def _address(text: str) -> Address:
    try:
        return ip_address(text)
    except ValueError as exc:
        raise RequestError(f"{text!r} is no address", remedy="give an IPv4 or IPv6 address") from exc


async def _in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    def run() -> Any:
        with _in_our_terms():
            return work(*arguments)

    return await asyncio.to_thread(run)


@contextmanager
def _in_our_terms() -> Iterator[None]:
    try:
        yield
    except kernel_errors.KernelError as exc:
        raise KernelError(str(exc)) from exc
