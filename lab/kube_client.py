"""What the lab itself writes to its API server: pods, as kubelet's users would, and configuration.

Over a socket that was opened in the cloud's namespace, so any process of the machine may use it: plain HTTP
to the lab's small server, TLS with an administrator's certificate to a real one.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import threading
from collections.abc import Generator, Mapping
from typing import Any
from urllib.parse import quote

from datapath import namespace
from lab.messages import LabError
from lab.spec import KUBERNETES_ADDRESS, KUBERNETES_PORT

Object = dict[str, Any]
_TIMEOUT = 60.0


class KubeError(LabError):
    """``status`` is the HTTP status: 404 for what is not there, 409 for what is."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class _Connection(http.client.HTTPConnection):
    def __init__(self, netns: int, tls: ssl.SSLContext | None) -> None:
        super().__init__(str(KUBERNETES_ADDRESS), KUBERNETES_PORT, timeout=_TIMEOUT)
        self._netns = netns
        self._tls = tls

    def connect(self) -> None:
        with namespace.entered(self._netns):
            super().connect()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=str(KUBERNETES_ADDRESS))


class KubeClient:
    """Thread-safe: a kept-alive connection per thread. Owns ``netns``; without ``tls`` it is plain HTTP."""

    def __init__(self, netns: int, tls: ssl.SSLContext | None = None) -> None:
        self._netns = netns
        self._tls = tls
        self._local = threading.local()

    def close(self) -> None:
        os.close(self._netns)

    def request(self, method: str, path: str, body: Object | None = None) -> Object:
        """Raises KubeError with the server's message."""
        try:
            status, text = self._exchange(method, path, None if body is None else json.dumps(body))
        except (OSError, http.client.HTTPException) as exc:
            self._local.connection = None
            raise KubeError(f"{method} {path}: the API server does not answer: {exc}", 0) from exc
        value: Object = json.loads(text)
        if status >= 400:
            raise KubeError(f"{method} {path}: {value.get('message', text)}", status)
        return value

    def watch(self, path: str, *, silence: float) -> Generator[Object, None, None]:
        """Events of the watch at ``path``, each when it comes, until the server ends it.

        Over a connection of its own, which ends with the iterator. Raises KubeError: a refusal, or
        ``silence`` seconds without an event.
        """
        connection = _Connection(self._netns, self._tls)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            if response.status >= 400:
                raise KubeError(f"GET {path}: {response.read().decode()}", response.status)
            connection.sock.settimeout(silence)
            while line := response.readline():
                yield json.loads(line)
        except (OSError, http.client.HTTPException) as exc:
            raise KubeError(f"GET {path}: the watch ended: {exc}", 0) from exc
        finally:
            connection.close()

    def not_ready(self) -> str:
        """ "" if the server says that it is ready, else why not."""
        try:
            status, text = self._exchange("GET", "/readyz", None)
        except (OSError, http.client.HTTPException) as exc:
            self._local.connection = None
            return str(exc)
        return "" if status == 200 else text.decode(errors="replace").strip()

    def _exchange(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        connection: _Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _Connection(self._netns, self._tls)
        content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
        try:
            connection.request(method, path, body, {"Content-Type": content_type})
            response = connection.getresponse()
        except (ConnectionError, http.client.BadStatusLine):
            # A kept-alive connection that the server has closed meanwhile; a write may have got through.
            connection.close()
            if method != "GET":
                raise
            connection.request(method, path, body, {"Content-Type": content_type})
            response = connection.getresponse()
        return response.status, response.read()

    def create_pod(self, pod: Object) -> Object:
        """Create it, and its namespace if that is missing."""
        return self._create("pods", pod["metadata"]["namespace"], pod)

    def _create(self, plural: str, where: str, body: Object) -> Object:
        path = f"/api/v1/namespaces/{quote(where)}/{plural}"
        try:
            return self.request("POST", path, body)
        except KubeError as exc:
            if exc.status != 404:
                raise
        self.create_namespace(where)
        return self.request("POST", path, body)

    def create_namespace(self, name: str) -> None:
        """Succeeds if it is there."""
        try:
            self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        except KubeError as exc:
            if exc.status != 409:
                raise

    def report_pod(self, where: str, name: str, status: Object) -> Object:
        """What its kubelet says of it. Raises KubeError."""
        path = f"/api/v1/namespaces/{quote(where)}/pods/{quote(name)}/status"
        return self.request("PATCH", path, {"status": status})

    def pod(self, where: str, name: str) -> Object:
        return self.request("GET", f"/api/v1/namespaces/{quote(where)}/pods/{quote(name)}")

    def delete_pod(self, where: str, name: str) -> bool:
        """At once, as a kubelet does when its containers have ended. False if there was none."""
        path = f"/api/v1/namespaces/{quote(where)}/pods/{quote(name)}"
        try:
            self.request("DELETE", path, {"gracePeriodSeconds": 0})
        except KubeError as exc:
            if exc.status != 404:
                raise
            return False
        return True

    def put_config_map(self, where: str, name: str, data: Mapping[str, str]) -> None:
        """Create or replace; its namespace too if that is missing."""
        body: Object = {"metadata": {"name": name, "namespace": where}, "data": dict(data)}
        try:
            self._create("configmaps", where, body)
        except KubeError as exc:
            if exc.status != 409:
                raise
            self.request("PUT", f"/api/v1/namespaces/{quote(where)}/configmaps/{quote(name)}", body)

    def events(self, where: str) -> list[Object]:
        """All of a namespace."""
        items: list[Object] = self.request("GET", f"/api/v1/namespaces/{quote(where)}/events")["items"]
        return items
