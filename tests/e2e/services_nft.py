"""Rules for ``nft -f``: services as kube-proxy writes them (pkg/proxy/nftables of Kubernetes 1.34), host
ports as portmap (containernetworking-plugins 1.6)."""

from __future__ import annotations

from collections.abc import Iterable

from tests.e2e.services import PORT, PROTOCOLS, TARGET, NodeRules, Service, joined

_KUBE_PROXY = """
table {ip} kube-proxy {{
    set cluster-ips {{ type {type}; {vips} }}
    map service-ips {{ type {type} . inet_proto . inet_service : verdict; {ips} }}
    map service-nodeports {{ type inet_proto . inet_service : verdict; {ports} }}
    map no-endpoint-services {{ type {type} . inet_proto . inet_service : verdict; }}
    chain mark-for-masquerade {{ mark set mark or 0x4000; }}
    chain masquerading {{
        mark and 0x4000 == 0 return
        mark set mark xor 0x4000
        masquerade fully-random
    }}
    chain service-endpoints-check {{ {ip} daddr . meta l4proto . th dport vmap @no-endpoint-services; }}
    chain cluster-ips-check {{ {ip} daddr @cluster-ips reject; }}
    {chains}
    chain services {{
        {ip} daddr . meta l4proto . th dport vmap @service-ips
        fib daddr type local {ip} daddr != {loopback} meta l4proto . th dport vmap @service-nodeports
    }}
    chain filter-forward {{
        type filter hook forward priority 0
        ct state new jump service-endpoints-check
        ct state new jump cluster-ips-check
        ct state invalid drop
    }}
    chain nat-prerouting {{ type nat hook prerouting priority -100; jump services; }}
    chain nat-output {{ type nat hook output priority -100; jump services; }}
    chain nat-postrouting {{ type nat hook postrouting priority 100; jump masquerading; }}
}}
"""

_PORTMAP = """
table {ip} cni_hostport {{
    chain hostports {{ {ports} }}
    chain hostip_hostports {{ }}
    chain masquerading {{
        type nat hook postrouting priority srcnat
        {masquerade}
    }}
    chain prerouting {{
        type nat hook prerouting priority dstnat
        jump hostip_hostports
        fib daddr type local jump hostports
    }}
    chain output {{
        type nat hook output priority -100
        jump hostip_hostports
        fib daddr type local jump hostports
    }}
}}
"""


def written(rules: NodeRules) -> str:
    ip = "ip" if rules.version == 4 else "ip6"
    text = _services(rules, ip) + _host_ports(rules, ip)
    if rules.masqueraded is not None:
        way_out = f"{ip} saddr {rules.pods} {ip} daddr {rules.masqueraded} masquerade"
        hook = "type nat hook postrouting priority srcnat"
        text += f"table {ip} way-out {{ chain postrouting {{ {hook}; {way_out}; }}; }}\n"
    return text


def _services(rules: NodeRules, ip: str) -> str:
    each = [(service, protocol) for service in rules.services for protocol in PROTOCOLS]
    with_port = [(service, protocol) for service, protocol in each if service.node_port]
    ips = (f"{s.vip} . {p} . {PORT} : goto service-{s.name}/{p}" for s, p in each)
    ports = (f"{p} . {s.node_port} : goto external-{s.name}/{p}" for s, p in with_port)
    return _KUBE_PROXY.format(
        ip=ip,
        type="ipv4_addr" if ip == "ip" else "ipv6_addr",
        loopback="127.0.0.0/8" if ip == "ip" else "::1",
        vips=_elements(str(s.vip) for s in rules.services),
        ips=_elements(ips),
        ports=_elements(ports),
        chains="\n    ".join(
            [_service(rules, ip, *one) for one in each] + [_external(rules, ip, *one) for one in with_port]
        ),
    )


def _elements(each: Iterable[str]) -> str:
    told = ", ".join(each)
    return f"elements = {{ {told} }}" if told else ""


def _service(rules: NodeRules, ip: str, service: Service, protocol: str) -> str:
    name, end = f"{service.name}/{protocol}", joined(service.backend, TARGET)
    return f"""chain endpoint-{name} {{
        {ip} saddr {service.backend} jump mark-for-masquerade
        meta l4proto {protocol} dnat to {end}
    }}
    chain service-{name} {{
        {ip} daddr {service.vip} {ip} saddr != {rules.pods} jump mark-for-masquerade
        numgen random mod 1 vmap {{ 0 : goto endpoint-{name} }}
    }}"""


def _external(rules: NodeRules, ip: str, service: Service, protocol: str) -> str:
    name = f"{service.name}/{protocol}"
    if not service.local:
        return f"chain external-{name} {{ jump mark-for-masquerade; goto service-{name}; }}"
    return f"""chain local-{name} {{ numgen random mod 1 vmap {{ 0 : goto endpoint-{name} }}; }}
    chain external-{name} {{
        {ip} saddr {rules.pods} goto service-{name}
        fib saddr type local jump mark-for-masquerade
        fib saddr type local goto service-{name}
        goto local-{name}
    }}"""


def _host_ports(rules: NodeRules, ip: str) -> str:
    ports = [
        f"{protocol} dport {one.port} dnat to {joined(one.backend, TARGET)};"
        for one in rules.host_ports
        for protocol in PROTOCOLS
    ]
    own = [f"{ip} saddr {one.backend} {ip} daddr {one.backend} masquerade" for one in rules.host_ports]
    return _PORTMAP.format(ip=ip, ports=" ".join(ports), masquerade="\n        ".join(own))
