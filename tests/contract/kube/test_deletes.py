"""Deletion: answers, preconditions, finalizers."""

from __future__ import annotations

from tests.contract.kube.kube import Kube


def test_delete_answers_with_a_status(kube: Kube) -> None:
    uid = kube.configmap("c")["metadata"]["uid"]
    answer = kube.request("DELETE", "configmaps/c")
    assert answer.status == 200
    assert answer.body == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {"name": "c", "kind": "configmaps", "uid": uid},
    }
    assert kube.request("GET", "configmaps/c").summary == (404, "NotFound")
    assert kube.request("DELETE", "configmaps/c").summary == (404, "NotFound")


def test_delete_of_a_pod_answers_with_the_pod(kube: Kube) -> None:
    kube.pod("p")
    answer = kube.request("DELETE", "pods/p", {"gracePeriodSeconds": 0})
    assert (answer.status, answer.body["kind"], answer.body["metadata"]["name"]) == (200, "Pod", "p")
    assert kube.request("GET", "pods/p").summary == (404, "NotFound")


def test_name_can_be_used_again(kube: Kube) -> None:
    first = kube.configmap("c")
    kube.request("DELETE", "configmaps/c")
    assert kube.configmap("c")["metadata"]["uid"] != first["metadata"]["uid"]


def test_delete_preconditions(kube: Kube) -> None:
    metadata = kube.configmap("c")["metadata"]
    for wrong in ({"uid": "another"}, {"resourceVersion": "1"}):
        answer = kube.request("DELETE", "configmaps/c", {"preconditions": wrong})
        assert answer.summary == (409, "Conflict")
    right = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    assert kube.request("DELETE", "configmaps/c", {"preconditions": right}).status == 200


def test_finalizer_holds_the_object(kube: Kube) -> None:
    kube.configmap("c", finalizers=["example.com/hold"])
    answer = kube.request("DELETE", "configmaps/c")
    assert (answer.status, answer.body["kind"]) == (200, "ConfigMap")
    marked = kube.request("GET", "configmaps/c").body
    assert marked["metadata"]["deletionTimestamp"]
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 0
    again = kube.request("DELETE", "configmaps/c")
    assert again.body["metadata"]["resourceVersion"] == marked["metadata"]["resourceVersion"]
    assert kube.request("POST", "configmaps", {"metadata": {"name": "c"}}).status == 409
    released = kube.patch("configmaps/c", {"metadata": {"finalizers": None}})
    assert released.status == 200
    assert kube.request("GET", "configmaps/c").summary == (404, "NotFound")


def test_no_new_finalizer_while_being_deleted(kube: Kube) -> None:
    kube.configmap("c", finalizers=["example.com/hold"])
    kube.request("DELETE", "configmaps/c")
    more = {"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}
    assert kube.patch("configmaps/c", more).summary == (422, "Invalid")
    kube.patch("configmaps/c", {"metadata": {"finalizers": None}})


def test_finalizer_removed_before_deletion_deletes_nothing(kube: Kube) -> None:
    kube.configmap("c", finalizers=["example.com/hold"])
    kube.patch("configmaps/c", {"metadata": {"finalizers": None}})
    assert kube.request("GET", "configmaps/c").status == 200
