"""``terway-cli trace``: what the fast path's programs decide about live packets, line by line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from control.cli.client import CliError, Daemon
from control.cli.words import Words

_PROTOCOLS = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 58: "icmp6", 132: "sctp"}
_ICMP = frozenset({1, 58})
_ECHO = frozenset({8, 128})
"""Type of an echo request: it stands in place of the port of who answers (bpf/include/flow.h)."""


def add_words(words: Words) -> None:
    text = "Verdict, hook and reason of live packets, until Ctrl-C. Costs nothing while nobody asks."
    word = words.add("trace", _trace, text, "trace default/web -c 20")
    word.add_argument("target", nargs="?", help="NAMESPACE/POD or an address; without it all packets")
    word.add_argument("-c", dest="count", type=_positive, metavar="N", help="end after N events")


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def _trace(daemon: Daemon, args: argparse.Namespace) -> None:
    query = {"address": ",".join(addresses_of(daemon, args.target))} if args.target else {}
    left = args.count
    for event in daemon.stream("trace", **query):
        if event is None:
            continue
        if "note" in event:
            print(f"terway-cli: {event['note']}", file=sys.stderr)
            continue
        print(json.dumps(event) if args.json else draw_event(event), flush=True)
        if left is not None and (left := left - 1) == 0:
            return
    raise CliError("terwayd has ended the trace: it stops, or the fast path was taken down")


def addresses_of(daemon: Daemon, target: str) -> list[str]:
    """Of a pod of this node, or the address itself. Raises CliError if it is neither."""
    if "/" not in target:
        try:
            return [str(ip_address(target))]
        except ValueError as exc:
            raise CliError(f"{target!r} is neither an address nor NAMESPACE/POD") from exc
    namespace, _, name = target.partition("/")
    found = [
        address
        for row in daemon.get("mapping")["attachments"]
        if (row["pod_namespace"], row["pod_name"]) == (namespace, name)
        for address in (row["ipv4"], row["ipv6"])
        if address
    ]
    if not found:
        raise CliError(f"no pod {target} has an address of this node; `terway-cli mapping` lists them")
    return found


def draw_event(event: Mapping[str, Any]) -> str:
    """Time, hook, verdict, reason, protocol, who to whom, bytes, device and where to, in one line."""
    when = datetime.fromtimestamp(event["time"]).strftime("%H:%M:%S.%f")
    start = f"{when} {event['hook']:<12} {event['verdict']:<5} {event['reason']:<17}"
    devices = event["device"] + (f" > {event['target']}" if event["target"] else "")
    return f"{start} {_flow(event)} {event['length']} bytes {devices}"


def _flow(event: Mapping[str, Any]) -> str:
    if not event["source"]:
        return "addresses not read"
    protocol = _PROTOCOLS.get(event["protocol"], f"protocol {event['protocol']}")
    source, destination = event["source"], event["destination"]
    ports = event["source_port"], event["destination_port"]
    if event["protocol"] in _ICMP:
        return f"{protocol} {source} > {destination} {_icmp(*ports)}"
    if not any(ports):
        return f"{protocol} {source} > {destination}"
    return f"{protocol} {_with_port(source, ports[0])} > {_with_port(destination, ports[1])}"


def _icmp(first: int, second: int) -> str:
    """The ports of struct flow, in which queries carry their identifier and their type."""
    if second in _ECHO:
        return f"echo request {first}"
    if first in _ECHO:
        return f"echo reply {second}"
    return f"type {second}" if not first else f"{first}/{second}"


def _with_port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
