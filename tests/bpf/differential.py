"""The programs and the model, side by side on the same packets."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from datapath.acceleration.rows import address_value
from tests.bpf.bench import HOST_CIDRS, NODE, SERVICE, Bench, Outcome, device_mac
from tests.bpf.model import Arrival, Expected, Model
from tests.bpf.traffic import Traffic

OFF_SHARE = 0.03
"""Of the packets, met by a node whose fast path is off."""

RETURNED = {"stack": -1, "drop": 2, "peer": 7, "eni": 7, "neigh": 7, "answer": 7}
"""TC_ACT_UNSPEC, TC_ACT_SHOT, TC_ACT_REDIRECT."""

UNREACHABLE = frozenset({"drop_kernel", "stack_unknown_pod"})
"""The one needs the kernel to be out of memory, the other is not given any more."""


BY_HAND = frozenset({"seen_fast", "seen_refused", "stack_unrecorded", "stack_member", "stack_device"})
"""What no test run can stamp, and what needs thousands of flows: see test_cases and tests/netns/fastpath."""


class Disagreement(AssertionError):
    """The programs do not do what the model says."""


@dataclass(slots=True)
class Tally:
    """How often each verdict and each (program, reason) came."""

    verdicts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    packets: int = 0

    def histogram(self) -> Iterator[str]:
        for counts in (self.verdicts, self.reasons):
            for name, count in counts.most_common():
                yield f"{name:20} {count:9} {count / self.packets:7.2%}"

    def rare(self, names: tuple[str, ...], share: float) -> list[str]:
        """Those of the names that came less often."""
        least = share * self.packets
        return [
            n for n in names if self.reasons[n] + self.verdicts[n] < least and n not in UNREACHABLE | BY_HAND
        ]


def model_of(bench: Bench) -> Model:
    return Model(
        pods={pod.host_ifindex: pod for pod in bench.pods.values()},
        enis={eni.ifindex: eni for eni in bench.enis.values()},
        macs={index: device_mac(name) for name, index in bench.devices.items()},
        service=SERVICE,
        host_cidrs=HOST_CIDRS,
        node=NODE,
        home=bench.devices["home"],
        owners={
            address_value(key.tobytes()): (int(row["slot"]), int(row["generation"]))
            for key, row in bench.fast.rows("endpoints")
        },
    )


def play(bench: Bench, *, seed: int, packets: int = 0, seconds: float = 0.0) -> Tally:
    """So many packets, or for so long. Raises Disagreement at the first packet they judge differently."""
    model, tally = model_of(bench), Tally()
    traffic = Traffic(bench, model, seed)
    before = {hook: Counter(counts) for hook, counts in bench.fast.counters().items()}
    deadline = time.monotonic() + seconds
    while tally.packets < packets or time.monotonic() < deadline:
        arrival = traffic.next()
        off = traffic.random.random() < OFF_SHARE
        if off:
            _switch(bench, model, False)
        compare(bench, model, arrival, tally)
        if off:
            _switch(bench, model, True)
    _compare_counters(bench, model, before)
    return tally


def compare(bench: Bench, model: Model, arrival: Arrival, tally: Tally) -> None:
    expected = model.judge(arrival)
    device = next(name for name, index in bench.devices.items() if index == arrival.ifindex)
    segments = 3 if arrival.gso_size else 0
    found = bench.run(
        arrival.program, device, arrival.frame, mark=arrival.mark, gso=(arrival.gso_size, segments)
    )
    if not _agree(expected, found):
        raise Disagreement(
            f"packet {tally.packets}, {arrival.program} at {device}: {arrival}\n"
            f"model:   {expected}\nprogram: {found}"
        )
    tally.packets += 1
    tally.verdicts[expected.verdict] += 1
    tally.reasons[expected.reason] += 1


def _agree(expected: Expected, found: Outcome) -> bool:
    return found == Outcome(
        returned=RETURNED[expected.verdict],
        verdict=expected.verdict,
        reason=expected.reason,
        target=expected.target,
        packet=expected.packet,
        mark=expected.mark,
    )


def _switch(bench: Bench, model: Model, on: bool) -> None:
    bench.fast.switch(on)
    model.on = on


def _compare_counters(bench: Bench, model: Model, before: dict[str, Counter[str]]) -> None:
    for hook, counts in bench.fast.counters().items():
        grown = Counter(counts) - before.get(hook, Counter())
        wanted = Counter({reason: n for (program, reason), n in model.counts.items() if program == hook})
        if grown != wanted:
            raise Disagreement(f"counters of {hook}: {grown - wanted} too many, {wanted - grown} missing")
