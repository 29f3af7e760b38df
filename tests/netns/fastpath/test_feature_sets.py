"""A set of programs that the kernel refuses says why, and keeps no other from serving."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from datapath.acceleration.feature_sets import FeatureSet
from datapath.acceleration.layout import SETS
from datapath.acceleration.load import Options
from datapath.acceleration.path import FastPath
from datapath.ebpf import objects
from tests.netns.datapath.traffic import exchange
from tests.netns.datapath.world import ENI1
from tests.netns.fastpath.node import FastNode

_BPF = Path(__file__).resolve().parents[3] / "bpf"
PROGRAM = """
#include "lib/tables.h"
{more}
struct {{
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
}} {name}_seen SEC(".maps");

SEC("tc")
int {name}(struct __sk_buff *skb)
{{
	__u32 zero = 0;
	struct settings *settings = settings_get();
	__u64 *seen = bpf_map_lookup_elem(&{name}_seen, &zero);

	if (seen && settings && settings->flags & SETTING_FAST)
		*seen += 1;
	return {answer};
}}

char _license[] SEC("license") = "GPL";
"""
WANTS_MORE = "extern int bpf_of_no_kernel(struct __sk_buff *skb) __ksym;"


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """Today's sets, and two more: one that loads, and one that calls what no kernel has."""
    where = tmp_path / "more"
    shutil.copytree(_BPF, where, ignore=shutil.ignore_patterns(".output"))
    made = {"counted": ("", "skb->len ? 0 : -1"), "refused": (WANTS_MORE, "bpf_of_no_kernel(skb)")}
    for name, (more, answer) in made.items():
        (where / name).mkdir()
        (where / name / f"{name}.bpf.c").write_text(PROGRAM.format(name=name, more=more, answer=answer))
        subprocess.run(["make", "-s", "-C", str(where), f".output/{name}.bpf.o"], check=True)

    def find(name: str) -> Path:
        return where / ".output" / f"{name}.bpf.o" if name in made else objects.path(name)

    added = (FeatureSet(name, {name: name}, maps=(f"{name}_seen",)) for name in ("refused", "counted"))
    return Options(find=find, sets=(*SETS, *added))


def test_each_set_is_on_or_says_why_not(node: FastNode, options: Options) -> None:
    one, other = node.pod(ENI1), node.pod(ENI1)
    node.close()
    fast: FastPath = node.open(options=options)
    states = {state.name: state for state in fast.sets()}
    assert list(states) == ["fast_path", "conntrack", "refused", "counted", "tcx"]
    assert (states["fast_path"].on, states["counted"].on) == (True, True)
    assert "bpf_of_no_kernel" in states["refused"].because
    assert states["conntrack"].on is node.conntrack
    assert fast.program_fd("counted") > 0
    pinned = {path.name for path in fast.directory.iterdir()}
    assert {"prog_counted", "counted_seen"} <= pinned
    assert pinned.isdisjoint({"prog_refused", "refused_seen"})
    (fast.directory / "counted_seen").unlink()
    (fast.directory / "prog_counted").unlink()
    assert len(fast.mend_pins()) == 2
    with node.counting("fast_local") as grown:
        exchange(one.netns, other.netns, other.address(4))
    assert grown == {"fast_local": 2, "forwarded": 0}
