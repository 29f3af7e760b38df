"""The list of what programs need is theirs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from datapath.acceleration.layout import PROGRAMS
from datapath.acceleration.needs import HELPERS, OPTIONAL, lacking
from datapath.ebpf import objects

pytest.importorskip("datapath.ebpf._libbpf")


def _called(path: Path) -> set[int]:
    """Of calls, those whose source register is 0; others lead to functions of the program itself."""
    disassembler = shutil.which("llvm-objdump") or "llvm-objdump-14"
    text = subprocess.run([disassembler, "-d", str(path)], capture_output=True, text=True, check=True).stdout
    return {int(number) for number in re.findall(r"85 00 00 00 .*\tcall (\d+)$", text, re.MULTILINE)}


def test_the_list_is_what_the_programs_call() -> None:
    called = set[int]().union(*(_called(objects.path(name)) for name in PROGRAMS))
    assert called == {one.number for one in (*HELPERS, *OPTIONAL)}


def test_nothing_is_lacking_where_nothing_is_needed() -> None:
    assert lacking(()) == ""
