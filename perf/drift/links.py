"""Links: the pod's host link and the ENI's, and the addresses that the agent gives to links."""

from __future__ import annotations

from perf.drift.item import Change, Item, Shell, Shown, Thing

_GIVEN = "grep -E 'scope (global|host)|fe80::1/128'"
"""Not what the kernel gives to a link by itself."""
HOST = Shown(
    "ip -o link show | grep '^{index}: '; ip -o addr show dev {link} | " + _GIVEN + ";"
    "ip -4 route show table 512 dev {link}; ip -6 route show table 512 dev {link};"
    "ip neigh show nud permanent dev {link}"
)
"""With all that goes when a link is down."""
ENI = Shown(
    "ip -o link show | grep '^{eni_index}: '; ip -o addr show dev {eni} scope global;"
    "ip -4 route show table {table}; ip -6 route show table {table};"
    "ip -4 rule show | grep '^1024:'; ip -6 rule show | grep '^1024:'"
)
_LINK = Shown("ip -o link show | grep '^{index}: '")
_ENI_LINK = Shown("ip -o link show | grep '^{eni_index}: '")
_ADDRESSES = Shown("ip -o addr show dev {link} | " + _GIVEN)
_ENI_ADDRESSES = Shown("ip -o addr show dev {eni} scope global")
_LO = Shown("ip -o addr show dev lo")

_POD = "all that comes to the pod, and by routes all that it sends"
_PODS = "all of the ENI's pods beyond the node"


def items() -> tuple[Item, ...]:
    return (*_links(), *_addresses())


def _links() -> tuple[Item, ...]:
    link, gone, other = Thing.LINK, Change.DELETED, Change.ALTERED
    return (
        Item("host-link-deleted", link, gone, Shell("ip link del {link}"), HOST, _POD),
        Item("host-link-down", link, other, Shell("ip link set {link} down"), HOST, _POD),
        Item(
            "host-link-renamed", link, other, Shell("ip link set {link} name strange0"), _LINK, "nobody yet"
        ),
        Item("host-link-mtu", link, other, Shell("ip link set {link} mtu 1280"), _LINK, "large packets"),
        Item(
            "host-link-mac",
            link,
            other,
            Shell("ip link set {link} address 02:00:00:00:00:77"),
            _LINK,
            "all that the pod sends",
        ),
        Item(
            "host-link-alias-deleted",
            link,
            gone,
            Shell("ip link set {link} alias ''"),
            _LINK,
            "nobody: whose the link is",
        ),
        Item(
            "host-link-alias-impostor",
            link,
            Change.IMPOSTOR,
            Shell("ip link set {link} alias somebody-else"),
            _LINK,
            "nobody: whose the link is",
        ),
        Item("eni-down", link, other, Shell("ip link set {eni} down"), ENI, _PODS),
        Item("eni-mtu", link, other, Shell("ip link set {eni} mtu 1280"), _ENI_LINK, "large packets"),
        Item(
            "eni-renamed",
            link,
            other,
            Shell("ip link set {eni} down; ip link set {eni} name ens77; ip link set ens77 up"),
            Shown(
                "ip -o link show | grep -o '^{eni_index}: .*UP'  | sed 's/ens77/{eni}/';"
                "ip -o addr show | grep '^{eni_index}: ' | grep 'scope global' | sed 's/ens77/{eni}/g';"
                "ip -4 route show table {table} | sed 's/ens77/{eni}/g';"
                "ip -6 route show table {table} | sed 's/ens77/{eni}/g';"
                "ip rule show | grep '^1024:' | sed 's/ens77/{eni}/'"
            ),
            _PODS,
            spoils=True,
        ),
        Item("eni-mac", link, other, Shell("ip link set {eni} address 02:00:00:00:00:78"), _ENI_LINK, _PODS),
    )


def _addresses() -> tuple[Item, ...]:
    address, gone, more = Thing.ADDRESS, Change.DELETED, Change.ADDED
    return (
        Item(
            "gateway-on-lo-deleted",
            address,
            gone,
            Shell("ip addr del 169.254.1.1/32 dev lo"),
            _LO,
            "pods whose own stack asks by ARP",
        ),
        Item(
            "gateway-on-lo-scope",
            address,
            Change.ALTERED,
            Shell("ip addr del 169.254.1.1/32 dev lo; ip addr add 169.254.1.1/32 dev lo scope global"),
            _LO,
            "what the node sends may come from it",
        ),
        Item(
            "gateway-v6-deleted",
            address,
            gone,
            Shell("ip addr del fe80::1/128 dev {link}"),
            _ADDRESSES,
            "pods whose own stack asks by ND",
            dual=True,
        ),
        Item(
            "eni-node-address-v4-deleted",
            address,
            gone,
            Shell("ip addr del {home4}/32 dev {eni}"),
            _ENI_ADDRESSES,
            "what the node says by the ENI",
        ),
        Item(
            "eni-node-address-v6-deleted",
            address,
            gone,
            Shell("ip -6 addr flush dev {eni} scope global"),
            _ENI_ADDRESSES,
            "what the node says by the ENI",
            dual=True,
        ),
        Item(
            "eni-primary-address-added",
            address,
            more,
            Shell("ip addr add {eni_ip}/20 dev {eni}"),
            Shown("ip -o addr show dev {eni} scope global; ip -4 route show table main"),
            "what the node sends to its pods' vSwitch, as a DHCP client leaves it",
        ),
        Item(
            "eni-foreign-address-v6-added",
            address,
            more,
            Shell("ip addr add {spare6}/64 dev {eni} nodad"),
            Shown("ip -o addr show dev {eni} scope global; ip -6 route show table main dev {eni}"),
            "what the node sends to its pods' vSwitch",
            dual=True,
        ),
        Item(
            "host-link-address-added",
            address,
            more,
            Shell("ip addr add {spare4}/32 dev {link}"),
            _ADDRESSES,
            "whoever has this address",
        ),
    )
