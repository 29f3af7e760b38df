"""How to look around in a lab that the demonstration leaves running, in commands that can be copied."""

from __future__ import annotations

from lab.demo.report import PodReport, Report


def look_around(name: str, report: Report) -> str:
    """``report`` tells the names and addresses that the commands use; it has at least one node and pod."""
    node, pod, peer = report.nodes[0].name, report.pods[0], report.pods[-1]
    rows = (
        ("what runs where", "status", ""),
        ("inside a pod", "pod exec", f"{_key(pod)} -- ip addr"),
        ("from pod to pod", "pod exec", f"{_key(pod)} -- ping -c 3 {peer.addresses[0]}"),
        ("a shell on a node", "node exec", node),
        ("routes to its pods", "node exec", f"{node} -- ip route show table 512"),
        ("rules from its pods", "node exec", f"{node} -- ip rule"),
        ("what its daemon knows", "node exec", f"{node} -- terway-cli mapping"),
        ("how packets are carried", "node exec", f"{node} -- terway-cli fastpath"),
        ("by eBPF, pod by pod", "node exec", f"{node} -- terway-cli bpf endpoints"),
        ("and why not, if not", "node exec", f"{node} -- terway-cli bpf counters"),
        ("a pod's next packets", "node exec", f"{node} -- terway-cli trace {_key(pod)} -c 8"),
        ("another pod, by CNI ADD", "pod add", f"{node} demo/extra"),
        ("and its DEL", "pod del", "demo/extra"),
        ("the cloud's side", "ecs state", ""),
        ("what the fabric did", "counters", ""),
        ("8 frames at an ENI", "capture", f"{pod.eni} -w eni.pcap -c 8"),
        ("the end of it", "down", ""),
    )
    width = max(len(text) for text, _, _ in rows)
    lines = [
        f"  {text:<{width}}  ./run lab {words} --name {name} {rest}".rstrip() for text, words, rest in rows
    ]
    return "\n".join(
        (
            f"The lab {name!r} goes on running. To look around, in this clone:",
            *lines,
            "Faults: ./run lab ecs fault --help. Every word has --help and --json: ./run lab --help.",
        )
    )


def _key(pod: PodReport) -> str:
    return f"{pod.namespace}/{pod.name}"
