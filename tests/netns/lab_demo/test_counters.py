"""A node's counters: its stack's from /proc, its pods' from the window of its daemon."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from lab.demo.counters import ENDPOINTS, Fast, NodeCounters
from lab.demo.echo import Service, echo_servers
from lab.demo.matrix import Kind, Protocol, cells
from lab.demo.probes import probe
from tests.netns.lab_demo.conftest import MTU, World

ROW = {"pod": "demo/a", "addresses": ["10.0.0.1"], "ifindex": 3, "fast": True, "fast_in_packets": 4}


class Window(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path, rows: list[dict[str, Any]] | None) -> None:
        super().__init__(str(path), Handler)
        self.rows = rows
        self.asked: list[tuple[str, int]] = []
        """Path and the number of the connection."""
        self.connections = 0

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Window

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.server.connections))
        body = json.dumps(self.server.rows).encode()
        self.send_response(200 if self.server.rows is not None else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing to say."""

    def address_string(self) -> str:
        return "local"


@contextmanager
def window(path: Path, rows: list[dict[str, Any]] | None) -> Iterator[Window]:
    with Window(path, rows) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_endpoints_are_read_over_one_connection(world: World, tmp_path: Path) -> None:
    path = tmp_path / "window"
    with window(path, [{**ROW, "fast_out_packets": 2}]) as server:
        counters = NodeCounters(world.router, path)
        try:
            before = counters.read(4)
            server.rows = [{**ROW, "fast_out_packets": 9}]
            assert (counters.read(6) - before).of("10.0.0.1") == Fast(7, 0)
        finally:
            counters.close()
        assert server.asked == [(ENDPOINTS, 1), (ENDPOINTS, 1)]


def test_a_daemon_without_endpoint_counters_is_asked_once(world: World, tmp_path: Path) -> None:
    path = tmp_path / "window"
    with window(path, None) as server:
        counters = NodeCounters(world.router, path)
        try:
            assert counters.read(4).fast == {}
            assert counters.read(4).fast == {}
        finally:
            counters.close()
        assert len(server.asked) == 1


def test_forwarded_delivered_and_expired_are_told_apart(world: World, tmp_path: Path) -> None:
    path = tmp_path / "window"
    with window(path, None), ExitStack() as undo:
        router, target = NodeCounters(world.router, path), NodeCounters(world.target.netns, path)
        undo.callback(router.close)
        undo.callback(target.close)
        undo.enter_context(echo_servers([Service(world.target)]))
        for cell in cells([world.source, world.target]):
            if cell.kind in (Kind.OUTSIDE, Kind.ICMP_ERROR):
                before = router.read(cell.family), target.read(cell.family)
                assert probe(cell, MTU) == []
                there = router.read(cell.family) - before[0]
                here = target.read(cell.family) - before[1]
                ended = (cell.kind, cell.protocol) == (Kind.ICMP_ERROR, Protocol.ICMP)
                assert (there.expired > 0, there.forwarded > 0) == (ended, not ended)
                assert (here.forwarded, here.delivered > 0) == (0, not ended)
