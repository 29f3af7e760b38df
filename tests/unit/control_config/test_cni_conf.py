from __future__ import annotations

import json
from pathlib import Path

import pytest

from cni.plugin import PluginConf, VirtualType
from control.config.cni_conf import NodeCniConf, find, parse
from control.model.errors import ConfigError

CONF = Path("/etc/eni/10-terway.conf")
LIST = Path("/etc/eni/10-terway.conflist")

NETWORK_MODES = [
    (
        '{"cniVersion": "0.4.0", "name": "terway", "type": "terway", "eniip_virtual_type": "IPVlan"}',
        PluginConf(virtual_type=VirtualType.IPVLAN),
    ),
    ('{\n  "eniip_virtual_type": "IPVlan"\n}', PluginConf(virtual_type=VirtualType.IPVLAN)),
    ('{\n  "eniip_virtual_type": "PolicyRoute"\n}', PluginConf(virtual_type=VirtualType.POLICY_ROUTE)),
    (
        '{\n  "cniVersion": "0.4.0",\n  "name": "terway",\n  "type": "terway",\n'
        '  "eniip_virtual_type": "IPVlan",\n  "trunk_on": true\n}',
        PluginConf(virtual_type=VirtualType.IPVLAN, trunk_on=True),
    ),
]


@pytest.mark.parametrize(("text", "plugin"), NETWORK_MODES)
def test_snippets_of_network_modes(text: str, plugin: PluginConf) -> None:
    found = parse(CONF, text.encode())
    assert found.plugin == plugin
    assert bool(found.warnings) == ('"type"' not in text)
    name, data = found.encoded()
    assert (name, parse(CONF, data).warnings) == (CONF.name, ()), "what a runtime misses is completed"
    assert parse(CONF, data).plugin == plugin


def chain(*plugins: dict[str, object]) -> bytes:
    return json.dumps({"cniVersion": "1.0.0", "name": "terway-chainer", "plugins": plugins}).encode()


def test_list() -> None:
    data = chain({"type": "terway", "mtu": 1400, "mtuu": 1}, {"type": "portmap"}, {"type": "bandwidth"})
    found = parse(LIST, data)
    assert (found.plugin.mtu, found.chained) == (1400, ("portmap", "bandwidth"))
    assert found.warnings == ('unknown key "plugins[0].mtuu" is ignored, did you mean mtu?',)


def test_list_is_found_first(tmp_path: Path) -> None:
    (tmp_path / CONF.name).write_text(
        '{"cniVersion": "1.0.0", "name": "terway", "type": "terway", "mtu": 1400}'
    )
    assert find(tmp_path) == NodeCniConf(tmp_path / CONF.name, PluginConf(mtu=1400))
    (tmp_path / LIST.name).write_bytes(chain({"type": "terway", "mtu": 1300}))
    assert find(tmp_path) == NodeCniConf(tmp_path / LIST.name, PluginConf(mtu=1300))


def test_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no CNI configuration in"):
        find(tmp_path)
    (tmp_path / LIST.name).mkdir()
    with pytest.raises(ConfigError, match="conflist: Is a directory"):
        find(tmp_path)


@pytest.mark.parametrize(
    ("path", "data", "named"),
    [
        (CONF, b"{", "/etc/eni/10-terway.conf cannot be parsed: not JSON"),
        (CONF, b'{"type": "bridge"}', 'type is "bridge", allowed: "terway"'),
        (CONF, b'{"eniip_virtual_type": "vxlan"}', 'eniip_virtual_type is "vxlan", allowed: IPVlan'),
        (LIST, b"{}", "plugins is null, allowed: a list with one plugin"),
        (LIST, chain({"type": "portmap"}), "plugins is"),
        (LIST, chain({"type": "terway"}, {"type": "terway"}), "plugins is"),
        (CONF, b'{"plugins": [{"type": "terway"}]}', "a list is the key 10-terway.conflist of eni-config"),
        (CONF, b'{"type": "terway", "cniVersion": "0.2.0"}', 'cniVersion is "0.2.0", allowed: 0.3.0,'),
        (CONF, b'{"type": "terway", "cniVersion": 1}', "cniVersion is 1, allowed: a string"),
        (CONF, b'{"type": "terway", "name": "-x"}', 'name is "-x", allowed: a letter or digit'),
        (LIST, b'{"name": "a b", "plugins": [{"type": "terway"}]}', 'name is "a b"'),
        (LIST, b'{"cniVersion": "2.0.0", "plugins": [{"type": "terway"}]}', 'cniVersion is "2.0.0"'),
        (
            LIST,
            b'{"cniVersions": ["2.0.0"], "plugins": [{"type": "terway"}]}',
            'cniVersions is ["2.0.0"], allowed: 0.3.0,',
        ),
        (LIST, chain({"type": "terway"}, {"mtu": 1}), "plugins[1].type is null"),
        (LIST, chain({"type": "terway"}, {"type": "../sh"}), 'plugins[1].type is "../sh"'),
        (LIST, b'{"plugins": [1]}', "plugins is [1], allowed: a list of JSON objects"),
        (LIST, chain({"type": "portmap"}, {"type": "terway", "mtu": "x"}), 'plugins[1].mtu is "x"'),
    ],
)
def test_bad(path: Path, data: bytes, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(path, data)
    assert named in caught.value.what
    assert str(path) in caught.value.what


def test_what_a_runtime_would_refuse_is_completed_and_told() -> None:
    found = parse(LIST, b'{"plugins": [{"type": "terway", "mtu": 1400}, {"type": "portmap"}]}')
    assert not found.complete
    assert [word for line in found.warnings for word in ("name", "cniVersion") if f"no {word}," in line] == [
        "name",
        "cniVersion",
    ]
    name, text = found.encoded()
    again = parse(LIST, text)
    assert (name, again.complete, again.warnings) == (LIST.name, True, ())
    assert (again.plugin.mtu, again.chained) == (1400, ("portmap",))
    assert json.loads(text)["name"] == "terway"


def test_what_is_complete_is_given_as_it_is() -> None:
    data = chain({"type": "terway", "mtu": 1400}, {"type": "portmap", "capabilities": {"portMappings": True}})
    found = parse(LIST, data)
    assert found.complete
    assert json.loads(found.encoded()[1]) == json.loads(data)


def test_a_version_that_terway_does_not_speak_is_not_offered() -> None:
    data = b'{"name": "n", "cniVersions": ["0.4.0", "1.1.0", "9.0.0"], "plugins": [{"type": "terway"}]}'
    found = parse(LIST, data)
    assert "9.0.0 is left out" in " ".join(found.warnings)
    written = json.loads(found.encoded()[1])
    assert (written["cniVersion"], written["cniVersions"]) == ("1.1.0", ["0.4.0", "1.1.0"])


def test_cilium_is_left_out_with_a_word() -> None:
    """Upstream's generator appends it; without a cilium-agent every ADD of the node would fail."""
    found = parse(LIST, chain({"type": "terway"}, {"type": "cilium-cni"}, {"type": "portmap"}))
    assert found.chained == ("portmap",)
    assert [one["type"] for one in json.loads(found.encoded()[1])["plugins"]] == ["terway", "portmap"]
    assert "cilium-cni, which is left out" in found.warnings[0]
