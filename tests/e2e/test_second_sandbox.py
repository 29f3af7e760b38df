"""An ADD that fails takes nothing from a pod that runs: repeated, or of a second sandbox of the same pod.

The failure is the node's: the pod's ENI is down, so that the routing of a pod cannot be proven.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab import cni_call
from lab.cni_call import CniError
from lab.spec import OUTSIDE_ADDRESS
from tests.e2e.conftest import Bench
from tests.e2e.witnesses import assert_agree, kernel, reaches, settled, state, until

_SET = "from pyroute2 import IPRoute\nwith IPRoute() as n: n.link('set', index={index}, state={state!r})\n"
_FIND = (
    "from pyroute2 import IPRoute\n"
    "with IPRoute() as n:\n"
    "    print(next(x['index'] for x in n.get_links() if x.get_attr('IFLA_ADDRESS') == {mac!r}))\n"
)


@contextmanager
def _eni_down(node: Bench) -> Iterator[None]:
    (eni,) = state(node.node)["enis"]
    index = node.node.python(_FIND.format(mac=eni["mac"])).strip()
    node.node.python(_SET.format(index=index, state="down"))
    yield
    node.node.python(_SET.format(index=index, state="up"))
    node.advance(61)  # the repair puts back what the kernel dropped with the link


@pytest.mark.parametrize("bpf", ["on", "off"])
def test_failed_add_takes_nothing_from_the_running_pod(node: Bench, bpf: str) -> None:
    node.node.start_agent(["-bpf", bpf], env={"TERWAY_TEST_CLOCK": "1"})
    pod, other = node.pod("web"), node.pod("other")
    settled(node.node)
    before, told = kernel(node.lab, node.node), state(node.node)["attachments"]
    with _eni_down(node):
        with pytest.raises(CniError, match="prove the pod's routing"):
            cni_call.add(node.node, pod.network, pod.attachment())
        assert reaches(other, str(pod.ipv4)), "a repeated ADD"
        with pytest.raises(CniError, match="prove the pod's routing"):
            pod.recreate()
        assert reaches(other, str(pod.ipv4)), "an ADD of a second sandbox"
        assert reaches(other, str(pod.ipv6))
        now = kernel(node.lab, node.node)
        assert (now.links, now.routes, now.rules) == (before.links, before.routes, before.rules)
        assert state(node.node)["attachments"] == told
    until(lambda: reaches(pod, str(OUTSIDE_ADDRESS)), bool)
    assert_agree(node.lab, node.node)
    again = pod.recreate()
    assert again.addresses == pod.addresses
    pod.stop()
    until(lambda: reaches(again, str(OUTSIDE_ADDRESS)), bool)
    assert_agree(node.lab, node.node)
