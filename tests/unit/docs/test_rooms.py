"""The table of rooms counts every file of ours once."""

from __future__ import annotations

from pathlib import Path

from docs import rooms


def _tree(root: Path, **files: int) -> Path:
    for name, lines in files.items():
        path = root / name.replace("__", "/").replace("_py", ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n" * lines)
    return root


def test_each_file_is_in_one_room() -> None:
    found = rooms.rooms(rooms.HERE)
    every = [p for top in rooms.TOP for p in (rooms.HERE / top).rglob("*") if p.suffix in rooms.SUFFIXES]
    assert sum(size.files for size in found.values()) == len(every) > 900
    assert {"control/agent/allocation", "datapath/modes/policy_route", "lab/cloud", "bpf"} <= found.keys()


def test_a_table_of_two_trees_has_a_room_that_one_of_them_has_not(tmp_path: Path) -> None:
    before = _tree(tmp_path / "before", control__ipam__book_py=3, control__daemon__pool_py=5)
    now = _tree(tmp_path / "now", control__ipam__book_py=2)
    told = rooms.table({"before": rooms.rooms(before), "now": rooms.rooms(now)}).splitlines()
    assert told == [
        "| room | before | now |",
        "| --- | --- | --- |",
        "| `control/daemon/` | 1 files, 5 lines | - |",
        "| `control/ipam/` | 1 files, 3 lines | 1 files, 2 lines |",
    ]
