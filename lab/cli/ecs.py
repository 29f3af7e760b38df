"""``./run lab ecs ...``: the cloud from its operator's side."""

from __future__ import annotations

import argparse

from lab.cli import calls, faults, groups
from lab.cli.groups import rule_table
from lab.cli.table import few, table, utc
from lab.cli.values import WrongWordError, from_zero, seconds
from lab.cli.words import Output, Words, pairs
from lab.client import Lab
from lab.clock import check_seconds


def declare(words: Words) -> None:
    ecs = words.group("ecs", "Look at the cloud's state, count calls, inject faults, move its clock.")
    state = ecs.on_lab("state", _state, "Show instances, ENIs, vSwitches and groups.", "--json")
    state.add_argument("--wide", action="store_true", help="every address of every ENI")
    calls.declare(ecs)
    faults.declare(ecs)
    delay = ecs.on_lab("delay", _delay, "Show or set delays in seconds.", "metadata=0.5 device=1")
    delay.add_argument("changes", nargs="*", metavar="NAME=SECONDS")
    occupy = ecs.on_lab("occupy", _occupy, "Fill a vSwitch but for some addresses.", "vsw-pods --leave 3")
    occupy.add_argument("vswitch", metavar="VSWITCH")
    occupy.add_argument("--leave", type=from_zero, default=0, metavar="N")
    occupy.add_argument("--release", action="store_true", help="give all taken addresses back")
    clock = ecs.group("clock", "The cloud's time.")
    clock.on_lab("advance", _advance, "Move the clock ahead.", "60").add_argument("seconds", type=seconds)
    groups.declare(ecs)


def _state(lab: Lab, args: argparse.Namespace) -> Output:
    state = lab.cloud.state()
    instances = table(
        ("INSTANCE", "NAME", "TYPE", "ZONE", "VSWITCH", "ADDRESS", "ENIS"),
        (
            (i["id"], i["name"], i["type"], i["zone"], i["vswitch"], i["private_ip"], len(i["enis"]))
            for i in state["instances"]
        ),
    )
    enis = table(
        ("ENI", "TYPE", "STATUS", "INSTANCE", "VSWITCH", "MAC", "GROUPS", "ADDRESSES"),
        (
            (
                e["id"],
                e["type"],
                e["status"],
                e["instance"],
                e["vswitch"],
                e["mac"],
                e["groups"],
                e["addresses"] if args.wide else few(e["addresses"]),
            )
            for e in state["enis"]
        ),
    )
    vswitches = table(
        ("VSWITCH", "ZONE", "CIDR", "CIDR V6", "AVAILABLE"),
        ((v["id"], v["zone"], v["cidr"], v["cidr_v6"], v["available"]) for v in state["vswitches"]),
    )
    return Output(state, "\n\n".join((instances, enis, vswitches, rule_table(state["groups"]))))


def _delay(lab: Lab, args: argparse.Namespace) -> Output:
    changes = pairs(args.changes)
    for name, value in changes.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise WrongWordError(f"{name}={value} is not a number of seconds from 0 on")
        check_seconds(name, value)
    delays = lab.cloud.set_delays(**changes)
    return Output(delays, table(("VIEW", "SECONDS"), delays.items()))


def _occupy(lab: Lab, args: argparse.Namespace) -> Output:
    if args.release:
        lab.cloud.release(args.vswitch)
        return Output({"vswitch": args.vswitch, "taken": 0}, f"{args.vswitch}: all given back")
    taken = lab.cloud.occupy(args.vswitch, args.leave)
    return Output(
        {"vswitch": args.vswitch, "taken": taken}, f"{args.vswitch}: {taken} taken, {args.leave} left"
    )


def _advance(lab: Lab, args: argparse.Namespace) -> Output:
    now = lab.cloud.advance(args.seconds)
    return Output({"time": now}, f"the lab's clock is at {utc(now)}")
