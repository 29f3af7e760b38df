"""Which ENIs of the cloud are this node's: those that it has made are known by their tags."""

from __future__ import annotations

from collections.abc import Callable

from control.agent.allocation.cluster_id import ClusterId
from control.agent.state.journal import Journal
from control.model.cloud import Cloud, Eni, EniStatus, EniType
from control.model.eni_tags import kind_tags
from control.model.ids import EniId, InstanceId
from control.model.records import Operation

NODE_TAG = "terway.alibabacloud.com/instance"
"""Of every ENI that the agent makes: the instance it is made for. An instance's id is no node's name: the
cloud gives it once, and metadata alone says it, so that a copied disk does not copy it."""


class Ownership:
    """``tags`` are those of every ENI for pods."""

    def __init__(
        self,
        *,
        cloud: Cloud,
        journal: Journal,
        cluster: ClusterId,
        instance_id: InstanceId,
        tags: tuple[tuple[str, str], ...],
    ) -> None:
        self._cloud = cloud
        self._journal = journal
        self._cluster = cluster
        self._instance_id = instance_id
        self._ours = tags
        self.on_tagged: Callable[[list[Eni]], None] | None = None
        """Told of orphans when the cloud is next asked about a new ENI, then forgotten."""

    async def tags(self, operation: Operation) -> tuple[tuple[str, str], ...]:
        """Of the ENI that ``operation`` makes. Asks for the cluster's name if nobody has said it yet."""
        await self._cluster.learn()
        node = (NODE_TAG, self._instance_id)
        return (*self._ours, *self._cluster.tags(), node, *kind_tags(operation.eni_kind))

    async def described(self, eni_id: EniId) -> list[Eni]:
        """One call, which also tells of orphans if somebody waits to be told."""
        tell, self.on_tagged = self.on_tagged, None
        if tell is not None:
            tagged = await self._tagged()
            tell([e for e in tagged if self._is_orphan(e)])
            if any(e.eni_id == eni_id for e in tagged):
                return [e for e in tagged if e.eni_id == eni_id]
        return list(await self._cloud.enis([eni_id]))

    async def orphans(self) -> list[Eni]:
        """ENIs that were made for this very instance, are attached to nothing, and nobody's in the ledger."""
        return [e for e in await self._tagged() if self._is_orphan(e)]

    async def _tagged(self) -> tuple[Eni, ...]:
        return await self._cloud.enis_tagged(((NODE_TAG, self._instance_id),))

    def _is_orphan(self, eni: Eni) -> bool:
        """Attached to nothing, and neither a record nor an intent of the ledger is about it."""
        book = self._journal.book
        named = eni.eni_id in book.enis or any(o.eni_id == eni.eni_id for o in book.operations.values())
        unattached = eni.status is EniStatus.AVAILABLE and eni.instance_id is None
        return unattached and not named and eni.eni_type is EniType.SECONDARY and not self.is_anothers(eni)

    def is_anothers(self, eni: Eni) -> bool:
        """Attached to another instance; attached to none, and tagged by another one's agent or cluster."""
        ours, tags = self._instance_id, dict(eni.tags)
        if eni.instance_id is not None:
            return eni.instance_id != ours
        return tags.get(NODE_TAG, ours) != ours or self._cluster.is_another(tags)
