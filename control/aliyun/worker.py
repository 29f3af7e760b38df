"""The process that holds the cloud's SDK, so that the daemon need not: 30 MiB that come and go.

Started by ``sdk_process``; it owns one end of a socketpair, speaks ``frames`` on it, runs calls in threads
over kept-alive connections, and ends at end-of-file. It decides nothing: no retry, no meaning of errors.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from importlib import import_module
from queue import SimpleQueue
from typing import Any, NamedTuple

from control.aliyun.frames import encode, read_frame
from control.aliyun.sdk_import import slim

_MOST_THREADS = 16
_SDK_POOL_SIZE = 40
"""The SDK's own default, a part of its session's key."""
_ECS = "alibabacloud_ecs20140526"
_VPC = "alibabacloud_vpc20160428"

# OpenAPI action -> package and method; the request class is the action's name + "Request".
_METHODS: Mapping[str, tuple[str, str]] = {
    "CreateNetworkInterface": (_ECS, "create_network_interface"),
    "AttachNetworkInterface": (_ECS, "attach_network_interface"),
    "DetachNetworkInterface": (_ECS, "detach_network_interface"),
    "DeleteNetworkInterface": (_ECS, "delete_network_interface"),
    "DescribeNetworkInterfaces": (_ECS, "describe_network_interfaces"),
    "AssignPrivateIpAddresses": (_ECS, "assign_private_ip_addresses"),
    "UnassignPrivateIpAddresses": (_ECS, "unassign_private_ip_addresses"),
    "AssignIpv6Addresses": (_ECS, "assign_ipv_6addresses"),
    "UnassignIpv6Addresses": (_ECS, "unassign_ipv_6addresses"),
    "DescribeInstanceTypes": (_ECS, "describe_instance_types"),
    "DescribeVSwitches": (_VPC, "describe_vswitches"),
}


class _Credentials(NamedTuple):
    access_key_id: str
    secret: str
    token: str


class Sdk:
    """The SDK's clients, made on first use and again when the credentials change. Thread-safe."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._clients: dict[tuple[str, _Credentials], Any] = {}
        self._lock = threading.Lock()
        slim(lambda: import_module(f"{_ECS}.client"))
        from alibabacloud_tea_openapi.exceptions import AlibabaCloudException
        from darabonba.runtime import RuntimeOptions

        self._refusal = AlibabaCloudException
        self._runtime = RuntimeOptions(
            connect_timeout=int(settings["connect_timeout"] * 1000),
            read_timeout=int(settings["read_timeout"] * 1000),
            http_proxy=settings["http_proxy"] or None,
            https_proxy=settings["https_proxy"] or None,
            ca=settings["ca_file"] or None,
        )

    def call(self, action: str, parameters: Mapping[str, Any], credentials: _Credentials) -> dict[str, Any]:
        """``{"answer": ...}`` with the wire's own names, or ``{"refusal": ...}``."""
        package, method = _METHODS[action]
        client = self._client(package, credentials)
        models = sys.modules[f"{package}.models"]
        request = getattr(models, f"{action}Request")().from_map(dict(parameters))
        try:
            response = getattr(client, f"{method}_with_options")(request, self._runtime)
        except self._refusal as refused:
            return {"refusal": _refusal_of(refused)}
        except Exception as failure:  # noqa: BLE001  # the SDK lets anything through; all of it must be answered
            return {"refusal": _failure_of(failure)}
        return {"answer": response.body.to_map()}

    def warm(self, package: str) -> None:
        """Do what a package's first call would wait for: imports, and 25 to 50 ms to read the trust store.

        Reaches into the SDK for its session, so nothing is lost but time if another version has it elsewhere.
        """
        core = import_module("darabonba.core").DaraCore
        import_module(f"{package}.client")
        scheme, endpoint = self._settings["scheme"], self._endpoint(package)
        key = f"{scheme}://{endpoint}:80:pool={_SDK_POOL_SIZE}"
        with contextlib.suppress(AttributeError, TypeError):
            core._get_session(session_key=key, protocol=scheme, pool_size=_SDK_POOL_SIZE)

    def _endpoint(self, package: str) -> str:
        return str(self._settings["vpc_endpoint" if package == _VPC else "ecs_endpoint"])

    def _client(self, package: str, credentials: _Credentials) -> Any:
        with self._lock:
            client = self._clients.get((package, credentials))
            if client is None:
                self._clients = {key: old for key, old in self._clients.items() if key[1] == credentials}
                client = self._clients[package, credentials] = self._new_client(package, credentials)
            return client

    def _new_client(self, package: str, credentials: _Credentials) -> Any:
        from alibabacloud_tea_openapi.utils_models import Config

        config = Config(
            access_key_id=credentials.access_key_id,
            access_key_secret=credentials.secret,
            security_token=credentials.token or None,
            region_id=self._settings["region"],
            endpoint=self._endpoint(package),
            protocol=self._settings["scheme"],
        )
        return import_module(f"{package}.client").Client(config)


