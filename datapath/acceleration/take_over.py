"""Our programs in place of whatever an earlier process left, so that no packet meets half of it."""

from __future__ import annotations

from collections.abc import Callable

from datapath.acceleration.attach import Attacher
from datapath.acceleration.inherit import inherit
from datapath.acceleration.load import Loaded
from datapath.acceleration.tables import Tables
from datapath.acceleration.tc import Side


def take_over(loaded: Loaded, tables: Tables, attacher: Attacher, prepare: Callable[[], object]) -> None:
    """What notes flows, then what reads the notes, and then the old may go. Rows are filled before.

    ``prepare`` may write rows before the first packet meets the programs.
    """
    if loaded.forgetful:
        inherit(loaded, tables)
    if loaded.unasked and tables.flag("SETTING_CONNTRACK"):
        # Programs that ask conntrack have recorded next to nothing.
        tables.forget_flows()
        tables.set_flag("SETTING_CONNTRACK", False)
    tables.set_flag("SETTING_ASK", False)
    tables.set_flag("SETTING_TRACE", False)  # nobody reads what a killed process had asked for
    prepare()
    if loaded.forgetful and not loaded.unasked:
        _swap_asking(loaded, tables, attacher)
    else:
        _swap_quietly(loaded, tables, attacher)
    if not loaded.unasked:
        tables.set_flag("SETTING_CONNTRACK", True)
    loaded.commit()


def _swap_quietly(loaded: Loaded, tables: Tables, attacher: Attacher) -> None:
    """What notes flows before what reads the notes; if these are others, all is the stack's between."""
    if loaded.forgetful:
        loaded.quiet()
    attacher.swap(Side.EGRESS)
    if loaded.forgetful:
        inherit(loaded, tables)
    attacher.swap(Side.INGRESS)


def _swap_asking(loaded: Loaded, tables: Tables, attacher: Attacher) -> None:
    """Conntrack is asked of each flow until all are noted: none changes its carrier."""
    tables.set_flag("SETTING_ASK", True)
    attacher.swap(Side.INGRESS)
    attacher.swap(Side.EGRESS)
    inherit(loaded, tables)
    tables.set_flag("SETTING_ASK", False)
