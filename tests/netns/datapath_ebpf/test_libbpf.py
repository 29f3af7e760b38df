"""The door to libbpf against the kernel: maps, programs, hooks, pins, and what a refusal says. Needs root."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyroute2 import IPRoute

from datapath import namespace
from datapath.ebpf import libbpf
from datapath.ebpf._libbpf import lib
from datapath.ebpf.btf import Btf
from datapath.ebpf.libbpf import Direction, Object, TcHook
from datapath.ebpf.objects import ObjectMissing, path
from datapath.ebpf.table import Table, table
from datapath.errors import KernelError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="BPF needs root")

_SOURCE = """
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
struct row { __u32 a; __u32 b; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32);
         __type(value, struct row); } hashed SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_HASH); __uint(max_entries, 8); __type(key, __u32);
         __type(value, __u32); } counted SEC(".maps");
const volatile __u32 verdict = 2;
SEC("tc") int good(struct __sk_buff *skb)
{
    __u32 key = skb->ifindex, *count = bpf_map_lookup_elem(&counted, &key);
    __u8 first = 0xee;
    if (count)
        (*count)++;
    bpf_skb_store_bytes(skb, 0, &first, 1, 0);
    return verdict;
}
SEC("tc") int bad(struct __sk_buff *skb)
{
    __u32 key = 0;
    struct row *row = bpf_map_lookup_elem(&hashed, &key);
    return row->a;
}
char _license[] SEC("license") = "GPL";
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bpf")
    source, target = directory / "probe.bpf.c", directory / "probe.bpf.o"
    source.write_text(_SOURCE)
    include = next(iter(Path("/usr/include").glob("*-linux-gnu")), Path("/usr/include"))
    command = ["clang", "-O2", "-g", "-target", "bpf", f"-I{include}", "-c", str(source), "-o", str(target)]
    subprocess.run(command, check=True)
    return target


@pytest.fixture
def loaded(compiled: Path) -> Iterator[Object]:
    with Object(compiled) as opened:
        opened.leave_out("bad")
        opened.load()
        yield opened


def contents(target: Table) -> dict[int, int]:
    keys, values = target.dump()
    return dict(zip(keys.tolist(), values["a"].tolist(), strict=True))


def test_a_refused_program_shows_the_end_of_the_verifiers_log(compiled: Path) -> None:
    with (
        Object(compiled) as opened,
        pytest.raises(KernelError, match="invalid mem access 'map_value_or_null'"),
    ):
        opened.load()


def test_what_is_not_there_is_named(tmp_path: Path, loaded: Object) -> None:
    with pytest.raises(KernelError, match="No such file"):
        Object(tmp_path / "none.bpf.o")
    with pytest.raises(KernelError, match=r"find the program: none: .*good"):
        loaded.program_fd("none")
    with pytest.raises(KernelError, match=r"find the map: none: .*hashed"):
        loaded.map_fd("none")
    with pytest.raises(ObjectMissing, match="make -C"):
        path("none")


def test_rows_go_in_and_out_of_a_map(loaded: Object) -> None:
    target = table(loaded, "hashed", Btf(loaded.btf()))
    keys, values = target.keys(3), target.values(3)
    keys[:], values["a"], values["b"] = [1, 2, 3], [10, 20, 30], 7
    target.put(keys, values)
    assert contents(target) == {1: 10, 2: 20, 3: 30}
    target.remove(np.array([2, 5], target.key))
    assert contents(target) == {1: 10, 3: 30}
    assert target.get(keys[1:2]) is None
    found = target.get(keys[2:3])
    assert found is not None
    assert found.tolist() == [(30, 7)]


class WithoutBatches:
    """libbpf on a kernel whose maps have none."""

    def __getattr__(self, name: str) -> Any:
        if name in ("bpf_map_update_batch", "bpf_map_lookup_batch"):
            return lambda *_: -524
        return getattr(lib, name)


