"""The cloud as a specification in code: a VPC on one machine.

``spec`` says what a lab looks like, ``cloud`` is the OpenAPI and the metadata service over one state,
``kube`` a small Kubernetes API server, ``fabric`` the network between ENIs (eBPF), ``nodes`` the
namespaces. ``supervisor`` holds a running lab, ``client`` talks to it.
"""
