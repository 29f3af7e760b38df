"""What a runtime finds in its directory after the agent has written to it, and what others have put there."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from control.agent.cni.conf_file import CniConfFile, remembered, to_remember
from control.config import cni_conf
from control.model.errors import ConfigError, RequestError

CONF, CHAIN = "10-terway.conf", "10-terway.conflist"
TERWAY = {"type": "terway", "eniip_virtual_type": "PolicyRoute"}
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}
ISTIO = {"type": "istio-cni", "log_level": "info", "kubernetes": {"cni_bin_dir": "/opt/cni/bin"}}
HEAD = {"cniVersion": "0.4.0", "name": "terway"}


def single(**more: Any) -> tuple[str, str]:
    return CONF, json.dumps({**HEAD, **TERWAY, **more})


def listed(*plugins: dict[str, Any], **more: Any) -> tuple[str, str]:
    return CHAIN, json.dumps({**HEAD, **more, "plugins": [TERWAY, *plugins]})


class Site:
    """ConfigMap, the runtime's two directories, and what an agent remembers from one start to the next."""

    def __init__(self, root: Path) -> None:
        self.source, self.target, self.programs = root / "eni", root / "net.d", root / "bin"
        for directory in (self.source, self.target, self.programs):
            directory.mkdir()
        self.has("terway", "portmap", "istio-cni", "bandwidth")
        self.fact: str | None = None

    def has(self, *programs: str) -> None:
        for name in programs:
            (self.programs / name).touch()

    def agent(self, config: tuple[str, str]) -> CniConfFile:
        """One start, with the configuration of eni-config."""
        for old in self.source.iterdir():
            old.unlink()
        (self.source / config[0]).write_text(config[1])
        made = CniConfFile(cni_conf.find(self.source), self.target, self.programs)
        self.fact = to_remember(made.install(remembered(json.loads(self.fact or "null"))))
        return made

    def put(self, name: str, value: object) -> None:
        """As another hand writes to the directory."""
        (self.target / name).write_text(value if isinstance(value, str) else json.dumps(value))

    def names(self) -> list[str]:
        return sorted(path.name for path in self.target.iterdir())

    def json(self, name: str = CHAIN) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.target / name).read_text())
        return found

    def types(self) -> list[str]:
        return [one["type"] for one in self.json()["plugins"]]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def istio_joins(site: Site, *, ahead: bool = False) -> None:
    """As its installer does: a list of its own name out of a .conf, one more plugin in a list."""
    if (site.target / CONF).exists():
        found = site.json(CONF)
        del found["cniVersion"]
        (site.target / CONF).unlink()
        whole = {"name": "k8s-pod-network", "cniVersion": "0.3.1", "plugins": [found]}
    else:
        whole = site.json()
    plugins = [ISTIO, *whole["plugins"]] if ahead else [*whole["plugins"], ISTIO]
    site.put(CHAIN, {**whole, "plugins": plugins})


@pytest.mark.parametrize(("before", "after"), [(single(), listed(PORTMAP)), (listed(PORTMAP), single())])
def test_one_kind_takes_the_others_place(site: Site, before: tuple[str, str], after: tuple[str, str]) -> None:
    for config in (before, after):
        site.agent(config)
        assert site.names() == [config[0]]
        assert site.json(config[0]) == json.loads(config[1])


def test_the_file_is_whole_readable_and_alone(site: Site) -> None:
    site.put(f".{CONF}.new", "what a killed agent left")
    before = os.umask(0o077)
    try:
        site.agent(single())
    finally:
        os.umask(before)
    assert site.names() == [CONF]
    assert (site.target / CONF).stat().st_mode & 0o777 == 0o644


def test_a_file_that_is_as_wanted_is_not_touched(site: Site) -> None:
    site.agent(single())
    first = (site.target / CONF).stat()
    site.agent(single())
    assert (site.target / CONF).stat().st_ino == first.st_ino
    (site.target / CONF).chmod(0o600)
    site.agent(single())
    assert (site.target / CONF).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("ours", [single(), listed(PORTMAP)], ids=["conf", "conflist"])
