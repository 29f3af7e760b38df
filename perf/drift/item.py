"""An alteration by a foreign hand, as data: what is done, and how the object is looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from perf.drift.scene import Scene

Hand = Callable[[Scene], None]
Look = Callable[[Scene], str]


class Thing(StrEnum):
    """Kinds of what the agent makes or sets."""

    LINK = "link"
    ADDRESS = "address"
    ROUTE = "route"
    RULE = "rule"
    NEIGHBOUR = "neighbour"
    SETTING = "setting"
    NFT = "nft table"
    HOOK = "hook"
    ROW = "row"
    PIN = "pin"
    FILE = "file"


class Change(StrEnum):
    DELETED = "deleted"
    ALTERED = "altered"
    IMPOSTOR = "impostor"
    """Something else stands in its place, by its name, its number or its priority."""
    ADDED = "added"
    """Something of nobody's stands beside it."""


class Owner(StrEnum):
    AGENT = "agent"
    POD = "pod"
    """The agent writes it once, at ADD; root in the pod may do with it as he likes, to the pod's own harm."""


@dataclass(frozen=True, slots=True)
class Shell:
    """Lines for sh(1) in the node's network namespace, with the scene's names in braces."""

    text: str

    def __call__(self, scene: Scene) -> None:
        scene.run(self.text)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Shown:
    """What such lines print; what fails prints nothing."""

    text: str

    def __call__(self, scene: Scene) -> str:
        return scene.run(self.text, check=False)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Item:
    """``look`` shows exactly the object: it is as it was when the text is as before ``alter``.

    ``harms``: whom, by routes or by eBPF; which of it is felt under the fast path the table of
    ``./run perf drift`` shows. ``bpf``: the object is only there with the fast path.
    """

    name: str
    thing: Thing
    change: Change
    alter: Hand
    look: Look
    harms: str
    owner: Owner = Owner.AGENT
    bpf: bool = False
    dual: bool = False
    """Needs IPv6."""
    spoils: bool = False
    """What is put right is another name or number than before, so that the scene is of no more use."""


@dataclass(frozen=True, slots=True)
class Family:
    """A family's word for ip(8), and its names in a scene."""

    word: str
    ip: str
    pod: str
    spare: str
    gateway: str
    far: str
    width: int

    @property
    def dual(self) -> bool:
        return self.word == "v6"


V4 = Family("v4", "ip -4", "{ip4}", "{spare4}", "{gw4}", "{far4}", 32)
V6 = Family("v6", "ip -6", "{ip6}", "{spare6}", "{gw6}", "{far6}", 128)
FAMILIES = (V4, V6)
