"""The runtime's copy of the CNI configuration: written when the socket serves, and looked after from then on.

Others chain themselves into the file (istio-cni appends its plugin, and makes a list of a ``.conf``). What
they have put there stays where it is, before or behind ours, through restarts and other configurations; what
an earlier configuration of ours had chained goes with it. ``wrote`` is what tells the two apart.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from cni.chain import Plugin, type_of
from cni.conf import PLUGIN_TYPE
from cni.fields import load
from control.config.cni_conf import FILES, NEEDS_CILIUM, NodeCniConf, content, plugins_of
from control.model.errors import Cause, ConfigError, RequestError
from control.process.private_socket import require_on_disk
from control.process.watch_files import ANY

_DELEGATES = frozenset({"multus", "multus-shim", "multus-cni"})
"""Plugins that come first on purpose, and call the next network themselves."""
_SUFFIXES = frozenset({".conf", ".conflist", ".json"})
"""What a runtime reads in its directory, in order of name."""


class CniConfFile:
    """One node's file. ``programs``: the directory of executables, None or absent: not looked at."""

    def __init__(self, conf: NodeCniConf, target: Path, programs: Path | None) -> None:
        self._conf = conf
        self._target = target
        self._programs = programs
        self.plugins: tuple[Plugin, ...] = conf.plugins
        """All of the file, those of others among them."""
        self.notices: tuple[str, ...] = ()
        """What an operator should know of the runtime's directory, as of the last look."""

    def install(self, wrote: Sequence[str] | None) -> tuple[str, ...]:
        """Bring the file in line and say the types that it has from us, for the next ``wrote``.

        ``wrote`` None: nobody knows what an earlier agent wrote; what is not in our configuration counts as
        another's then. A runtime that reads the directory sees the old file or the new one, never a part.
        Raises ConfigError if the directory cannot be written, RequestError for a chain that cannot work yet.
        """
        name, text = self._look(wrote)
        self._require_programs()
        self._write(name, text)
        return tuple(map(type_of, self._conf.plugins))

    def wrong(self, wrote: Sequence[str] | None) -> str:
        """What ``install`` would change, "" if nothing. Raises RequestError as it does."""
        name, text = self._look(wrote)
        self._require_programs()
        destination = self._target / name
        if self._conf.complete and _same(destination, self._conf.path):
            return ""
        if not os.path.lexists(destination):
            return f"{destination} was removed"
        if not _holds(destination, text):
            return f"{destination} is not as the agent wrote it"
        others = [self._target / other for other in FILES if other != name]
        return "".join(f"{other} stands beside it" for other in others if os.path.lexists(other))

    @property
    def paths(self) -> tuple[Path, ...]:
        """Whose changes matter: whatever is in the runtime's directory, and the executables of the chain."""
        kinds = () if self._programs is None else (PLUGIN_TYPE, *self._conf.chained)
        return (self._target / ANY, *(self._programs / kind for kind in kinds if self._programs is not None))

    def _look(self, wrote: Sequence[str] | None) -> tuple[str, bytes]:
        """Name and text of the file as it should be. Takes what others have put there into account."""
        notices: list[str] = []
        before, behind = self._others(wrote, notices)
        name, text = self._conf.encoded(before, behind)
        self.plugins = (*before, *self._conf.plugins, *behind)
        notices += self._earlier(name)
        self.notices = tuple(notices)
        return name, text

    def _others(self, wrote: Sequence[str] | None, notices: list[str]) -> tuple[list[Plugin], list[Plugin]]:
        """Plugins that somebody else has put before and behind ours."""
        ours = {*map(type_of, self._conf.plugins), NEEDS_CILIUM, *(wrote or ())}
        before: list[Plugin] = []
        behind: list[Plugin] = []
        for path in (self._target / name for name in FILES):
            if path.suffix != ".conflist" or not path.is_file() or _same(path, self._conf.path):
                continue
            try:
                _, plugins = plugins_of(path)
            except (ValueError, OSError) as exc:
                notices.append(f"{path} could not be read and is replaced: {exc}")
                continue
            types = list(map(type_of, plugins))
            if PLUGIN_TYPE not in types:
                notices.append(f"{path} was not terway's (it had {', '.join(types)}) and is replaced")
                continue
            at = types.index(PLUGIN_TYPE)
            for number, (plugin, kind) in enumerate(zip(plugins, types, strict=True)):
                if kind in ours:
                    continue
                if self._lacks(kind):
                    notices.append(
                        f"{path} chained {kind}, whose executable is not in {self._programs}: it is left out"
                    )
                    continue
                (before if number < at else behind).append(plugin)
        return before, behind

    def _earlier(self, name: str) -> list[str]:
        """Of the files that the runtime reads before ours: the first one is its network."""
        found = []
        try:
            present = sorted(path for path in self._target.iterdir() if path.suffix in _SUFFIXES)
        except OSError:
            return []
        for path in (one for one in present if one.name < name and one.name not in FILES):
            try:
                network, plugins = plugins_of(path)
                if type_of(plugins[0]) in _DELEGATES:
                    continue
                told = f"is the network {network or 'without a name'} ({', '.join(map(type_of, plugins))})"
            except (ValueError, OSError) as exc:
                told = f"cannot be read ({exc})"
            found.append(
                f"{path} comes before {name} and {told}: the runtime uses it and not terway for new pods. "
                "Remove the file"
            )
        return found

    def _lacks(self, kind: str) -> bool:
        """A link counts as the executable: it may lead to where the node sees and a container does not."""
        if self._programs is None or not self._programs.is_dir():
            return False
        return not os.path.lexists(self._programs / kind)

    def _require_programs(self) -> None:
        missing = [kind for kind in (PLUGIN_TYPE, *self._conf.chained) if self._lacks(kind)]
        if missing:
            raise RequestError(
                f"the CNI configuration names {', '.join(missing)}, and {self._programs} has no such"
                " executable: every ADD of the node would fail",
                cause=Cause.CONFIG,
                remedy=(
                    "delete the agent's pod, whose successor brings terway along"
                    if missing == [PLUGIN_TYPE]
                    else "install it on the node (package kubernetes-cni has portmap, bandwidth and others), "
                    "take it out of eni-config"
                )
                + ", or name the runtime's directory by -cni-bin",
            )

    def _write(self, name: str, text: bytes) -> None:
        destination = self._target / name
        if self._conf.complete and _same(destination, self._conf.path):
            return
        require_on_disk(self._target)
        try:
            self._target.mkdir(parents=True, exist_ok=True)
            if not _holds(destination, text):
                _replace(destination, text)
            for other in FILES:
                # Looked for first: a read-only file system refuses to remove what is not there, too.
                if other != name and os.path.lexists(self._target / other):
                    (self._target / other).unlink(missing_ok=True)
        except IsADirectoryError as exc:
            raise ConfigError(
                f"cannot write the CNI configuration to {destination}: a directory has that name, or that of "
                f"one of {', '.join(FILES)}",
                remedy="remove that directory",
            ) from exc
        except OSError as exc:
            raise ConfigError(
                f"cannot write the CNI configuration to {self._target}: {exc.strerror}",
                remedy="mount the node's /etc/cni/net.d there writable, or give -cni-conf-target",
            ) from exc


def remembered(told: object) -> tuple[str, ...] | None:
    """What ``install`` said, from a ledger's fact; None if there is none that can be understood."""
    return tuple(map(str, told)) if isinstance(told, list) else None


def to_remember(types: Sequence[str]) -> str:
    return json.dumps(list(types))


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _holds(path: Path, text: bytes) -> bool:
    """The file says the same already: it is not touched, as others watch it for changes."""
    try:
        readable = path.stat().st_mode & 0o777 == 0o644
        return readable and not path.is_symlink() and load(content(path)) == load(text)
    except (OSError, ValueError):
        return False


def _replace(path: Path, text: bytes) -> None:
    """By rename, on the disk before it has its name. What a killed agent left of its own is written over."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(text)
            file.flush()
            os.fchmod(fd, 0o644)
            os.fsync(fd)
        fresh.rename(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
