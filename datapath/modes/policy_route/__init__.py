"""Policy routing: a veth pair per pod, a rule per pod to its ENI's table, one table of routes to all pods.

mode         the verbs, over everything below
layout       numbers and names; pure
plan         an endpoint into the objects that carry it; pure
node         what a node and each of its ENIs need before the first pod
pair         the veth pair, and what may stand in its way       standing
host_side    the node's end: written in one batch with the questions that prove it
observed     what the kernel holds of all pods
inspection   one endpoint compared with the kernel (CHECK)
repair       all of it compared: an observation in, steps out; pure
"""
