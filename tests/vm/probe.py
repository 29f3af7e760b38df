"""python -m tests.vm.probe NAME: what the fast path makes of this kernel, against the list's word."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from datapath import namespace
from datapath.acceleration import Unavailable, open_fast_path
from datapath.netlink import link
from datapath.netlink.link import End
from datapath.netlink.socket import Socket
from tests.bpf.bpffs import mounted
from tests.vm import kernels


def seen() -> tuple[str, str]:
    """How programs are put on an ENI here, and why they do not ask conntrack, "" if they do.

    Raises Unavailable.
    """
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pins = stack.enter_context(mounted(scratch / "bpf"))
        netns = namespace.new()
        stack.callback(os.close, netns)
        with Socket(netns) as netlink:
            ends = End("eni", "02:00:00:00:00:01"), End("beyond", "02:00:00:00:00:02")
            netlink.one(link.create_veth(*ends, netns=netns, mtu=1500))
            found = link.find(netlink, "eni")
        assert found is not None
        fast = stack.enter_context(open_fast_path(pins / "terway", netns=netns))
        fast.attach_eni(found.index)
        return fast.attached()[found.index], fast.unasked


def main() -> int:
    kernel = kernels.listed()[sys.argv[1]]
    expected = _words(kernel.eni_hook, kernel.conntrack) if kernel.fast_path else "no fast path"
    try:
        hook, why = seen()
        found = _words(hook, not why)
    except Unavailable as exc:
        found, why = "no fast path", exc.reason
    verdict = "as expected" if found == expected else f"expected was {expected}"
    print(f"Linux {os.uname().release}: {found}, {verdict}{why and f': {why}'}")
    return 0 if found == expected else 1


def _words(hook: str, asks: bool) -> str:
    return f"fast path by {hook} that {'asks conntrack' if asks else 'keeps records'}"


if __name__ == "__main__":
    sys.exit(main())
