from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client

from lab.kube.server import KubeServer
from lab.kube.store import Store
from tests import kube_programs
from tests.contract.kube.kube import Kube
from tests.contract.kube.real import RealServer

_SERVERS = ["small", "real"] if kube_programs.directory() else ["small"]


@pytest.fixture(scope="session")
def small() -> Iterator[Kube]:
    yield from _small()


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kube]:
    yield from _real(tmp_path_factory.mktemp("kube"))


@pytest.fixture(scope="session", params=_SERVERS)
def server(request: pytest.FixtureRequest) -> Kube:
    found: Kube = request.getfixturevalue(request.param)
    return found


def _small() -> Iterator[Kube]:
    store = Store()
    small = KubeServer(store)
    port = small.start("127.0.0.1", 0)
    api = client.ApiClient(client.Configuration(host=f"http://127.0.0.1:{port}"))
    try:
        yield Kube(api, store.history.compact)
    finally:
        api.close()
        small.stop()


def _real(directory: Path) -> Iterator[Kube]:
    real = RealServer(Path(kube_programs.directory()), directory)
    try:
        real.start()
        yield Kube(real.client(), real.compact)
    finally:
        real.stop()


@pytest.fixture
def kube(server: Kube) -> Iterator[Kube]:
    """The server, with a namespace of the test's own in ``kube.namespace``."""
    with server.own_namespace() as made:
        yield made
