"""ECS and VPC OpenAPI over HTTP: one endpoint for both, told apart by the Version of a call."""

from __future__ import annotations

import json
from collections.abc import Callable

from lab.cloud.authentication import Authenticator
from lab.cloud.dispatch import Dispatcher
from lab.cloud.http_server import QuickHandler, QuickServer
from lab.cloud.request import Request, split_target
from lab.cloud.state import CloudState


class OpenApiServer:
    """Serves ``state`` until ``stop``. Starting binds in the network namespace of the calling thread."""

    def __init__(self, state: CloudState, *, instance_of: Callable[[str], str | None] | None = None) -> None:
        self._dispatcher = Dispatcher(state, instance_of=instance_of)
        self._server: QuickServer | None = None

    @property
    def authenticator(self) -> Authenticator:
        return self._dispatcher.authenticator

    def start(self, address: str, port: int) -> int:
        """Serve on ``address``; port 0 takes a free one. Returns the port."""
        self._server = QuickServer((address, port), _handler(self._dispatcher))
        return self._server.server_port

    def stop(self) -> None:
        """Does nothing if it was not started."""
        self._dispatcher.stop()
        if self._server is not None:
            self._server.stop()
            self._server = None


def _handler(dispatcher: Dispatcher) -> type[QuickHandler]:
    class Handler(QuickHandler):
        def do_POST(self) -> None:
            path, query = split_target(self.path)
            reply = dispatcher.handle(
                Request(
                    method=self.command,
                    path=path,
                    query=query,
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=self.read_body(),
                    source=str(self.client_address[0]),
                )
            )
            if reply.dropped:
                self.hang_up()
                return
            self.send(
                reply.status,
                json.dumps(reply.body).encode(),
                content_type="application/json;charset=utf-8",
                headers=dict(reply.headers),
            )

        do_GET = do_POST

    return Handler
