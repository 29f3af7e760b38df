"""The metadata adapter against a server that is as bad as the test wants."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Coroutine
from ipaddress import IPv4Address, IPv6Address

import pytest

from control.aliyun.metadata import AliyunMetadata, parse_addresses, parse_addresses_v6
from control.aliyun.metadata_http import MetadataHttp, parse_head
from control.model.clock import SystemClock
from control.model.errors import MetadataError
from control.model.ids import Mac

ROOT = "/latest/meta-data/"
TOKEN = "PUT /latest/api/token"
MAC = Mac("00:16:3e:00:00:01")


class Server:
    """Answers each ``METHOD target`` by its script: texts, statuses or raw bytes, the last one for ever."""

    def __init__(self) -> None:
        self.script: dict[str, list[str | int | bytes]] = {TOKEN: ["token-1", "token-2", "token-3"]}
        self.requests: Counter[str] = Counter()
        self.tokens: list[str] = []
        self.connections = 0
        self.release = asyncio.Event()
        self.good_tokens: set[str] | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self.release.set()
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._answer(reader, writer):
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        request = head[0].rsplit(" ", 1)[0]
        self.requests[request] += 1
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        token = headers.get("X-aliyun-ecs-metadata-token", "")
        if request.startswith("GET"):
            self.tokens.append(token)
            if self.good_tokens is not None and token not in self.good_tokens:
                return self._send(writer, 401)
        steps = self.script.get(request, [404])
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        return await self._play(writer, step)

    async def _play(self, writer: asyncio.StreamWriter, step: str | int | bytes) -> bool:
        if step == "hang":
            await self.release.wait()
            return False
        if step == "hang up":
            return False
        if isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
            return b"chunked" in step
        return self._send(writer, step)

    def _send(self, writer: asyncio.StreamWriter, answer: str | int) -> bool:
        status, body = (answer, "") if isinstance(answer, int) else (200, answer)
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(f"{head}{body}".encode())
        return True


class Bench:
    def __init__(self, server: Server, address: str) -> None:
        self.server = server
        self.clock = SystemClock()
        self.observed: list[tuple[str, str, float]] = []
        self.http = MetadataHttp(
            address, clock=self.clock, observe=lambda *seen: self.observed.append(seen), timeout=2.0
        )
        self.metadata = AliyunMetadata(self.http)

    def serve(self, path: str, *steps: str | int | bytes) -> None:
        self.server.script[f"GET {ROOT}{path}"] = list(steps)

    def asked(self, path: str) -> int:
        return self.server.requests[f"GET {ROOT}{path}"]


def with_bench(test: Callable[[Bench], Coroutine[None, None, None]]) -> Callable[[], None]:
    async def whole() -> None:
        server = Server()
        bench = Bench(server, await server.start())
        try:
            async with asyncio.timeout(20):
                await test(bench)
        finally:
            await bench.metadata.close()
            await server.stop()

    def run() -> None:
        asyncio.run(whole())

    functools.update_wrapper(run, test, assigned=("__name__", "__doc__", "__module__"), updated=())
    del run.__wrapped__  # type: ignore[attr-defined]  # pytest would look for a fixture named bench
    return run


@with_bench
async def test_a_token_is_asked_for_once_and_used(bench: Bench) -> None:
    bench.serve("region-id", "cn-hangzhou")
    for _ in range(3):
        assert await bench.http.text("region-id") == "cn-hangzhou"
    assert bench.server.requests[TOKEN] == 1
    assert bench.server.tokens == ["token-1"] * 3


@with_bench
async def test_reads_at_once_ask_for_one_token(bench: Bench) -> None:
    bench.serve("region-id", "cn-hangzhou")
    await asyncio.gather(*(bench.http.text("region-id") for _ in range(6)))
    assert bench.server.requests[TOKEN] == 1


@with_bench
async def test_connections_are_kept(bench: Bench) -> None:
    bench.serve("region-id", "cn-hangzhou")
    for _ in range(10):
        await bench.http.text("region-id")
    assert bench.server.connections == 1


@with_bench
async def test_a_kept_connection_that_the_service_closed_is_replaced(bench: Bench) -> None:
    bench.serve("region-id", "cn-hangzhou", "hang up", "cn-hangzhou")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("control.aliyun.metadata_http._FIRST_DELAY", 3600.0)
        for _ in range(2):
            assert await bench.http.text("region-id") == "cn-hangzhou"
    assert (bench.asked("region-id"), bench.server.connections) == (3, 2)


@with_bench
async def test_the_token_is_renewed_after_three_hours(bench: Bench) -> None:
    bench.serve("region-id", "cn-hangzhou")
    await bench.http.text("region-id")
    bench.clock.advance(3 * 3600 - 60)
    await bench.http.text("region-id")
    bench.clock.advance(120)
    await bench.http.text("region-id")
    assert bench.server.tokens == ["token-1", "token-1", "token-2"]


@with_bench
async def test_a_refused_token_is_replaced_once(bench: Bench) -> None:
    bench.serve("region-id", "cn-hangzhou")
    await bench.http.text("region-id")
    bench.server.good_tokens = {"token-2"}
    assert await bench.http.text("region-id") == "cn-hangzhou"
    bench.server.good_tokens = set()
    with pytest.raises(MetadataError, match="HTTP 401"):
        await bench.http.text("region-id")
    assert bench.server.tokens == ["token-1", "token-1", "token-2", "token-2", "token-3"]


@with_bench
async def test_without_tokens_it_is_read_without(bench: Bench) -> None:
    bench.server.script[TOKEN] = [404]
    bench.serve("region-id", "cn-hangzhou")
    for _ in range(2):
        assert await bench.http.text("region-id") == "cn-hangzhou"
    assert bench.server.tokens == ["", ""]
    assert bench.server.requests[TOKEN] == 1


@with_bench
async def test_passing_failures_are_tried_again(bench: Bench) -> None:
    bench.serve("region-id", 429, 503, "hang up", "cn-hangzhou")
    assert await bench.http.text("region-id") == "cn-hangzhou"
    assert bench.asked("region-id") == 4
    assert [(path, error) for path, error, _ in bench.observed] == [("region-id", "")]


@with_bench
async def test_what_is_observed_does_not_grow_with_the_enis(bench: Bench) -> None:
    await bench.metadata.addresses(MAC)
    assert [path for path, _, _ in bench.observed] == ["network/interfaces/macs/<mac>/private-ipv4s"]


@with_bench
async def test_four_tries_are_enough(bench: Bench) -> None:
    bench.serve("region-id", 500)
    with pytest.raises(
        MetadataError, match=r"metadata region-id at 127\.0\.0\.1:.*HTTP 500.*100\.100\.100\.200"
    ):
        await bench.http.text("region-id")
    assert bench.asked("region-id") == 4
    assert bench.observed[0][1] == "unreachable"


@with_bench
async def test_other_refusals_are_final(bench: Bench) -> None:
    bench.serve("region-id", 400)
    with pytest.raises(MetadataError, match="HTTP 400"):
        await bench.http.text("region-id")
    assert bench.asked("region-id") == 1
    assert bench.observed[0][1] == "400"


@with_bench
async def test_what_is_not_there_is_none(bench: Bench) -> None:
    assert await bench.http.text("no/such/item") is None


@with_bench
async def test_a_silent_service_is_given_up(bench: Bench) -> None:
    bench.serve("region-id", "hang")
    bench.http._timeout = 0.2
    with pytest.raises(MetadataError, match=r"no answer within 0\.2 s") as raised:
        await bench.http.text("region-id")
    assert raised.value.temporary
    assert bench.observed[0][1] == "timeout"
    bench.serve("zone-id", "z")
    bench.http._timeout = 2.0
    assert await bench.http.text("zone-id") == "z"


@with_bench
async def test_nobody_listens(bench: Bench) -> None:
    await bench.server.stop()
    with pytest.raises(MetadataError, match="route, firewall"):
        await bench.http.text("region-id")


@pytest.mark.parametrize("garbage", [b"SMTP ready\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00" * 100_000])
def test_garbage_is_named(garbage: bytes) -> None:
    @with_bench
    async def scenario(bench: Bench) -> None:
        bench.serve("region-id", garbage)
        with pytest.raises(MetadataError, match="region-id"):
            await bench.http.text("region-id")

    scenario()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ncn-\r\n8;x\r\nhangzhou\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\ncn-hangzhou",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 11\r\n\r\ncn-hangzhou",
    ],
    ids=["chunked", "until the end", "closed"],
)
def test_other_ways_to_send_a_body(answer: bytes) -> None:
    @with_bench
    async def scenario(bench: Bench) -> None:
        bench.serve("region-id", answer)
        for _ in range(2):
            assert await bench.http.text("region-id") == "cn-hangzhou"
        assert bench.asked("region-id") == 2

    scenario()


@with_bench
async def test_an_answer_that_cannot_be_read_is_shown(bench: Bench) -> None:
    bench.serve(f"network/interfaces/macs/{MAC}/private-ipv4s", "<html>proxy</html>")
    with pytest.raises(MetadataError, match=rf"macs/{MAC}/private-ipv4s.*<html>proxy.*not a list"):
        await bench.metadata.addresses(MAC)


@with_bench
async def test_a_list_of_macs_with_nonsense(bench: Bench) -> None:
    bench.serve("network/interfaces/macs/", "00:16:3E:00:00:01/\n00:16:3e:00:00:02/")
    assert await bench.metadata.macs() == {MAC, "00:16:3e:00:00:02"}
    bench.serve("network/interfaces/macs/", "lo/")
    with pytest.raises(MetadataError, match="not a MAC address"):
        await bench.metadata.macs()


@with_bench
async def test_a_node_without_an_item(bench: Bench) -> None:
    bench.serve("instance-id", "i-1")
    with pytest.raises(MetadataError, match="not there"):
        await bench.metadata.identity()


def test_lists_of_addresses() -> None:
    a, b = IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")
    for text in ("[2001:db8::1,2001:db8::2]", '["2001:db8::1", "2001:db8::2"]', "[2001:db8::1, 2001:DB8::2]"):
        assert parse_addresses_v6(text) == {a, b}
    assert parse_addresses_v6("[]") == frozenset()
    assert parse_addresses('["10.0.0.1"]') == {IPv4Address("10.0.0.1")}
    for bad in ("10.0.0.1", "[10.0.0.1", '["10.0.0.300"]'):
        with pytest.raises(ValueError):
            parse_addresses(bad)


def test_a_head() -> None:
    head = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nX:\r\n\r\n"
    assert parse_head(head) == (404, {"content-length": "0", "x": ""})


@pytest.mark.parametrize("failure", [503, "hang up", "hang"])
def test_a_token_that_cannot_be_renewed_serves_on(failure: int | str) -> None:
    """It is good for three hours more; what it opens still answers."""

    @with_bench
    async def test(bench: Bench) -> None:
        bench.serve("mac", "00:16:3e:00:00:01")
        assert await bench.http.text("mac")
        bench.server.script[TOKEN] = [failure]
        bench.clock.advance(3 * 3600 + 1)
        assert await bench.http.text("mac")
        assert bench.server.tokens == ["token-1", "token-1"]
        bench.server.script[TOKEN] = ["token-2"]
        bench.clock.advance(61)
        assert await bench.http.text("mac")
        assert bench.server.tokens[-1] == "token-2"

    test()


@with_bench
async def test_a_token_that_is_refused_does_not_serve_on(bench: Bench) -> None:
    bench.serve("mac", "00:16:3e:00:00:01")
    assert await bench.http.text("mac")
    bench.server.good_tokens = {"token-9"}
    bench.server.script[TOKEN] = [503]
    with pytest.raises(MetadataError, match="503"):
        await bench.http.text("mac")
    bench.server.script[TOKEN] = ["token-9"]
    assert await bench.http.text("mac")
