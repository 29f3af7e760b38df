"""How to reach the cloud, and what the daemon wants to hear of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Observe = Callable[[str, str, float], None]
"""(api or path, error code or "", seconds). Called on the event loop; must not block or raise."""


def unobserved(_api: str, _error: str, _seconds: float) -> None:
    """The Observe of whoever does not care."""


@dataclass(frozen=True, slots=True)
class Observers:
    """``openapi`` hears of every attempt, ``rate_limit`` of every wait (its error is always "")."""

    openapi: Observe = unobserved
    rate_limit: Observe = unobserved


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """One account and region. Times are in seconds."""

    region: str
    ecs_endpoint: str = ""
    """Host or host:port; "" is the region's endpoint inside the VPC."""
    vpc_endpoint: str = ""
    scheme: str = "https"
    """``https``, or ``http`` for a lab."""
    http_proxy: str = ""
    """URL. The environment's proxies are not used."""
    https_proxy: str = ""
    ca_file: str = ""
    """PEM bundle to trust instead of the public authorities."""
    connect_timeout: float = 2.0
    read_timeout: float = 10.0
    patience: float = 10.0
    """No attempt of one intent starts later than this after the first."""
    idle: float = 30.0
    """The SDK's process ends after this long without a call, by the clock."""
    rate_limit: Mapping[str, int] = field(default_factory=dict)
    """API name -> calls per minute, as `rate_limit` of eni-config gives it; the others keep their default."""

    def endpoints(self) -> tuple[str, str]:
        """Of the ECS and of the VPC API."""
        ecs = self.ecs_endpoint or f"ecs-vpc.{self.region}.aliyuncs.com"
        return ecs, self.vpc_endpoint or f"vpc-vpc.{self.region}.aliyuncs.com"

    def for_worker(self) -> dict[str, object]:
        """The first frame of ``frames``."""
        ecs, vpc = self.endpoints()
        return {
            "region": self.region,
            "ecs_endpoint": ecs,
            "vpc_endpoint": vpc,
            "scheme": self.scheme,
            "http_proxy": self.http_proxy,
            "https_proxy": self.https_proxy,
            "ca_file": self.ca_file,
            "connect_timeout": self.connect_timeout,
            "read_timeout": self.read_timeout,
        }
