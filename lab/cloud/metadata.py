"""The instance metadata service, which every node sees at 100.100.100.200: who asks is known by the address.

Hardened mode: PUT /latest/api/token with a lifetime, then GET with the token. Without a token a GET is
answered too, unless ``enforce_token`` is set (403 then). A token that is unknown or expired gets 401, and so
the caller asks for a new one. It all shows the lagging ``metadata`` view, and credentials of the instance's
RAM role, which expire by the lab's clock.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from lab.cloud.calls import Call
from lab.cloud.http_server import QuickHandler, QuickServer
from lab.cloud.metadata_tree import instance_tree, look_up, role_document
from lab.cloud.model import Instance
from lab.cloud.recording import REMOVED, Exchange
from lab.cloud.state import CloudState

MOST_TTL = 21600
_META_DATA = "meta-data/"
_CREDENTIALS = "ram/security-credentials"
_TTL_HEADER = "x-aliyun-ecs-metadata-token-ttl-seconds"
_TOKEN_HEADER = "x-aliyun-ecs-metadata-token"


@dataclass(frozen=True, slots=True)
class _Token:
    instance_id: str
    expires: float


class MetadataService:
    """Answers without HTTP. Thread-safe."""

    def __init__(self, state: CloudState, *, instance_of: Callable[[str], str | None] | None = None) -> None:
        self.enforce_token = False
        self._state = state
        self._instance_of = instance_of if instance_of is not None else state.instance_at
        self._lock = threading.Lock()
        self._tokens: dict[str, _Token] = {}
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End every wait of a latency fault."""
        self._stopped.set()

    def put_token(self, source: str, ttl: str) -> tuple[int, str]:
        """Status and token, for a lifetime of 1 to 21600 seconds."""
        instance_id = self._instance_of(source)
        status, token = (404, "") if instance_id is None else self._new_token(instance_id, ttl)
        self._record("PUT", source, "api/token", status, REMOVED if token else "")
        return status, token

    def _new_token(self, instance_id: str, ttl: str) -> tuple[int, str]:
        if (failed := self._fault("api/token", instance_id)) is not None:
            return failed, ""
        if not (ttl.isascii() and ttl.isdigit() and 1 <= int(ttl) <= MOST_TTL):
            return 400, ""
        now = self._state.clock.now()
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._tokens = {key: held for key, held in self._tokens.items() if held.expires > now}
            self._tokens[token] = _Token(instance_id, now + int(ttl))
        self._log("api/token", instance_id, 200)
        return 200, token

    def get(self, source: str, path: str, token: str | None) -> tuple[int, str]:
        """Status and text of ``path``, which is what follows /latest/."""
        instance_id = self._instance_of(source)
        if instance_id is None:
            return 404, ""
        status, text = self._get(instance_id, path, token)
        self._log(path, instance_id, status)
        is_credential = path.removeprefix(_META_DATA).strip("/").startswith(f"{_CREDENTIALS}/")
        self._record("GET", source, path, status, REMOVED if is_credential and text else text)
        return status, text

    def _get(self, instance_id: str, path: str, token: str | None) -> tuple[int, str]:
        if (failed := self._fault(path, instance_id)) is not None:
            return failed, ""
        refused = self._refusal(instance_id, token)
        if refused is not None:
            return refused, ""
        found = self._read(instance_id, path)
        return (200, found) if found is not None else (404, "")

    def _refusal(self, instance_id: str, token: str | None) -> int | None:
        if token is None:
            return 403 if self.enforce_token else None
        with self._lock:
            held = self._tokens.get(token)
        good = held is not None and held.instance_id == instance_id
        return None if good and held is not None and held.expires > self._state.clock.now() else 401

    def _read(self, instance_id: str, path: str) -> str | None:
        if path == "":
            return "dynamic/\nmeta-data/\nuser-data"
        if not path.startswith(_META_DATA):
            return None
        item = path.removeprefix(_META_DATA)
        with self._state.transaction(writes=False):
            seen = self._state.metadata
            instance = seen.instance(instance_id)
            if instance is None:
                return None
            if item.startswith(_CREDENTIALS):
                return self._role(instance, item.removeprefix(_CREDENTIALS).strip("/"))
            tree = instance_tree(self._state.spec, instance, seen)
        if instance.ram_role:
            tree["ram"] = {"security-credentials": {}}
        return look_up(tree, item)

    def _role(self, instance: Instance, wanted: str) -> str | None:
        """The role's name, or with its name its credentials."""
        if not instance.ram_role:
            return None
        if wanted == "":
            return instance.ram_role
        if wanted != instance.ram_role:
            return None
        now = self._state.clock.now()
        return role_document(self._state.credentials.of_role(wanted, instance.instance_id, now=now))

    def _fault(self, path: str, instance_id: str) -> int | None:
        """The status that a fault answers for ``path``, after its latency."""
        status = 0
        taken = self._state.metadata_faults.take(
            lambda f: path.startswith(f.path) and f.instance_id in ("", instance_id)
        )
        for fault in taken:
            self._stopped.wait(fault.latency)
            status = status or fault.status
        return status or None

    def _log(self, path: str, instance_id: str, status: int) -> None:
        code = "" if status == 200 else str(status)
        self._state.metadata_log.add(Call(path, self._state.clock.now(), instance_id, code, ""))

    def _record(self, method: str, source: str, path: str, status: int, text: str) -> None:
        recorder = self._state.recorder
        if recorder.running:
            with self._lock:
                tokens = tuple(self._tokens)
            now = self._state.clock.now()
            exchange = Exchange("metadata", method, path, {}, source, status, text, now)
            recorder.add(exchange, (*self._state.credentials.secrets(), *tokens))


class MetadataServer:
    """``MetadataService`` over HTTP, until ``stop``. Binds in the namespace of the thread that starts it."""

    def __init__(self, state: CloudState, *, instance_of: Callable[[str], str | None] | None = None) -> None:
        self.service = MetadataService(state, instance_of=instance_of)
        self._server: QuickServer | None = None

    def start(self, address: str, port: int) -> int:
        """Serve on ``address``; port 0 takes a free one. Returns the port."""
        self._server = QuickServer((address, port), _handler(self.service))
        return self._server.server_port

    def stop(self) -> None:
        """Does nothing if it was not started."""
        self.service.stop()
        if self._server is not None:
            self._server.stop()
            self._server = None


def _handler(service: MetadataService) -> type[QuickHandler]:
    class Handler(QuickHandler):
        def do_GET(self) -> None:
            path = self._path()
            if path is None:
                self._answer(404, "")
                return
            self._answer(*service.get(self._source(), path, self.headers.get(_TOKEN_HEADER)))

        def do_PUT(self) -> None:
            self.read_body()
            if self._path() != "api/token":
                self._answer(404, "")
                return
            self._answer(*service.put_token(self._source(), (self.headers.get(_TTL_HEADER) or "").strip()))

        def _source(self) -> str:
            return str(self.client_address[0])

        def _path(self) -> str | None:
            """What follows /latest/, None if it does not begin so."""
            path = unquote(urlsplit(self.path).path)
            if path.rstrip("/") == "/latest":
                return ""
            return path.removeprefix("/latest/") if path.startswith("/latest/") else None

        def _answer(self, status: int, text: str) -> None:
            self.send(status, text.encode(), content_type="text/plain; charset=utf-8", headers={})

    return Handler
