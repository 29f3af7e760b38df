"""The two signatures that clients of Alibaba Cloud make, computed from a request as it arrived.

ACS3-HMAC-SHA256 (in the Authorization header) covers the headers it lists in SignedHeaders, the query and
the hash of the body. The older RPC style (Signature among the parameters) is base64(HMAC-SHA1) over all
query and form parameters but itself. Both encode by RFC 3986: a space is %20, ``*`` is %2A, ``~`` stays.
Sources: "V3 request body and signature mechanism" and "RPC request and signature" of the OpenAPI manual.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from lab.cloud.request import Pairs, Request

ACS3 = "ACS3-HMAC-SHA256"

_AUTHORIZATION = re.compile(
    ACS3
    + r"\s+Credential=(?P<key>[^,\s]+),\s*SignedHeaders=(?P<headers>[^,\s]+),\s*Signature=(?P<mac>[0-9a-f]+)"
)


@dataclass(frozen=True, slots=True)
class Acs3Authorization:
    access_key_id: str
    signed_headers: tuple[str, ...]
    signature: str


def parse_acs3(authorization: str) -> Acs3Authorization | None:
    """None if it is not of this style, or malformed."""
    match = _AUTHORIZATION.fullmatch(authorization.strip())
    if match is None:
        return None
    return Acs3Authorization(match["key"], tuple(match["headers"].split(";")), match["mac"])


def acs3_string_to_sign(request: Request, signed_headers: Iterable[str], body_hash: str) -> str:
    """``signed_headers`` in the client's order, which is by name. A missing header counts as empty."""
    names = list(signed_headers)
    canonical = "\n".join(
        (
            request.method,
            quote(request.path, safe="/~"),
            "&".join(f"{_encode(k)}={_encode(v)}" for k, v in sorted(request.query)),
            "".join(f"{name}:{request.headers.get(name, '').strip()}\n" for name in names),
            ";".join(names),
            body_hash,
        )
    )
    return f"{ACS3}\n{hashlib.sha256(canonical.encode()).hexdigest()}"


def acs3_signature(string_to_sign: str, secret: str) -> str:
    return hmac.new(secret.encode(), string_to_sign.encode(), hashlib.sha256).hexdigest()


def rpc_string_to_sign(method: str, parameters: Pairs) -> str:
    """``parameters`` of query and form together, decoded; Signature itself is left out."""
    pairs = sorted((_encode(k), _encode(v)) for k, v in parameters if k != "Signature")
    return f"{method}&%2F&{_encode('&'.join(f'{k}={v}' for k, v in pairs))}"


def rpc_signature(string_to_sign: str, secret: str) -> str:
    mac = hmac.new(f"{secret}&".encode(), string_to_sign.encode(), hashlib.sha1)
    return base64.b64encode(mac.digest()).decode()


def _encode(text: str) -> str:
    return quote(text, safe="-_.~")
