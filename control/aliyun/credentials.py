"""Who the agent is to the cloud: an access key of the configuration, or the RAM role of its instance."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from control.model.clock import Clock
from control.model.errors import Cause, CloudError, ConfigError, MetadataError

log = logging.getLogger(__name__)

ROLE_PATH = "ram/security-credentials/"
"""Below /latest/meta-data/: the role's name; with that name appended, its credentials as JSON."""

_MARGIN = 180.0
_REREAD = 10.0

ReadText = Callable[[str], Awaitable[str | None]]
"""Text of a path below /latest/meta-data/, None if it is not there. Raises MetadataError."""


@dataclass(frozen=True, slots=True)
class Credentials:
    access_key_id: str
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)
    expires_at: float = float("inf")
    """Seconds since the epoch."""


class CredentialSource(Protocol):
    async def get(self) -> Credentials:
        """Valid ones, cached. Raises CloudError."""
        ...

    def expired(self, credentials: Credentials) -> bool:
        """The cloud called ``credentials`` expired. True if ``get`` can bring others."""
        ...


class AccessKey:
    """A key that does not expire. Raises ConfigError if a half of it is missing."""

    def __init__(self, access_key_id: str, secret: str) -> None:
        if not access_key_id or not secret:
            missing = "access_key" if not access_key_id else "access_secret"
            raise ConfigError(
                f"{missing} is empty", remedy="give both access_key and access_secret, or neither"
            )
        self._credentials = Credentials(access_key_id, secret)

    async def get(self) -> Credentials:
        return self._credentials

    def expired(self, _credentials: Credentials) -> bool:
        return False


class MountedKey:
    """A key in files of a mounted Secret, which somebody may exchange: read anew for each use.

    ``read`` gives id and secret. What cannot be read, or is a half, leaves the key that was read before.
    """

    def __init__(self, read: Callable[[], tuple[str, str]]) -> None:
        self._read = read
        self._key = AccessKey(*read())

    async def get(self) -> Credentials:
        try:
            found = AccessKey(*self._read())
        except ConfigError as exc:
            log.warning("the access key is as it was read before: %s", exc)
            return await self._key.get()
        if await found.get() != await self._key.get():
            log.info("the access key is another one from now on")
            self._key = found
        return await self._key.get()

    def expired(self, _credentials: Credentials) -> bool:
        return False


class InstanceRole:
    """Credentials of the RAM role bound to the instance, read again shortly before they expire."""

    def __init__(self, read: ReadText, clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._current: Credentials | None = None
        self._read_again_at = 0.0
        self._reading = asyncio.Lock()

    async def get(self) -> Credentials:
        async with self._reading:
            if self._current is None or self._clock.now() >= self._read_again_at:
                self._current = await self._renewed(self._current)
                # A service that still gives the old ones is asked again soon, yet not on every call.
                self._read_again_at = max(self._current.expires_at - _MARGIN, self._clock.now() + _REREAD)
            return self._current

    async def _renewed(self, old: Credentials | None) -> Credentials:
        """New ones, or the old ones to their end while metadata does not give any."""
        try:
            return await self._fetch()
        except CloudError as exc:
            if old is None or old.expires_at <= self._clock.now():
                raise
            log.warning("the role's credentials serve on until they expire: %s", exc)
            return old

    def expired(self, credentials: Credentials) -> bool:
        if self._current is not None and self._current.token == credentials.token:
            self._current = None
        return True

    async def _fetch(self) -> Credentials:
        try:
            role = await self._read(ROLE_PATH)
            document = await self._read(f"{ROLE_PATH}{role.split()[0]}") if role and role.split() else None
        except MetadataError as exc:
            raise _refused(exc.what, Cause.METADATA, exc.remedy) from exc
        if document is None:
            raise _refused(
                "the instance has no RAM role",
                Cause.CREDENTIALS,
                "bind a RAM role to the instance (ECS console, or AttachInstanceRamRole), or set access_key"
                " and access_secret in eni-config",
            )
        try:
            return parse_credentials(document)
        except ValueError as exc:
            raise _refused(
                f"{ROLE_PATH}{role}: {exc}", Cause.METADATA, "it is read again by itself; check the RAM role"
            ) from exc


def parse_credentials(document: str) -> Credentials:
    """One document of the metadata service. Raises ValueError that names the field and shows no secret."""
    try:
        fields = json.loads(document)
    except ValueError as exc:
        raise ValueError("not JSON") from exc
    if not isinstance(fields, dict) or fields.get("Code", "Success") != "Success":
        raise ValueError(f"Code is {fields.get('Code') if isinstance(fields, dict) else None!r}")
    for name in ("AccessKeyId", "AccessKeySecret", "SecurityToken", "Expiration"):
        if not isinstance(fields.get(name), str) or not fields[name]:
            raise ValueError(f"{name} is missing")
    try:
        expires_at = datetime.fromisoformat(fields["Expiration"]).timestamp()
    except ValueError as exc:
        raise ValueError(f"Expiration is {fields['Expiration']!r}") from exc
    return Credentials(fields["AccessKeyId"], fields["AccessKeySecret"], fields["SecurityToken"], expires_at)


def _refused(what: str, cause: Cause, remedy: str) -> CloudError:
    return CloudError(f"no credentials for the OpenAPI: {what}", cause=cause, action=ROLE_PATH, remedy=remedy)
