"""Is this call signed by somebody we know, now, and for the first time? Errors are the gateway's own.

Timestamps are compared with this machine's clock and not with the lab's: clients sign with the clock of the
machine they share with us, and a test that moves the lab's clock by a day must not lock them out.
``clock_skew`` plays a node whose clock is wrong. Expiry of credentials goes by the lab's clock.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from lab.clock import LabClock
from lab.cloud import errors, signature
from lab.cloud.credentials import Credential, Credentials
from lab.cloud.errors import ApiError
from lab.cloud.request import Pairs, Request

TIMESTAMP_TOLERANCE = 15 * 60.0
_MUST_BE_SIGNED = (
    "x-acs-action",
    "x-acs-version",
    "x-acs-date",
    "x-acs-signature-nonce",
    "x-acs-content-sha256",
)
_SECURITY_TOKEN = "x-acs-security-token"
_RPC_ENVELOPE = frozenset(
    {
        "AccessKeyId",
        "Action",
        "Format",
        "SecurityToken",
        "Signature",
        "SignatureMethod",
        "SignatureNonce",
        "SignatureType",
        "SignatureVersion",
        "Timestamp",
        "Version",
    }
)


@dataclass(frozen=True, slots=True)
class SignedCall:
    """``parameters`` are the action's own, without what the signature is made of."""

    action: str
    version: str
    parameters: dict[str, str]
    credential: Credential


def action_of(request: Request) -> str:
    """The action a request names, true or not; "" for none."""
    return request.headers.get("x-acs-action") or dict((*request.query, *request.form)).get("Action", "")


class Authenticator:
    """Thread-safe."""

    def __init__(self, credentials: Credentials, clock: LabClock) -> None:
        self.clock_skew = 0.0
        """Seconds that this service's clock is ahead of its clients'."""
        self._credentials = credentials
        self._clock = clock
        self._lock = threading.Lock()
        self._nonces: dict[str, float] = {}

    def check(self, request: Request) -> SignedCall:
        """Raises an ApiError that says what is wrong with the signature, the key, the token or the time."""
        if request.headers.get("authorization", "").startswith(signature.ACS3):
            return self._check_acs3(request)
        return self._check_rpc(request)

    def _check_acs3(self, request: Request) -> SignedCall:
        authorization = signature.parse_acs3(request.headers["authorization"])
        if authorization is None:
            raise ApiError("IncompleteSignature", "The request signature does not conform to the standards.")
        headers = request.headers
        for name in _MUST_BE_SIGNED:
            if name not in headers:
                raise errors.missing_parameter(name)
        credential = self._credentials.find(
            authorization.access_key_id, headers.get(_SECURITY_TOKEN, ""), now=self._clock.now()
        )
        self._check_time(headers["x-acs-date"])
        body_hash = hashlib.sha256(request.body).hexdigest()
        string_to_sign = signature.acs3_string_to_sign(request, authorization.signed_headers, body_hash)
        unsigned = [name for name in _MUST_BE_SIGNED if name not in authorization.signed_headers]
        if _SECURITY_TOKEN in headers and _SECURITY_TOKEN not in authorization.signed_headers:
            unsigned.append(_SECURITY_TOKEN)
        expected = signature.acs3_signature(string_to_sign, credential.secret)
        if unsigned or not hmac.compare_digest(expected, authorization.signature):
            raise _mismatch(string_to_sign)
        self._check_nonce(headers["x-acs-signature-nonce"])
        return SignedCall(
            action=headers["x-acs-action"],
            version=headers["x-acs-version"],
            parameters=dict((*request.query, *request.form)),
            credential=credential,
        )

    def _check_rpc(self, request: Request) -> SignedCall:
        pairs: Pairs = (*request.query, *request.form)
        values = dict(pairs)
        for name in ("AccessKeyId", "Signature", "SignatureNonce", "Timestamp", "Action", "Version"):
            if not values.get(name):
                raise errors.missing_parameter(name)
        if values.get("SignatureMethod") != "HMAC-SHA1" or values.get("SignatureVersion", "1.0") != "1.0":
            raise errors.invalid_parameter("SignatureMethod", "this service checks HMAC-SHA1, version 1.0")
        credential = self._credentials.find(
            values["AccessKeyId"], values.get("SecurityToken", ""), now=self._clock.now()
        )
        self._check_time(values["Timestamp"])
        string_to_sign = signature.rpc_string_to_sign(request.method, pairs)
        expected = signature.rpc_signature(string_to_sign, credential.secret)
        if not hmac.compare_digest(expected.encode(), values["Signature"].encode()):
            raise _mismatch(string_to_sign)
        self._check_nonce(values["SignatureNonce"])
        return SignedCall(
            action=values["Action"],
            version=values["Version"],
            parameters={k: v for k, v in values.items() if k not in _RPC_ENVELOPE},
            credential=credential,
        )

    def _check_time(self, text: str) -> None:
        try:
            at = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
        except ValueError:
            raise ApiError(
                "InvalidTimeStamp.Format",
                f"Specified time stamp or date value {text!r} is not well formatted.",
            ) from None
        if abs(time.time() + self.clock_skew - at) > TIMESTAMP_TOLERANCE:
            raise ApiError("InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")

    def _check_nonce(self, nonce: str) -> None:
        """A nonce is remembered as long as a timestamp is good, so no request works twice."""
        now = time.monotonic()
        with self._lock:
            for old, since in list(self._nonces.items()):
                if since > now - 2 * TIMESTAMP_TOLERANCE:
                    break
                del self._nonces[old]
            if nonce in self._nonces:
                raise ApiError("SignatureNonceUsed", "Specified signature nonce was used already.")
            self._nonces[nonce] = now


def _mismatch(string_to_sign: str) -> ApiError:
    """Old SDKs compare what follows the colon with their own string, to tell a wrong secret from a bug."""
    return ApiError(
        "SignatureDoesNotMatch",
        f"Specified signature is not matched with our calculation. server string to sign is:{string_to_sign}",
    )
