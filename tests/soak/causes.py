"""What explains a refusal, and an alarm in an agent's log: something that a step has done, or nothing.

A cause is a word that a step has given its node since the last quiet moment: ``kill``, ``drop``,
``code Throttling.User``. A refusal that no cause explains is a failure of the run, and so is an alarm: the
agent said that it found or mended something which nobody had done to it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from tests.soak.sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class Rule:
    """Words that one of ``causes`` explains; ``ALWAYS`` among them is always there."""

    pattern: str
    causes: frozenset[str]

    def fits(self, words: str) -> bool:
        return re.search(self.pattern, words) is not None


def _rule(pattern: str, *causes: str) -> Rule:
    return Rule(pattern, frozenset(causes))


ALWAYS = ""
_AWAY = (
    "drop",
    "latency",
    "latency late",
    "worker",
    "metadata",
    "metadata late",
    "code InternalError",
    "code ServiceUnavailable",
)
_WAITED_FOR = (
    "lag",
    "code Throttling.User",
    "code Operation.Conflict",
    "code InvalidOperation.InvalidEniState",
)
"""What an operation waits out, so that the pod's patience may end before its own."""
_KNOWS_ALL = ("unknown outcome", "ledger", "detached", "taken")
"""Causes by which the ledger may know less, or more, than there is in the cloud."""
_DISTORTED = ("distortion another", "distortion empty", "distortion fewer")
_UNKNOWN = ("ledger", "disk", "unrecorded")
"""Causes by which a pod may run without a record."""
_MOVED = ("kill", "ledger", "unrecorded", "detached", "replugged", "renamed")
"""Causes by which a DEL may not find what there is to remove. That a link is gone is none of them."""

_CLEARED = re.compile(
    r"repaired (?:rule \d+: from ([^ /]+)\S* .*left behind: no pod has|fast path of device \d+: left behind)"
)
"""With the address of a rule; a device that is gone is no pod's any more by its number."""
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}")
"""Of the machine, not of the clock that steps move."""
_TICK = 0.001
"""Seconds: the log's time is cut to it."""

REFUSALS = (
    _rule("there is no pod|PodNotFound|not found", "kubernetes", "race"),
    _rule("Kubernetes API cannot be reached", "kubernetes"),
    _rule("terwayd is (starting|not ready|stopping)|terway daemon|failed connect", "kill"),
    _rule("database or disk is full|ledger", "disk", "ledger"),
    _rule("already|given the sandbox up|AlreadyInProgress|under way", "race", "hang_up", "kill"),
    _rule("no attachment .* on this node", "race", "altered", "kill", *_UNKNOWN),
    _rule("runs by link", *_UNKNOWN),
    _rule("is not as ADD left it", "altered", "detached", "replugged"),
    _rule("metadata", "metadata", "metadata late", "lag", *_DISTORTED),
    _rule("of-somebody-else|not what was asked for|only addresses that", "distortion another"),
    _rule("is not as documented", *_DISTORTED),
    _rule("cannot be reached|no answer|connection broke|took too long|SDK process", *_AWAY),
    _rule("vSwitch .*(free address|No available)|IpNotEnough", "code InvalidVSwitchId.IpNotEnough"),
    _rule("may be used in|cooling", ALWAYS),
    _rule("no link has this MAC|was the ENI detached|The ENI .* is gone|ENI .* is frozen", "detached"),
    _rule("is ENI .* still attached, and was it prepared", "altered", "detached", "replugged"),
    _rule("rules or routes of this node were changed by another hand", "altered", "detached", "replugged"),
    _rule("All .* addresses|addresses in use", "detached", "taken", *_AWAY),
    _rule("No address has come from the cloud", *_AWAY, *_WAITED_FOR),
    _rule("frozen on this node", *_DISTORTED),
)

ALARMS = (
    _rule(r"Traceback \(most recent|in a way nobody foresaw"),
    _rule("adopting .* seen by cloud and metadata twice", "lag", "partial", *_KNOWS_ALL),
    _rule("was made for this node, is attached to nothing and unknown", *_KNOWS_ALL),
    _rule("has our tags and the ledger does not know it", *_KNOWS_ALL, "replugged"),
    _rule("nobody was told that it was made", *_KNOWS_ALL),
    _rule("is gone from cloud and metadata", *_KNOWS_ALL),
    _rule("named only addresses that the node has|which is not what was asked for", "unknown outcome"),
    _rule("repaired .*(left behind|does not have this address)", *_MOVED),
    _rule("repaired ", "altered", "kill", "detached", "replugged", "ledger", "lag"),
    _rule("put there by another hand|somebody else has put a|routing of cali.* another hand", "foreign"),
    _rule("the node's own addresses are", "node address"),
    _rule("was cut off: taken to its end", "kill"),
    _rule("could not be unwound yet|left traces", "disk", "altered", "detached"),
    _rule(
        "is gone from Kubernetes and kernel: freed|neither listed nor in the kernel", "kill", "disk", "ledger"
    ),
    _rule("is not in the ledger: taken down|has neither a sandbox nor a pod", *_UNKNOWN),
    _rule("the ledger does not know", *_UNKNOWN, "without its alias"),
    _rule("older than what runs|was lost under terwayd", "ledger"),
    _rule("is in the ledger again", *_UNKNOWN),
    _rule("gets another address", "ledger", "kill", "disk"),
    _rule("Mark as invalid", "lag", *_KNOWS_ALL),
    _rule("the SDK's process .* ended by itself", "worker"),
    _rule("did not take the answer", "hang_up", "kill", "race"),
    _rule("no file descriptor left|cannot accept a CNI request|nothing either"),
    _rule("it has ended and is not mended|another terwayd"),
)


def of_refusal(words: str, causes: Collection[str]) -> str:
    """Which cause explains a refused request; "" for none."""
    for cause in sorted(causes):
        if cause.startswith("code ") and cause.removeprefix("code ") in words:
            return cause
    return _explained(REFUSALS, words, causes) or ""


def of_alarm(line: str, causes: Collection[str]) -> str | None:
    """Which cause explains an alarm, by the first rule that fits; "" for none. None if it is no alarm."""
    first = next((rule for rule in ALARMS if rule.fits(line)), None)
    return None if first is None else _explained((first,), line, causes) or ""


def _explained(rules: tuple[Rule, ...], words: str, causes: Collection[str]) -> str | None:
    for rule in rules:
        if rule.fits(words):
            found = rule.causes & {*causes, ALWAYS}
            if found:
                return min(found) or "nothing is wrong"
    return None


def link_went_first(line: str, linkless: Collection[Sandbox]) -> bool:
    """Whether a repair cleared up after a link while its pod's DEL was still to come, as it should.

    What it finds after the DEL has nothing to do with that: the DEL has left it.
    """
    found = _CLEARED.search(line)
    began = _TIME.match(line)
    if found is None or began is None:
        return False
    at = datetime.strptime(began[0], "%Y-%m-%d %H:%M:%S,%f").timestamp()
    then = [one for one in linkless if one.cut_at - _TICK <= at <= one.ended_at]
    return any(found[1] in (None, *one.addresses) for one in then)


def names_broken_eni(words: str) -> bool:
    """An ENI that is gone. Nothing explains it to a new pod, for which another ENI is to be chosen."""
    return (
        re.search("no link has this MAC|was the ENI detached|still attached, and was it", words) is not None
    )
