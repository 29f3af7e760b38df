from __future__ import annotations

import errno

import pytest

from cni.args import K8sArgs
from cni.errors import CniError, Code
from cni.request import REQUIRED, Command, Request, Trace, parse, require_pod
from cni.version import SUPPORTED, CniVersion
from cni.wire import Frame

CONF = b'{"cniVersion":"1.1.0","name":"terway","type":"terway"}'
ENV = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "4f3a",
    "CNI_NETNS": "/var/run/netns/cni-1",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
    "CNI_ARGS": "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;IgnoreUnknown=1",
}


def env(command: str = "ADD", **changes: str | None) -> dict[str, str]:
    """ENV with some variables changed, those with None left out."""
    merged: dict[str, str | None] = {**ENV, "CNI_COMMAND": command, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def refused(environment: dict[str, str], stdin: bytes = CONF) -> CniError:
    with pytest.raises(CniError) as caught:
        parse(Frame(environment, stdin))
    return caught.value


def test_add() -> None:
    traced = env(TRACEPARENT="00-a-b-01", TRACESTATE="k=v", BAGGAGE="b=1")
    found = parse(Frame(traced, CONF, errno.ENOENT))
    assert found == Request(
        command=Command.ADD,
        conf=found.conf,
        container_id="4f3a",
        ifname="eth0",
        netns="/var/run/netns/cni-1",
        netns_errno=errno.ENOENT,
        args=K8sArgs("ns", "p"),
        trace=Trace("00-a-b-01", "k=v", "b=1"),
    )
    assert found.conf.name == "terway"


@pytest.mark.parametrize("command", Command)
def test_what_each_command_needs(command: Command) -> None:
    needed = REQUIRED[command]
    bare = {name: value for name, value in env(command).items() if name in (*needed, "CNI_COMMAND")}
    assert parse(Frame(bare, CONF)).command is command
    for name in needed:
        for without in (bare | {name: ""}, {key: bare[key] for key in bare if key != name}):
            error = refused(without)
            assert (error.code, error.details) == (Code.ENVIRONMENT, name)


def test_all_that_is_missing_is_named_at_once() -> None:
    error = refused({"CNI_COMMAND": "ADD"})
    assert error.code == Code.ENVIRONMENT
    assert error.details == "CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME"


@pytest.mark.parametrize("command", ["", None])
def test_no_command(command: str | None) -> None:
    assert refused(env(CNI_COMMAND=command)).details == "CNI_COMMAND"


@pytest.mark.parametrize("command", ["add", "VERSION", "PING"])
def test_unknown_command(command: str) -> None:
    error = refused(env(command))
    assert (error.code, error.msg) == (Code.ENVIRONMENT, "unknown CNI_COMMAND")
    assert repr(command) in error.details


def test_last_del_of_containerd() -> None:
    """RemovePodSandbox sends an empty CNI_NETNS and no prevResult."""
    found = parse(Frame(env("DEL", CNI_NETNS=""), CONF))
    assert (found.command, found.netns, found.container_id) == (Command.DEL, "", "4f3a")
    assert found.netns_error() is None


@pytest.mark.parametrize("command", ["DEL", "GC"])
def test_a_broken_setting_does_not_keep_a_pod_from_being_removed(command: str) -> None:
    broken = b'{"cniVersion":"1.1.0","name":"terway","type":"terway","eniip_virtual_type":"vxlan"}'
    assert refused(env("ADD"), broken).code == Code.CONFIG
    assert refused(env("STATUS"), broken).code == Code.CONFIG
    assert "vxlan" in parse(Frame(env(command), broken)).conf.warnings[0]


def test_gc_and_status_concern_no_attachment() -> None:
    for command in (Command.GC, Command.STATUS):
        found = parse(Frame(env(command, CNI_IFNAME="a/b", CNI_ARGS="nonsense"), CONF))
        assert (found.container_id, found.ifname, found.args) == ("", "", K8sArgs())


@pytest.mark.parametrize(
    ("command", "since"), [("CHECK", "0.4.0"), ("GC", "1.1.0"), ("STATUS", "1.1.0"), ("ADD", "0.3.0")]
)
def test_commands_newer_than_the_configuration(command: str, since: CniVersion) -> None:
    for version in SUPPORTED:
        stdin = CONF.replace(b"1.1.0", version.encode())
        if version.at_least(CniVersion(since)):
            assert parse(Frame(env(command), stdin)).conf.cni_version is version
        else:
            error = refused(env(command), stdin)
            assert error.code == Code.INCOMPATIBLE_VERSION
            assert f'"{version}", plugin supports for {command}: {since}' in error.details


@pytest.mark.parametrize("name", ["eth0", "a", "x" * 15, "net-1.2_3", "eth0@if5", "é" * 7])
def test_good_interface_names(name: str) -> None:
    assert parse(Frame(env(CNI_IFNAME=name), CONF)).ifname == name


@pytest.mark.parametrize(
    "name", ["x" * 16, "a/b", "a:b", "a b", "a\tb", "a\n", ".", "..", "\x01", "é" * 8, "\udcff"]
)
def test_bad_interface_names(name: str) -> None:
    error = refused(env(CNI_IFNAME=name))
    assert (error.code, error.msg) == (Code.ENVIRONMENT, "invalid CNI_IFNAME")
    assert ascii(name) in error.details


@pytest.mark.parametrize("name", ["a/b", "../x", "-a", ".a", "a b", "a\n", "é", "x" * 256])
def test_bad_container_ids(name: str) -> None:
    error = refused(env(CNI_CONTAINERID=name))
    assert (error.code, error.msg) == (Code.ENVIRONMENT, "invalid CNI_CONTAINERID")


@pytest.mark.parametrize("variable", ["CNI_NETNS", "CNI_ARGS"])
def test_variables_that_are_not_text(variable: str) -> None:
    error = refused(env(**{variable: "/x\udcff"}))
    assert (error.code, error.msg) == (Code.ENVIRONMENT, f"{variable} is not UTF-8")
    error.encode("1.0.0")


def test_bad_args_and_bad_stdin() -> None:
    assert refused(env(CNI_ARGS="FOO=1")).code == Code.DECODE
    assert refused(env(), b"").code == Code.DECODE


def test_namespace_that_could_not_be_opened() -> None:
    error = parse(Frame(env(), CONF, errno.ENOENT)).netns_error()
    assert error is not None
    assert error.code == Code.NETNS
    assert error.details == "CNI_NETNS /var/run/netns/cni-1: No such file or directory"


@pytest.mark.parametrize(
    ("args", "missing"),
    [
        ("", "K8S_POD_NAMESPACE, K8S_POD_NAME"),
        ("IgnoreUnknown=1;K8S_POD_NAME=podman", "K8S_POD_NAMESPACE"),
        ("K8S_POD_NAMESPACE=x", "K8S_POD_NAME"),
    ],
)
def test_add_for_no_pod(args: str, missing: str) -> None:
    with pytest.raises(CniError) as caught:
        require_pod(parse(Frame(env(CNI_ARGS=args), CONF)))
    assert (caught.value.code, caught.value.details) == (Code.ENVIRONMENT, f"missing: {missing}")
    require_pod(parse(Frame(env(), CONF)))


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("TRUE", True), ("", False), ("0", False)])
def test_netns_override(value: str, expected: bool) -> None:
    assert parse(Frame(env(CNI_NETNS_OVERRIDE=value), CONF)).netns_override is expected
