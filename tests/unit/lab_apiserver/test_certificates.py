"""The lab's certificates: TLS both ways with them, and nobody else comes in."""

from __future__ import annotations

import json
import socket
import ssl
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from lab.apiserver import access, certificates
from lab.apiserver.files import KubeDir, write_private

_ADDRESS = IPv4Address("127.0.0.1")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> KubeDir:
    made = KubeDir(tmp_path_factory.mktemp("kubernetes"))
    certificates.make(made, (_ADDRESS,))
    return made


@contextmanager
def served(directory: KubeDir) -> Iterator[tuple[socket.socket, list[object]]]:
    """A socket whose other end speaks TLS as the API server does, and what that end saw of its client."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(directory.certificate("ca")))
    context.load_cert_chain(directory.certificate("server"), directory.key("server"))
    context.verify_mode = ssl.CERT_REQUIRED
    ours, theirs = socket.socketpair()
    seen: list[object] = []

    def serve() -> None:
        try:
            with context.wrap_socket(theirs, server_side=True) as secure:
                seen.append(secure.getpeercert())
                secure.sendall(b"welcome")
        except OSError as exc:
            seen.append(exc)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ours, theirs:
            ours.settimeout(10)
            yield ours, seen
    finally:
        thread.join(10)


def test_server_and_administrator_trust_each_other(directory: KubeDir) -> None:
    context = access.admin_tls(directory)
    with (
        served(directory) as (ours, seen),
        context.wrap_socket(ours, server_hostname=str(_ADDRESS)) as secure,
    ):
        assert secure.recv(16) == b"welcome"
    subject = dict(pair[0] for pair in seen[0]["subject"])  # type: ignore[index]  # a certificate, as ssl tells it
    assert subject == {"organizationName": "system:masters", "commonName": "lab-admin"}


def test_another_name_is_not_the_server(directory: KubeDir) -> None:
    context = access.admin_tls(directory)
    with served(directory) as (ours, _), pytest.raises(ssl.SSLCertVerificationError, match=r"192\.0\.2\.1"):
        context.wrap_socket(ours, server_hostname="192.0.2.1")


def test_another_lab_is_not_trusted(directory: KubeDir, tmp_path: Path) -> None:
    other = KubeDir(tmp_path)
    certificates.make(other, (_ADDRESS,))
    context = access.admin_tls(other)
    with served(directory) as (ours, _), pytest.raises(ssl.SSLCertVerificationError):
        context.wrap_socket(ours, server_hostname=str(_ADDRESS))


def test_keys_are_private_and_the_authoritys_is_gone(directory: KubeDir) -> None:
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.root.iterdir()}
    assert found.keys() >= {"ca.crt", "server.crt", "server.key", "admin.crt", "admin.key", "accounts.key"}
    assert set(found.values()) == {0o600}
    assert "ca.key" not in found


def test_nothing_is_overwritten(directory: KubeDir) -> None:
    with pytest.raises(FileExistsError):
        write_private(directory.key("admin"), b"")


def test_kubeconfig_holds_all_that_it_needs(directory: KubeDir) -> None:
    config = json.loads(
        access.secure_kubeconfig(directory, access.admin_user(directory), "https://[fd00::1]:6443")
    )
    assert config["clusters"][0]["cluster"]["server"] == "https://[fd00::1]:6443"
    assert str(directory.root) not in json.dumps(config)
    assert set(config["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}
