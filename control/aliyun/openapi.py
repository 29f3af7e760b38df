"""One call of the OpenAPI: it waits for its rate limit, goes out with the current credentials, and is
repeated while that can help and patience lasts. Goes on in ``sdk_process``, where the SDK is.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from control.aliyun.actions import OF_VPC, Action
from control.aliyun.answers import Body
from control.aliyun.credentials import Credentials, CredentialSource
from control.aliyun.errors import Refusal, Subject, cloud_error
from control.aliyun.ratelimit import RateLimiter
from control.aliyun.retry import delay_before_retry
from control.aliyun.sdk_process import Call, SdkProcess, Unanswered
from control.aliyun.settings import CloudSettings, Observers
from control.model.clock import Clock
from control.model.errors import Cause, CloudError

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """``parameters`` under the wire's names; ``subject`` is for the words of an error."""

    action: Action
    subject: Subject
    parameters: Mapping[str, object]


class OpenApi:
    """Safe to call concurrently on one event loop. ``close`` its process at the end."""

    def __init__(
        self, settings: CloudSettings, credentials: CredentialSource, clock: Clock, observers: Observers
    ) -> None:
        self.process = SdkProcess(settings, clock)
        self._region = settings.region
        self._endpoints = settings.endpoints()
        self._patience = settings.patience
        self._credentials = credentials
        self._clock = clock
        self._limiter = RateLimiter(settings.rate_limit, clock, observers.rate_limit)
        self._observe = observers.openapi

    async def call(self, request: Request, parse: Callable[[Body], T]) -> T:
        """What ``parse`` makes of the answer. Raises CloudError once no further attempt is worth it.

        ``parse`` raises ValueError for an answer that it cannot read.
        """
        deadline = time.monotonic() + self._patience
        attempt = 0
        while True:
            attempt += 1
            try:
                return parse(await self._attempt(request))
            except ValueError as exc:
                raise self.error(request, Refusal(message=f"the answer is not as documented: {exc}")) from exc
            except CloudError as exc:
                left = deadline - time.monotonic()
                delay = delay_before_retry(exc, attempt=attempt, left=left, jitter=random.random())
                if delay is None or self.process.closed:
                    raise
                log.info("%s; attempt %d follows in %.1f s", exc, attempt + 1, delay)
            await asyncio.sleep(delay)

    def error(self, request: Request, refusal: Refusal) -> CloudError:
        subject = replace(request.subject, endpoint=self._endpoints[request.action in OF_VPC])
        return cloud_error(refusal, action=request.action, subject=subject, now=self._clock.now())

    async def _attempt(self, request: Request) -> Body:
        closed = self._limiter.closed_for(request.action)
        if closed > 0:
            raise self.error(request, Refusal("Throttling", message="as a moment ago", retry_after=closed))
        await self._limiter.wait(request.action)
        credentials = await self._credentials.get()
        try:
            return await self._send(request, credentials)
        except CloudError as exc:
            if exc.cause is Cause.THROTTLED:
                self._limiter.throttled(request.action, exc.retry_after or 0.0)
            if exc.cause is not Cause.CREDENTIALS_EXPIRED or not self._credentials.expired(credentials):
                raise
        return await self._send(request, await self._credentials.get())

    async def _send(self, request: Request, credentials: Credentials) -> Body:
        call = Call(
            request.action,
            {"RegionId": self._region, **request.parameters},
            {"id": credentials.access_key_id, "secret": credentials.secret, "token": credentials.token},
        )
        started = time.monotonic()
        outcome = ""
        try:
            return await self.process.call(call)
        except Unanswered as exc:
            error = self.error(request, exc.refusal)
            outcome = error.code or error.cause
            raise error from exc
        finally:
            self._observe(request.action, outcome, time.monotonic() - started)
