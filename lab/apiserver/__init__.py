"""The Kubernetes API of a lab: the small server of ``lab.kube``, or a real etcd and kube-apiserver.

``port`` is what the lab asks of either. ``embedded`` answers it within the lab's process; ``real`` runs the
programs that ``programs`` has found, with ``certificates`` of its own, and gives the agents the identity and
the rights that a cluster gives them (``deploy/rbac.json``). ``access`` is how clients of the lab come in.
"""
