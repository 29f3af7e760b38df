"""What a runtime finds in its directory after the agent has written to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.daemon.cni_conf_file import install_cni_conf
from control.model.errors import ConfigError

CONF, CHAIN = "10-terway.conf", "10-terway.conflist"


@pytest.mark.parametrize(("before", "after"), [(CONF, CHAIN), (CHAIN, CONF)])
def test_one_kind_takes_the_others_place(tmp_path: Path, before: str, after: str) -> None:
    source, target = tmp_path / "eni", tmp_path / "net.d"
    source.mkdir()
    for name in (before, after):
        (source / name).write_text(name)
        install_cni_conf(source / name, target)
    assert [path.name for path in target.iterdir()] == [after]
    assert (target / after).read_text() == after


def test_files_of_others_stay(tmp_path: Path) -> None:
    target = tmp_path / "net.d"
    target.mkdir()
    (target / "20-other.conflist").write_text("{}")
    (tmp_path / CONF).write_text("{}")
    install_cni_conf(tmp_path / CONF, target)
    assert sorted(path.name for path in target.iterdir()) == [CONF, "20-other.conflist"]


def test_a_directory_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "net.d").write_text("")
    (tmp_path / CONF).write_text("{}")
    with pytest.raises(ConfigError, match="cannot write the CNI configuration"):
        install_cni_conf(tmp_path / CONF, tmp_path / "net.d")
