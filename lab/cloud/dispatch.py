"""From a request to its reply: who calls, whether they may, what goes wrong on demand, and the action.

Order, as the gateway's: signature, version and action, RAM, flow control, faults, then the action with its
ClientToken. Refused calls count in the call log too.
"""

from __future__ import annotations

import threading
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from lab.cloud import errors, route_errors
from lab.cloud.actions import ACTIONS
from lab.cloud.actions.action import Action, ActionCall, Answer, Api
from lab.cloud.actions.parameters import Parameters
from lab.cloud.authentication import Authenticator, SignedCall, action_of
from lab.cloud.calls import Call
from lab.cloud.errors import ApiError
from lab.cloud.faults import Distortion, Drop, Fault, applies, distorted
from lab.cloud.recording import Exchange
from lab.cloud.request import Reply, Request
from lab.cloud.state import CloudState

_HOST_ID = "ecs.lab"


@dataclass(frozen=True, slots=True)
class _Trouble:
    """All faults that happen to one call, as one."""

    error: ApiError | None = None
    latency: float = 0.0
    drop: Drop = Drop.NO
    partial: int | None = None
    distortion: Distortion = Distortion.NO


@dataclass(slots=True)
class _Trace:
    """What the log will say of a call."""

    action: str
    caller: str
    code: str = ""
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()).upper())


class Dispatcher:
    """Thread-safe. ``instance_of`` maps a caller's address to its instance id, if it has one."""

    def __init__(self, state: CloudState, *, instance_of: Callable[[str], str | None] | None = None) -> None:
        self.authenticator = Authenticator(state.credentials, state.clock)
        self._state = state
        self._instance_of = instance_of if instance_of is not None else state.instance_at
        self._stopped = threading.Event()
        self._busy: set[str] = set()
        self._busy_lock = threading.Lock()

    def stop(self) -> None:
        """End every wait of a latency fault."""
        self._stopped.set()

    def handle(self, request: Request) -> Reply:
        trace = _Trace(action_of(request), request.source)
        try:
            answer = self._authorized(request, trace)
        except ApiError as error:
            trace.code = error.code
            reply = _refusal(error, trace.request_id)
        except _Dropped:
            trace.code = "Dropped"
            reply = Reply(status=0, body={}, dropped=True)
        except Exception:  # noqa: BLE001  # a fault of the lab's: told as ECS tells its own, the log has all of it
            traceback.print_exc()
            failure = ApiError("InternalError", "The lab has failed; its log says where.", status=500)
            trace.code = failure.code
            reply = _refusal(failure, trace.request_id)
        else:
            body = {"RequestId": trace.request_id, **answer}
            reply = Reply(status=200, body=body, headers={"x-acs-request-id": trace.request_id})
        now = self._state.clock.now()
        self._state.log.add(Call(trace.action, now, trace.caller, trace.code, trace.request_id))
        self._record(request, trace, reply, now)
        return reply

    def _record(self, request: Request, trace: _Trace, reply: Reply, now: float) -> None:
        recorder = self._state.recorder
        if recorder.running:
            parameters = dict((*request.query, *request.form))
            exchange = Exchange(
                "openapi",
                request.method,
                trace.action,
                parameters,
                request.source,
                reply.status,
                reply.body,
                now,
            )
            recorder.add(exchange, self._state.credentials.secrets())

    def _authorized(self, request: Request, trace: _Trace) -> Answer:
        signed = self.authenticator.check(request)
        trace.caller = f"{signed.credential.principal}@{request.source}"
        action = _find(signed)
        state = self._state
        state.credentials.authorize(action.name, signed.credential.principal)
        state.throttle.admit(action.name, now=state.clock.now())
        parameters = Parameters(signed.parameters)
        self._check_parameters(action, parameters)
        eni_id = parameters.flat().get("NetworkInterfaceId", "")
        caller = signed.credential.instance_id or self._instance_of(request.source) or ""
        trouble = self._trouble(action.name, eni_id, parameters, caller)
        return self._troubled(action, parameters, trouble)

    def _check_parameters(self, action: Action, parameters: Parameters) -> None:
        region = parameters.text("RegionId", self._state.spec.region)
        if region != self._state.spec.region:
            raise ApiError("InvalidRegionId.NotFound", f"The RegionId {region!r} does not exist.", status=404)
        for name in action.unsupported(parameters.names()):
            raise errors.unsupported_parameter(name, action.name)

    def _trouble(self, action: str, eni_id: str, parameters: Parameters, caller: str) -> _Trouble:
        sent = parameters.flat()
        instances = {caller, sent.get("InstanceId", ""), sent.get("NextHopId", "")}
        if eni_id and self._state.faults.listing():
            with self._state.transaction(writes=False):
                eni = self._state.current.eni(eni_id)
                instances.add(eni.instance_id if eni is not None else "")
        found = self._state.faults.take(lambda f: applies(f, action, instances=instances, eni_id=eni_id))
        trouble = _Trouble()
        for fault in found:
            trouble = _combine(trouble, fault)
        return trouble

    def _troubled(self, action: Action, parameters: Parameters, trouble: _Trouble) -> Answer:
        token = parameters.text("ClientToken") if action.writes else ""
        if token:
            return self._once(action, parameters, trouble, token)
        return self._act(action, parameters, trouble)

    def _once(self, action: Action, parameters: Parameters, trouble: _Trouble, token: str) -> Answer:
        tokens, now = self._state.tokens, self._state.clock.now()
        known = tokens.begin(action.name, token, parameters.flat(), now=now)
        if known is not None:
            if trouble.drop:
                raise _Dropped
            return known
        try:
            answer = self._act(action, parameters, replace(trouble, drop=_before(trouble.drop)))
        except BaseException:
            tokens.give_up(action.name, token)
            raise
        tokens.finish(action.name, token, answer)
        if trouble.drop == Drop.AFTER:
            raise _Dropped
        return answer

    def _act(self, action: Action, parameters: Parameters, trouble: _Trouble) -> Answer:
        self._take_time(action, parameters, trouble.latency)
        if trouble.drop == Drop.BEFORE:
            raise _Dropped
        if trouble.error is not None:
            raise trouble.error
        with self._state.transaction(writes=action.writes):
            answer = action.run(ActionCall(self._state, parameters, trouble.partial))
        answer = distorted(answer, trouble.distortion)
        if trouble.drop == Drop.AFTER:
            raise _Dropped
        return answer

    def _take_time(self, action: Action, parameters: Parameters, seconds: float) -> None:
        """A write to what a slow write is under way to gets Operation.Conflict, or the VPC's TaskConflict."""
        written = parameters.text(action.one_at_a_time) if action.writes else ""
        with self._busy_lock:
            if written in self._busy:
                raise errors.conflict(written) if action.api is Api.ECS else route_errors.busy()
            if not seconds:
                return
            if written:
                self._busy.add(written)
        try:
            self._stopped.wait(seconds)
        finally:
            with self._busy_lock:
                self._busy.discard(written)


