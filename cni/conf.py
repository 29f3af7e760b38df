"""The network configuration on stdin: the envelope every plugin gets, and what a call adds to it.

The plugin's own settings are in ``plugin``. Errors are CniErrors: DECODE for what is not a JSON object,
INCOMPATIBLE_VERSION, and CONFIG for a value that is not allowed. Unknown keys are warnings, since runtimes
and operators add keys that are not ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeVar

from cni.errors import CniError, Code, incompatible
from cni.fields import FieldError, Fields, NotAnObject, load
from cni.plugin import PluginConf
from cni.version import CniVersion

T = TypeVar("T")

PLUGIN_TYPE = "terway"

NETWORK_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
"""What libcni takes for a network's name."""
_POD_ANNOTATIONS = "io.kubernetes.cri.pod-annotations"
_ATTACHMENTS = ("cni.dev/valid-attachments", "cni.dev/attachments")
_FOR_OTHERS = ("ipam", "dns", "args", "disableCheck", "disableGC", "loadOnlyInlinedPlugins")


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Rates the runtime asks for, in bit/s; 0 is no limit. Bursts are ignored, as upstream does."""

    ingress: int = 0
    egress: int = 0


@dataclass(frozen=True, slots=True)
class RuntimeConf:
    """``runtimeConfig``: what the runtime adds for each declared capability."""

    bandwidth: Bandwidth = Bandwidth()
    """Capability ``bandwidth``. Where set it goes before the pod's own annotations."""
    port_mappings: tuple[Mapping[str, object], ...] = ()
    """Capability ``portMappings``; for the portmap plugin of the chain, not for us."""
    dns: Mapping[str, object] = field(default_factory=dict)
    """Capability ``dns``; read on Windows only."""
    pod_annotations: Mapping[str, str] = field(default_factory=dict)
    """Capability ``io.kubernetes.cri.pod-annotations``: all annotations of the pod."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface that the runtime knows, of GC's list."""

    container_id: str
    ifname: str


@dataclass(frozen=True, slots=True)
class NetworkConf:
    """What one call has on stdin."""

    cni_version: CniVersion
    """The version results and errors are to be in."""
    name: str
    """The network's name: GC's list counts for this network only."""
    plugin: PluginConf
    runtime: RuntimeConf
    prev_result: Mapping[str, object] | None
    """Result of the plugin before us in a chain (ADD), or of the ADD (CHECK, DEL); see ``result.parse``."""
    valid_attachments: tuple[Attachment, ...] | None
    """GC: what is still in use. None: the runtime did not say, so nothing may be removed. () is legal."""
    warnings: tuple[str, ...]
    """One line per unknown key; if bad values were tolerated, one line for each of those instead."""


KNOWN_BYTES = 4096
"""A longer one is not kept: a DEL's has the result of its ADD, a GC's every attachment of the node."""


def parse(stdin: bytes, *, tolerant: bool = False) -> NetworkConf:
    """Parse what the runtime wrote.

    ``tolerant`` turns bad settings into warnings and uses their defaults: a pod must be removable, and GC
    possible, after somebody has broken the configuration. The envelope is never tolerated.

    One pod's is mostly as the last one's was, and is not read again.
    """
    return _known(stdin, tolerant) if len(stdin) <= KNOWN_BYTES else _parsed(stdin, tolerant)


def _parsed(stdin: bytes, tolerant: bool) -> NetworkConf:
    try:
        fields = Fields(load(stdin))
    except NotAnObject as exc:
        raise CniError(Code.DECODE, "failed to parse network config", str(exc)) from exc
    try:
        return _network_conf(fields, tolerant)
    except FieldError as exc:
        raise CniError(Code.CONFIG, "invalid network config", str(exc)) from exc


_known = lru_cache(maxsize=16)(_parsed)


def _network_conf(fields: Fields, tolerant: bool) -> NetworkConf:
    version = _version(fields)
    name = _name(fields)
    if fields.value("type") != PLUGIN_TYPE:
        raise fields.error("type", f'"{PLUGIN_TYPE}"')
    for key in _FOR_OTHERS:
        fields.value(key)
    tolerated: list[str] = []

    def read(reader: Callable[[Fields], T], fallback: T) -> T:
        try:
            return reader(fields)
        except FieldError as exc:
            if not tolerant:
                raise
            tolerated.append(str(exc))
            return fallback

    conf = NetworkConf(
        cni_version=version,
        name=name,
        plugin=read(PluginConf.read, PluginConf()),
        runtime=read(_runtime, RuntimeConf()),
        prev_result=read(lambda f: f.table("prevResult"), None),
        valid_attachments=_attachments(fields),
        warnings=(),
    )
    return replace(conf, warnings=tuple(tolerated) or fields.unknown())


def _version(fields: Fields) -> CniVersion:
    named = fields.text("cniVersion")
    try:
        return CniVersion(named)
    except ValueError:
        raise incompatible(named) from None


def _name(fields: Fields) -> str:
    name = fields.text("name")
    if not NETWORK_NAME.fullmatch(name):
        raise fields.error("name", "a letter or digit, then letters, digits, '_', '.' and '-'")
    return name


def _runtime(fields: Fields) -> RuntimeConf:
    inner = fields.inner("runtimeConfig")
    rates = inner.inner("bandwidth")
    return RuntimeConf(
        bandwidth=Bandwidth(ingress=rates.integer("ingressRate", 0), egress=rates.integer("egressRate", 0)),
        port_mappings=inner.tables("portMappings"),
        dns=inner.table("dns") or {},
        pod_annotations=inner.string_map(_POD_ANNOTATIONS),
    )


def _attachments(fields: Fields) -> tuple[Attachment, ...] | None:
    """libcni writes the list under both names: the specification's, and the one its tag 1.1.0 had."""
    present = [key for key in _ATTACHMENTS if fields.value(key) is not None]
    if not present:
        return None
    return tuple(_attachment(item) for item in fields.inners(present[0]))


def _attachment(item: Fields) -> Attachment:
    attachment = Attachment(item.text("containerID"), item.text("ifname"))
    if not attachment.container_id or not attachment.ifname:
        raise item.error(
            "containerID" if not attachment.container_id else "ifname", "a string that is not empty"
        )
    return attachment


def named_version(stdin: bytes) -> str:
    """The cniVersion that ``stdin`` names, supported or not; "" if none can be read. Never raises."""
    try:
        named = Fields(load(stdin)).value("cniVersion")
    except NotAnObject:
        return ""
    return named if isinstance(named, str) else ""
