from __future__ import annotations

from pathlib import Path

import pytest

from control.config.settings import GATES, LogLevel, Settings, parse
from control.model.errors import ConfigError

ENV = {"NODE_NAME": "node-1"}


def test_defaults() -> None:
    assert parse([], ENV) == Settings(node_name="node-1")


def test_command_line_of_upstreams_chart() -> None:
    flags = [
        "-config=/etc/eni/eni_conf",
        "-daemon-mode=ENIMultiIP",
        "-readonly-listen=unix:///var/run/eni/eni_debug.socket",
    ]
    assert parse(flags, ENV) == Settings(node_name="node-1")


@pytest.mark.parametrize("dash", ["-", "--"])
def test_every_flag(dash: str) -> None:
    flags = {
        "daemon-mode": "ENIMultiIP",
        "log-level": "DEBUG",
        "config": "/a/conf",
        "readonly-listen": "/a/debug",
        "feature-gates": "EFLO=false, WriteCNIConfFirst=true,",
        "node-name": "node-2",
        "kubeconfig": "/a/kube",
        "cni-conf-source": "/a/from",
        "cni-conf-target": "/a/to",
        "cni-bin": "/a/bin",
        "secret-directory": "/a/secret",
        "socket": "/a/socket",
        "health-listen": "[::1]:15733",
        "sysctl-net": "/a/net",
        "state-directory": "/a/state",
        "metadata-url": "http://127.0.0.1:80/",
    }
    expected = Settings(
        node_name="node-2",
        log_level=LogLevel.DEBUG,
        eni_conf=Path("/a/conf"),
        cni_conf_source=Path("/a/from"),
        cni_conf_target=Path("/a/to"),
        cni_bin=Path("/a/bin"),
        secret_directory=Path("/a/secret"),
        socket=Path("/a/socket"),
        debug_socket=Path("/a/debug"),
        health_listen="[::1]:15733",
        sysctl_net=Path("/a/net"),
        state_directory=Path("/a/state"),
        kubeconfig=Path("/a/kube"),
        metadata_url="http://127.0.0.1:80",
        gates={**GATES, "EFLO": False, "WriteCNIConfFirst": True},
    )
    assert parse([f"{dash}{name}={value}" for name, value in flags.items()], ENV) == expected
    assert parse([word for name, value in flags.items() for word in (dash + name, value)], ENV) == expected


def test_every_variable() -> None:
    found = parse(
        [],
        {
            "NODE_NAME": "n",
            "POD_NAMESPACE": "net",
            "KUBECONFIG": "/k",
            "ECS_ENDPOINT": "100.100.0.10",
            "VPC_ENDPOINT": "100.100.0.10:80",
            "ALICLOUD_CLIENT_SCHEME": "HTTP",
            "TERWAY_METADATA_URL": "http://100.100.100.200",
            "TERWAY_GC_RULES": "false",
            "IDEMPOTENT_KEY_CACHE_SIZE": "7",
            "TERWAY_VERSION": "1.2",
        },
    )
    assert found == Settings(
        node_name="n",
        pod_namespace="net",
        kubeconfig=Path("/k"),
        ecs_endpoint="100.100.0.10",
        vpc_endpoint="100.100.0.10:80",
        api_scheme="http",
        gc_rules=False,
        token_cache_size=7,
        version="1.2",
    )


@pytest.mark.parametrize(
    ("flags", "env", "named"),
    [
        (["-daemon-mode", "VPC"], {}, "unsupported daemon mode 'VPC'"),
        (["-daemon-mode", "ENIOnly"], {}, "unsupported daemon mode 'ENIOnly'"),
        (["-log-level", "loud"], {}, "-log-level is 'loud', allowed: debug, info, warn, error"),
        (["-readonly-listen", "tcp://:80"], {}, "-readonly-listen is 'tcp://:80'"),
        (["-readonly-listen", "relative"], {}, "-readonly-listen is 'relative'"),
        (["-health-listen", "15733"], {}, "-health-listen is '15733', allowed: HOST:PORT"),
        (["-health-listen", "127.0.0.1:65536"], {}, "-health-listen is"),
        (["-feature-gates", "Warp=true"], {}, "-feature-gates is 'Warp=true', allowed: Name=true"),
        (["-feature-gates", "EFLO"], {}, "-feature-gates is 'EFLO'"),
        (["-feature-gates", "EFLO=maybe"], {}, "-feature-gates EFLO is 'maybe', allowed: true, false"),
        (["-metadata-url", "100.100.100.200"], {}, "-metadata-url is"),
        (["-conf", "/x"], {}, "unrecognized arguments: --conf /x"),
        (["-config"], {}, "expected one argument"),
        (["stray"], {}, "unrecognized arguments: stray"),
        ([], {"NODE_NAME": ""}, "the node's name is not set"),
        ([], {"ALICLOUD_CLIENT_SCHEME": "ftp"}, "ALICLOUD_CLIENT_SCHEME is 'ftp', allowed: http, https"),
        ([], {"TERWAY_GC_RULES": "x"}, "TERWAY_GC_RULES is 'x', allowed: true, false"),
        ([], {"IDEMPOTENT_KEY_CACHE_SIZE": "0"}, "IDEMPOTENT_KEY_CACHE_SIZE is '0'"),
        ([], {"IDEMPOTENT_KEY_CACHE_SIZE": "many"}, "IDEMPOTENT_KEY_CACHE_SIZE is 'many'"),
    ],
)
def test_bad(flags: list[str], env: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(flags, ENV | env)
    assert named in str(caught.value)


def test_help_lists_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["-h"], {})
    assert caught.value.code == 0
    assert "-feature-gates" in capsys.readouterr().out
