"""The one file that imports the official ``kubernetes`` client, and the one place its errors are mapped.

Only the client's request machinery is used (``ApiClient``: configuration, TLS, credentials, connection pool)
and bodies are plain JSON. Importing it costs 14 MiB, its parts being imported one by one (``bare_packages``);
the typed ``CoreV1Api`` would add 22 MiB of models and, with 110 pods, decode every watch event into a hundred
objects.
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import urllib3
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.incluster_config import load_incluster_config

from control.kube import bare_packages
from control.model.errors import ConfigError, KubernetesError
from control.model.pod import Network

log = logging.getLogger(__name__)

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
_RETRYABLE_STATUS = frozenset({408, 429})
RENEW_INTERVAL = 5.0
"""Seconds between two readings of credentials that the server does not take."""


@dataclass(frozen=True, slots=True)
class KubernetesConfig:
    """Where the API server is and how patient the agent is with it. Times are in seconds.

    ``url`` is a server without authentication and wins; else ``kubeconfig`` is the path of one; else the
    service account of the agent's own pod is used.
    """

    node: str
    """The node's name, which selects the pods to watch."""
    url: str = ""
    kubeconfig: str = ""
    get_timeout: float = 8.0
    """A pod that the cache does not know is looked up within this time: it is on the path of an ADD. An API
    server that is busy takes seconds; who is away is told within ten."""
    send_timeout: float = 5.0
    """One event or annotation patch."""
    list_timeout: float = 30.0
    watch_seconds: int = 300
    """How long one watch lasts before it is renewed; up to a tenth is taken off at random."""
    backoff_first: float = 0.2
    backoff_cap: float = 30.0
    calm: float = 0.5
    """Events and patches are sent once no new one has come for so long: a kubelet that starts many pods at
    once makes several per second, and has no processor to spare ..."""
    calm_limit: float = 2.0
    """... or after so long at most."""
    service_cidrs: tuple[Network, ...] = ()
    """ClusterIP ranges that the configuration names; (): the cluster is asked."""
    outbox_size: int = 512
    """Events and patches that wait for the server; beyond it the oldest is dropped and counted."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str | int] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    content_type: str = JSON

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Refused(KubernetesError):
    """The server answered, and said no.

    ``status`` is the HTTP status, ``reason`` and ``causes`` are those of the Status body.
    """

    def __init__(
        self, what: str, *, status: int, reason: str, causes: frozenset[str] = frozenset(), remedy: str = ""
    ) -> None:
        self.status = status
        self.reason = reason
        self.causes = causes
        super().__init__(what, remedy=remedy)

    @property
    def lasting(self) -> bool:
        """The same request would be refused again."""
        return 400 <= self.status < 500 and self.status not in _RETRYABLE_STATUS


class Untrusted(KubernetesError):
    """One end of the connection does not take the other's certificate, or ours cannot be read."""


class Connection:
    """Requests to one API server, from any thread. Every failure is a KubernetesError.

    Credentials live in files that others exchange: a token and a kubeconfig are rotated, the files into which
    the client writes a kubeconfig's certificates are cleaned away with /tmp. A refusal with 401 or a failure
    of TLS has them read anew, and what was asked is asked again.
    """

    def __init__(self, config: KubernetesConfig) -> None:
        """Reads the credentials but sends nothing. Raises ConfigError if there are none."""
        self._config = config
        self._renewing = threading.Lock()
        self._renewed = float("-inf")
        self._client = _client(config)
        self.server: str = self._client.configuration.host

    def call(self, request: Request, *, timeout: float) -> Any:
        """The decoded body of the answer. A GET on a connection that had died idle is sent again, once."""
        client = self._client
        try:
            return self._called(request, timeout)
        except (Refused, Untrusted) as exc:
            if not self._renew(client, exc):
                raise
        return self._called(request, timeout)

    def _called(self, request: Request, timeout: float) -> Any:
        try:
            return self._call(request, timeout)
        except _Broken as broken:
            if request.method != "GET":
                raise self.unreachable(request, broken.cause) from broken.cause
        try:
            return self._call(request, timeout)
        except _Broken as broken:
            raise self.unreachable(request, broken.cause) from broken.cause

    def _renew(self, used: ApiClient, why: KubernetesError) -> bool:
        """Whether there are other credentials than those that ``used`` was refused with."""
        if isinstance(why, Refused) and why.status != 401:
            return False
        with self._renewing:
            if self._client is not used:
                return True  # another thread has
            now = time.monotonic()
            if now - self._renewed < RENEW_INTERVAL:
                return False
            self._renewed = now
            try:
                self._client = _client(self._config)
                self.server = self._client.configuration.host
            except ConfigError as exc:
                log.warning("the credentials for the API server are as they were: %s", exc)
                return False
        log.info("the credentials for the API server are read anew: %s", why)
        return True

    def stream(self, request: Request, *, connect: float, idle: float) -> Stream:
        """A GET whose answer is read as it comes: a watch, or a list of any length.

        ``idle`` is the longest silence, in seconds, before it counts as dead.
        """
        client = self._client
        try:
            return self._streamed(request, (connect, idle))
        except (Refused, Untrusted) as exc:
            if not self._renew(client, exc):
                raise
        return self._streamed(request, (connect, idle))

    def _streamed(self, request: Request, timeouts: tuple[float, float]) -> Stream:
        try:
            response = self._opened(request, timeouts)
            if response.status >= 300:
                raise self._refusal(request, response.status, response.read())
        except (urllib3.exceptions.HTTPError, ApiException, ConfigException, OSError) as exc:
            raise self.unreachable(request, exc) from exc
        return Stream(request, self, response.response)

    def close(self) -> None:
        self._client.close()

    def _call(self, request: Request, timeout: float) -> Any:
        try:
            response = self._send(request, timeout)
            data = response.read()
        except urllib3.exceptions.ProtocolError as exc:
            raise _Broken(exc) from exc
        except (urllib3.exceptions.HTTPError, ApiException, ConfigException, OSError) as exc:
            raise self.unreachable(request, exc) from exc
        if response.status >= 300:
            raise self._refusal(request, response.status, data)
        try:
            return json.loads(data)
        except ValueError as exc:
            raise self.unreachable(request, exc) from exc

    def _opened(self, request: Request, timeouts: tuple[float, float]) -> Any:
        try:
            return self._send(request, timeouts)
        except urllib3.exceptions.ProtocolError:  # the connection had died idle: as in ``call``
            return self._send(request, timeouts)

    def _send(self, request: Request, timeout: float | tuple[float, float]) -> Any:
        client = self._client
        arguments = client.param_serialize(
            request.method,
            request.path,
            query_params=list(request.query.items()),
            header_params={"Accept": JSON, "Content-Type": request.content_type},
            body=request.body,
            auth_settings=["BearerToken"],
        )
        return client.call_api(*arguments, _request_timeout=timeout)

    def unreachable(self, request: Request, exc: BaseException) -> KubernetesError:
        kind = Untrusted if _is_of_tls(exc) else KubernetesError
        return kind(
            f"{request} at {self.server} failed: {exc}",
            remedy="check that the API server runs and that this node reaches it; the agent keeps trying",
        )

    def _refusal(self, request: Request, status: int, body: bytes) -> Refused:
        try:
            parsed = json.loads(body)
        except ValueError:
            parsed = {}
        answer = parsed if isinstance(parsed, dict) else {}
        message = answer.get("message") or body[:200].decode(errors="replace")
        remedy = ""
        if status in (401, 403):
            remedy = "check the agent's credentials, and the ClusterRole bound to its service account"
        what = f"{request} at {self.server} was refused with {status}: {message}"
        return Refused(
            what, status=status, reason=str(answer.get("reason", "")), causes=_causes(answer), remedy=remedy
        )


