"""Requests and refusals, read from an audit log as kube-apiserver writes it."""

from __future__ import annotations

import json
from pathlib import Path

from lab.apiserver import audit


def line(verb: str, uri: str, stage: str = "RequestReceived", code: int = 0, user: str = "someone") -> str:
    value = {"stage": stage, "verb": verb, "requestURI": uri, "user": {"username": user} if user else {}}
    if code:
        value["responseStatus"] = {"code": code}
    return json.dumps(value) + "\n"


def test_no_log_yet(tmp_path: Path) -> None:
    assert audit.requests(tmp_path / "none") == ()
    assert audit.refusals(tmp_path / "none") == []


def test_verbs_become_methods_and_stages_one_request(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    asked = [
        ("list", "/api/v1/pods?a=b", "GET"),
        ("watch", "/api/v1/pods?watch=true", "GET"),
        ("get", "/version", "GET"),
        ("create", "/api/v1/nodes", "POST"),
        ("update", "/u", "PUT"),
        ("patch", "/p", "PATCH"),
        ("delete", "/d", "DELETE"),
        ("deletecollection", "/c", "DELETE"),
    ]
    log.write_text(
        "".join(line(verb, uri) + line(verb, uri, "ResponseComplete", 200) for verb, uri, _ in asked)
    )
    assert audit.requests(log) == tuple((method, uri) for _, uri, method in asked)


def test_the_latest_thousand(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text("".join(line("get", f"/{n}") for n in range(1005)))
    found = audit.requests(log)
    assert (len(found), found[0], found[-1]) == (1000, ("GET", "/5"), ("GET", "/1004"))


def test_halves_of_lines_are_left_out(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    long = line("get", "/" + "x" * (5 << 20))
    log.write_text(long * 2 + line("get", "/whole") + line("get", "/being-written")[:-9])
    assert [uri for _, uri in audit.requests(log) if len(uri) < 100] == ["/whole"]
    assert len(audit.requests(log)) == 2


def test_refusals(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(
        line("list", "/api/v1/secrets")
        + line("list", "/api/v1/secrets", "ResponseComplete", 403)
        + line("get", "/api/v1/pods", "ResponseComplete", 401, user="")
        + line("get", "/api/v1/pods/p", "ResponseComplete", 404)
    )
    assert audit.refusals(log) == [
        "someone: list /api/v1/secrets: 403",
        "nobody: get /api/v1/pods: 401",
    ]
