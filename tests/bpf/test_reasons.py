"""The class of a reason is said by its name, in C as in Python, however many reasons come after it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from datapath.acceleration.reasons import ReasonClass, class_of, reasons_of
from datapath.ebpf.btf import Btf
from datapath.ebpf.libbpf import Object, run_program
from lab.fabric.reasons import reasons_of as fabric_reasons_of
from tests.netns.fastpath.builds import build

_BPF = Path(__file__).resolve().parents[2] / "bpf"
_CLASSES = """
#include "lib/tables.h"
#include "lib/reason.h"
SEC("tc") int classes(struct __sk_buff *skb)
{
	for (__u32 i = 0; i < 64; i++) {
		__u8 found = reason_class_of(i);

		bpf_skb_store_bytes(skb, i, &found, 1, 0);
	}
	return 0;
}
char _license[] SEC("license") = "GPL";
"""
NEXT = ("FAST_NEXT", "STACK_NEXT", "DROP_NEXT", "SEEN_NEXT")
APPENDED = tuple(f"{name} = {50 + number}" for number, name in enumerate(NEXT))
"""One of each class behind all that are there."""


def appended(*, classified: bool) -> tuple[tuple[str, str, str], ...]:
    enum = (
        "include/reasons.h",
        "\tREASON_COUNT,\n",
        "".join(f"\t{one},\n" for one in APPENDED) + "\tREASON_COUNT,\n",
    )
    if not classified:
        return (enum,)
    places = zip(NEXT, ("FAST_POD", "STACK_QUOTE", "DROP_KERNEL", "SEEN_HOME"), strict=True)
    return (
        enum,
        *(("lib/reason.h", f"\tcase {old}:\n", f"\tcase {old}:\n\tcase {new}:\n") for new, old in places),
    )


def classes(bpf: Path) -> dict[int, int]:
    """What the C function says of each number."""
    folder = bpf / "classes"
    folder.mkdir()
    (folder / "classes.bpf.c").write_text(_CLASSES)
    subprocess.run(["make", "-s", "-C", str(bpf), ".output/classes.bpf.o"], check=True)
    with Object(bpf / ".output" / "classes.bpf.o") as opened:
        opened.load()
        return dict(enumerate(run_program(opened.program_fd("classes"), bytes(64)).packet))


@pytest.mark.skipif(os.geteuid() != 0, reason="BPF needs root")
def test_reasons_that_come_later_have_the_class_of_their_name(tmp_path: Path) -> None:
    find = build(tmp_path, *appended(classified=True))
    bpf = find("pod_egress").parents[1]
    told = reasons_of((bpf / "include" / "reasons.h").read_text())
    assert {one.name.upper() for one in told} >= set(NEXT)
    order = [ReasonClass.FAST, ReasonClass.STACK, ReasonClass.DROP, ReasonClass.SEEN]
    found = classes(bpf)
    for one in told:
        assert order[found[one.number]] is one.kind is class_of(one.name), one.name


def test_a_reason_that_nobody_classified_does_not_compile(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        build(tmp_path, *appended(classified=False))
    assert b"FAST_NEXT" in refused.value.stderr


def test_the_fabrics_reasons_are_named_as_well(tmp_path: Path) -> None:
    """A PASS_ behind the drops compiles when it is said whether it sends; Python takes it for no drop."""
    bpf = tmp_path / "bpf"
    shutil.copytree(_BPF, bpf, ignore=shutil.ignore_patterns(".output"))
    header, program = bpf / "include" / "fabric.h", bpf / "fabric" / "fabric.bpf.c"
    header.write_text(header.read_text().replace("\tREASON_COUNT,\n", "\tPASS_NEXT,\n\n\tREASON_COUNT,\n", 1))
    words = ["make", "-s", "-C", str(bpf), ".output/fabric.bpf.o"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "PASS_NEXT" in done.stderr
    text = program.read_text()
    program.write_text(
        text.replace("\tcase PASS_FORWARDED:\n", "\tcase PASS_FORWARDED:\n\tcase PASS_NEXT:\n", 1)
    )
    subprocess.run(words, check=True)
    with Object(bpf / ".output" / "fabric.bpf.o") as opened:
        found = {one.name: one.is_drop for one in fabric_reasons_of(Btf(opened.btf()))}
    assert found["next"] is False
    assert found["kernel"] is True
