"""A long random life of two nodes, and what must hold in every quiet moment of it.

``./run soak`` brings up a lab with two nodes and real agents, and takes one random step after another
(``plan``): pods come and go, requests are repeated, raced and cut off, agents are killed, the cloud errs,
disks fill, clocks jump, somebody's hand alters the kernel. Every dozen steps a quiet moment comes
(``quiet``): faults are cleared, time goes by on the clocks, and then model, cloud, metadata, ledger, kernel
must tell one story (``agreement``), packets must flow (``wire``), nothing may have grown (``resources``), and
every refusal and every alarm in a log must have a cause that the soak has put there (``causes``).

The steps of a seed are always the same ones: what a step does depends on what there is, which step it is does
not. ``planted`` holds faults as patches, each of which a run must find: a soak that finds none of them asks
too little.
"""
