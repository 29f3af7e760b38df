"""Who may call: the account's access key, and temporary credentials of a RAM role (STS).

The metadata service hands out STS credentials for the role of an instance; they expire by the lab's clock.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass

from lab.cloud import errors
from lab.cloud.errors import ApiError

LIFETIME = 6 * 3600.0
RENEWED_BEFORE_END = 1800.0
_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Credential:
    """``token`` "" and no ``expires`` for an access key of the account. Times are the lab's."""

    access_key_id: str
    secret: str
    principal: str
    token: str = ""
    instance_id: str = ""
    issued: float = 0.0
    expires: float | None = None


class Credentials:
    """Issues and finds credentials, and knows what a principal is denied. Thread-safe."""

    def __init__(self, access_key: str, access_secret: str) -> None:
        self.lifetime = LIFETIME
        """Seconds; may be changed at run time, for credentials issued from then on."""
        self._lock = threading.Lock()
        self._account = Credential(access_key, access_secret, principal=access_key)
        self._issued: OrderedDict[str, Credential] = OrderedDict()
        self._current: dict[tuple[str, str], Credential] = {}
        self._denied: set[tuple[str, str]] = set()

    def of_role(self, role: str, instance_id: str, *, now: float) -> Credential:
        """The role's credentials on this instance; new ones in the last half hour of the old ones' life."""
        with self._lock:
            current = self._current.get((role, instance_id))
            margin = min(RENEWED_BEFORE_END, self.lifetime / 12)
            if current is None or current.expires is None or now > current.expires - margin:
                current = self._issue(role, instance_id, now)
            return current

    def secrets(self) -> list[str]:
        """Key ids, secrets and tokens that open something here, or did."""
        with self._lock:
            known = (self._account, *self._issued.values())
        return [text for one in known for text in (one.access_key_id, one.secret, one.token) if text]

    def find(self, access_key_id: str, token: str, *, now: float) -> Credential:
        """The credential for a signature check. Raises what the gateway answers for a bad key or token."""
        with self._lock:
            found = self._issued.get(access_key_id)
            if access_key_id == self._account.access_key_id:
                found = self._account
            known_tokens = {credential.token for credential in self._issued.values()} if token else set()
        if found is None:
            raise ApiError("InvalidAccessKeyId.NotFound", "Specified access key is not found.", status=404)
        if found.token and not token:
            raise errors.missing_parameter("SecurityToken")
        if token != found.token:
            if token in known_tokens:
                raise ApiError(
                    "InvalidSecurityToken.MismatchWithAccessKey",
                    "Specified SecurityToken mismatch with the AccessKey.",
                )
            raise ApiError("InvalidSecurityToken.Malformed", "Specified SecurityToken is malformed.")
        if found.expires is not None and now >= found.expires:
            raise ApiError("InvalidSecurityToken.Expired", "Specified SecurityToken is expired.")
        return found

    def deny(self, action: str, principal: str = "") -> None:
        """Calls of ``action`` by ``principal`` (an access key id or a role; "" for all) get Forbidden.RAM."""
        with self._lock:
            self._denied.add((action, principal))

    def allow_all(self) -> None:
        with self._lock:
            self._denied.clear()

    def authorize(self, action: str, principal: str) -> None:
        """Raises Forbidden.RAM."""
        with self._lock:
            denied = (action, "") in self._denied or (action, principal) in self._denied
        if denied:
            raise errors.forbidden(action)

    def _issue(self, role: str, instance_id: str, now: float) -> Credential:
        credential = Credential(
            access_key_id="STS." + secrets.token_hex(12),
            secret=secrets.token_hex(20),
            principal=role,
            token="CAIS" + secrets.token_urlsafe(48),
            instance_id=instance_id,
            issued=now,
            expires=now + self.lifetime,
        )
        self._issued[credential.access_key_id] = credential
        self._current[role, instance_id] = credential
        while len(self._issued) > _KEPT:
            self._issued.popitem(last=False)
        return credential
