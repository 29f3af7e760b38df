"""The CNI surface: what a container runtime says to us, and what it hears.

``terway.c`` is the executable and ``wire`` the frames between it and the daemon. ``request`` turns a frame
into a checked request (its parts: ``conf`` for stdin, ``args`` for CNI_ARGS), ``result`` and ``errors`` turn
what came of it into the JSON of the version that was asked for. Nothing here does I/O, and nothing here
knows Kubernetes, the cloud or the kernel.
"""
