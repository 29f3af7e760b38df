"""The node's CNI configuration as the daemon reads it: ``10-terway.conflist`` before ``10-terway.conf``.

The runtime sends the same settings with every request; the daemon needs the mode and the MTU before the
first one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cni.conf import PLUGIN_TYPE
from cni.fields import FieldError, Fields, NotAnObject, load
from cni.plugin import PluginConf
from control.model.errors import ConfigError

FILES = ("10-terway.conflist", "10-terway.conf")
"""In order of preference."""
_ENVELOPE = ("cniVersion", "name", "type", "ipam", "dns", "args", "disableCheck", "disableGC")
_REMEDY = "correct the file (the ConfigMap kube-system/eni-config has it) and restart terwayd"


@dataclass(frozen=True, slots=True)
class NodeCniConf:
    path: Path
    plugin: PluginConf
    chained: tuple[str, ...] = ()
    """Types of the other plugins of a conflist, in order."""
    warnings: tuple[str, ...] = ()


def find(*directories: Path) -> NodeCniConf:
    """The configuration of the first of ``directories`` that has one.

    Raises ConfigError if none has, or if that one is wrong: another must not hide it.
    """
    for path in (directory / name for directory in directories for name in FILES):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise ConfigError(f"cannot read {path}: {exc.strerror}", remedy=_REMEDY) from exc
        return parse(path, data)
    raise ConfigError(
        f"no CNI configuration in {' or '.join(map(str, directories))}",
        remedy=f"write {FILES[1]} or {FILES[0]}, as network-modes.md shows",
    )


def wants_policy(source: Path) -> bool:
    """Whether eni-config, mounted at ``source``, leaves NetworkPolicy on.

    Upstream's reading of ``disable_network_policy``: absent, empty, "0" and "false" leave it on, anything
    else switches it off.
    """
    try:
        word = (source / "disable_network_policy").read_text().strip()
    except OSError:
        return True
    return word in ("", "0", "false")


def parse(path: Path, data: bytes) -> NodeCniConf:
    """``path`` is for messages, and its suffix says whether ``data`` is a list. Raises ConfigError."""
    try:
        fields = Fields(load(data))
        if path.suffix == ".conflist":
            return _of_list(path, fields)
        return _of_plugin(path, fields, ())
    except NotAnObject as exc:
        raise ConfigError(f"{path} cannot be parsed: {exc}", remedy=_REMEDY) from exc
    except FieldError as exc:
        raise ConfigError(f"{path}: {exc}", remedy=_REMEDY) from exc


def _of_list(path: Path, fields: Fields) -> NodeCniConf:
    plugins = fields.inners("plugins")
    types = [plugin.text("type") for plugin in plugins]
    if types.count(PLUGIN_TYPE) != 1:
        raise fields.error("plugins", f'a list with one plugin of type "{PLUGIN_TYPE}"')
    chained = tuple(kind for kind in types if kind != PLUGIN_TYPE)
    return _of_plugin(path, plugins[types.index(PLUGIN_TYPE)], chained)


def _of_plugin(path: Path, fields: Fields, chained: tuple[str, ...]) -> NodeCniConf:
    for key in _ENVELOPE:
        fields.value(key)
    kind = fields.text("type")
    if kind not in ("", PLUGIN_TYPE):
        raise fields.error("type", f'"{PLUGIN_TYPE}"')
    missing = () if kind else (f'{path} has no "type": "{PLUGIN_TYPE}", a container runtime will refuse it',)
    plugin = PluginConf.read(fields)
    return NodeCniConf(path, plugin, chained, missing + fields.unknown())
