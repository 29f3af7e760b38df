"""Pins, files, sockets and directories of the agent."""

from __future__ import annotations

from datapath.acceleration.layout import MAPS, PROGRAMS
from perf.drift.item import Change, Item, Shell, Shown, Thing

_NEW_PODS = "pods that come: no ADD is answered"
_NOT_YET = "nobody before the next start"
_RULED = "[ -e {path} ] && stat -c '%F %a' {path}; [ -f {path} ] && cat {path} || true"
_CONF = "{root}/etc/cni/net.d/10-terway.conf"
_SOCKET, _WINDOW = "{root}/run/eni/eni.socket", "{root}/run/eni/eni_debug.socket"
_PROGRAM, _LEDGER = "{root}/opt/cni/bin/terway", "{root}/var/lib/cni/terway"


def items() -> tuple[Item, ...]:
    return (*_pins(), *_conf(), *_sockets(), *_others())


def _pins() -> tuple[Item, ...]:
    listing = Shown("cd {pins} && find . | sort")
    maps = [
        Item(
            f"pin-{name}-deleted",
            Thing.PIN,
            Change.DELETED,
            Shell(f"rm {{layout}}/{name}"),
            listing,
            _NOT_YET,
            bpf=True,
        )
        for name in (*MAPS, *(f"prog_{one}" for one in PROGRAMS))
    ]
    same = Shown("bpftool map show pinned {layout}/pods | grep -o 'name [a-z]*'")
    swapped = Shell("cd {layout}; mv pods aside; mv uplinks pods; mv aside uplinks")
    rows = (
        ("pin-pods-impostor", Change.IMPOSTOR, swapped, same, _NOT_YET),
        ("pins-layout-deleted", Change.DELETED, Shell("rm -r {layout}"), listing, _NOT_YET),
        (
            "pins-links-deleted",
            Change.DELETED,
            Shell("rm -r {pins}/links"),
            listing,
            "nobody: ENIs are routed",
        ),
        ("pins-directory-deleted", Change.DELETED, Shell("rm -r {pins}"), listing, "nobody: ENIs are routed"),
    )
    return (*maps, *(Item(n, Thing.PIN, c, a, look, h, bpf=True) for n, c, a, look, h in rows))


def _conf() -> tuple[Item, ...]:
    look = Shown(_RULED.replace("{path}", _CONF))
    other = 'echo \'{{"cniVersion": "0.4.0", "name": "other", "type": "loopback"}}\''
    rows = (
        ("cni-conf-deleted", Change.DELETED, f"rm {_CONF}"),
        ("cni-conf-altered", Change.ALTERED, f"sed -i s/PolicyRoute/IPVlan/ {_CONF}"),
        ("cni-conf-mode", Change.ALTERED, f"chmod 600 {_CONF}"),
        ("cni-conf-impostor", Change.IMPOSTOR, f"{other} > {_CONF}"),
        ("cni-conf-directory-deleted", Change.DELETED, "rm -r {root}/etc/cni/net.d"),
    )
    return tuple(Item(n, Thing.FILE, c, Shell(text), look, _NEW_PODS) for n, c, text in rows)


def _sockets() -> tuple[Item, ...]:
    made = []
    for name, path, harms in (
        ("cni-socket", _SOCKET, _NEW_PODS),
        ("window", _WINDOW, "terway-cli and the probes of the agent"),
    ):
        look = Shown(_RULED.replace("{path}", path))
        for change, text in (
            (Change.DELETED, f"rm {path}"),
            (Change.ALTERED, f"chmod 777 {path}"),
            (Change.IMPOSTOR, f"rm {path}; echo > {path}"),
        ):
            made.append(Item(f"{name}-{change}", Thing.FILE, change, Shell(text), look, harms))
    return tuple(made)


def _others() -> tuple[Item, ...]:
    program = Shown(f"stat -c '%F %a %s' {_PROGRAM}")
    ledger = Shown(f"cd {_LEDGER} && stat -c '%n %F %a' . terway.db")
    rows = (
        ("executable-deleted", Change.DELETED, f"rm {_PROGRAM}", program, _NEW_PODS),
        ("executable-mode", Change.ALTERED, f"chmod 644 {_PROGRAM}", program, _NEW_PODS),
        (
            "executable-impostor",
            Change.IMPOSTOR,
            f"rm {_PROGRAM}; cp /bin/true {_PROGRAM}",
            program,
            _NEW_PODS,
        ),
        ("ledger-file-deleted", Change.DELETED, f"rm {_LEDGER}/terway.db", ledger, "the pods' record"),
        (
            "ledger-wal-deleted",
            Change.DELETED,
            f"rm {_LEDGER}/terway.db-wal",
            Shown(f"cd {_LEDGER} && ls terway.db-wal"),
            "the pods' record",
        ),
        ("ledger-mode", Change.ALTERED, f"chmod 666 {_LEDGER}/terway.db", ledger, "nobody"),
        ("ledger-directory-deleted", Change.DELETED, f"rm -r {_LEDGER}", ledger, "the pods' record"),
        (
            "run-directory-deleted",
            Change.DELETED,
            "rm -r {root}/run/eni",
            Shown("stat -c '%F %a' {root}/run/eni {root}/run/eni/eni.socket"),
            _NEW_PODS,
        ),
    )
    return tuple(Item(n, Thing.FILE, c, Shell(text), look, harms) for n, c, text, look, harms in rows)
