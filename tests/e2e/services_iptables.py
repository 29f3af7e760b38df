"""Rules for ``iptables-restore``: services as kube-proxy writes them (pkg/proxy/iptables of Kubernetes 1.34),
host ports as portmap (containernetworking-plugins 1.6)."""

from __future__ import annotations

import re
from hashlib import sha256

from tests.e2e.services import PORT, PROTOCOLS, TARGET, HostPort, NodeRules, Service, joined

_NAT = """
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment "traffic requiring SNAT" -j MASQUERADE --random-fully
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
"""

_FILTER = """
-A INPUT -m conntrack --ctstate NEW -j KUBE-NODEPORTS
-A INPUT -j KUBE-FIREWALL
-A OUTPUT -j KUBE-FIREWALL
-A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
"""
_CHAINS = (
    "KUBE-NODEPORTS",
    "KUBE-FIREWALL",
    "KUBE-PROXY-FIREWALL",
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
)


def written(rules: NodeRules) -> str:
    nat = [*_NAT.splitlines(), *(line for one in rules.host_ports for line in _host_port(one))]
    for service in rules.services:
        for protocol in PROTOCOLS:
            nat += _service(rules, service, protocol)
    nat.append("-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS")
    if rules.masqueraded is not None:
        nat.append(f"-A POSTROUTING -s {rules.pods} -d {rules.masqueraded} -j MASQUERADE")
    tables = (("nat", nat), ("filter", _FILTER.splitlines()))
    return "".join(_table(name, lines) for name, lines in tables)


def _table(name: str, lines: list[str]) -> str:
    """With every chain that a rule is in, or jumps to."""
    body = "\n".join(filter(None, lines))
    named = set(re.findall(r"(?:-A|-j) ((?:KUBE|CNI)-\S+)", body))
    declared = "".join(f":{chain} - [0:0]\n" for chain in sorted(named))
    return f"*{name}\n{declared}{body}\nCOMMIT\n"


def _service(rules: NodeRules, service: Service, protocol: str) -> list[str]:
    key = _hash(f"{service.name}/{protocol}")
    to = f"-d {service.vip} -p {protocol} -m {protocol} --dport {PORT}"
    end = joined(service.backend, TARGET)
    lines = [
        f"-A KUBE-SERVICES {to} -j KUBE-SVC-{key}",
        f"-A KUBE-SVC-{key} ! -s {rules.pods} {to} -j KUBE-MARK-MASQ",
        f"-A KUBE-SVC-{key} -j KUBE-SEP-{key}",
        f"-A KUBE-SEP-{key} -s {service.backend} -j KUBE-MARK-MASQ",
        f"-A KUBE-SEP-{key} -p {protocol} -m {protocol} -j DNAT --to-destination {end}",
    ]
    if service.node_port:
        port = f"-p {protocol} -m {protocol} --dport {service.node_port}"
        lines += [f"-A KUBE-NODEPORTS {port} -j KUBE-EXT-{key}", *_external(rules, service, key)]
    return lines


def _external(rules: NodeRules, service: Service, key: str) -> list[str]:
    if not service.local:
        return [f"-A KUBE-EXT-{key} -j KUBE-MARK-MASQ", f"-A KUBE-EXT-{key} -j KUBE-SVC-{key}"]
    return [
        f"-A KUBE-EXT-{key} -s {rules.pods} -j KUBE-SVC-{key}",
        f"-A KUBE-EXT-{key} -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ",
        f"-A KUBE-EXT-{key} -m addrtype --src-type LOCAL -j KUBE-SVC-{key}",
        f"-A KUBE-EXT-{key} -j KUBE-SVL-{key}",
        f"-A KUBE-SVL-{key} -j KUBE-SEP-{key}",
    ]


def _host_port(one: HostPort) -> list[str]:
    key, lines = _hash(str(one)).lower(), []
    for protocol in PROTOCOLS:
        port = f"-p {protocol} -m {protocol} --dport {one.port}"
        lines += [
            f"-A CNI-HOSTPORT-DNAT -p {protocol} -m multiport --dports {one.port} -j CNI-DN-{key}",
            f"-A CNI-DN-{key} -s {one.backend} {port} -j CNI-HOSTPORT-SETMARK",
            f"-A CNI-DN-{key} {port} -j DNAT --to-destination {joined(one.backend, TARGET)}",
        ]
    return lines


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16].upper()