def test_istio_stays_behind_us_through_restarts(site: Site, ours: tuple[str, str]) -> None:
    site.agent(ours)
    istio_joins(site)
    expected = [*(["terway"] if ours[0] == CONF else ["terway", "portmap"]), "istio-cni"]
    for _ in range(2):
        made = site.agent(ours)
        assert (site.names(), site.types()) == ([CHAIN], expected)
        assert site.json()["plugins"][-1] == ISTIO, "as istio has written it"
        assert {key: site.json()[key] for key in HEAD} == HEAD
        assert [one["type"] for one in made.plugins] == expected
        assert made.notices == ()


def test_what_stood_before_us_stays_before_us(site: Site) -> None:
    site.agent(listed(PORTMAP))
    istio_joins(site, ahead=True)
    site.agent(listed(PORTMAP))
    assert site.types() == ["istio-cni", "terway", "portmap"]


def test_istio_goes_when_istio_takes_itself_away(site: Site) -> None:
    site.agent(single())
    istio_joins(site)
    site.agent(single())
    site.put(CHAIN, {**HEAD, "plugins": [TERWAY]})
    site.agent(single())
    assert site.names() == [CONF]


def test_what_eni_config_no_longer_chains_goes_and_istio_stays(site: Site) -> None:
    site.agent(listed(PORTMAP))
    istio_joins(site)
    site.agent(single(mtu=1400))
    assert site.types() == ["terway", "istio-cni"]
    assert site.json()["plugins"][0]["mtu"] == 1400


def test_after_a_release_that_remembered_nothing_what_is_not_configured_is_anothers(site: Site) -> None:
    site.put(CHAIN, {**HEAD, "plugins": [TERWAY, PORTMAP, {"type": "cilium-cni"}, ISTIO]})
    site.agent(listed(PORTMAP))
    assert site.types() == ["terway", "portmap", "istio-cni"]


def test_istio_without_its_executable_is_left_out(site: Site) -> None:
    """Its uninstaller was killed half-way: every ADD would fail."""
    site.agent(single())
    istio_joins(site)
    (site.programs / "istio-cni").unlink()
    made = site.agent(single())
    assert site.names() == [CONF]
    assert "istio-cni, whose executable is not in" in made.notices[0]


def test_a_chained_plugin_without_executable_is_refused_until_it_is_there(site: Site) -> None:
    (site.programs / "portmap").unlink()
    with pytest.raises(
        RequestError, match=r"names portmap, and .*bin has no such executable.*kubernetes-cni"
    ):
        site.agent(listed(PORTMAP))
    assert site.names() == []
    site.has("portmap")
    site.agent(listed(PORTMAP))
    assert site.types() == ["terway", "portmap"]


def test_our_own_executable_has_to_be_there_too(site: Site) -> None:
    (site.programs / "terway").unlink()
    with pytest.raises(RequestError, match="names terway"):
        site.agent(single())


def test_a_link_to_what_a_container_does_not_see_counts(site: Site) -> None:
    """Debian's plugins are in /usr/lib/cni, and nodes have links to them."""
    (site.programs / "portmap").unlink()
    (site.programs / "portmap").symlink_to("/usr/lib/cni/of-the-node/portmap")
    site.agent(listed(PORTMAP))
    assert site.types() == ["terway", "portmap"]


def test_where_the_executables_are_not_known_nothing_is_refused(site: Site) -> None:
    for program in site.programs.iterdir():
        program.unlink()
    site.programs.rmdir()
    site.agent(listed(PORTMAP))
    assert site.types() == ["terway", "portmap"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "could not be read and is replaced"),
        ('{"plugins": [{}]}', "could not be read and is replaced"),
        (json.dumps({**HEAD, "plugins": [{"type": "calico"}]}), "was not terway's (it had calico)"),
    ],
)
def test_a_file_of_our_name_that_is_not_ours_is_replaced_with_a_word(
    site: Site, content: str, told: str
) -> None:
    site.put(CHAIN, content)
    made = site.agent(listed(PORTMAP))
    assert told in made.notices[0]
    assert site.types() == ["terway", "portmap"]


