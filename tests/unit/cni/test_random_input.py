"""Whatever a runtime writes, the answer is a request or one CniError that can be encoded."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

from cni.errors import CniError
from cni.request import Command, parse
from cni.result import parse as parse_result
from cni.version import CniVersion
from cni.wire import Frame

SEED = 1107
ENV = {
    "CNI_CONTAINERID": "c1",
    "CNI_IFNAME": "eth0",
    "CNI_NETNS": "/n",
    "CNI_PATH": "/p",
    "CNI_ARGS": "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;IgnoreUnknown=1",
}
GOOD: dict[str, object] = {
    "cniVersion": "1.1.0",
    "name": "terway",
    "type": "terway",
    "eniip_virtual_type": "IPVlan",
    "mtu": 1500,
    "host_stack_cidrs": ["10.0.0.0/8"],
    "symmetric_routing_config": {"mark": 16},
    "capabilities": {"bandwidth": True},
    "runtimeConfig": {"bandwidth": {"ingressRate": 1}, "portMappings": [{}]},
    "prevResult": {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0"}],
        "ips": [{"address": "10.0.0.1/24", "gateway": "10.0.0.2", "interface": 0}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.2", "mtu": 5}],
        "dns": {"nameservers": ["x"]},
    },
    "cni.dev/valid-attachments": [{"containerID": "c", "ifname": "e"}],
}
ODD: tuple[object, ...] = (
    *(None, True, False, 0, -1, 1.5, 1e308, 10**400, "", "x", "\ud800", "é", "10.0.0.0/8", "::/0", "1/1/1"),
    *([], [None], [[]], {}, {"": None}, {"a": {"b": []}}, "9" * 500, [1, "x"]),
)


def changed(value: object, rng: random.Random) -> object:
    """``value`` with about one place replaced by something odd."""
    if rng.random() < 0.15:
        return rng.choice(ODD)
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        return {**value, key: changed(value[key], rng)}
    if isinstance(value, list) and value:
        return [changed(value[0], rng), *value[1:]]
    return rng.choice(ODD)


def inputs() -> Iterator[bytes]:
    rng = random.Random(SEED)
    good = json.dumps(GOOD).encode()
    for _ in range(1500):
        yield json.dumps(changed(GOOD, rng)).encode()
        data = bytearray(good)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        yield bytes(data)
        yield rng.randbytes(rng.randrange(60))


def test_random_stdin() -> None:
    accepted = refused = 0
    for number, stdin in enumerate(inputs()):
        command = list(Command)[number % len(Command)]
        try:
            request = parse(Frame(ENV | {"CNI_COMMAND": command}, stdin))
            parse_result(request.conf.prev_result or {}, CniVersion.V1_1_0)
            accepted += 1
        except CniError as exc:
            json.loads(exc.encode("1.0.0"))
            refused += 1
    assert min(accepted, refused) > 100, "the inputs are all of one kind"


def test_random_environment() -> None:
    rng = random.Random(SEED)
    stdin = json.dumps(GOOD).encode()
    alphabet = "a0./:;=-_ \n\x00é\udcff1K8S_POD_NAME"
    accepted = refused = 0
    for _ in range(3000):
        name = rng.choice(list(ENV))
        value = "".join(rng.choices(alphabet, k=rng.randrange(8)))
        if rng.random() < 0.3:
            value = ENV[name] + value
        try:
            parse(Frame(ENV | {"CNI_COMMAND": "ADD", name: value}, stdin))
            accepted += 1
        except CniError as exc:
            json.loads(exc.encode("1.0.0"))
            refused += 1
    assert min(accepted, refused) > 100, "the inputs are all of one kind"
