"""Everything that touches the kernel. Knows no Kubernetes and no cloud.

``endpoint`` holds the values that the brain hands down; ``modes`` turns them into kernel objects.
Doors, one per hazard: ``netlink`` (raw netlink sockets), ``namespace`` (entering a network namespace),
``sysctl`` (/proc/sys), ``ebpf.libbpf`` (libbpf symbols).
"""
