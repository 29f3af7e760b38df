"""Reading and writing settings, over a directory that stands for /proc/sys."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from datapath import sysctl
from datapath.errors import KernelError


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "net/ipv4/conf"
    for name in ("all", "default", "eth0", "eth0.100"):
        (made / name).mkdir(parents=True)
        (made / name / "rp_filter").write_text("1\n")
    monkeypatch.setattr(sysctl, "ROOT", f"{tmp_path}/")
    return made


def test_read_and_write(conf: Path) -> None:
    sysctl.write("net/ipv4/conf/eth0.100/rp_filter", "0")
    assert (conf / "eth0.100/rp_filter").read_text().startswith("0")
    assert sysctl.read("net/ipv4/conf/eth0/rp_filter") == "1"


def test_ensure_writes_only_what_differs(conf: Path) -> None:
    wanted = {"net/ipv4/conf/eth0/rp_filter": "1", "net/ipv4/conf/all/rp_filter": "2"}
    (conf / "eth0/rp_filter").chmod(0o400)
    assert sysctl.ensure(wanted) == ("net/ipv4/conf/all/rp_filter",)
    assert sysctl.read("net/ipv4/conf/all/rp_filter") == "2"


def test_names_below_net_may_be_elsewhere_and_others_stay(
    conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysctl, "ROOT", "/nowhere/")
    monkeypatch.setattr(sysctl, "_net", "")
    sysctl.net_at(str(conf.parent.parent))
    sysctl.write("net/ipv4/conf/eth0/rp_filter", "2")
    assert (conf / "eth0/rp_filter").read_text().startswith("2")
    assert "eth0" in sysctl.links("ipv4")
    with pytest.raises(KernelError, match="kernel/osrelease"):
        sysctl.read("kernel/osrelease")


@pytest.mark.usefixtures("conf")
def test_links() -> None:
    assert sysctl.links("ipv4") == ("eth0", "eth0.100")


@pytest.mark.usefixtures("conf")
def test_errors_name_the_setting() -> None:
    for attempt in (
        lambda: sysctl.read("net/ipv4/conf/gone/rp_filter"),
        lambda: sysctl.write("net/ipv4/conf/gone/rp_filter", "1"),
        lambda: sysctl.links("ipv9"),
    ):
        with pytest.raises(KernelError, match=r"gone/rp_filter|ipv9") as caught:
            attempt()
        assert caught.value.errno == errno.ENOENT
