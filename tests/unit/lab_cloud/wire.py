"""Requests that are signed by the SDKs' own signers, and may then be altered before they are sent."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from alibabacloud_tea_openapi.utils import Utils
from aliyunsdkcore.auth.composer import rpc_signature_composer
from darabonba.request import DaraRequest

from lab.cloud.signature import ACS3
from tests.unit.lab_cloud.bench import REGION, Bench

VERSION = "2014-05-26"


def timestamp(offset: float = 0.0) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + offset))


@dataclass(slots=True)
class Signed:
    """A request as it goes out; change any part of it to tamper with it."""

    method: str = "POST"
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""

    def send(self, cloud: Bench) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Status, body and headers of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", cloud.port, timeout=10)
        try:
            connection.request(self.method, f"/?{urlencode(self.query)}", self.body, self.headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read()), dict(response.getheaders())
        finally:
            connection.close()

    def code(self, cloud: Bench) -> tuple[str, int]:
        """Error code, "" for a success, and status."""
        status, body, _ = self.send(cloud)
        return str(body.get("Code", "")), status


def acs3(cloud: Bench, action: str, query: dict[str, str], *, unsigned: str = "", **headers: str) -> Signed:
    """``headers`` override those of the envelope, by their names with ``_`` for ``-``.

    ``unsigned`` names a header that is sent but not in the signature.
    """
    spec = cloud.state.spec
    request = DaraRequest()
    request.method, request.pathname = "POST", "/"
    request.query = {"RegionId": REGION, **query}
    empty = hashlib.sha256(b"").hexdigest()
    request.headers = {
        "host": cloud.endpoint,
        "x-acs-version": VERSION,
        "x-acs-action": action,
        "x-acs-date": timestamp(),
        "x-acs-signature-nonce": uuid.uuid4().hex,
        "x-acs-content-sha256": empty,
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    signed = dict(request.headers)
    request.headers.pop(unsigned, None)
    signed["Authorization"] = Utils.get_authorization(
        request, ACS3, request.headers["x-acs-content-sha256"], spec.access_key, spec.access_secret
    )
    return Signed(query=dict(request.query), headers=signed)


def rpc(
    cloud: Bench,
    action: str,
    query: dict[str, str],
    *,
    method: str = "GET",
    form: dict[str, str] | None = None,
) -> Signed:
    """Signed in the older style; ``form`` are parameters that travel in the body."""
    spec = cloud.state.spec
    parameters = {"Action": action, "Version": VERSION, "RegionId": REGION, **query}
    target, _ = rpc_signature_composer.get_signed_url(
        parameters, spec.access_key, spec.access_secret, "JSON", method, form or {}
    )
    return Signed(
        method=method,
        query=dict(parse_qsl(urlsplit(target).query, keep_blank_values=True)),
        headers={"Content-Type": "application/x-www-form-urlencoded"} if form else {},
        body=urlencode(form or {}),
    )