def test_a_link_of_our_name_is_not_written_through(site: Site, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(single()[1])
    (site.target / CONF).symlink_to(tmp_path / "elsewhere")
    site.agent(single())
    assert not (site.target / CONF).is_symlink()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("05-cilium.conflist", {**HEAD, "name": "cilium", "plugins": [{"type": "cilium-cni"}]}, "cilium-cni"),
        ("05-x.conf", {"cniVersion": "0.4.0", "name": "x", "type": "bridge"}, "network x (bridge)"),
        ("05-x.json", "{", "cannot be read"),
        ("05-x.conflist", {"name": "x", "plugins": []}, "no plugins"),
    ],
)
def test_a_network_that_comes_before_ours_is_told(site: Site, name: str, content: object, words: str) -> None:
    site.put(name, content)
    made = site.agent(single())
    assert words in made.notices[0]
    assert f"{name} comes before {CONF}" in made.notices[0]
    assert site.names() == sorted([name, CONF]), "it is not ours to remove"


def test_who_delegates_comes_first_on_purpose_and_what_comes_later_does_not_matter(site: Site) -> None:
    site.put("00-multus.conf", {"cniVersion": "0.3.1", "name": "multus", "type": "multus"})
    site.put("20-other.conflist", {**HEAD, "plugins": [{"type": "bridge"}]})
    site.put("05-notes.txt", "not a configuration")
    assert site.agent(single()).notices == ()


def test_what_is_incomplete_in_the_runtimes_directory_itself_is_completed_there(site: Site) -> None:
    """No source: the node's own file is the configuration."""
    site.put(CONF, {"type": "terway", "mtu": 1400})
    CniConfFile(cni_conf.find(site.source, site.target), site.target, None).install(None)
    assert site.json(CONF) == {**HEAD, "type": "terway", "mtu": 1400}


def test_a_directory_that_is_none_is_said(tmp_path: Path, site: Site) -> None:
    (site.source / CONF).write_text(single()[1])
    (tmp_path / "none").write_text("")
    with pytest.raises(ConfigError, match="cannot write the CNI configuration"):
        CniConfFile(cni_conf.find(site.source), tmp_path / "none", None).install(None)


@pytest.mark.parametrize("types", [(), ("terway",), ("terway", "portmap")])
def test_what_is_remembered_comes_back(types: Sequence[str]) -> None:
    assert remembered(json.loads(to_remember(types))) == types
    assert remembered(None) is None


@pytest.mark.parametrize("name", ["05-other.conf", CONF, CHAIN])
@pytest.mark.parametrize("what", ["fifo", "device", "huge"])
def test_what_is_no_configuration_holds_nobody_up(site: Site, name: str, what: str) -> None:
    """A FIFO that nobody writes to would stop the whole agent, and a device never ends."""
    path = site.target / name
    if what == "fifo":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    made = site.agent(single())
    assert (site.target / CONF).is_file()
    if name == "05-other.conf":
        (told,) = made.notices
        assert "no regular file" in told or "larger than" in told


def test_a_directory_of_its_name_is_told_and_nothing_is_left_behind(site: Site) -> None:
    (site.target / CONF).mkdir()
    with pytest.raises(ConfigError, match=f"{CONF}: a directory has that name"):
        site.agent(single())
    assert site.names() == [CONF]


def test_a_directory_that_turned_read_only_serves_on_while_it_says_what_it_should(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel has it: on a read-only file system even the removal of what is not there is refused."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    site.agent(single())
    for name in ("unlink", "rename", "touch"):
        monkeypatch.setattr(Path, name, refused)
    made = CniConfFile(cni_conf.find(site.source), site.target, site.programs)
    assert made.install(remembered(site.fact)) == ("terway",)


def test_terway_itself_is_brought_by_the_agent(site: Site) -> None:
    (site.programs / "terway").unlink()
    with pytest.raises(RequestError, match="delete the agent's pod") as told:
        site.agent(single())
    assert "kubernetes-cni" not in str(told.value)
