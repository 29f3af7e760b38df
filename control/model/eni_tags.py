"""Tags that say in the cloud what an ENI is for: a lost ledger is no reason to share a pod's own."""

from __future__ import annotations

from collections.abc import Iterable

from control.model.modes import EniKind

KIND_TAG = "terway.alibabacloud.com/eni-kind"
"""Of an ENI that is no shared one. ECS calls all of them Secondary."""


def kind_tags(kind: EniKind) -> tuple[tuple[str, str], ...]:
    """A shared ENI has none, as those of earlier releases."""
    return () if kind is EniKind.SECONDARY else ((KIND_TAG, kind.value),)


def tagged_kind(tags: Iterable[tuple[str, str]]) -> EniKind:
    """What a later release has a word for and this one has not serves nobody here, as a MEMBER."""
    word = dict(tags).get(KIND_TAG, EniKind.SECONDARY.value)
    return EniKind(word) if word in set(EniKind) else EniKind.MEMBER
