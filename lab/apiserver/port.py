"""What a lab asks of its Kubernetes API server, whichever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from lab.nodes.host import Host

Object = dict[str, Any]
Say = Callable[[str], None]


def node_object(host: Host) -> Object:
    """What a kubelet registers and the controller of a cloud completes, as far as a CNI looks at it."""
    return {
        "metadata": {"name": host.name, "labels": host.all_labels},
        "spec": {"providerID": host.provider_id},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": host.address},
                {"type": "Hostname", "address": host.name},
            ]
        },
    }


class ApiServer(Protocol):
    """Listens at the lab's address for it, in the cloud's namespace. Safe to call from several threads."""

    def start(self) -> None:
        """Serve, or serve again what ``stop`` left; ready when this returns.

        Raises LabError if it serves already, or does not come up.
        """

    def stop(self) -> None:
        """Die: the port is closed and every connection dropped. Objects stay. Nothing if it does not run."""

    @property
    def requests(self) -> tuple[tuple[str, str], ...]:
        """The latest thousand requests, oldest first: method, and path with query."""
        ...

    def describe(self) -> Object:
        """For a person: ``server`` (its name and version), ``url``, and ``kubeconfig`` ("" if none is needed)
        of an administrator."""
        ...

    def add_node(self, host: Host) -> None:
        """A Node object; one of that name that is there is replaced. Raises LabError."""

    def remove_node(self, name: str) -> None:
        """Succeeds if there is none, and if the server does not run."""
