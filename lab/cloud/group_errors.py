"""Errors of the security group actions, with the codes, statuses and words of their reference.

Sources: the tables of AuthorizeSecurityGroup(Egress), RevokeSecurityGroup(Egress), ModifySecurityGroupRule,
CreateSecurityGroup and DeleteSecurityGroup. QuotaExceed.SecurityGroup is from ECS's common table.
"""

from __future__ import annotations

from lab.cloud.errors import ApiError


def missing_peer(side: str) -> ApiError:
    """``side`` is Source or Dest."""
    return ApiError(
        f"MissingParameter.{side}",
        f"One of {side}CidrIp, Ipv6{side}CidrIp and {side}GroupId must be specified.",
    )


def both_families(side: str) -> ApiError:
    word = "SourceIp" if side == "Source" else "DestIp"
    return ApiError(
        f"InvalidParam.{word}", f"{side}CidrIp and Ipv6{side}CidrIp cannot be set at the same time."
    )


def cidr_malformed(name: str, text: str) -> ApiError:
    """``name`` is the parameter: the IPv6 ones have a code of another form."""
    code = f"InvalidParam.{name}" if name.startswith("Ipv6") else f"Invalid{name}.Malformed"
    return ApiError(code, f'The specified parameter "{name}" is not valid: {text!r}.')


def peer_group_not_found(side: str, group_id: str) -> ApiError:
    return ApiError(
        f"Invalid{side}GroupId.NotFound",
        f"The {side}GroupId {group_id!r} provided does not exist in our records.",
        status=404,
    )


def peer_is_itself(side: str) -> ApiError:
    """The two directions have codes of their own."""
    code = "InvalidParamter.Conflict" if side == "Source" else "InvalidSecurityGroup.IsSame"
    return ApiError(
        code, f"The specified SecurityGroupId should be different from the {side}GroupId.", status=403
    )


def peer_is_enterprise(group_id: str) -> ApiError:
    return ApiError(
        "InvalidGroupAuthParameter.OperationDenied",
        f"The security group can not authorize to enterprise level security group {group_id}.",
    )


def of_enterprise(what: str) -> ApiError:
    return ApiError(
        "InvalidGroupParameter.OperationDenied",
        f"The attributes Policy, SourceGroupId, DestGroupId of enterprise level security groups are not "
        f"allowed to be set or modified: {what}.",
    )


def protocol_unknown(text: str) -> ApiError:
    return ApiError(
        "InvalidIpProtocol.ValueNotSupported",
        f"The parameter IpProtocol must be specified with case insensitive TCP, UDP, ICMP, ICMPv6, GRE or "
        f"All: {text!r}.",
    )


def protocol_without_v6() -> ApiError:
    return ApiError(
        "InvalidParam.Ipv4ProtocolConflictWithIpv6Address",
        "IPv6 address cannot be specified for IPv4-specific protocol.",
    )


def protocol_without_v4() -> ApiError:
    return ApiError(
        "InvalidParam.Ipv6ProtocolConflictWithIpv4Address",
        "IPv4 address cannot be specified for IPv6-specific protocol.",
    )


def ports_missing() -> ApiError:
    return ApiError("InvalidPortRange.Malformed", "The specified parameter PortRange must set.")


def ports_malformed(text: str) -> ApiError:
    return ApiError(
        "InvalidIpPortRange.Malformed", f'The specified parameter "PortRange" is not valid: {text!r}.'
    )


def ports_do_not_match(text: str) -> ApiError:
    return ApiError("OperationDenied", f"IpProtocol and PortRange do not match: {text!r} is not -1/-1.")


def policy_malformed(text: str) -> ApiError:
    return ApiError("InvalidPolicy.Malformed", f'The specified parameter "Policy" is not valid: {text!r}.')


def priority_unsupported(text: str) -> ApiError:
    return ApiError(
        "InvalidPriority.ValueNotSupported", f"The parameter Priority is invalid: {text!r} is not 1 to 100."
    )


def nic_type_unsupported(text: str) -> ApiError:
    return ApiError(
        "InvalidNicType.ValueNotSupported", f"The specified NicType {text!r} does not exist in a VPC."
    )


def description_malformed() -> ApiError:
    return ApiError(
        "InvalidSecurityGroupDiscription.Malformed",
        "The specified security group rule description is not valid.",
    )


def mixed_styles() -> ApiError:
    return ApiError(
        "InvalidParam.Permissions",
        "The specified parameter Permissions cannot coexist with other parameters.",
    )


def twice_in_a_call() -> ApiError:
    return ApiError(
        "InvalidParam.DuplicatePermissions",
        "There are duplicate permissions in the specified parameter Permissions.",
    )


def too_many_rules(limit: int) -> ApiError:
    return ApiError(
        "AuthorizationLimitExceed",
        f"The limit of authorization records in the security group reaches: {limit}.",
        status=403,
    )


def too_many_peer_groups(limit: int) -> ApiError:
    return ApiError(
        "AuthorizedGroupRule.LimitExceed",
        "You have reached the limit on the number of group authorization rules that you can add to a "
        f"security group: {limit}.",
    )


def rule_not_found(rule_id: str) -> ApiError:
    return ApiError(
        "InvalidSecurityGroupRuleId.NotFound",
        f"The specified SecurityGroupRuleId {rule_id!r} is not exists.",
        status=404,
    )


def kind_unknown(text: str) -> ApiError:
    return ApiError("InvalidParams.GroupType", f"The specified security group type {text!r} is not valid.")


def name_malformed(text: str) -> ApiError:
    return ApiError(
        "InvalidSecurityGroupName.Malformed", f"The specified SecurityGroupName {text!r} is not valid."
    )


def in_use(group_id: str, by: str) -> ApiError:
    return ApiError(
        "DependencyViolation", f"The security group {group_id} cannot be deleted: {by}.", status=403
    )


def too_many_groups(limit: int) -> ApiError:
    return ApiError(
        "QuotaExceed.SecurityGroup",
        f"The maximum number of security groups is reached: {limit}.",
        status=403,
    )
