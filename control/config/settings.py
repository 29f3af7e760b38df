"""What terwayd itself is told by its command line and its environment.

Flags are upstream's, with one dash or two and written in full, as Go takes them; where upstream has a
variable so have we. A flag goes before a variable. Nothing is read from disk here.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NoReturn

from control.model.errors import ConfigError

DAEMON_MODE = "ENIMultiIP"

GATES: Mapping[str, bool] = {
    "AutoDataPathV2": True,
    "EFLO": True,
    "KubeProxyReplacement": False,
    "WriteCNIConfFirst": False,
    "ENIAttributeBasic": False,
}
"""Upstream's feature gates and their defaults."""

_TRUTH = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Settings:
    node_name: str
    """``-node-name`` or NODE_NAME: this node's name in Kubernetes. The only one without a default."""
    pod_namespace: str = "kube-system"
    """POD_NAMESPACE: where eni-config is, and the ConfigMap that ``terway-config`` names."""
    log_level: LogLevel = LogLevel.INFO
    """``-log-level``."""
    eni_conf: Path = Path("/etc/eni/eni_conf")
    """``-config``: the file with eni_conf, mounted from the ConfigMap."""
    cni_conf_source: Path = Path("/etc/eni")
    """``-cni-conf-source``: directory with 10-terway.conf or .conflist, mounted from the ConfigMap."""
    cni_conf_target: Path = Path("/etc/cni/net.d")
    """``-cni-conf-target``: directory the runtime reads; the file is copied there once the socket serves."""
    cni_bin: Path | None = Path("/opt/cni/bin")
    """``-cni-bin``: directory of the runtime's CNI executables, in which those of the chain are looked for;
    "", or one that is not there: they are not."""
    cni_executable: Path | None = None
    """``-cni-executable``: what is put into ``cni_bin`` as ``terway`` and kept there; None: that of this
    installation. An empty file: nothing is."""
    secret_directory: Path = Path("/var/alibaba-addon-secret")
    """``-secret-directory``: a mounted access key, which goes before the one in eni_conf."""
    socket: Path = Path("/var/run/eni/eni.socket")
    """``-socket``: where the CNI executable connects."""
    debug_socket: Path = Path("/var/run/eni/eni_debug.socket")
    """``-readonly-listen``, a path or unix://path: terway-cli, metrics, health."""
    health_listen: str = ""
    """``-health-listen``, HOST:PORT: /healthz, /readyz and /metrics for kubelet and Prometheus; "": none."""
    sysctl_net: Path = Path("/proc/sys/net")
    """``-sysctl-net``: where the kernel's /proc/sys/net can be written. A container that is not privileged
    has that itself read-only, and a bind mount of the host's in another place."""
    state_directory: Path = Path("/var/lib/cni/terway")
    """``-state-directory``: the ledger. Must outlive the daemon and a reboot."""
    cluster_id: str = ""
    """CLUSTER_ID: a tag of the ENIs that are made; "": the uid of the Service default/kubernetes."""
    kubeconfig: Path | None = None
    """``-kubeconfig`` or KUBECONFIG; None: the service account of the pod."""
    ecs_endpoint: str = ""
    """ECS_ENDPOINT, host or host:port; "": the SDK's for the region."""
    vpc_endpoint: str = ""
    """VPC_ENDPOINT, the same for the VPC API."""
    api_scheme: str = "https"
    """ALICLOUD_CLIENT_SCHEME: https, or http as ACK uses inside a VPC."""
    metadata_url: str = "http://100.100.100.200"
    """``-metadata-url`` or TERWAY_METADATA_URL: base of the instance metadata service, without a path."""
    bpf: bool = True
    """``-bpf``, on or off: carry packets by eBPF where the kernel can; off routes, and takes eBPF away."""
    bpf_pins: Path = Path("/sys/fs/bpf/terway")
    """``-bpf-pins``: where maps, programs and links are pinned. Must outlive the daemon."""
    bpf_objects: Path | None = None
    """``-bpf-objects``: directory with compiled programs; None: those of this installation."""
    gates: Mapping[str, bool] = field(default_factory=lambda: dict(GATES))
    """``-feature-gates``, "Name=true,Other=false"."""
    gc_rules: bool = True
    """TERWAY_GC_RULES: remove rules once at start that no pod has any more."""
    version: str = ""
    """TERWAY_VERSION, set by the image: what ``terway-cli mode`` and the log call this build."""
    token_cache_size: int = 500
    """IDEMPOTENT_KEY_CACHE_SIZE: how many client tokens of failed writes are remembered."""


