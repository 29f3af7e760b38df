"""The node's CNI configuration as the daemon reads it: ``10-terway.conflist`` before ``10-terway.conf``.

The runtime sends the same settings with every request; the daemon needs the mode and the MTU before the
first one. It hands the runtime a file that a runtime takes: what libcni would refuse is completed where there
is one answer (``name``, ``cniVersion``, ``type``) and is an error where there is none. A plugin that cannot
work beside this agent is left out, with a warning.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cni.chain import Plugin
from cni.conf import NETWORK_NAME, PLUGIN_TYPE
from cni.fields import FieldError, Fields, NotAnObject, load
from cni.plugin import PluginConf
from cni.version import SUPPORTED
from control.model.errors import ConfigError

FILES = ("10-terway.conflist", "10-terway.conf")
"""In order of preference."""
DEFAULT_NAME = "terway"
DEFAULT_VERSION = "0.4.0"
"""What network-modes.md writes."""
MOST_BYTES = 1 << 20
"""Of a file: no configuration is so long."""
NEEDS_CILIUM = "cilium-cni"
"""Upstream's generator leaves it in the list. It needs a cilium-agent, which this product does not run."""
_ENVELOPE = ("cniVersion", "cniVersions", "name", "type", "ipam", "dns", "args", "disableCheck", "disableGC")
_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
_REMEDY = "correct the file (the ConfigMap kube-system/eni-config has it) and restart terwayd"


@dataclass(frozen=True, slots=True)
class NodeCniConf:
    path: Path
    plugin: PluginConf
    chained: tuple[str, ...] = ()
    """Types of the other plugins of a conflist, in order."""
    warnings: tuple[str, ...] = ()
    envelope: Plugin = field(default_factory=dict, compare=False)
    """What stands beside the plugins, completed: name and cniVersion at least."""
    plugins: tuple[Plugin, ...] = field(default=(), compare=False)
    """All plugins, in order. That of a ``.conf`` is the only one."""
    complete: bool = field(default=True, compare=False)
    """The file is one that a runtime takes as it stands."""

    def encoded(self, before: Sequence[Plugin] = (), behind: Sequence[Plugin] = ()) -> tuple[str, bytes]:
        """Name and text of the runtime's file, with plugins of others around ours: a list then."""
        if self.path.suffix == ".conf" and not before and not behind:
            return self.path.name, _text({**self.envelope, **self.plugins[0]})
        return FILES[0], _text({**self.envelope, "plugins": [*before, *self.plugins, *behind]})


def find(*directories: Path) -> NodeCniConf:
    """The configuration of the first of ``directories`` that has one.

    Raises ConfigError if none has, or if that one is wrong: another must not hide it.
    """
    for path in (directory / name for directory in directories for name in FILES):
        try:
            data = content(path)
        except FileNotFoundError:
            continue
        except ValueError as exc:
            raise ConfigError(f"cannot read {path}: {exc}", remedy=_REMEDY) from exc
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
        fields = Fields(loaded := load(data))
        if path.suffix == ".conflist":
            return _of_list(path, fields, loaded)
        return _of_plugin(path, fields, loaded)
    except NotAnObject as exc:
        raise ConfigError(f"{path} cannot be parsed: {exc}", remedy=_REMEDY) from exc
    except FieldError as exc:
        raise ConfigError(f"{path}: {exc}", remedy=_REMEDY) from exc


