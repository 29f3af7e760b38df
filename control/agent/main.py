"""terwayd: the composition root. The only file that knows which adapter stands behind which port.

The ledger comes first: who has it is the node's one terwayd, and a second one ends before it has touched a
socket. The CNI socket serves from then on, and a DEL needs no more. Until metadata and limits are known every
ADD is told what the start waits for; a metadata service or an API server that is away delays the start and
does not end it. What does end it, with one line that names key, value and remedy, is a wrong setting.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from cni import request as cni_request
from cni.conf import named_version
from cni.errors import CniError, Code, failure
from cni.request import Command
from cni.wire import Frame
from control.agent.cni.socket import CniSocket
from control.agent.node import Node
from control.agent.node_config import NodeConfig
from control.config import cni_conf, eni_conf, settings
from control.config.credentials import with_secret_files
from control.config.settings import Settings
from control.model.errors import Cause, CloudError, ConfigError, RequestError, TerwayError
from control.model.ids import AttachmentKey
from control.process.called_off import called_off
from control.process.keeper import MustRestart
from control.process.one_arena import keep_one_arena
from control.store.unread import LedgerFound
from datapath import sysctl

log = logging.getLogger(__name__)

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
STARTING = "terwayd is starting"
PATIENCE = 60.0
"""Seconds a request waits for a start that nobody holds up. One takes well under a second, and many on a
machine that starts everything at once; the executable waits 120 s for the answer."""
RETRY = 1.0
"""Seconds between two tries of a start that somebody else holds up."""
MOST = 30.0
"""``RETRY`` at most, while the OpenAPI refuses: many nodes share its quota."""

_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
"""What a file cannot be written for that says nothing about the settings."""

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


class Daemon:
    """The process: a socket that always answers, and a node behind it once there is one."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._why: TerwayError | None = RequestError(STARTING, cause=Cause.BUSY)
        self._decided = asyncio.Event()
        """Set once the start has either ended or met somebody who holds it up."""
        self._opened: Node | None = None
        self._node: Node | None = None
        """The same once it serves."""

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises TerwayError for what waiting does not mend."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with Node.opened(self._config, self.why) as node:
            self._opened = node
            socket = CniSocket(self._config.settings.socket, self.handle)
            socket.listen()
            node.files.keeper.add(socket)
            work = {asyncio.create_task(self._serve(node)), asyncio.create_task(node.keep_files())}
            ended = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait({*work, ended}, return_when=asyncio.FIRST_COMPLETED)
                for task in (one for one in work if one.done()):
                    task.result()
            finally:
                self._node = None
                self._why = RequestError("terwayd is stopping", cause=Cause.BUSY)
                self._decided.set()
                await called_off(*work, ended)
                await node.stop_working()
                await socket.close()

    async def _serve(self, node: Node) -> None:
        """The start, then the runtime's file, which is kept from then on. Ends by being cancelled."""
        await self._start(node)
        while True:
            try:
                node.files.install()
                break
            except MustRestart:
                raise
            except TerwayError as exc:
                full = getattr(exc.__cause__, "errno", None) in _DISK
                if isinstance(exc, ConfigError) and not full:
                    raise
                if str(exc) != self.why():
                    log.warning("no pod is served: %s", exc)
                self._why = exc
            self._decided.set()
            await node.pause(RETRY)
        node.files.keep_conf()
        self._why = None  # read by the readiness probe's thread: a runtime finds everything now
        self._decided.set()
        # What the start has made stays: a full collection that went through it would hold the loop for 50 ms.
        gc.collect()
        gc.freeze()
        told = self._config.settings
        log.info("terwayd %s serves on %s", told.version or "from its source", told.socket)
        await asyncio.Event().wait()

    async def _start(self, node: Node) -> None:
        refused = RETRY
        while True:
            try:
                await node.start(BOOT_ID.read_text().strip())
                break
            except (ConfigError, LedgerFound):
                raise
            except TerwayError as exc:
                if str(exc) != self.why():
                    log.warning("the start waits: %s", exc)
                self._why = exc
                self._decided.set()
                await node.pause(exc.retry_after or (refused if isinstance(exc, CloudError) else RETRY))
                refused = min(refused * 1.5, MOST) if isinstance(exc, CloudError) else RETRY
        self._node = node

    def why(self) -> str:
        """Why no pod can be served, "" if it can. For any thread."""
        if self._why is not None:
            return str(self._why)
        return self._node.trouble() if self._node is not None else ""

    async def handle(self, frame: Frame, netns: int | None) -> tuple[int, bytes]:
        """A request that comes during an undisturbed start waits for its end: a restart is not a failure.

        A DEL waits for nothing: the ledger and the kernel are enough for it.
        """
        if self._why is not None and frame.env.get("CNI_COMMAND") == Command.DEL:
            return await self._delete(frame, netns)
        if not self._decided.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._decided.wait()
        refusal = self._refusal(str(frame.env.get("CNI_COMMAND", "")))
        if self._node is not None and refusal is None:
            return await self._node.service.handle(frame, netns)
        return 1, _not_ready(frame, refusal or self._why).encode(named_version(frame.stdin))

    def _refusal(self, command: str) -> TerwayError | None:
        """A chain that cannot work keeps new pods away; those that are there are taken care of."""
        if command not in ("ADD", "STATUS"):
            return None
        if self._why is not None or self._node is None:
            return self._why
        files = self._node.files
        if command == "STATUS" and (trouble := files.keeper.trouble()):
            return RequestError(trouble, cause=Cause.BUSY)
        return files.no_new_pods()

    async def _delete(self, frame: Frame, netns: int | None) -> tuple[int, bytes]:
        """A runtime that may not clean up never ends asking, and an eviction frees nothing."""
        if self._node is not None:
            return await self._node.service.handle(frame, netns)
        assert self._opened is not None
        try:
            request = cni_request.parse(frame)
            self._opened.detach(AttachmentKey(request.container_id, request.ifname), netns)
            return 0, b""
        except CniError as exc:
            error = exc
        except TerwayError as exc:
            error = failure(exc.cause, str(exc))
        log.warning("DEL %s failed: %s", frame.env.get("CNI_ARGS", ""), error)
        return 1, error.encode(named_version(frame.stdin))


