"""``./run lab ecs fault ...``: calls that fail, hang, or lose their answer."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from lab.cli.fields import Field, describe, read
from lab.cli.table import table
from lab.cli.words import Output, Words
from lab.client import Lab
from lab.cloud.actions import ACTIONS
from lab.cloud.error_codes import ERROR_CODES
from lab.cloud.faults import ANY, Distortion, Drop

FIELDS: Mapping[str, Field] = {
    "action": Field(
        f"of the API; {ANY}, the default, is any",
        (ANY, *sorted({action.name for action in ACTIONS.values()})),
    ),
    "instance_id": Field("calls about this instance, about an ENI of it, or from it (default: all)"),
    "eni_id": Field("calls about this ENI (default: all)"),
    "code": Field("answer this error and do nothing", tuple(sorted(ERROR_CODES))),
    "status": Field("HTTP status of that answer (default: what the code comes with)"),
    "message": Field("text of that answer"),
    "latency": Field("seconds from the call to its effect (default: 0)"),
    "drop": Field("close the connection without an answer", tuple(filter(None, map(str, Drop)))),
    "distortion": Field(
        "an answer that does not tell what happened", tuple(filter(None, map(str, Distortion)))
    ),
    "partial": Field("an assignment by count gives at most this many addresses"),
    "count": Field("how often it happens (default: until it is cleared)"),
}
METADATA_FIELDS: Mapping[str, Field] = {
    "path": Field("what such paths below /latest/ begin with, e.g. meta-data/mac (default: all)"),
    "instance_id": Field("from this instance (default: all)"),
    "status": Field("HTTP status of the answer (default: as usual, after the latency)"),
    "latency": Field("seconds before the answer (default: 0)"),
    "count": Field("how often it happens (default: until it is cleared)"),
}


def declare(ecs: Words) -> None:
    fault = ecs.group("fault", "Faults on demand, of the OpenAPI or the metadata service.")
    add = fault.on_lab(
        "add",
        _add,
        "Make calls fail, hang or lose their answer.",
        "action=AssignPrivateIpAddresses code=Throttling.User count=3",
        f"{describe(FIELDS)}\n\nwith --metadata, {describe(METADATA_FIELDS)}",
    )
    add.add_argument("--metadata", action="store_true", help="a fault of the metadata service")
    add.add_argument("--any-code", action="store_true", help="a code that is not in the list below")
    add.add_argument("fields", nargs="+", metavar="FIELD=VALUE", help="see below")
    fault.on_lab("list", _list, "List the faults that are armed.", "--json")
    fault.on_lab("clear", _clear, "Disarm all faults.", "")


def _add(lab: Lab, args: argparse.Namespace) -> Output:
    if args.metadata:
        number = lab.cloud.add_metadata_fault(**read(args.fields, METADATA_FIELDS, "a metadata fault"))
        return Output({"fault": number}, f"fault {number} is armed")
    known = {**FIELDS, "code": Field("any")} if args.any_code else FIELDS
    given = read(args.fields, known, "a fault")
    if given.get("code") in ERROR_CODES:
        given.setdefault("status", ERROR_CODES[given["code"]])
    number = lab.cloud.add_fault(**given)
    return Output({"fault": number}, f"fault {number} is armed")


def _list(lab: Lab, _args: argparse.Namespace) -> Output:
    faults = lab.cloud.faults()
    rows = (
        (service, number, [f"{k}={v}" for k, v in fault.items() if v not in ("", None, 0)])
        for service, armed in faults.items()
        for number, fault in armed.items()
    )
    return Output(faults, table(("SERVICE", "NUMBER", "FAULT"), rows))


def _clear(lab: Lab, _args: argparse.Namespace) -> Output:
    lab.cloud.clear_faults()
    return Output({}, "no fault is armed")