def _causes(status: Mapping[str, Any]) -> frozenset[str]:
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    found = causes if isinstance(causes, list) else []
    return frozenset(str(cause.get("reason", "")) for cause in found if isinstance(cause, dict))


class Stream:
    """An answer that is still coming in.

    Its reader calls ``end`` at last. ``close`` may be called from another thread, and cuts the answer short.
    """

    def __init__(self, request: Request, connection: Connection, response: urllib3.HTTPResponse) -> None:
        self._request = request
        self._connection = connection
        self._response = response

    def lines(self) -> Iterator[bytes]:
        """Until the server ends the watch. Raises KubernetesError if the connection breaks."""
        rest = b""
        for chunk in self.chunks():
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole

    def chunks(self) -> Iterator[bytes]:
        """Until the answer's end. Raises KubernetesError if the connection breaks."""
        try:
            yield from self._response.stream(65536, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as exc:
            raise self._connection.unreachable(self._request, exc) from exc

    def end(self) -> None:
        """An answer that was read whole leaves its connection to others; of any other it is closed."""
        self._response.close()

    def unreadable(self, exc: ValueError) -> KubernetesError:
        """The error for an answer that breaks off or is not what was asked for."""
        return self._connection.unreachable(self._request, exc)

    def close(self) -> None:
        try:
            self._response.shutdown()
        except (ValueError, RuntimeError, OSError):
            return  # it has ended by itself


class _Broken(Exception):
    """The server closed the connection before it answered."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause
        super().__init__(str(cause))


def _is_of_tls(exc: BaseException) -> bool:
    """The client makes an ApiException of it, which keeps it as its context."""
    found: BaseException | None = exc
    while found is not None:
        if isinstance(found, urllib3.exceptions.SSLError | ssl.SSLError):
            return True
        found = found.__context__
    return False


def quote(name: str) -> str:
    """A namespace or name as one segment of a path, whatever the caller was given."""
    return urllib.parse.quote(name, safe="")


def _client(config: KubernetesConfig) -> ApiClient:
    """Raises ConfigError."""
    made = ApiClient(_configure(config))
    made.user_agent = "terway-daemon"
    return made


def _configure(config: KubernetesConfig) -> Any:
    configuration = Configuration(host=config.url) if config.url else Configuration()
    if config.url:
        configuration.proxy = None  # a plain URL is meant as it stands, whatever the environment says
    try:
        if not config.url and config.kubeconfig:
            bare_packages.defer_oauth()
            from kubernetes.config.kube_config import load_kube_config

            load_kube_config(config_file=config.kubeconfig, client_configuration=configuration)
        elif not config.url:
            load_incluster_config(client_configuration=configuration)
    except Exception as exc:  # of a file that is half written the client says so by any error
        tried = f"kubeconfig {config.kubeconfig}" if config.kubeconfig else "the pod's service account"
        raise ConfigError(
            f"no way to the Kubernetes API through {tried}: {' '.join(str(exc).split())}",
            remedy="name a readable kubeconfig, or run the agent in a pod with a service account",
        ) from exc
    if urllib.parse.urlsplit(cast(str, configuration.host)).scheme not in ("http", "https"):
        raise ConfigError(
            f"the Kubernetes API's URL is {configuration.host!r}", remedy="begin it with http:// or https://"
        )
    configuration.retries = False
    configuration.keep_alive = True
    return configuration