def _not_ready(frame: Frame, why: TerwayError | None) -> CniError:
    assert why is not None
    error = failure(why.cause, str(why))
    code = Code.NOT_READY if frame.env.get("CNI_COMMAND") == "STATUS" else error.code
    return CniError(code, f"terwayd is not ready yet: {error.msg}", error.details)


def _configured(told: Settings) -> NodeConfig:
    """Everything that is read from disk before the start. Raises ConfigError."""
    try:
        data = told.eni_conf.read_bytes()
    except OSError as exc:
        raise ConfigError(
            f"cannot read {told.eni_conf}: {exc.strerror}",
            remedy="mount key eni_conf of the ConfigMap kube-system/eni-config there, or give -config",
        ) from exc
    conf = eni_conf.parse(data)
    return NodeConfig(
        settings=told,
        eni=conf,
        cni=cni_conf.find(told.cni_conf_source, told.cni_conf_target),
        credentials=with_secret_files(conf.credentials, told.secret_directory),
        wants_policy=cni_conf.wants_policy(told.cni_conf_source),
        fault=os.environ.get("TERWAY_FAULT", ""),
        test_clock=os.environ.get("TERWAY_TEST_CLOCK", "") == "1",
    )


def main(argv: Sequence[str] | None = None) -> int:
    keep_one_arena()
    try:
        told = settings.parse(sys.argv[1:] if argv is None else argv, os.environ)
        logging.basicConfig(
            level=_LEVELS[told.log_level],
            format="%(asctime)s %(levelname).1s %(name)s: %(message)s",
            stream=sys.stderr,
        )
        sysctl.net_at(str(told.sysctl_net))
        asyncio.run(Daemon(_configured(told)).run())
    except TerwayError as exc:
        print(f"terwayd: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
