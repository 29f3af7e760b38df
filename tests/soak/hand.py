"""Somebody else's hand at the cloud: signed calls of the OpenAPI that no agent makes."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
import time
import uuid
from typing import Any
from urllib.parse import quote

from datapath import namespace
from lab.client import Lab
from lab.cloud.request import Request
from lab.cloud.signature import ACS3, acs3_signature, acs3_string_to_sign
from lab.spec import METADATA_ADDRESS, OPENAPI_ADDRESS

VERSION = "2014-05-26"


class Refused(Exception):
    """The cloud's code."""


def call(lab: Lab, action: str, **parameters: str) -> dict[str, Any]:
    """Its answer. Raises Refused, OSError."""
    query = {"RegionId": lab.spec.region, **parameters}
    body_hash = hashlib.sha256(b"").hexdigest()
    headers = {
        "host": str(OPENAPI_ADDRESS),
        "x-acs-action": action,
        "x-acs-content-sha256": body_hash,
        "x-acs-date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(lab.cloud.advance(0))),
        "x-acs-signature-nonce": uuid.uuid4().hex,
        "x-acs-version": VERSION,
    }
    request = Request("POST", "/", tuple(query.items()), headers)
    signature = acs3_signature(acs3_string_to_sign(request, headers, body_hash), lab.spec.access_secret)
    names = ";".join(headers)
    headers["Authorization"] = (
        f"{ACS3} Credential={lab.spec.access_key},SignedHeaders={names},Signature={signature}"
    )
    target = "/?" + "&".join(f"{k}={quote(v, safe='-_.~')}" for k, v in query.items())
    status, text = _ask(lab.netns_fd("cloud"), str(OPENAPI_ADDRESS), "POST", target, headers)
    answer: dict[str, Any] = json.loads(text)
    if status >= 400:
        raise Refused(str(answer.get("Code")))
    return answer


def metadata(lab: Lab, node: str, path: str) -> str:
    """What the metadata service tells the node at ``path`` below /latest/meta-data/; "" for nothing."""
    status, text = _ask(
        lab.netns_fd(node), str(METADATA_ADDRESS), "GET", f"/latest/meta-data/{path}", {"host": "metadata"}
    )
    return text if status == 200 else ""


def _ask(netns: int, address: str, method: str, target: str, headers: dict[str, str]) -> tuple[int, str]:
    """One request from inside a network namespace, whose file is closed."""
    try:
        with namespace.entered(netns):
            connected = socket.create_connection((address, 80), timeout=30.0)
    finally:
        os.close(netns)
    connection = http.client.HTTPConnection(address, timeout=30.0)
    connection.sock = connected
    try:
        connection.request(method, target, body=b"", headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()
