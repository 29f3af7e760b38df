"""``terway-lab ecs ...``: the cloud from its operator's side."""

from __future__ import annotations

import argparse
from typing import Any

from lab.cli.table import table
from lab.cli.words import Output, Words, pairs
from lab.client import Lab
from lab.spec import RuleSpec
from lab.spec_json import decode


def declare(words: Words) -> None:
    ecs = words.group("ecs", "Look at the cloud's state, count calls, inject faults, move its clock.")
    ecs.on_lab("state", _state, "Show instances, ENIs, vSwitches and groups.", "--json")
    calls = ecs.on_lab("calls", _calls, "Count API calls since the last reset.", "--reset")
    calls.add_argument("--reset", action="store_true", help="start counting anew")
    calls.add_argument("--recent", action="store_true", help="the last calls one by one")
    _declare_faults(ecs)
    delay = ecs.on_lab("delay", _delay, "Show or set delays in seconds.", "metadata=0.5 device=1")
    delay.add_argument("changes", nargs="*", metavar="NAME=SECONDS")
    occupy = ecs.on_lab("occupy", _occupy, "Fill a vSwitch but for some addresses.", "vsw-pods --leave 3")
    occupy.add_argument("vswitch", metavar="VSWITCH")
    occupy.add_argument("--leave", type=int, default=0, metavar="N")
    occupy.add_argument("--release", action="store_true", help="give all taken addresses back")
    clock = ecs.group("clock", "The cloud's time.")
    clock.on_lab("advance", _advance, "Move the clock ahead.", "60").add_argument("seconds", type=float)
    group = ecs.group("group", "Security groups.")
    group.on_lab("list", _groups, "List rules.", "")
    for name, text in (("add", "Add a rule to a group."), ("remove", "Remove a rule of a group.")):
        rule = group.on_lab(
            name, _edit, text, "sg-cluster direction=ingress protocol=TCP ports=[80,80] peer=0.0.0.0/0"
        )
        rule.add_argument("group", metavar="GROUP")
        rule.add_argument("rule", nargs="+", metavar="FIELD=VALUE", help="fields of lab.spec.RuleSpec")
        rule.set_defaults(edit=name)


def _declare_faults(ecs: Words) -> None:
    fault = ecs.group("fault", "Faults on demand, of the OpenAPI or the metadata service.")
    add = fault.on_lab(
        "add",
        _add_fault,
        "Make calls fail, hang or lose their answer.",
        "action=AssignPrivateIpAddresses code=Throttling.User count=3",
    )
    add.add_argument("--metadata", action="store_true", help="a fault of the metadata service")
    add.add_argument("fields", nargs="+", metavar="FIELD=VALUE", help="fields of lab.cloud.faults.Fault")
    fault.on_lab("list", _faults, "List the faults that are armed.", "--json")
    fault.on_lab("clear", _clear_faults, "Disarm all faults.", "")


def _state(lab: Lab, _args: argparse.Namespace) -> Output:
    state = lab.cloud.state()
    enis = table(
        ("ENI", "TYPE", "STATUS", "INSTANCE", "VSWITCH", "MAC", "ADDRESSES"),
        (
            (e["id"], e["type"], e["status"], e["instance"], e["vswitch"], e["mac"], e["addresses"])
            for e in state["enis"]
        ),
    )
    vswitches = table(
        ("VSWITCH", "ZONE", "CIDR", "CIDR V6", "AVAILABLE"),
        ((v["id"], v["zone"], v["cidr"], v["cidr_v6"], v["available"]) for v in state["vswitches"]),
    )
    return Output(state, f"{enis}\n\n{vswitches}")


def _calls(lab: Lab, args: argparse.Namespace) -> Output:
    if args.recent:
        recent = lab.cloud.recent_calls()
        header = tuple(recent[0]) if recent else ("CALLS",)
        rows = (tuple(call.values()) for call in recent)
        return Output(recent, table(tuple(h.upper() for h in header), rows))
    calls = lab.cloud.calls()
    if args.reset:
        lab.cloud.reset_calls()
    return Output(calls, table(("ACTION", "CALLS"), sorted(calls.items())))


def _add_fault(lab: Lab, args: argparse.Namespace) -> Output:
    fields = pairs(args.fields)
    add = lab.cloud.add_metadata_fault if args.metadata else lab.cloud.add_fault
    number = add(**fields)
    return Output({"fault": number}, f"fault {number} is armed")


def _faults(lab: Lab, _args: argparse.Namespace) -> Output:
    faults = lab.cloud.faults()
    rows = (
        (service, number, [f"{k}={v}" for k, v in fault.items() if v not in ("", None, 0)])
        for service, armed in faults.items()
        for number, fault in armed.items()
    )
    return Output(faults, table(("SERVICE", "NUMBER", "FAULT"), rows))


def _clear_faults(lab: Lab, _args: argparse.Namespace) -> Output:
    lab.cloud.clear_faults()
    return Output({}, "no fault is armed")


def _delay(lab: Lab, args: argparse.Namespace) -> Output:
    delays = lab.cloud.set_delays(**pairs(args.changes))
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
    return Output({"time": now}, f"the lab's clock is at {now:.3f}")


def _groups(lab: Lab, _args: argparse.Namespace) -> Output:
    groups: list[dict[str, Any]] = lab.cloud.state()["groups"]
    rows = (
        (g["group_id"], r["priority"], r["direction"], r["policy"], r["protocol"], r["ports"], r["peer"])
        for g in groups
        for r in g["rules"]
    )
    header = ("GROUP", "PRIORITY", "DIRECTION", "POLICY", "PROTOCOL", "PORTS", "PEER")
    return Output(groups, table(header, rows))


def _edit(lab: Lab, args: argparse.Namespace) -> Output:
    rule: RuleSpec = decode(RuleSpec, pairs(args.rule), "rule")
    if args.edit == "add":
        lab.cloud.edit_group(args.group, add=[rule])
    else:
        lab.cloud.edit_group(args.group, remove=[rule])
    return _groups(lab, args)