def content(path: Path) -> bytes:
    """Of a file in a directory that others write to as well: a FIFO there must not hold up the node.

    Raises OSError, or ValueError saying what it is instead of a configuration.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no regular file")
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES} bytes")
    return data


def plugins_of(path: Path) -> tuple[str, tuple[Plugin, ...]]:
    """Name and plugins of any configuration of a runtime. Raises ValueError saying what is wrong."""
    fields = Fields(loaded := load(content(path)))
    plugins = fields.tables("plugins") if path.suffix == ".conflist" else (loaded,)
    if not plugins or not all(isinstance(Fields(one).value("type"), str) for one in plugins):
        raise ValueError("it has no plugins, or one without a type")
    return fields.text("name"), plugins


def _of_list(path: Path, fields: Fields, loaded: Plugin) -> NodeCniConf:
    plugins, raw = fields.inners("plugins"), fields.tables("plugins")
    types = [plugin.text("type") for plugin in plugins]
    if types.count(PLUGIN_TYPE) != 1:
        raise fields.error("plugins", f'a list with one plugin of type "{PLUGIN_TYPE}"')
    for each, kind in zip(plugins, types, strict=True):
        if not _TYPE.fullmatch(kind):
            raise each.error("type", "the name of an executable")
    warnings, completed = _completed(path, fields)
    if NEEDS_CILIUM in types:
        warnings = (*warnings, _no_cilium(path))
    kept = [number for number, kind in enumerate(types) if kind != NEEDS_CILIUM]
    ours = plugins[types.index(PLUGIN_TYPE)]
    plugin = _settings(ours)
    return NodeCniConf(
        path,
        plugin,
        chained=tuple(types[number] for number in kept if types[number] != PLUGIN_TYPE),
        warnings=(*warnings, *ours.unknown()),
        envelope={
            **{key: value for key, value in loaded.items() if key.casefold() != "plugins"},
            **completed,
        },
        plugins=tuple(raw[number] for number in kept),
        complete=not completed and len(kept) == len(types),
    )


def _of_plugin(path: Path, fields: Fields, loaded: Plugin) -> NodeCniConf:
    if fields.value("plugins") is not None:
        raise fields.error("plugins", f"nothing in a .conf: a list is the key {FILES[0]} of eni-config")
    kind = fields.text("type")
    if kind not in ("", PLUGIN_TYPE):
        raise fields.error("type", f'"{PLUGIN_TYPE}"')
    warnings, completed = _completed(path, fields)
    if not kind:
        warnings = (*warnings, f'{path} has no type, the runtime is given "{PLUGIN_TYPE}"')
    own = {**loaded, **({} if kind else {"type": PLUGIN_TYPE})}
    envelope = ("cniversion", "cniversions", "name")
    return NodeCniConf(
        path,
        _settings(fields),
        warnings=(*warnings, *fields.unknown()),
        envelope={**{key: value for key, value in own.items() if key.casefold() in envelope}, **completed},
        plugins=({key: value for key, value in own.items() if key.casefold() not in envelope},),
        complete=bool(kind) and not completed,
    )


def _settings(fields: Fields) -> PluginConf:
    for key in _ENVELOPE:
        fields.value(key)
    return PluginConf.read(fields)


def _completed(path: Path, fields: Fields) -> tuple[tuple[str, ...], dict[str, object]]:
    """What a runtime misses, with a warning for each. Raises FieldError for what it would refuse."""
    warnings: list[str] = []
    added: dict[str, object] = {}
    name, version, versions = fields.text("name"), fields.text("cniVersion"), fields.texts("cniVersions")
    if not name:
        added["name"] = DEFAULT_NAME
    elif not NETWORK_NAME.fullmatch(name):
        raise fields.error("name", "a letter or digit, then letters, digits, '_', '.' and '-'")
    if version and version not in SUPPORTED:
        raise fields.error("cniVersion", ", ".join(SUPPORTED))
    spoken = [one for one in versions if one in SUPPORTED]
    if versions and not spoken:
        raise fields.error("cniVersions", ", ".join(SUPPORTED))
    if not version:
        added["cniVersion"] = max(spoken, key=SUPPORTED.index, default=DEFAULT_VERSION)
    for key, value in added.items():
        warnings.append(f'{path} has no {key}, which a runtime refuses: it is given "{value}"')
    if len(spoken) < len(versions):
        added["cniVersions"] = spoken
        others = ", ".join(sorted(set(versions) - set(spoken)))
        warnings.append(f"{path}: of cniVersions {others} is left out, terway does not speak it")
    return tuple(warnings), added


def _no_cilium(path: Path) -> str:
    return (
        f"{path} chains {NEEDS_CILIUM}, which is left out: it needs a cilium-agent, this product runs none, "
        "and every pod's ADD would fail. Remove it from eni-config"
    )


def _text(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"
