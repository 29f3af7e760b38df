"""JSON Merge Patch, RFC 7396: how a node's own ``eni_conf`` changes the cluster's.

The node's label ``terway-config`` names a ConfigMap whose key eni_conf is the patch. null removes a key,
objects merge, everything else, lists too, replaces.
"""

from __future__ import annotations

from collections.abc import Mapping


def merge_patch(target: Mapping[str, object], patch: Mapping[str, object]) -> dict[str, object]:
    """A new object; neither argument changes. Null inside a list is a value and stays, as the RFC says."""
    merged = dict(target)
    for key, change in patch.items():
        if change is None:
            merged.pop(key, None)
        elif isinstance(change, Mapping):
            below = merged.get(key)
            merged[key] = merge_patch(below if isinstance(below, Mapping) else {}, change)
        else:
            merged[key] = change
    return merged
