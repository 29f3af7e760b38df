"""The processes that hold a lab: the warden, process 1 of the lab, and the worker with all that serves.

::

    supervisor   the warden: in the machine's namespaces, waits and clears away
    init         process 1 of the lab: small, forks the nodes
    worker       its first child: running is the lab, verbs what may be asked of it, control the socket

Clients (``lab.client``, ``lab.cli``, tests) speak to it over the control socket, and import none of it.
"""
