"""What the start must know of the node: asked of metadata and cloud, and remembered in the ledger.

A daemon that is started again needs none of them to answer: what they said before is there.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import Any, TypeVar

from control.agent.state.journal import Journal
from control.model.cloud import Cloud, InstanceLimits, Metadata, NodeIdentity
from control.model.errors import ConfigError, MetadataError
from control.model.ids import Mac, SecurityGroupId

log = logging.getLogger(__name__)

T = TypeVar("T")

LIMITS_AGE = 15 * 24 * 3600.0
"""Seconds after which an instance type's limits are asked for again, as upstream's daemon does. Until the
cloud answers, the old ones serve: a type's limits change next to never, and pods are waiting."""
IDENTITY, LIMITS, GROUPS = "identity", "limits", "primary_groups"


def _read(kind: type[T], value: Any) -> T | None:
    """A fact as this version knows it; one that another version wrote otherwise is asked for again."""
    try:
        return kind(**value)
    except TypeError:
        return None


class Known:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.disowned = ""
        """Whose ledger it was; "" for this node's."""

    async def identity(self, metadata: Metadata) -> NodeIdentity:
        """From metadata; if that is away, from what it said before the last restart."""
        try:
            identity = await metadata.identity()
        except MetadataError:
            known = _read(NodeIdentity, self._journal.read_fact(IDENTITY))
            if known is None:
                raise
            return known
        before = _read(NodeIdentity, self._journal.read_fact(IDENTITY))
        if before is not None and before.instance_id != identity.instance_id:
            self._disown(before, identity)
        self._journal.note(IDENTITY, json.dumps(asdict(identity)))
        return identity

    def _disown(self, before: NodeIdentity, identity: NodeIdentity) -> None:
        """A disk or an image was copied: what the ledger says is about ENIs and pods of the other node."""
        aside = self._journal.disown(keep=(LIMITS,))
        self.disowned = (
            f"the ledger was that of instance {before.instance_id} and this node is {identity.instance_id}: "
            f"it was moved to {aside}, and nothing of the other node is touched"
        )
        log.warning("%s", self.disowned)

    def primary_mac(self) -> Mac | None:
        known = _read(NodeIdentity, self._journal.read_fact(IDENTITY))
        return None if known is None else Mac(known.mac)

    async def limits(self, cloud: Cloud, instance_type: str) -> InstanceLimits:
        """The cloud is asked only if nothing is known of this type: old limits serve on."""
        known, _ = self._limits()
        if known is not None and known.instance_type == instance_type:
            return known
        return await self.new_limits(cloud, instance_type)

    def limits_are_old(self) -> bool:
        _, at = self._limits()
        return self._journal.now() - at >= LIMITS_AGE

    async def new_limits(self, cloud: Cloud, instance_type: str) -> InstanceLimits:
        """Raises CloudError."""
        limits = await cloud.instance_limits(instance_type)
        self._journal.note(LIMITS, json.dumps({"at": self._journal.now(), "limits": asdict(limits)}))
        return limits

    def _limits(self) -> tuple[InstanceLimits | None, float]:
        """What is remembered, and when the cloud said so."""
        fact = self._journal.read_fact(LIMITS)
        if not isinstance(fact, dict):
            return None, 0.0
        at = fact.get("at")
        return _read(InstanceLimits, fact.get("limits")), at if isinstance(at, float) else 0.0

    async def primary_groups(self, cloud: Cloud, identity: NodeIdentity) -> tuple[SecurityGroupId, ...]:
        """The primary ENI's security groups, for a configuration without any. Asked for once."""
        known = self._journal.read_fact(GROUPS)
        if not known or not isinstance(known, list):
            enis = await cloud.enis_of_instance(identity.instance_id)
            primary = [e for e in enis if e.mac == identity.mac]
            if not primary or not primary[0].security_groups:
                raise ConfigError(
                    f"the primary ENI of {identity.instance_id} shows no security group",
                    remedy="set security_group in eni-config",
                )
            known = list(primary[0].security_groups)
            self._journal.note(GROUPS, json.dumps(known))
        return tuple(map(SecurityGroupId, known))
