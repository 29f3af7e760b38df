"""What the metadata service knows of one instance, as the tree of its paths below ``meta-data/``.

Sources: Alibaba Cloud's page on instance metadata (items and examples; those that tell of no ENI
are in ``metadata_items``), and how upstream Terway reads them:
``private-ipv4s`` is a JSON list, ``ipv6s`` is ``[a,b]`` without quotes and does not exist (404) for an ENI
without IPv6 addresses. The gateway and the CIDR blocks are the vSwitch's and the VPC's, so they are there for
each ENI of a vSwitch with IPv6: upstream's agent reads them of an ENI without address, and ends if it cannot.
Members of a trunk ENI are not listed: they have no device, and upstream's agent takes all that are listed for
its own. ``ipv4-prefixes`` and ``ipv6-prefixes``: no page shows a value; they are written as the addresses
of their family are, and do not exist for an ENI without (inferred).
"""

from __future__ import annotations

import json

from lab.cloud.actions.eni_answers import OWNER_ID, timestamp
from lab.cloud.credentials import Credential
from lab.cloud.instance_types import INSTANCE_TYPES
from lab.cloud.metadata_items import Tree, instance_items
from lab.cloud.model import Eni, Instance
from lab.cloud.views import Snapshot
from lab.spec import LabSpec, VSwitchSpec, gateway_of


def instance_tree(spec: LabSpec, instance: Instance, seen: Snapshot) -> Tree:
    """Everything but credentials, which ``role_document`` writes."""
    enis = [eni for eni in seen.attached_to(instance.instance_id) if not eni.trunk_id]
    tree: Tree = {
        **instance_items(instance, INSTANCE_TYPES[instance.instance_type]),
        "hostname": instance.name,
        "instance-id": instance.instance_id,
        "network": {"interfaces": {"macs": {eni.mac: _eni_tree(spec, eni) for eni in enis}}},
        "network-type": "vpc",
        "owner-account-id": OWNER_ID,
        "region-id": spec.region,
        "vpc-cidr-block": str(spec.cidr),
        "vpc-id": spec.vpc_id,
        "vswitch-cidr-block": str(_vswitch(spec, instance.vswitch_id).cidr),
        "vswitch-id": instance.vswitch_id,
        "zone-id": instance.zone,
    }
    for primary in enis[:1]:
        tree["mac"] = primary.mac
        tree["private-ipv4"] = str(primary.primary_ip)
        if others := [str(address) for address in primary.ipv4 if address != primary.primary_ip]:
            tree["sub-private-ipv4-list"] = "\n".join(others)
    return tree


def role_document(credential: Credential) -> str:
    """``ram/security-credentials/ROLE``."""
    return json.dumps(
        {
            "AccessKeyId": credential.access_key_id,
            "AccessKeySecret": credential.secret,
            "Expiration": timestamp(credential.expires or 0.0),
            "SecurityToken": credential.token,
            "LastUpdated": timestamp(credential.issued),
            "Code": "Success",
        }
    )


def look_up(tree: Tree, path: str) -> str | None:
    """The text at ``path``: a value, or a listing with one name a line, ``/`` after those of directories."""
    here: str | Tree = tree
    for part in path.strip("/").split("/"):
        if part:
            if isinstance(here, str) or part not in here:
                return None
            here = here[part]
    if isinstance(here, str):
        return None if path.endswith("/") else here
    return "\n".join(name if isinstance(item, str) else f"{name}/" for name, item in sorted(here.items()))


def _eni_tree(spec: LabSpec, eni: Eni) -> Tree:
    vswitch = _vswitch(spec, eni.vswitch_id)
    tree: Tree = {
        "gateway": str(gateway_of(vswitch.cidr)),
        "netmask": str(vswitch.cidr.netmask),
        "network-interface-id": eni.eni_id,
        "primary-ip-address": str(eni.primary_ip),
        "private-ipv4s": json.dumps([str(address) for address in eni.ipv4], separators=(",", ":")),
        "vpc-cidr-block": str(spec.cidr),
        "vpc-id": spec.vpc_id,
        "vswitch-cidr-block": str(vswitch.cidr),
        "vswitch-id": vswitch.vswitch_id,
    }
    if eni.prefixes_of(4):
        tree["ipv4-prefixes"] = json.dumps([str(p) for p in eni.prefixes_of(4)], separators=(",", ":"))
    if eni.prefixes_of(6):
        tree["ipv6-prefixes"] = f"[{','.join(str(p) for p in eni.prefixes_of(6))}]"
    if eni.ipv6:
        tree["ipv6s"] = f"[{','.join(str(address) for address in eni.ipv6)}]"
    if vswitch.cidr_v6 is not None:
        tree["ipv6-gateway"] = str(gateway_of(vswitch.cidr_v6))
        tree["vswitch-ipv6-cidr-block"] = str(vswitch.cidr_v6)
        tree["vpc-ipv6-cidr-blocks"] = f"[{spec.cidr_v6}]"
    return tree


def _vswitch(spec: LabSpec, vswitch_id: str) -> VSwitchSpec:
    return next(v for v in spec.vswitches if v.vswitch_id == vswitch_id)