class _Dropped(Exception):
    """The caller gets no answer."""


def _before(drop: Drop) -> Drop:
    return drop if drop == Drop.BEFORE else Drop.NO


def _find(signed: SignedCall) -> Action:
    versions = [api for api in Api if api == signed.version]
    if not versions:
        raise ApiError("InvalidVersion", f"Specified parameter Version {signed.version!r} is not valid.")
    action = ACTIONS.get((versions[0], signed.action))
    if action is None:
        raise ApiError(
            "InvalidAction.NotFound",
            f"Specified api {signed.action!r} is not found, please check your url and method.",
            status=404,
        )
    return action


def _combine(trouble: _Trouble, fault: Fault) -> _Trouble:
    """The first fault that says something of a kind is heard; latencies add up."""
    error = ApiError(fault.code, fault.message, status=fault.status) if fault.code else None
    return _Trouble(
        error=trouble.error or error,
        latency=trouble.latency + fault.latency,
        drop=trouble.drop or fault.drop,
        partial=fault.partial if trouble.partial is None else trouble.partial,
        distortion=trouble.distortion or fault.distortion,
    )


def _refusal(error: ApiError, request_id: str) -> Reply:
    headers = {"x-acs-request-id": request_id}
    if error.retry_after is not None:
        headers["x-acs-retry-after"] = str(error.retry_after)
    body = {
        "RequestId": request_id,
        "HostId": _HOST_ID,
        "Code": error.code,
        "Message": error.message,
        "Recommend": f"https://api.aliyun.com/troubleshoot?q={error.code}",
    }
    return Reply(status=error.status, body=body, headers=headers)
