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


def chain(*plugins: dict[str, object]) -> bytes:
    return json.dumps({"cniVersion": "1.0.0", "name": "terway-chainer", "plugins": plugins}).encode()


def test_list() -> None:
    data = chain({"type": "terway", "mtu": 1400, "mtuu": 1}, {"type": "portmap"}, {"type": "bandwidth"})
    found = parse(LIST, data)
    assert (found.plugin.mtu, found.chained) == (1400, ("portmap", "bandwidth"))
    assert found.warnings == ('unknown key "plugins[0].mtuu" is ignored, did you mean mtu?',)


def test_list_is_found_first(tmp_path: Path) -> None:
    (tmp_path / CONF.name).write_text('{"type": "terway", "mtu": 1400}')
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
        (LIST, b'{"plugins": [1]}', "plugins is [1], allowed: a list of JSON objects"),
        (LIST, chain({"type": "portmap"}, {"type": "terway", "mtu": "x"}), 'plugins[1].mtu is "x"'),
    ],
)
def test_bad(path: Path, data: bytes, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(path, data)
    assert named in caught.value.what
    assert str(path) in caught.value.what
