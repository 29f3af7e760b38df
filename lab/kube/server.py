"""HTTP/1.1 in front of a ``Store``: a thread per connection, chunked watches, Status bodies for refusals.

``stop`` drops every connection, as a server that dies does; the store stays, and ``start`` on the same port
serves it again. Nothing is authenticated: it is meant for a namespace or a loopback address of its own.
"""

from __future__ import annotations

import contextlib
import json
import logging
import select
import socket
import threading
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lab.kube import discovery
from lab.kube.history import Compacted, Stored, encode
from lab.kube.patches import Patch
from lab.kube.requests import Url, names_resource, parse_list, parse_target, parse_url, parse_watch
from lab.kube.resources import Object, Resource
from lab.kube.status import ApiError, bad_request, not_allowed, unsupported_media_type
from lab.kube.store import Page, Preconditions, Store, Target
from lab.kube.watching import Watch, document, too_old

log = logging.getLogger(__name__)

_JSON = "application/json"
_REQUESTS_KEPT = 1000
_RETURNED_WHEN_DELETED = frozenset({"pods", "services", "serviceaccounts"})
"""Plurals of the core group whose deletion answers with the object and not with a Status."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    bookmark_every: float = 60.0
    """Seconds between the bookmarks of one watch, and between looks whether an idle watcher is gone."""
    gone_as_status: bool = False
    """Refuse a watch from a compacted revision with HTTP 410 and not with an ERROR event.

    Clients have to cope with both: kube-apiserver sends the event, proxies and old servers the status.
    """


DEFAULT_OPTIONS = ServerOptions()


class KubeServer:
    """Serves ``store``; may be stopped and started again."""

    def __init__(self, store: Store, options: ServerOptions = DEFAULT_OPTIONS) -> None:
        self.store = store
        self.options = options
        self._requests: deque[tuple[str, str]] = deque(maxlen=_REQUESTS_KEPT)
        self._listener: _Listener | None = None
        self._thread: threading.Thread | None = None

    @property
    def requests(self) -> tuple[tuple[str, str], ...]:
        """The latest thousand requests, oldest first: method and path with query."""
        return tuple(self._requests)

    def note_request(self, method: str, path: str) -> None:
        self._requests.append((method, path))

    def start(self, address: str, port: int) -> int:
        """Listen and return the port, which is chosen by the kernel if ``port`` is 0."""
        if self._listener is not None:
            raise RuntimeError(f"the API server already listens on port {self._listener.server_port}")
        self._listener = _Listener((address, port), self)
        self._thread = threading.Thread(target=self._listener.serve, name="kube-api", daemon=True)
        self._thread.start()
        return self._listener.server_port

    def stop(self) -> None:
        """Close the port and every connection. Stopping a server that does not run does nothing."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        listener.close()
        if self._thread is not None:
            self._thread.join()
        listener.drop_connections()
        self.store.history.wake()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], owner: KubeServer) -> None:
        self.owner = owner
        self.stopping = False
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without the base class's look-up of the host's name, which may ask a name server."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def serve(self) -> None:
        """Accept until ``close``. Blocks in accept, where ``serve_forever`` would poll for its end."""
        while not self.stopping:
            try:
                request, address = self.get_request()
            except OSError:
                continue  # the listener was shut down, or the client went away before it was accepted
            self.process_request(request, address)
        self.server_close()

    def close(self) -> None:
        """The thread may have seen ``stopping`` between two requests, and have closed the socket by now."""
        self.stopping = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        with self._lock:
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the client was faster

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request
        if not self.stopping:
            log.debug("connection of %s broke", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "terway-lab-kube"
    disable_nagle_algorithm = True
    wbufsize = 65536
    server: _Listener

    def handle_any(self) -> None:
        body = self._read_body()
        self.server.owner.note_request(self.command, self.path)
        try:
            self._dispatch(parse_url(self.path), body)
        except ApiError as exc:
            self._send(exc.code, encode(exc.body()))
        except OSError:
            self.close_connection = True
        except Exception:  # the last barrier of a request: answer 500 and go on serving
            log.exception("%s %s failed", self.command, self.path)
            error = ApiError(500, "InternalError", "an internal error of the lab's API server; see its log")
            self._send(500, encode(error.body()))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

    def _read_body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _dispatch(self, url: Url, body: bytes) -> None:
        table = self.server.owner.store.resources
        parts = url.parts
        if names_resource(parts):
            self._serve(parse_target(table, parts), url, body)
        elif parts[:1] in (("healthz",), ("readyz",), ("livez",)):
            self._send(200, b"ok", "text/plain; charset=utf-8")
        else:
            found = self._describe(parts)
            if found is None:
                raise ApiError(404, "NotFound", "the server could not find the requested resource", {})
            self._send(200, encode(found))

    def _describe(self, parts: tuple[str, ...]) -> Object | None:
        table = self.server.owner.store.resources
        match parts:
            case ("version",):
                return discovery.VERSION
            case ("api",):
                return discovery.core_versions()
            case ("api", version):
                return discovery.resource_list(table, "", version)
            case ("apis",):
                return discovery.group_list(table)
            case ("apis", group):
                return discovery.group(table, group)
            case ("apis", group, version):
                return discovery.resource_list(table, group, version)
        return None

    def _serve(self, target: Target, url: Url, body: bytes) -> None:
        store = self.server.owner.store
        match (self.command, bool(target.name)):
            case ("GET", True):
                self._send_object(200, target.resource, store.get(target))
            case ("GET", False) if url.flag("watch"):
                self._watch(target, url)
            case ("GET", False):
                self._send_page(target.resource, store.list(target.resource, parse_list(target, url)))
            case ("POST", False):
                self._send_object(201, target.resource, store.create(target, self._decode(body)))
            case ("POST", True) if target.subresource == "binding":
                store.bind(target, self._decode(body))
                self._send(
                    201, encode({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
                )
            case ("PUT", True):
                self._send_object(200, target.resource, store.update(target, self._decode(body)))
            case ("PATCH", True):
                media_type = self.headers.get_content_type()
                self._send_object(200, target.resource, store.patch(target, Patch(media_type, _decode(body))))
            case ("DELETE", True) if not target.subresource:
                self._delete(target, body)
            case ("DELETE", False):
                query = parse_list(target, url)
                self._send_page(target.resource, store.delete_collection(target, query))
            case _:
                raise not_allowed()

    def _decode(self, body: bytes) -> Any:
        """Raises ApiError 400 or 415. A header that says nothing means JSON."""
        if self.headers.get("Content-Type") and self.headers.get_content_type() != _JSON:
            raise unsupported_media_type((_JSON,))
        return _decode(body)

    def _delete(self, target: Target, body: bytes) -> None:
        options = _decode(body) if body else {}
        asked = (options.get("preconditions") or {}) if isinstance(options, dict) else {}
        preconditions = Preconditions(asked.get("uid") or "", asked.get("resourceVersion") or "")
        stored, gone = self.server.owner.store.delete(target, preconditions)
        resource = target.resource
        if not gone or (not resource.group and resource.plural in _RETURNED_WHEN_DELETED):
            self._send_object(200, resource, stored)
            return
        group = {"group": resource.group} if resource.group else {}
        details = {
            "name": target.name,
            **group,
            "kind": resource.plural,
            "uid": stored.value["metadata"]["uid"],
        }
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": details,
        }
        self._send(200, encode(status))

    def _watch(self, target: Target, url: Url) -> None:
        owner = self.server.owner
        query = parse_watch(target, url)
        if owner.options.gone_as_status and query.revision:
            try:
                owner.store.history.changes(target.resource.collection, query.revision, wait=0)
            except Compacted as exc:
                raise too_old(query.revision, exc.floor) from exc
        self.send_response(200)
        self.send_header("Content-Type", _JSON)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        watch = Watch(owner.store, target.resource, query, bookmark_every=owner.options.bookmark_every)
        for line in watch.lines(self._alive):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.flush()
        if self.server.stopping:
            self.close_connection = True  # a server that dies does not end its watches in good order
            return
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _alive(self) -> bool:
        """False if the server stops or the client has hung up: a watching client sends nothing more."""
        if self.server.stopping:
            return False
        poll = select.poll()  # select() refuses descriptors from 1024 on, and a lab has many
        poll.register(self.connection, select.POLLIN)
        return not poll.poll(0)

    def _send_object(self, code: int, resource: Resource, stored: Stored) -> None:
        self._send(code, document(resource, stored))

    def _send_page(self, resource: Resource, page: Page) -> None:
        metadata: Object = {"resourceVersion": str(page.revision)}
        if page.continue_token:
            metadata["continue"] = page.continue_token
            if page.remaining is not None:
                metadata["remainingItemCount"] = page.remaining
        head = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata}
        if resource.custom:
            items = b",".join(document(resource, item) for item in page.items)
        else:
            items = b",".join(b"{" + item.tail for item in page.items)
        self._send(200, encode(head)[:-1] + b',"items":[' + items + b"]}")

    def _send(self, code: int, body: bytes, content_type: str = _JSON) -> None:
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)


def _decode(body: bytes) -> Any:
    """Raises ApiError 400."""
    try:
        return json.loads(body)
    except ValueError as exc:
        raise bad_request(f"the request's body is not JSON: {exc}") from exc
