"""What the fast path counts, as metrics, read from its maps when somebody scrapes.

``path`` is ``ebpf`` for packets that passed by the host's stack and ``stack`` for those that a pod sent and
the stack carried on. Reasons and hooks are those of ``bpf/include/reasons.h``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from control.agent.dataplane.fastpath import FastPathSwitch, State
from control.model.errors import RequestError
from control.model.ids import Address, PodKey
from datapath.acceleration.path import FastPath
from datapath.acceleration.rows import Pod

_POD = ["namespace", "pod"]


class FastPathCollector:
    """``pod_of`` names the pod of an address, None for one that nobody has."""

    def __init__(self, switch: FastPathSwitch, pod_of: Callable[[Address], PodKey | None]) -> None:
        self._switch = switch
        self._pod_of = pod_of

    def collect(self) -> Iterator[Metric]:
        yield self._state()
        try:
            fast = self._switch.fast()
        except RequestError:
            return
        yield self._objects()
        yield _sets(fast)
        yield _reasons(fast)
        yield from self._pods(fast)

    def _state(self) -> Metric:
        status = self._switch.status()
        text = "1 for the state that the fast path is in; why: what keeps it from being on"
        found = GaugeMetricFamily("terway_fastpath_state", text, labels=["state", "why"])
        for state in State:
            why = ",".join(status.why) if state is status.state else ""
            found.add_metric([state.value, why], int(state is status.state))
        return found

    def _objects(self) -> Metric:
        text = "At the last repair: foreign objects at our devices, and own ones that could not be mended"
        found = GaugeMetricFamily("terway_fastpath_objects", text, labels=["state"])
        found.add_metric(["foreign"], len(self._switch.foreign.there))
        found.add_metric(["not_mended"], len(self._switch.foreign.refused))
        return found

    def _pods(self, fast: FastPath) -> Iterator[Metric]:
        packets = CounterMetricFamily("terway_pod_packets", "Packets", labels=[*_POD, "direction", "path"])
        volume = CounterMetricFamily("terway_pod_bytes", "Bytes by eBPF", labels=[*_POD, "direction"])
        dropped = CounterMetricFamily("terway_pod_dropped_packets", "Packets refused to it", labels=_POD)
        rows = fast.endpoints()
        for ifindex, counts in fast.endpoint_counters().items():
            pod = self._name(rows.get(ifindex))
            if pod is None:
                continue
            name = [pod.namespace, pod.name]
            packets.add_metric([*name, "out", "ebpf"], counts.fast_out_packets)
            packets.add_metric([*name, "in", "ebpf"], counts.fast_in_packets)
            packets.add_metric([*name, "out", "stack"], counts.stack_packets)
            volume.add_metric([*name, "out"], counts.fast_out_bytes)
            volume.add_metric([*name, "in"], counts.fast_in_bytes)
            dropped.add_metric(name, counts.dropped_packets)
        yield from (packets, volume, dropped, self._refused(fast, rows))

    def _refused(self, fast: FastPath, rows: Mapping[int, Pod]) -> Metric:
        text = "Packets whose flow by the stack got no record"
        refused = CounterMetricFamily("terway_pod_flow_refusals", text, labels=[*_POD, "cause"])
        for ifindex, found in fast.refusals().items():
            pod = self._name(rows.get(ifindex))
            if pod is not None:
                refused.add_metric([pod.namespace, pod.name, "share"], found.share)
                refused.add_metric([pod.namespace, pod.name, "full"], found.full)
        return refused

    def _name(self, row: Pod | None) -> PodKey | None:
        if row is None:
            return None
        return next((pod for one in row.addresses if (pod := self._pod_of(one)) is not None), None)


def _sets(fast: FastPath) -> Metric:
    text = "1 for a feature set that is on, 0 for one that is off; because: why it is"
    found = GaugeMetricFamily("terway_fastpath_feature_set", text, labels=["set", "because"])
    for one in fast.sets():
        found.add_metric([one.name, one.because], int(one.on))
    return found


def _reasons(fast: FastPath) -> Metric:
    labels = ["hook", "reason"]
    found = CounterMetricFamily("terway_fastpath_packets", "Packets by hook and reason", labels=labels)
    for hook, reasons in fast.counters().items():
        for reason, count in reasons.items():
            found.add_metric([hook, reason], count)
    return found
