"""The brain: what the node wants, decided apart from how it is done.

Layers, enforced by import-linter: ``daemon`` and ``cli`` use ``ipam``, ``ipam`` uses ``model``;
the adapters (``aliyun``, ``kube``, ``store``) know ``model`` only and not each other, and only
``control.agent.main`` puts them together. ``model`` and ``ipam`` do no I/O.
"""
