"""The fast path's window where there is none, and what is refused."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from control.agent.introspection.bpf_window import BpfWindow
from control.model.errors import RequestError
from control.process.http_api import HttpApi
from datapath.acceleration.path import FastPath

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[HttpApi]:
    """Answers on the calling thread; the node has no fast path."""
    loop = asyncio.new_event_loop()
    made = HttpApi(f"unix://{tmp_path}/window", loop, CollectorRegistry())

    def none() -> FastPath:
        raise RequestError("there is no fast path: -bpf off", remedy="start terwayd without it")

    BpfWindow(none, lambda _: "").register(made)
    yield made
    made.stop()
    loop.close()


@pytest.mark.parametrize("path", ["/trace", "/trace?address=10.0.0.1"])
def test_without_a_fast_path_the_reason_is_told(api: HttpApi, path: str) -> None:
    status, _, body = api.answer("GET", path)
    assert isinstance(body, bytes)
    assert status == 400
    assert json.loads(body)["error"] == "there is no fast path: -bpf off; start terwayd without it"


@pytest.mark.parametrize("text", ["web", "10.0.0.1,web", "10.0.0.0/8"])
def test_what_is_no_address_is_refused(api: HttpApi, text: str) -> None:
    status, _, body = api.answer("GET", f"/trace?address={text}")
    assert isinstance(body, bytes)
    assert status == 400
    assert "is no address" in json.loads(body)["error"]


def test_a_trace_cannot_be_posted(api: HttpApi) -> None:
    assert api.answer("POST", "/trace")[0] == 404


def test_a_node_that_routes_does_without_numpy_and_libbpf() -> None:
    code = (
        "import sys, control.agent.introspection.bpf_window;"
        " print({'numpy', 'datapath.ebpf.libbpf'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
