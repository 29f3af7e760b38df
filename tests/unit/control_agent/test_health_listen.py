"""What kubelet and Prometheus reach over TCP: health, readiness, metrics; nothing that changes anything."""

from __future__ import annotations

import asyncio
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from control.model.errors import ConfigError
from control.process.http_api import HttpApi


@pytest.fixture
def address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as asked:
        return f"127.0.0.1:{asked.getsockname()[1]}"


@pytest.fixture
def api(address: str) -> Iterator[HttpApi]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    made = HttpApi(address, loop, CollectorRegistry())
    made.start()
    yield made
    made.stop()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def status(address: str, path: str, method: str = "GET") -> int:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://{address}{path}", method=method), timeout=5
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def test_health_and_readiness_are_apart(api: HttpApi, address: str) -> None:
    assert status(address, "/healthz") == 200
    assert status(address, "/readyz") == 503
    api.ready = lambda: ""
    assert status(address, "/readyz") == 200
    assert status(address, "/metrics") == 200


@pytest.mark.usefixtures("api")
def test_nothing_can_be_switched(address: str) -> None:
    assert status(address, "/fastpath/off", "POST") == 404
    assert status(address, "/resources") == 404


def test_an_address_that_is_taken_is_named(address: str) -> None:
    host, _, port = address.rpartition(":")
    with socket.create_server((host, int(port))):
        with pytest.raises(ConfigError, match=f"cannot listen on '{address}'"):
            HttpApi(address, asyncio.new_event_loop(), CollectorRegistry())
