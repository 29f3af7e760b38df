"""The node's files that are this agent's, each kept as it should be: see ``control.process.keeper``.

=================== ======================================= =================================================
thing               made or read                            when it is spoiled
=================== ======================================= =================================================
cni-socket          at the start                            bound anew, at once
debug-socket        at the start                            bound anew; its clients' connections go on
cni-executable      at the start, from this installation    installed anew out of memory
cni-configuration   once the node serves                    written anew; others' plugins stay in it
eni-config          read at the start, on purpose           told: it takes effect at the next start
=================== ======================================= =================================================

The access key's files are read anew when they change (``control.aliyun.credentials``), the kubeconfig and the
service account when the server refuses them (``control.kube.connection``); ledger and pins see to themselves.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

from control.agent.cni.conf_file import CniConfFile, remembered, to_remember
from control.agent.cni.executable import kept_executable
from control.agent.node_config import NodeConfig
from control.agent.state.journal import Journal
from control.config.cni_conf import FILES
from control.model.errors import LedgerError, TerwayError
from control.model.pod import EventType, Kubernetes
from control.process.keeper import Keeper, Kept
from control.process.read_at_start import ReadAtStart

log = logging.getLogger(__name__)

CHAIN = "cni_plugins"
"""Fact in the ledger: the plugins that the runtime's file has from us."""


class NodeFiles:
    """``keeper`` looks after what is added; the configuration from ``keep_conf`` on."""

    def __init__(self, config: NodeConfig, journal: Journal, kubernetes: Kubernetes) -> None:
        told = config.settings
        self._journal = journal
        self._kubernetes = kubernetes
        self.conf_file = CniConfFile(config.cni, told.cni_conf_target, told.cni_bin)
        self.notices: tuple[str, ...] = ()
        """What an operator should know of the runtime's directory."""
        self._conf = _KeptConf(self)
        self.keeper = Keeper(self._told)
        self._executable = kept_executable(told.cni_executable, told.cni_bin)
        sources = (told.cni_conf_source / name for name in (*FILES, "disable_network_policy"))
        self.keeper.add(ReadAtStart("eni-config", told.eni_conf, *sources))

    def install(self) -> None:
        """The executable, and then the configuration that names it, as often as it takes.

        Raises ConfigError or RequestError, as ``CniConfFile.install``.
        """
        if self._executable is not None:
            self.keeper.add(self._executable)
            self.keeper.look()
        self.install_conf()

    def keep_conf(self) -> None:
        self.keeper.add(self._conf)

    def no_new_pods(self) -> TerwayError | None:
        """Why an ADD is refused: the runtime's configuration cannot work."""
        return self._conf.broken

    def install_conf(self) -> None:
        """Bring the runtime's file in line; others' doings there are told once each."""
        before = remembered(self._journal.read_fact(CHAIN))
        try:
            wrote = self.conf_file.install(before)
            if wrote != before:
                with contextlib.suppress(LedgerError):  # a full disk is told by whoever needs the ledger
                    self._journal.remember(CHAIN, to_remember(wrote))
        finally:
            self._tell_notices(self.conf_file.notices)

    def wrong_conf(self) -> str:
        try:
            return self.conf_file.wrong(remembered(self._journal.read_fact(CHAIN)))
        finally:
            self._tell_notices(self.conf_file.notices)

    def _tell_notices(self, notices: Sequence[str]) -> None:
        for notice in notices:
            if notice not in self.notices:
                log.warning("%s", notice)
                self._kubernetes.event(None, EventType.WARNING, "CniConfiguration", notice)
        self.notices = tuple(notices)

    def _told(self, thing: Kept, text: str) -> None:
        """One event per thing, which counts up and says the latest."""
        self._kubernetes.event(None, EventType.WARNING, "NodeFileSpoiled", text, topic=thing.name)


class _KeptConf:
    """10-terway.conf, or the list, in the runtime's directory."""

    name = "cni-configuration"
    pods_need_it = True

    def __init__(self, files: NodeFiles) -> None:
        self._files = files
        self.broken: TerwayError | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        return self._files.conf_file.paths

    def wrong(self) -> str:
        self.broken = None
        try:
            return self._files.wrong_conf()
        except TerwayError as exc:
            self.broken = exc
            raise

    def mend(self) -> str:
        self._files.install_conf()
        return "written anew"
