"""One request of the runtime, checked: what every command needs is there, and every name is a name.

Sources: CNI specification 1.1.0, "Parameters"; for the characters allowed in names, libcni's validation.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cni import args, conf
from cni.args import K8sArgs
from cni.conf import NetworkConf
from cni.errors import CniError, Code, incompatible
from cni.version import SUPPORTED, CniVersion
from cni.wire import Frame


class Command(StrEnum):
    """VERSION is the executable's own; it does not come here."""

    ADD = "ADD"
    DEL = "DEL"
    CHECK = "CHECK"
    GC = "GC"
    STATUS = "STATUS"


REQUIRED: Mapping[Command, tuple[str, ...]] = {
    Command.ADD: ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    Command.DEL: ("CNI_CONTAINERID", "CNI_IFNAME"),
    Command.CHECK: ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    Command.GC: ("CNI_PATH",),
    Command.STATUS: (),
}
"""Variables that must be set and not empty, beside CNI_COMMAND.

CNI_PATH is where delegates would be; there are none, so only GC, for which the text demands it, asks.
"""

_SINCE: Mapping[Command, CniVersion] = {
    Command.CHECK: CniVersion.V0_4_0,
    Command.GC: CniVersion.V1_1_0,
    Command.STATUS: CniVersion.V1_1_0,
}
_TOLERANT = frozenset({Command.DEL, Command.GC})
"""A broken setting must not keep what has gone from being cleaned up."""

_CONTAINER_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,254}")
_IFNAME_FORBIDDEN = re.compile(r"[/:\s\x00-\x1f\x7f]")
_IFNAME_MAX = 15
"""The kernel's IFNAMSIZ, without its NUL."""


@dataclass(frozen=True, slots=True)
class Trace:
    """W3C trace context, as far as the runtime passes one on; "" each if not."""

    parent: str = ""
    state: str = ""
    baggage: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """``container_id`` and ``ifname`` are "" for GC and STATUS, which concern no attachment."""

    command: Command
    conf: NetworkConf
    container_id: str = ""
    ifname: str = ""
    netns: str = ""
    """Path, as the runtime gave it; "" if it gave none, as it does in its last DEL."""
    netns_errno: int = 0
    """Why the executable could not open ``netns``; 0 if it could or there was none."""
    netns_override: bool = False
    """CNI_NETNS_OVERRIDE: ``netns`` may be the node's own."""
    args: K8sArgs = field(default_factory=K8sArgs)
    trace: Trace = Trace()

    def netns_error(self) -> CniError | None:
        """What an ADD or a CHECK says if the namespace could not be opened."""
        if not self.netns_errno:
            return None
        why = os.strerror(self.netns_errno)
        return CniError(Code.NETNS, "failed to open netns", f"CNI_NETNS {self.netns}: {why}")


def parse(frame: Frame) -> Request:
    """Raises CniError: ENVIRONMENT, DECODE, INCOMPATIBLE_VERSION or CONFIG."""
    command = _command(frame.env)
    _require(command, frame.env)
    container_id, ifname = frame.env.get("CNI_CONTAINERID", ""), frame.env.get("CNI_IFNAME", "")
    attached = "CNI_IFNAME" in REQUIRED[command]
    if attached:
        _check_names(container_id, ifname)
    network = conf.parse(frame.stdin, tolerant=command in _TOLERANT)
    if command in _SINCE and not network.cni_version.at_least(_SINCE[command]):
        since = [version for version in SUPPORTED if version.at_least(_SINCE[command])]
        raise incompatible(network.cni_version, supported=since, for_what=command)
    return Request(
        command=command,
        conf=network,
        container_id=container_id if attached else "",
        ifname=ifname if attached else "",
        netns=frame.env.get("CNI_NETNS", ""),
        netns_errno=frame.netns_errno,
        netns_override=frame.env.get("CNI_NETNS_OVERRIDE", "").lower() in ("1", "true"),
        args=args.parse(frame.env.get("CNI_ARGS", "")) if attached else K8sArgs(),
        trace=Trace(*(frame.env.get(name, "") for name in ("TRACEPARENT", "TRACESTATE", "BAGGAGE"))),
    )


def require_pod(request: Request) -> None:
    """An ADD must say which pod it is for. Raises CniError ENVIRONMENT."""
    given = {"K8S_POD_NAMESPACE": request.args.namespace, "K8S_POD_NAME": request.args.name}
    missing = [name for name, value in given.items() if not value]
    if missing:
        raise CniError(Code.ENVIRONMENT, "CNI_ARGS does not name a pod", f"missing: {', '.join(missing)}")


def _command(env: Mapping[str, str]) -> Command:
    named = env.get("CNI_COMMAND", "")
    if not named:
        raise _missing(["CNI_COMMAND"])
    try:
        return Command(named)
    except ValueError:
        raise CniError(
            Code.ENVIRONMENT, "unknown CNI_COMMAND", f"{named!a}, allowed: {', '.join(Command)}, VERSION"
        ) from None


def _require(command: Command, env: Mapping[str, str]) -> None:
    missing = [name for name in REQUIRED[command] if not env.get(name)]
    if missing:
        raise _missing(missing)
    for name in ("CNI_NETNS", "CNI_ARGS"):
        if any("\ud800" <= char <= "\udfff" for char in env.get(name, "")):
            raise CniError(Code.ENVIRONMENT, f"{name} is not UTF-8", ascii(env[name]))


def _missing(names: list[str]) -> CniError:
    return CniError(Code.ENVIRONMENT, "required environment variables are missing", ", ".join(names))


def _check_names(container_id: str, ifname: str) -> None:
    if not _CONTAINER_ID.fullmatch(container_id):
        allowed = "a letter or digit, then letters, digits, '_', '.' and '-', at most 255"
        raise _bad_name("CNI_CONTAINERID", container_id, allowed)
    bad = len(ifname.encode("utf-8", "surrogateescape")) > _IFNAME_MAX or not ifname.isprintable()
    if bad or ifname in (".", "..") or _IFNAME_FORBIDDEN.search(ifname):
        allowed = f"1 to {_IFNAME_MAX} bytes without '/', ':' and spaces, not '.' or '..'"
        raise _bad_name("CNI_IFNAME", ifname, allowed)


def _bad_name(variable: str, value: str, allowed: str) -> CniError:
    return CniError(Code.ENVIRONMENT, f"invalid {variable}", f"{value!a}, allowed: {allowed}")
