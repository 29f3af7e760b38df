"""macvlan: a slave of an ENI, in the pod that has the ENI for itself. The host has no link of the pod's.

mode       the verbs, over everything below
plan       an endpoint into what its pod is to have; pure
mark       what the node writes on the ENI about the pod that has it; pure
slave      the slave itself: made, found in a namespace, and whether the ENI has one at all
presence   whether a pod is there: the pod's namespace and the ENI, put together

The slave is of mode passthru: a VPC drops every frame whose source MAC is not the ENI's, slaves of the other
modes have MACs of their own, and a passthru slave has the ENI's. There is one of them per ENI, so the ENI is
the pod's alone; the node's stack and other pods neither send nor receive by it. The pod reaches everybody
through the VPC, its own node too. What it sends as somebody else the VPC drops: it can set the MAC of its
link, which is the ENI's, and is silent then. Services are kube-proxy's on the node, and are not reached from
here.
"""
