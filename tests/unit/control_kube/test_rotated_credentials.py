"""Tokens, kubeconfigs and certificates that are exchanged under a running agent."""

from __future__ import annotations

import base64
import datetime
import json
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from control.kube import connection as connecting
from control.kube.connection import Connection, KubernetesConfig, Refused, Request, Untrusted
from control.model.errors import ConfigError, KubernetesError

ASK = Request("GET", "/api/v1/pods")


def certificate() -> tuple[bytes, bytes]:
    """A server's own authority: certificate and key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    return made.public_bytes(encoding), secret


class Server:
    """Takes ``token`` and no other; shows its certificate to each new connection."""

    def __init__(self, directory: Path) -> None:
        self.token, self.asked, self._directory = "first", 0, directory
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.asked += 1
                good = self.headers.get("Authorization", "").lower() == f"bearer {server.token}"
                body = json.dumps({"items": []} if good else {"message": "Unauthorized"}).encode()
                self.send_response(200 if good else 401)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority = b""
        self.new_certificate()
        self._http.socket = self._context.wrap_socket(self._http.socket, server_side=True)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))

    @contextmanager
    def running(self) -> Iterator[Server]:
        self._thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._thread.join()
            self._http.server_close()

    def new_certificate(self) -> None:
        self.authority, key = certificate()
        (self._directory / "server.crt").write_bytes(self.authority)
        (self._directory / "server.key").write_bytes(key)
        self._context.load_cert_chain(self._directory / "server.crt", self._directory / "server.key")

    def kubeconfig(self) -> Path:
        """As it would be written now."""
        path = self._directory / "kubeconfig"
        url = f"https://127.0.0.1:{self._http.server_address[1]}"
        trusted = base64.b64encode(self.authority).decode()
        cluster = {"server": url, "certificate-authority-data": trusted}
        value = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": self.token}}],
        }
        path.write_text(yaml.safe_dump(value))
        return path


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    with Server(tmp_path).running() as made:
        yield made


def connected(server: Server) -> Connection:
    made = Connection(KubernetesConfig("node", kubeconfig=str(server.kubeconfig())))
    assert made.call(ASK, timeout=30) == {"items": []}
    return made


def streamed(connection: Connection) -> bytes:
    stream = connection.stream(ASK, connect=30, idle=30)
    try:
        return b"".join(stream.chunks())
    finally:
        stream.end()


def test_a_token_that_was_rotated(server: Server) -> None:
    connection = connected(server)
    server.token = "second"
    server.kubeconfig()
    assert connection.call(ASK, timeout=30) == {"items": []}
    assert streamed(connection) == b'{"items": []}'


def test_a_token_that_was_rotated_under_a_watch(server: Server) -> None:
    connection = connected(server)
    server.token = "second"
    server.kubeconfig()
    assert streamed(connection) == b'{"items": []}'


def test_an_authority_that_was_rotated(server: Server) -> None:
    connection = connected(server)
    server.new_certificate()
    with pytest.raises(Untrusted):
        connection.call(ASK, timeout=30)
    server.kubeconfig()
    connection._renewed = float("-inf")
    assert connection.call(ASK, timeout=30) == {"items": []}


def test_certificates_that_were_cleaned_away_with_tmp(server: Server, tmp_path: Path) -> None:
    """The client writes those of a kubeconfig to /tmp, which systemd-tmpfiles empties after ten days."""
    connection = connected(server)
    written = list((tmp_path / "tmp").iterdir())
    assert written
    for path in written:
        path.unlink()
    assert connection.call(ASK, timeout=30) == {"items": []}


def test_a_refusal_that_lasts_does_not_read_them_each_time(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = connected(server)
    server.token = "second"
    read: list[int] = []
    configure = connecting._configure

    def counted(config: KubernetesConfig) -> Any:
        read.append(1)
        return configure(config)

    monkeypatch.setattr(connecting, "_configure", counted)
    for _ in range(5):
        with pytest.raises(Refused) as found:
            connection.call(ASK, timeout=30)
        assert found.value.status == 401
    assert len(read) == 1


def test_a_kubeconfig_that_is_gone_leaves_what_was_read(server: Server) -> None:
    connection = connected(server)
    path = server.kubeconfig()
    path.unlink()
    assert connection.call(ASK, timeout=30) == {"items": []}
    server.token = "second"
    with pytest.raises(KubernetesError, match="401"):
        connection.call(ASK, timeout=30)


@pytest.mark.parametrize(
    "text", ["users: [{name: 'u", "a\tb: [", "- a", "text", "\0", "users: [{name: u, user: x}]"]
)
def test_a_kubeconfig_that_is_only_half_written_leaves_what_was_read(server: Server, text: str) -> None:
    """Whatever the client makes of it: who asks is told of the refusal, and a start of the file."""
    connection = connected(server)
    path = server.kubeconfig()
    path.write_text(f"{path.read_text()}{text}" if text.startswith("users") else text)
    server.token = "second"
    with pytest.raises(KubernetesError, match="401"):
        connection.call(ASK, timeout=30)
    with pytest.raises(ConfigError, match=f"kubeconfig {path}"):
        Connection(KubernetesConfig("node", kubeconfig=str(path)))
