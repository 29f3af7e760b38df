"""Whatever a ConfigMap or a file holds, the outcome is settings or one ConfigError."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from control.config import cni_conf, eni_conf
from control.model.errors import ConfigError
from tests.unit.cni.test_random_input import GOOD as PLUGIN
from tests.unit.cni.test_random_input import changed

SEED = 7396
GOOD: dict[str, object] = {
    "version": "1",
    "access_key": "a",
    "access_secret": "b",
    "service_cidr": "10.96.0.0/12,fd00::/112",
    "vswitches": {"cn-a": ["vsw-1"]},
    "security_groups": ["sg-1"],
    "eni_tags": {"a": "b"},
    "eni_tag_block_list": [{"key": "a", "value": "b"}],
    "max_pool_size": 5,
    "eni_cap_ratio": 0.5,
    "idle_ip_reclaim_after": "1h",
    "idle_ip_reclaim_jitter_factor": "0.1",
    "ip_pool_sync_period": "1m",
    "ip_cool_down": "30s",
    "ip_stack": "dual",
    "vswitch_selection_policy": "most",
    "custom_stateful_workload_kinds": ["x"],
    "extra_routes": [{"dst": "10.0.0.0/8"}],
    "rate_limit": {"x": 1},
    "backoff_override": {"x": {"Duration": 1, "Cap": "1s", "Jitter": 0.1, "Steps": 1}},
    "kube_client_qps": 1,
}


def inputs(good: dict[str, object]) -> Iterator[bytes]:
    rng = random.Random(SEED)
    text = json.dumps(good).encode()
    for _ in range(1500):
        yield json.dumps(changed(good, rng)).encode()
        data = bytearray(text)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        yield bytes(data)
        yield rng.randbytes(rng.randrange(60))


def test_random_eni_conf() -> None:
    accepted = refused = 0
    base = json.dumps(GOOD).encode()
    for number, data in enumerate(inputs(GOOD)):
        try:
            found = eni_conf.parse(base, patch=data) if number % 2 else eni_conf.parse(data)
            "".join(found.warnings).encode("ascii")
            accepted += 1
        except ConfigError as exc:
            str(exc).encode()
            refused += 1
    assert min(accepted, refused) > 100, "the inputs are all of one kind"


def test_random_cni_conf() -> None:
    accepted = refused = 0
    whole: dict[str, object] = {"name": "x", "plugins": [{"type": "portmap"}, PLUGIN]}
    for path, good in ((Path("/etc/eni/x.conf"), PLUGIN), (Path("/etc/eni/x.conflist"), whole)):
        for data in inputs(good):
            try:
                cni_conf.parse(path, data)
                accepted += 1
            except ConfigError as exc:
                str(exc).encode()
                refused += 1
    assert min(accepted, refused) > 100, "the inputs are all of one kind"
