"""ADDs that fail as they should, and pods that do not notice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lab.cni_call import CniError
from lab.sandbox import LabPod
from lab.spec import OUTSIDE_ADDRESS
from tests.e2e.benches import unchanged
from tests.e2e.conftest import Bench
from tests.e2e.witnesses import assert_agree, reaches, settled

BLOCKED = 6.0
"""Seconds after which something that was refused once is asked for again."""
WATCH = 61
"""Seconds after which the daemon has looked at metadata again."""
COOLED = 31
"""Seconds after which an address may be used again."""


def refused(made: Bench, name: str) -> CniError:
    """The ADD of a new pod, which must fail. Its object goes too."""
    try:
        pod = made.pod(name)
    except CniError as exc:
        made.lab.kubernetes.delete_pod(made.node.name, name)
        return exc
    raise AssertionError(f"ADD of {pod.key} succeeded with {pod.addresses}")


@contextmanager
def undisturbed(made: Bench) -> Iterator[LabPod]:
    """A pod whose traffic goes on, before and after."""
    pod = made.pod("steady")
    settled(made.node)
    yield pod
    assert reaches(pod, str(OUTSIDE_ADDRESS))
    assert not made.drops()


def assert_refused(made: Bench, name: str, code: int, *words: str) -> CniError:
    """An ADD fails with ``code`` and all words, and leaves nothing behind."""
    with unchanged(made):
        error = refused(made, name)
    assert error.code == code, error
    for word in words:
        assert word in str(error), error
    return error


def served(made: Bench, name: str) -> LabPod:
    pod = made.pod(name)
    assert_agree(made.lab, made.node)
    return pod
