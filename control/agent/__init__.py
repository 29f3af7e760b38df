"""terwayd: the use cases of one node over ports. Only ``node`` and ``main`` know the adapters behind them.

From the outermost room inwards; each imports only those below it:

    main, node, assembly  the start, the adapters behind the ports, who is handed what
    introspection         what an operator and Prometheus are shown
    reconcile             recovery at the start; periodic rounds that hold ledger, cloud and kernel together
    cni                   ADD, DEL, CHECK, GC, STATUS; the socket; the runtime's configuration file
    allocation            the pool of addresses and its operations on the cloud
    dataplane             the kernel port and what a node's kernel is told of pods, Services and filters
    state                 the ledger in memory and written through; where a crash is repaired (``faults``)
"""
