"""The daemon's side of the SDK's process: started on demand, ended when idle, started again if it dies.

``SdkProcess`` is what the adapter calls; one ``_Run`` is one life of the process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from control.aliyun.errors import Refusal, Transport
from control.aliyun.frames import HEADER_SIZE, body_size, decode, encode
from control.aliyun.settings import CloudSettings
from control.model.clock import Clock

log = logging.getLogger(__name__)

_IDLE_CHECK = 0.5
_END_TIMEOUT = 2.0
_LASTING = 5.0
"""A process that died sooner than this is not started again before it is needed."""
_SPARE = 1.0
"""The process has this long beyond its own time-outs to say that one has passed."""

# -I and -S spare the environment, the user's and the site's set-up; the parent's path says it all.
_BOOTSTRAP = "import sys; sys.path[:] = {path!r}; from control.aliyun.worker import main; main({descriptor})"


class Unanswered(Exception):
    """The cloud refused the call, or no answer came."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(str(refusal))


@dataclass(frozen=True, slots=True)
class Call:
    action: str
    parameters: Mapping[str, object]
    credentials: Mapping[str, str]


class SdkProcess:
    """Any number of calls at once. All methods belong to one event loop."""

    def __init__(self, settings: CloudSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._run: _Run | None = None
        self._starting: asyncio.Task[_Run] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._last_used = 0.0
        self._wanted = False
        self.closed = False

    @property
    def pid(self) -> int | None:
        """Of the running process, None if there is none."""
        return self._run.pid if self._run is not None and self._run.alive else None

    async def call(self, call: Call) -> Mapping[str, object]:
        """The answer's body under the wire's names. Raises Unanswered."""
        run = await self._running()
        self._last_used = self._clock.now()
        try:
            limit = self._settings.connect_timeout + self._settings.read_timeout + _SPARE
            async with asyncio.timeout(limit):
                return await run.call(call)
        except TimeoutError as exc:
            raise Unanswered(Refusal(transport=Transport.READ_TIMEOUT)) from exc
        finally:
            self._last_used = self._clock.now()

    def stand_by(self, wanted: bool) -> None:
        self._wanted = wanted
        if self.closed:
            return
        if wanted and self._run is None and self._starting is None:
            self._start()
        elif not wanted and self._run is not None:
            self._last_used = self._clock.now()
            self._keep()

    async def close(self) -> None:
        """End the process and wait for its end. A call after this raises Unanswered."""
        self.closed = True
        self._wanted = False
        if self._starting is not None:
            await asyncio.wait([self._starting])
        if self._keeper is not None:
            self._keeper.cancel()
        if self._run is not None:
            self._end(self._run)
        if self._ending:
            await asyncio.wait(list(self._ending))

    async def _running(self) -> _Run:
        if self.closed:
            raise Unanswered(Refusal(transport=Transport.WORKER, message="the agent is shutting down"))
        if self._run is not None and self._run.alive:
            return self._run
        task = self._starting or self._start()
        try:
            # Shielded: a caller that gives up does not take the process from the others.
            return await asyncio.shield(task)
        except OSError as exc:
            raise Unanswered(Refusal(transport=Transport.WORKER, message=str(exc))) from exc

    def _start(self) -> asyncio.Task[_Run]:
        task = self._starting = asyncio.get_running_loop().create_task(_Run.start(self._settings))
        task.add_done_callback(self._started)
        return task

    def _started(self, task: asyncio.Task[_Run]) -> None:
        self._starting = None
        if task.cancelled():
            return
        failure = task.exception()
        if failure is not None:
            log.error("the SDK's process cannot be started: %s", failure)
            return
        self._run = task.result()
        self._last_used = self._clock.now()
        reader = self._run.reader
        reader.add_done_callback(self._died)
        if not self._wanted:
            self._keep()

    def _died(self, reader: asyncio.Task[None]) -> None:
        run = self._run
        if run is None or run.reader is not reader:
            return
        self._end(run)
        if self.closed:
            return
        log.warning("the SDK's process %d ended by itself", run.pid)
        if self._wanted and run.age() > _LASTING:
            self._start()

    def _keep(self) -> None:
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.get_running_loop().create_task(self._end_when_idle())

    async def _end_when_idle(self) -> None:
        while (run := self._run) is not None and not self._wanted:
            left = self._last_used + self._settings.idle - self._clock.now()
            if left <= 0 and not run.busy:
                self._end(run)
                return
            # The clock can be moved by a test, so it is read again before the time is up.
            await asyncio.sleep(min(max(left, 0.05), _IDLE_CHECK))

    def _end(self, run: _Run) -> None:
        self._run = None
        task = asyncio.get_running_loop().create_task(run.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


class _Run:
    """One process and the calls under way in it."""

    def __init__(self, process: asyncio.subprocess.Process, writer: asyncio.StreamWriter) -> None:
        self._process = process
        self._writer = writer
        self._pending: dict[int, asyncio.Future[dict[str, object]]] = {}
        self._serial = 0
        self._born = asyncio.get_running_loop().time()
        self.reader: asyncio.Task[None]

    @classmethod
    async def start(cls, settings: CloudSettings) -> _Run:
        """Raises OSError. The process needs about 0.1 s before it answers; calls need not wait for that."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                bootstrap = _BOOTSTRAP.format(path=sys.path, descriptor=theirs.fileno())
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-I", "-S", "-c", bootstrap),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=_environment(),
                    # A Ctrl-C at the daemon's terminal is the daemon's to handle.
                    start_new_session=True,
                )
            frames, writer = await asyncio.open_connection(sock=ours)
        except OSError:
            ours.close()
            raise
        run = cls(process, writer)
        writer.write(encode({"settings": settings.for_worker()}))
        run.reader = asyncio.create_task(run._read(frames))
        return run

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return not self.reader.done()

    @property
    def busy(self) -> bool:
        return bool(self._pending)

    def age(self) -> float:
        """Seconds since the start."""
        return asyncio.get_running_loop().time() - self._born

    async def call(self, call: Call) -> Mapping[str, object]:
        if not self.alive:
            raise Unanswered(Refusal(transport=Transport.WORKER, message=f"process {self.pid}"))
        self._serial += 1
        serial = self._serial
        future = self._pending[serial] = asyncio.get_running_loop().create_future()
        try:
            self._writer.write(
                encode(
                    {
                        "id": serial,
                        "action": call.action,
                        "parameters": call.parameters,
                        "credentials": call.credentials,
                    }
                )
            )
            frame = await future
        finally:
            del self._pending[serial]
        refusal = frame.get("refusal")
        if isinstance(refusal, dict):
            raise Unanswered(refusal_of(refusal))
        answer = frame.get("answer")
        return answer if isinstance(answer, dict) else {}

    async def end(self) -> None:
        """Close our end, which ends the process; kill it if it does not listen. Leaves no zombie."""
        self._writer.close()
        try:
            async with asyncio.timeout(_END_TIMEOUT):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await asyncio.wait([self.reader])

    async def _read(self, frames: asyncio.StreamReader) -> None:
        try:
            while True:
                header = await frames.readexactly(HEADER_SIZE)
                frame = decode(await frames.readexactly(body_size(header)))
                future = self._pending.get(_serial_of(frame))
                if future is not None and not future.done():
                    future.set_result(frame)
        except (asyncio.IncompleteReadError, ConnectionError, ValueError) as exc:
            lost = Unanswered(Refusal(transport=Transport.WORKER, message=f"process {self.pid}"))
            lost.__cause__ = exc
            for future in self._pending.values():
                if not future.done():
                    future.set_exception(lost)


def refusal_of(fields: Mapping[str, object]) -> Refusal:
    """A ``refusal`` of ``frames``."""
    transport = fields.get("transport")
    status, retry_after = fields.get("status"), fields.get("retry_after")
    return Refusal(
        code=str(fields.get("code") or ""),
        status=status if isinstance(status, int) else 0,
        message=str(fields.get("message") or ""),
        request_id=str(fields.get("request_id") or ""),
        retry_after=float(retry_after) if isinstance(retry_after, int | float) else None,
        transport=Transport(transport) if isinstance(transport, str) else None,
    )


def _serial_of(frame: Mapping[str, object]) -> int:
    serial = frame.get("id")
    return serial if isinstance(serial, int) else 0


def _environment() -> dict[str, str]:
    """Ours without proxies, which the SDK would take unasked."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