_USUAL = Settings(node_name="")


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """``argv`` without the program's name. Raises ConfigError; ``-h`` prints the flags and exits with 0."""
    told = _parser().parse_args([_two_dashes(word) for word in argv])
    if told.daemon_mode != DAEMON_MODE:
        raise ConfigError(
            f"unsupported daemon mode {told.daemon_mode!a}", remedy=f"start with -daemon-mode {DAEMON_MODE}"
        )
    node_name = told.node_name or environ.get("NODE_NAME", "")
    if not node_name:
        raise ConfigError(
            "the node's name is not set", remedy="set NODE_NAME from spec.nodeName, or give -node-name"
        )
    kubeconfig = told.kubeconfig or environ.get("KUBECONFIG", "")
    metadata_url = told.metadata_url or environ.get("TERWAY_METADATA_URL") or _USUAL.metadata_url
    return Settings(
        node_name=node_name,
        pod_namespace=environ.get("POD_NAMESPACE") or _USUAL.pod_namespace,
        log_level=_log_level(told.log_level),
        eni_conf=told.config,
        cni_conf_source=told.cni_conf_source,
        cni_conf_target=told.cni_conf_target,
        cni_bin=Path(told.cni_bin) if told.cni_bin else None,
        cni_executable=Path(told.cni_executable) if told.cni_executable else None,
        secret_directory=told.secret_directory,
        socket=told.socket,
        debug_socket=_unix_path(told.readonly_listen),
        health_listen=_host_and_port(told.health_listen),
        sysctl_net=told.sysctl_net,
        state_directory=told.state_directory,
        cluster_id=environ.get("CLUSTER_ID", ""),
        kubeconfig=Path(kubeconfig) if kubeconfig else None,
        ecs_endpoint=environ.get("ECS_ENDPOINT", ""),
        vpc_endpoint=environ.get("VPC_ENDPOINT", ""),
        api_scheme=_scheme(environ.get("ALICLOUD_CLIENT_SCHEME", "")),
        metadata_url=_url(metadata_url),
        bpf=_switch("-bpf", told.bpf),
        bpf_pins=told.bpf_pins,
        bpf_objects=Path(told.bpf_objects) if told.bpf_objects else None,
        gates=_gates(told.feature_gates),
        gc_rules=_truth("TERWAY_GC_RULES", environ.get("TERWAY_GC_RULES", ""), True),
        version=environ.get("TERWAY_VERSION", ""),
        token_cache_size=_count(
            "IDEMPOTENT_KEY_CACHE_SIZE", environ.get("IDEMPOTENT_KEY_CACHE_SIZE", ""), 500
        ),
    )