def test_maps_without_batches_are_written_and_read_row_by_row(
    loaded: Object, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed, counted = (table(loaded, name, Btf(loaded.btf())) for name in ("hashed", "counted"))
    monkeypatch.setattr(libbpf, "lib", WithoutBatches())
    keys, values = hashed.keys(3), hashed.values(3)
    keys[:], values["a"], values["b"] = [1, 2, 3], [10, 20, 30], [7, 8, 9]
    hashed.put(keys, values)
    found, rows = hashed.dump()
    assert dict(zip(found.tolist(), rows.tolist(), strict=True)) == {1: (10, 7), 2: (20, 8), 3: (30, 9)}
    counted.put_zero(np.array([5], counted.key))
    assert counted.dump()[1].tolist() == [[0] * libbpf.possible_cpus()]
    with pytest.raises(KernelError, match="Argument list too long"):
        hashed.put(np.arange(9, dtype=hashed.key), hashed.values(9))


def test_a_full_map_says_so(loaded: Object) -> None:
    target = table(loaded, "hashed", Btf(loaded.btf()))
    with pytest.raises(KernelError, match="Argument list too long") as caught:
        target.put(np.arange(9, dtype=target.key), target.values(9))
    assert caught.value.errno == 7
    assert len(contents(target)) == 8


def test_a_program_runs_on_a_packet_and_counts_per_cpu(loaded: Object) -> None:
    target = table(loaded, "counted", Btf(loaded.btf()))
    key = np.array([1], target.key)
    target.put_zero(key)
    run = libbpf.run_program(loaded.program_fd("good"), bytes(64), ifindex=1, repeat=5)
    assert (run.verdict, run.packet) == (2, b"\xee" + bytes(63))
    per_cpu = target.get(key)
    assert per_cpu is not None
    assert (len(per_cpu), per_cpu.sum()) == (libbpf.possible_cpus(), 5)
    keys, values = target.dump()
    assert (keys.tolist(), values.sum(axis=1).tolist()) == ([1], [5])


def test_globals_are_set_before_loading(compiled: Path) -> None:
    with Object(compiled) as opened:
        opened.leave_out("bad")
        section = next(name for name in opened.map_names() if name.endswith(".rodata"))
        assert opened.initial(section) == (2).to_bytes(4, "little")
        opened.set_initial(section, (0).to_bytes(4, "little"))
        opened.load()
        assert libbpf.run_program(opened.program_fd("good"), bytes(64)).verdict == 0


def test_a_hook_is_made_used_replaced_and_left(loaded: Object) -> None:
    netns = namespace.new()
    try:
        with namespace.entered(netns):
            with IPRoute() as netlink:
                netlink.link("add", ifname="one", kind="veth", peer={"ifname": "two"})
                index = netlink.link_lookup(ifname="one")[0]
            hook = TcHook(index, Direction.INGRESS)
            assert hook.program_id() is None
            assert hook.detach() is False
            hook.create()
            hook.create()
            hook.attach(loaded.program_fd("good"))
            first = hook.program_id()
            hook.attach(loaded.program_fd("good"))
            assert first == hook.program_id() is not None
            assert hook.detach() is True
            assert hook.program_id() is None
    finally:
        os.close(netns)


def test_a_hook_of_no_device_names_it(loaded: Object) -> None:
    with pytest.raises(KernelError, match="ingress of device 99999"):
        TcHook(99999, Direction.INGRESS).attach(loaded.program_fd("good"))


def test_a_pinned_map_is_found_again_with_its_layout(compiled: Path) -> None:
    """In a mount namespace of its own, so that no bpf file system is mounted on the machine."""
    script = f"""
from pathlib import Path
from datapath.ebpf import libbpf
from datapath.ebpf.btf import Btf
from datapath.ebpf.table import pinned_table, table
with libbpf.Object(Path({str(compiled)!r})) as opened:
    opened.leave_out("bad")
    opened.load()
    mine = table(opened, "hashed", Btf(opened.btf()))
    keys, values = mine.keys(1), mine.values(1)
    keys[0], values["b"] = 4, 44
    mine.put(keys, values)
    libbpf.pin(mine.fd, "/sys/fs/bpf/hashed")
found = pinned_table("/sys/fs/bpf/hashed")
keys, values = found.dump()
print(found.shape.name, keys.tolist(), values["b"].tolist())
"""
    command = 'mount -t bpf bpf /sys/fs/bpf && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", command, "sh", sys.executable, "-c", script]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("hashed [4] [44]\n", "")