def _refusal_of(refused: Any) -> dict[str, Any]:
    data = refused.data if isinstance(refused.data, dict) else {}
    return {
        "code": str(refused.code or ""),
        "status": int(refused.status_code or 0),
        "message": str(data.get("Message") or ""),
        "request_id": str(data.get("RequestId") or ""),
        "retry_after": getattr(refused, "retry_after", None),
    }


def _failure_of(failure: BaseException) -> dict[str, Any]:
    chain = list(_chain(failure))
    return {"transport": _transport_of(chain), "message": f"{type(chain[-1]).__name__}: {chain[-1]}"[:200]}


def _chain(failure: BaseException | None) -> Iterator[BaseException]:
    """``failure`` and everything it was raised from, the outermost first."""
    seen: list[BaseException] = []
    pending = [failure]
    while pending:
        link = pending.pop()
        if not isinstance(link, BaseException) or link in seen:
            continue
        seen.append(link)
        yield link
        causes = (link.__context__, link.__cause__, getattr(link, "inner_exception", None))
        # requests and urllib3 hand on the reason as an argument or attribute, not always as a cause.
        pending += [
            *causes,
            getattr(link, "reason", None),
            *(a for a in link.args if isinstance(a, Exception)),
        ]


def _transport_of(chain: list[BaseException]) -> str:
    """One of the words of ``errors.Transport``, judged by types and never by text."""
    import ssl

    from requests import exceptions as http
    from urllib3 import exceptions as pool

    kinds: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
        ((ssl.SSLError, http.SSLError), "TLS handshake failed"),
        ((socket.gaierror, pool.NameResolutionError), "name not resolved"),
        ((ConnectionRefusedError,), "connection refused"),
        ((http.ConnectTimeout, pool.ConnectTimeoutError), "no connection in time"),
        ((http.ReadTimeout, pool.ReadTimeoutError, TimeoutError), "no answer in time"),
    )
    for types, word in kinds:
        if any(isinstance(link, types) for link in chain):
            return word
    return "connection broke"


class Worker:
    """Reads frames until end-of-file; up to ``_MOST_THREADS`` calls run at once."""

    def __init__(self, connection: socket.socket, sdk: Sdk) -> None:
        self._connection = connection
        self._sdk = sdk
        self._pending: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._free = threading.Semaphore(0)
        self._threads = 0
        self._writing = threading.Lock()

    def submit(self, frame: dict[str, Any]) -> None:
        if not self._free.acquire(blocking=False) and self._threads < _MOST_THREADS:
            self._threads += 1
            threading.Thread(target=self._serve, daemon=True).start()
        self._pending.put(frame)

    def _serve(self) -> None:
        while True:
            frame = self._pending.get()
            given = frame["credentials"]
            credentials = _Credentials(given["id"], given["secret"], given["token"])
            try:
                outcome = self._sdk.call(frame["action"], frame["parameters"], credentials)
                answer = encode({"id": frame["id"], **outcome})
            except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as fault:
                refusal = {"code": "InternalError", "message": f"SDK process: {fault!r}"}
                answer = encode({"id": frame["id"], "refusal": refusal})
            # The daemon may have gone meanwhile; the main thread is about to notice.
            with self._writing, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._connection.sendall(answer)
            self._free.release()


def main(descriptor: int) -> None:
    """Until the daemon closes its end, or dies: with answers unread that is a reset and no end-of-file."""
    connection = socket.socket(fileno=descriptor)
    with connection.makefile("rb") as frames, contextlib.suppress(ConnectionResetError):
        first = read_frame(frames.read)
        if first is None:
            return
        settings = first["settings"]
        assert isinstance(settings, dict)
        sdk = Sdk(settings)
        sdk.warm(_ECS)
        threading.Thread(target=sdk.warm, args=(_VPC,), daemon=True).start()
        worker = Worker(connection, sdk)
        while (frame := read_frame(frames.read)) is not None:
            worker.submit(frame)
    # Threads may be in calls whose answers nobody waits for.
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