def _two_dashes(word: str) -> str:
    """``-config`` as ``--config``: argparse takes any beginning of a flag that has one dash only."""
    return f"-{word}" if word[:1] == "-" and len(word) > 2 and word[1] != "-" else word


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"command line: {message}", remedy="terwayd -h lists the flags")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="terwayd", allow_abbrev=False, description="The node agent of Terway.")

    def flag(name: str, default: object, text: str) -> None:
        kind = Path if isinstance(default, Path) else str
        parser.add_argument(
            f"--{name}",
            default=default,
            type=kind,
            metavar="VALUE",
            help=f"{text} (default: %(default)s)",
        )

    flag("daemon-mode", DAEMON_MODE, "the only mode")
    flag("log-level", LogLevel.INFO.value, ", ".join(LogLevel))
    flag("config", _USUAL.eni_conf, "file with eni_conf")
    flag("readonly-listen", str(_USUAL.debug_socket), "socket for terway-cli, metrics and health")
    flag("feature-gates", "", "Name=true,Other=false")
    flag("node-name", "", "this node in Kubernetes, else NODE_NAME")
    flag("kubeconfig", "", "else KUBECONFIG, else the pod's service account")
    flag("cni-conf-source", _USUAL.cni_conf_source, "directory with 10-terway.conf or .conflist")
    flag("cni-conf-target", _USUAL.cni_conf_target, "directory the container runtime reads")
    flag("cni-bin", str(_USUAL.cni_bin), "directory of the runtime's CNI executables; empty: not looked at")
    flag("cni-executable", "", "executable to keep there as terway; empty: that of this installation")
    flag("secret-directory", _USUAL.secret_directory, "a mounted access key")
    flag("socket", _USUAL.socket, "where the CNI executable connects")
    flag("health-listen", "", "HOST:PORT for health and metrics over TCP, else nowhere")
    flag("sysctl-net", _USUAL.sysctl_net, "where /proc/sys/net can be written")
    flag("state-directory", _USUAL.state_directory, "the ledger")
    flag("bpf", "on", "carry packets by eBPF, on or off")
    flag("bpf-pins", _USUAL.bpf_pins, "where eBPF maps, programs and links are pinned")
    flag("bpf-objects", "", "directory with compiled eBPF programs, else this installation's")
    flag("metadata-url", "", "else TERWAY_METADATA_URL, else 100.100.100.200")
    return parser


def _bad(name: str, value: str, allowed: str) -> ConfigError:
    return ConfigError(f"{name} is {value!a}, allowed: {allowed}")


def _log_level(text: str) -> LogLevel:
    word = "warn" if text.lower() == "warning" else text.lower()
    if word not in tuple(LogLevel):
        raise _bad("-log-level", text, ", ".join(LogLevel))
    return LogLevel(word)


def _unix_path(text: str) -> Path:
    path = Path(text.removeprefix("unix://"))
    if "://" in text.removeprefix("unix://") or not path.is_absolute():
        raise _bad("-readonly-listen", text, "an absolute path, or unix:// and one")
    return path


def _host_and_port(text: str) -> str:
    host, colon, port = text.rpartition(":")
    known = port.isascii() and port.isdecimal() and 0 < int(port) < 65536
    if text and not (host and colon and known):
        raise _bad("-health-listen", text, "HOST:PORT, such as 127.0.0.1:15733")
    return text


def _scheme(text: str) -> str:
    word = text.lower() or "https"
    if word not in ("http", "https"):
        raise _bad("ALICLOUD_CLIENT_SCHEME", text, "http, https")
    return word


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise _bad("-metadata-url", text, "an http URL, http://100.100.100.200")
    return text.rstrip("/")


def _truth(name: str, text: str, default: bool) -> bool:
    if not text:
        return default
    if text.lower() not in _TRUTH:
        raise _bad(name, text, "true, false")
    return _TRUTH[text.lower()]


def _switch(name: str, text: str) -> bool:
    if text not in ("on", "off"):
        raise _bad(name, text, "on, off")
    return text == "on"


def _count(name: str, text: str, default: int) -> int:
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and int(text) > 0):
        raise _bad(name, text, "a whole number of at least 1")
    return int(text)


def _gates(text: str) -> dict[str, bool]:
    gates = dict(GATES)
    for item in text.split(","):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not item.strip():
            continue
        if name not in GATES or not equals:
            raise _bad("-feature-gates", item, f"Name=true or Name=false, with {', '.join(GATES)}")
        gates[name] = _truth(f"-feature-gates {name}", value, GATES[name])
    return gates
