"""What an account and a VPC may have at most. A test lowers these to see the errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.cloud import errors, group_errors
from lab.cloud.model import Eni
from lab.cloud.prefixes import PREFIX_SIZE
from lab.cloud.resources import Resources


@dataclass(frozen=True, slots=True)
class Growth:
    """What a call adds: addresses, prefixes, and ENIs that join a group."""

    ipv4: int = 0
    ipv6: int = 0
    ipv4_prefixes: int = 0
    ipv6_prefixes: int = 0
    enis: int = 0

    @property
    def members(self) -> int:
        """As a normal group counts them."""
        return self.ipv4 + self.ipv6 + self.ipv4_prefixes + self.ipv6_prefixes


def growth_of(eni: Eni) -> Growth:
    """What a group gets that ``eni`` joins."""
    prefixes = {version: len(eni.prefixes_of(version)) for version in (4, 6)}
    return Growth(len(eni.ipv4), len(eni.ipv6), prefixes[4], prefixes[6], enis=1)


@dataclass(slots=True)
class Quotas:
    """May be changed at run time. The defaults are those of a new account."""

    enis: int = 5000
    """ENIs per account and region, primary ones not counted."""
    addresses_per_vpc: int = 60_000
    """Private IPv4 addresses in use in one VPC."""
    addresses_per_group: int = 6000
    """Private addresses of the ENIs in one normal security group: IPv4 and IPv6, and prefixes, each as one.

    Documented (page on basic and advanced groups): 6,000, and what is counted.
    """
    route_entries: int = 200
    """Custom entries of a route table: documented by CreateRouteEntry."""
    groups: int = 100
    """Security groups of a region; inferred from the console's default."""
    rules_per_group: int = 200
    """Of both directions: documented by AuthorizeSecurityGroup until 2025."""
    rules_per_eni: int = 1000
    """Of both directions, in all groups of an ENI: documented by AuthorizeSecurityGroup since."""
    peer_groups_per_group: int = 20
    """Rules of a normal group that name a group: documented with AuthorizedGroupRule.LimitExceed."""
    enis_per_enterprise_group: int = 65_536
    """ENIs in one enterprise security group: documented on the same page, which counts ENIs there."""

    def check_new_eni(self, resources: Resources) -> None:
        """Raises QuotaExceeded.Eni."""
        secondary = sum(1 for eni in resources.all_enis() if eni.eni_type != "Primary")
        if secondary >= self.enis:
            raise errors.eni_quota(self.enis)

    def check_new_addresses(self, resources: Resources, groups: Sequence[str], more: Growth) -> None:
        """An ENI in ``groups`` grows by ``more``.

        Raises QuotaExceeded.PrivateIpAddress or SecurityGroupInstanceLimitExceed.
        """
        used = sum(len(e.ipv4) + PREFIX_SIZE * len(e.prefixes_of(4)) for e in resources.all_enis())
        if used + more.ipv4 + PREFIX_SIZE * more.ipv4_prefixes > self.addresses_per_vpc:
            raise errors.address_quota(self.addresses_per_vpc)
        self.check_new_members(resources, groups, more)

    def check_groups(self, resources: Resources, groups: Sequence[str]) -> None:
        """Whether an ENI may be in all of ``groups``: they exist, are of one kind, and have few enough rules.

        That they are of one kind is documented, the code for it (InvalidParameter) is inferred.
        """
        if len({resources.group(name).kind for name in groups}) > 1:
            raise errors.invalid_parameter("SecurityGroupId", "the groups are of two kinds")
        self.check_rules(resources, groups)

    def check_rules(self, resources: Resources, groups: Sequence[str], *, more: int = 0) -> None:
        """``more`` rules come to one of ``groups``. Raises AuthorizationLimitExceed."""
        if sum(len(resources.group(name).rules) for name in groups) + more > self.rules_per_eni:
            raise group_errors.too_many_rules(self.rules_per_eni)

    def check_new_members(self, resources: Resources, groups: Sequence[str], more: Growth) -> None:
        """``more`` joins ``groups``. Raises SecurityGroupInstanceLimitExceed."""
        for name in groups:
            members = [eni for eni in resources.all_enis() if name in eni.groups]
            used, limit, grows = sum(eni.slots(4) + eni.slots(6) for eni in members), 0, more.members
            limit = self.addresses_per_group
            if resources.group(name).is_enterprise:
                used, limit, grows = len(members), self.enis_per_enterprise_group, more.enis
            if used + grows > limit:
                raise errors.group_full(name, limit)
