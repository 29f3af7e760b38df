"""Security groups and their rules at run time: what a write checks. The fabric follows after its delay.

Documented (AuthorizeSecurityGroup, Revoke-, ModifySecurityGroupPolicy, page on basic and advanced
groups): a rule that is there already is no error and no second rule; revoking one that is not there is no
error; 200 rules of both directions in a group and 1,000 over all groups of an ENI; 20 rules of a normal
group name a group, an enterprise group's name none and deny nothing, and nobody names an enterprise
group; the inner access of an enterprise group is Drop for good; all groups of an ENI are of one kind; a
group with members or named by another group's rule stays.
Inferred: what makes two rules one rule is direction, protocol, ports, peer, policy and priority; bits
behind a CIDR's mask are cut off; a modified rule keeps its id; 100 groups (quota of a new account).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from lab.cloud import errors, group_errors
from lab.cloud.quotas import Quotas
from lab.cloud.resources import Resources
from lab.fabric.policy import peer_group
from lab.spec import RuleSpec, SecurityGroupSpec


class Groups:
    """Writes on ``resources``, at its ``now``. Every refusal is an ApiError and changes nothing."""

    def __init__(self, resources: Resources, quotas: Quotas) -> None:
        self._resources = resources
        self._quotas = quotas

    def create(self, wanted: SecurityGroupSpec) -> SecurityGroupSpec:
        """``wanted`` without an id, which is given here."""
        resources = self._resources
        if sum(1 for _ in resources.all_groups()) >= self._quotas.groups:
            raise group_errors.too_many_groups(self._quotas.groups)
        group = replace(wanted, group_id=f"sg-lab{resources.serial():08d}")
        resources.put_group(group)
        return group

    def delete(self, group_id: str) -> None:
        resources = self._resources
        resources.group(group_id)
        for eni in resources.all_enis():
            if group_id in eni.groups:
                raise group_errors.in_use(group_id, f"{eni.eni_id} is in it")
        for group in resources.all_groups():
            if group.group_id != group_id and group_id in _peers(group.rules):
                raise group_errors.in_use(group_id, f"a rule of {group.group_id} names it")
        resources.end_group(group_id)

    def authorize(self, group_id: str, rules: Sequence[RuleSpec]) -> None:
        """Add those of ``rules`` that are not there."""
        if len(set(rules)) != len(rules):
            raise group_errors.twice_in_a_call()
        group = self._resources.group(group_id)
        fresh = [rule for rule in rules if rule not in group.rules]
        self._check(group, fresh)
        self.put(replace(group, rules=(*group.rules, *fresh)))

    def revoke(self, group_id: str, rules: Iterable[RuleSpec]) -> None:
        """Take away those of ``rules`` that are there."""
        group, gone = self._resources.group(group_id), set(rules)
        self.put(replace(group, rules=tuple(rule for rule in group.rules if rule not in gone)))

    def rule(self, group_id: str, rule_id: str, direction: str) -> RuleSpec:
        """Raises InvalidSecurityGroupRuleId.NotFound also for a rule of the other direction."""
        for rule in self._resources.group(group_id).rules:
            if rule.rule_id == rule_id and rule.direction == direction:
                return rule
        raise group_errors.rule_not_found(rule_id)

    def modify(self, group_id: str, old: RuleSpec, new: RuleSpec) -> None:
        """``new`` stands where ``old`` stood, with its id."""
        group = self._resources.group(group_id)
        others = tuple(rule for rule in group.rules if rule != old)
        if new in others:
            raise group_errors.twice_in_a_call()
        self._check(replace(group, rules=others), [new])
        new = replace(new, rule_id=old.rule_id, created=old.created)
        self.put(replace(group, rules=tuple(new if rule == old else rule for rule in group.rules)))

    def set_inner_access(self, group_id: str, *, accept: bool) -> None:
        group = self._resources.group(group_id)
        if group.is_enterprise:
            raise group_errors.of_enterprise("InnerAccessPolicy")
        self.put(replace(group, inner_accept=accept))

    def put(self, group: SecurityGroupSpec) -> None:
        """Rules without an id get one."""
        self._resources.put_group(self._resources.identified(group))

    def _check(self, group: SecurityGroupSpec, fresh: Sequence[RuleSpec]) -> None:
        for rule in fresh:
            self._check_peer(group, rule)
            if group.is_enterprise and rule.policy == "Drop":
                raise group_errors.of_enterprise("Policy drop")
        rules = (*group.rules, *fresh)
        if len(_peers(rules)) > self._quotas.peer_groups_per_group:
            raise group_errors.too_many_peer_groups(self._quotas.peer_groups_per_group)
        if len(rules) > self._quotas.rules_per_group:
            raise group_errors.too_many_rules(self._quotas.rules_per_group)
        together = {eni.groups for eni in self._resources.all_enis() if group.group_id in eni.groups}
        for names in together:
            self._quotas.check_rules(self._resources, names, more=len(fresh))

    def _check_peer(self, group: SecurityGroupSpec, rule: RuleSpec) -> None:
        name, side = peer_group(rule.peer), "Source" if rule.direction == "ingress" else "Dest"
        if name is None:
            return
        if group.is_enterprise:
            raise group_errors.of_enterprise(f"{side}GroupId")
        if name == group.group_id:
            raise group_errors.peer_is_itself(side)
        try:
            peer = self._resources.group(name)
        except errors.ApiError:
            raise group_errors.peer_group_not_found(side, name) from None
        if peer.is_enterprise:
            raise group_errors.peer_is_enterprise(name)


def _peers(rules: Iterable[RuleSpec]) -> list[str]:
    """The groups that rules name, once for each rule."""
    return [name for rule in rules if (name := peer_group(rule.peer)) is not None]
