"""The words of the header, for each name that the compiled programs know."""

from __future__ import annotations

import pytest

from datapath.acceleration import reasons
from datapath.acceleration.layout import names_of
from datapath.acceleration.reasons import Meaning, ReasonClass, ReasonText
from datapath.ebpf import objects

HEADER = """
enum hook {
	HOOK_POD = 0,  /* tc ingress
			* of pods */
	HOOK_ENI = 1,
	HOOK_COUNT,
};

/* Why, and not what. */
enum reason {
	/* From a pod into
	* another pod. */
	FAST_LOCAL = 0,
	/* The destination is in one list, */
	STACK_ONE = 1,

	/* or another. */
	STACK_OTHER = 2,
	REASON_COUNT,
};
"""


def test_each_comment_goes_with_its_name() -> None:
    assert reasons.reasons_of(HEADER) == (
        ReasonText("fast_local", 0, ReasonClass.FAST, "From a pod into another pod."),
        ReasonText("stack_one", 1, ReasonClass.STACK, "The destination is in one list."),
        ReasonText("stack_other", 2, ReasonClass.STACK, "Or another."),
    )


def test_a_comment_may_stand_behind_or_be_missing() -> None:
    found = reasons.meanings(HEADER, "hook", "hook_")
    assert found == (Meaning("pod", 0, "Tc ingress of pods."), Meaning("eni", 1, ""))


@pytest.mark.parametrize("source", ["", "enum reason {\n\tREASON_COUNT,\n};\n"])
def test_a_header_without_reasons_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="enum reason"):
        reasons.reasons_of(source)


def test_every_reason_of_the_programs_is_explained() -> None:
    names = names_of(objects.path("pod_egress"))
    told = reasons.reasons()
    assert tuple(one.name for one in told) == names.reasons
    assert [one.number for one in told] == list(range(len(names.reasons)))
    assert all(one.text for one in told)
    hooks = reasons.meanings(reasons.header().read_text(), "hook", "hook_")
    assert tuple(one.name for one in hooks) == names.hooks
