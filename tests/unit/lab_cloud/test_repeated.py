"""Calls that ask for what is so already, or is on its way: controllers repeat them until they succeed."""

from __future__ import annotations

from dataclasses import replace

from lab.spec import Assumptions
from tests.unit.lab_cloud.bench import Bench, Refusal, refusal, spec

WRONG_STATE = Refusal("InvalidOperation.InvalidEniState", 400)


def test_an_attach_may_be_repeated_where_the_eni_is(cloud: Bench) -> None:
    cloud.state.set_delays(attach=60.0)
    eni = cloud.create().network_interface_id
    cloud.attach(eni)
    assert cloud.status(eni) == "Attaching"
    cloud.attach(eni)
    assert cloud.status(eni) == "Attaching"
    assert refusal(lambda: cloud.attach(eni, "i-node2")) == WRONG_STATE
    cloud.clock.advance(60)
    cloud.attach(eni)
    assert cloud.status(eni) == "InUse"
    assert refusal(lambda: cloud.attach(eni, "i-node2")) == WRONG_STATE


def test_a_repeated_attach_does_not_begin_again(cloud: Bench) -> None:
    cloud.state.set_delays(attach=60.0)
    eni = cloud.create().network_interface_id
    cloud.attach(eni)
    cloud.clock.advance(40)
    cloud.attach(eni)
    cloud.clock.advance(20)
    assert cloud.status(eni) == "InUse"


def test_an_attach_while_detaching_is_refused(cloud: Bench) -> None:
    cloud.state.set_delays(attach=60.0)
    eni = cloud.create().network_interface_id
    cloud.attach(eni)
    cloud.clock.advance(60)
    cloud.detach(eni)
    assert refusal(lambda: cloud.attach(eni)) == WRONG_STATE


def test_a_detach_may_be_repeated_while_detaching(cloud: Bench) -> None:
    cloud.state.set_delays(attach=60.0)
    eni = cloud.create().network_interface_id
    cloud.attach(eni)
    assert refusal(lambda: cloud.detach(eni)) == WRONG_STATE
    cloud.clock.advance(60)
    cloud.detach(eni)
    cloud.clock.advance(40)
    cloud.detach(eni)
    assert refusal(lambda: cloud.detach(eni, "i-node2")) == Refusal("InvalidParameter", 400)
    cloud.clock.advance(20)
    assert cloud.status(eni) == "Available"


def test_a_detach_of_what_is_attached_nowhere_succeeds(cloud: Bench) -> None:
    eni = cloud.create().network_interface_id
    cloud.detach(eni)
    assert cloud.status(eni) == "Available"


def test_a_detach_of_what_is_attached_nowhere_may_be_refused_by_the_spec(cloud: Bench) -> None:
    strict = replace(spec(), assumptions=Assumptions(detach_available_succeeds=False))
    cloud.state.resources.spec = strict
    eni = cloud.create().network_interface_id
    assert refusal(lambda: cloud.detach(eni)) == WRONG_STATE


def test_a_delete_may_be_repeated_while_deleting(cloud: Bench) -> None:
    cloud.state.set_delays(delete=60.0)
    eni = cloud.create().network_interface_id
    cloud.delete(eni)
    cloud.clock.advance(40)
    cloud.delete(eni)
    cloud.clock.advance(20)
    assert cloud.status(eni) is None
    assert refusal(lambda: cloud.delete(eni)) == Refusal("InvalidEniId.NotFound", 404)


def test_a_repeated_delete_gives_its_addresses_back_once(cloud: Bench) -> None:
    """Not a second time from somebody who has them by then."""
    cloud.state.set_delays(delete=60.0)
    free = cloud.state.current.available("vsw-pods")
    eni = cloud.create().network_interface_id
    cloud.delete(eni)
    cloud.clock.advance(30)
    cloud.delete(eni)
    cloud.clock.advance(30)
    cloud.state.occupy("vsw-pods", leave=0)
    cloud.clock.advance(60)
    with cloud.state.transaction(writes=False):
        assert cloud.state.current.available("vsw-pods") == 0 < free
