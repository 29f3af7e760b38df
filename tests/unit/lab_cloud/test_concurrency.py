"""Many callers at once: no address or MAC has two owners, and no write is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from lab.cloud.assignments import Ask
from lab.cloud.interfaces import NewEni
from lab.cloud.state import CloudState
from tests.unit.lab_cloud.bench import Bench

_NEW = NewEni("vsw-pods", ("sg-cluster",), primary_ip=None, ipv4=Ask(count=2), ipv6=Ask(count=1))


def _work(state: CloudState) -> None:
    for _ in range(20):
        with state.transaction():
            kept = state.interfaces.create(_NEW)
            gone = state.interfaces.create(_NEW)
        with state.transaction():
            state.assignments.assign_ipv4(kept.eni_id, Ask(count=3))
            state.interfaces.delete(gone.eni_id)
        state.fabric_view()


def test_writers_in_parallel(state: CloudState) -> None:
    heard: list[int] = []
    state.on_change(lambda: heard.append(1))
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(_work, state) for _ in range(4)]:
            done.result()
    with state.transaction(writes=False):
        enis = [eni for eni in state.current.enis() if eni.vswitch_id == "vsw-pods"]
        assert len(enis) == 80
        addresses = [address for eni in enis for address in eni.addresses]
        assert len(addresses) == len(set(addresses)) == 80 * 7
        assert len({eni.mac for eni in enis}) == 80
        assert state.current.available("vsw-pods") == 4096 - 4 - 80 * 6
    assert len(heard) == 4 * 20 * 2


def test_callers_in_parallel_over_http(cloud: Bench) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: cloud.create(), range(12)))
    assert len({eni.network_interface_id for eni in made}) == 12
    assert len({eni.private_ip_address for eni in made}) == 12
