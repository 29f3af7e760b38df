"""A real etcd and kube-apiserver on loopback ports, with everything they write in one directory."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import urllib3
from kubernetes import client

from tests.contract.kube.kube import Kube

_TOKEN = "contract"
_READY_SECONDS = 240.0


class RealServer:
    """``start`` waits until the API is ready; ``stop`` ends both processes, whatever state they are in."""

    def __init__(self, binaries: Path, directory: Path, *, authorization: str = "AlwaysAllow") -> None:
        self._binaries = binaries
        self._authorization = authorization
        self._directory = directory
        self._etcd_port, self._peer_port, self._port = _free_ports(3)
        self._certificate = directory / "certificates" / "apiserver.crt"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        etcd = f"http://127.0.0.1:{self._etcd_port}"
        peer = f"http://127.0.0.1:{self._peer_port}"
        key = self._directory / "accounts.key"
        make_key = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key)]
        subprocess.run(make_key, check=True)
        tokens = self._directory / "tokens.csv"
        tokens.write_text(f"{_TOKEN},admin,1,system:masters\n")
        self._run(
            "etcd",
            f"--data-dir={self._directory / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        )
        self._run(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self._port}",
            f"--cert-dir={self._certificate.parent}",
            f"--token-auth-file={tokens}",
            f"--authorization-mode={self._authorization}",
            # The account's token comes from a controller manager, which is not here.
            "--disable-admission-plugins=ServiceAccount",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",
            # Pages come from etcd then, and compacting etcd makes them expire.
            "--feature-gates=ListFromCacheSnapshot=false",
        )
        self._wait_ready()

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in reversed(self._processes):
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def client(self, token: str = _TOKEN) -> client.ApiClient:
        """The administrator's, or that of who has ``token``."""
        configuration = client.Configuration(host=f"https://127.0.0.1:{self._port}")
        configuration.ssl_ca_cert = str(self._certificate)  # which it has signed itself
        configuration.api_key["BearerToken"] = f"Bearer {token}"
        return client.ApiClient(configuration)

    def compact(self) -> None:
        """Through etcd's JSON gateway: forget everything before the latest revision."""
        answer = self._etcd("/v3/kv/range", {"key": "Zm9v"})
        self._etcd("/v3/kv/compaction", {"revision": answer["header"]["revision"], "physical": True})

    def _etcd(self, path: str, body: dict[str, object]) -> dict[str, dict[str, str]]:
        url = f"http://127.0.0.1:{self._etcd_port}{path}"
        with urllib.request.urlopen(url, data=json.dumps(body).encode(), timeout=10) as response:
            decoded: dict[str, dict[str, str]] = json.load(response)
            return decoded

    def _run(self, name: str, *arguments: str) -> None:
        log = (self._directory / f"{name}.log").open("wb")
        with log:
            command = [str(self._binaries / name), *arguments]
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=self._directory))

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while why := self._lacks():
            if time.monotonic() > deadline:
                raise RuntimeError(f"no ready API server after {_READY_SECONDS} s: {why}")
            time.sleep(0.2)

    def _lacks(self) -> str:
        """ "" once it says that it is ready and has its first namespace."""
        for process in self._processes:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args!r} ended with {process.returncode}; see its log")
        if not self._certificate.exists():
            return "it has made no certificate"
        with self.client() as api:
            try:
                answer = Kube(api, self.compact).raw("GET", "/readyz", None, "application/json")
                client.CoreV1Api(api).read_namespace("default", _request_timeout=5)
            except (client.ApiException, urllib3.exceptions.HTTPError, OSError) as exc:
                return str(exc)
        return "" if answer.status == 200 else str(answer.read())


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports
