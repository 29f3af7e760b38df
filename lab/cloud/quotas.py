"""What an account and a VPC may have at most. A test lowers these to see the errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.cloud import errors
from lab.cloud.resources import Resources


@dataclass(slots=True)
class Quotas:
    """May be changed at run time. The defaults are those of a new account."""

    enis: int = 5000
    """ENIs per account and region, primary ones not counted."""
    addresses_per_vpc: int = 60_000
    """Private IPv4 addresses in use in one VPC."""
    addresses_per_group: int = 6000
    """Private IPv4 addresses of the ENIs in one security group."""

    def check_new_eni(self, resources: Resources) -> None:
        """Raises QuotaExceeded.Eni."""
        secondary = sum(1 for eni in resources.all_enis() if eni.eni_type != "Primary")
        if secondary >= self.enis:
            raise errors.eni_quota(self.enis)

    def check_new_addresses(self, resources: Resources, groups: Sequence[str], count: int) -> None:
        """``count`` more IPv4 addresses on an ENI in ``groups``.

        Raises QuotaExceeded.PrivateIpAddress or SecurityGroupInstanceLimitExceed.
        """
        used = sum(len(eni.ipv4) for eni in resources.all_enis())
        if used + count > self.addresses_per_vpc:
            raise errors.address_quota(self.addresses_per_vpc)
        self.check_new_members(resources, groups, count)

    def check_new_members(self, resources: Resources, groups: Sequence[str], count: int) -> None:
        """``count`` IPv4 addresses join ``groups``. Raises SecurityGroupInstanceLimitExceed."""
        used_in = dict.fromkeys(groups, 0)
        for eni in resources.all_enis():
            for group in eni.groups:
                if group in used_in:
                    used_in[group] += len(eni.ipv4)
        for group, members in used_in.items():
            if members + count > self.addresses_per_group:
                raise errors.group_full(group, self.addresses_per_group)
