"""Real packets between namespaces, through sockets that this thread opens in each."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address

from datapath import namespace
from tests.pace import patience

Address = IPv4Address | IPv6Address

PATIENCE = patience(2.0)
"""Seconds until a datagram that did not come counts as lost."""


def exchange(client: int, server: int, address: Address, *, size: int = 64) -> str:
    """One UDP datagram to ``address`` and back. Returns the address that the server saw it come from.

    Raises TimeoutError if either way loses it: there is no second try, so the first packet counts.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with ExitStack() as stack:
        with namespace.entered(server):
            listener = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            listener.bind((str(address), 0))
        with namespace.entered(client):
            caller = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        for one in (listener, caller):
            one.settimeout(PATIENCE)
        payload = bytes(size)
        caller.sendto(payload, (str(address), listener.getsockname()[1]))
        received, origin = listener.recvfrom(65536)
        listener.sendto(received, origin)
        assert caller.recv(65536) == payload
        return str(origin[0])
