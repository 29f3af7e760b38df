"""Whose ENIs they are: the cluster's id as a tag of what the agent makes.

CLUSTER_ID says it, as upstream's manifests do; without it the uid of the Service default/kubernetes, which is
as old as the cluster and which the agent may read anyway. It is asked for before the first ENI is made and
remembered. An API server that does not say it keeps no ENI from being made: the instance's id is tag enough
to find it again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from control.agent.state.journal import Journal
from control.model.errors import KubernetesError
from control.model.pod import Kubernetes

log = logging.getLogger(__name__)

CLUSTER_TAG = "terway.alibabacloud.com/cluster"
FACT = "cluster_id"


class ClusterId:
    """``told`` is the operator's word, "" for none."""

    def __init__(self, journal: Journal, kubernetes: Kubernetes, *, told: str = "") -> None:
        self._journal = journal
        self._kubernetes = kubernetes
        self._told = told

    @property
    def known(self) -> str:
        return self._told or self._journal.facts.get(FACT, "")

    async def learn(self) -> None:
        """Ask for it unless it is known. Never fails."""
        if self.known:
            return
        try:
            found = await self._kubernetes.cluster_id()
            if found:
                self._journal.note(FACT, found)
        except KubernetesError as exc:
            log.warning("ENIs get no tag of the cluster for now: %s", exc)

    def tags(self) -> tuple[tuple[str, str], ...]:
        return ((CLUSTER_TAG, self.known),) if self.known else ()

    def is_another(self, tags: Mapping[str, str]) -> bool:
        """The tags are of an ENI that another cluster's agent made, on this instance perhaps."""
        return bool(self.known) and tags.get(CLUSTER_TAG, self.known) != self.known
