"""Which modes there are: a package each, and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from datapath.endpoint import Mode
from datapath.modes.macvlan.mode import Macvlan
from datapath.modes.policy_route.mode import PolicyRoute
from datapath.modes.port import ModeContext, ModePort

Modes = Mapping[str, Callable[[ModeContext], ModePort]]

MODES: Mapping[str, type[PolicyRoute] | type[Macvlan]] = {
    Mode.POLICY_ROUTE: PolicyRoute,
    Mode.MACVLAN: Macvlan,
}
