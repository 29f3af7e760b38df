"""terwayd: the use cases of the node, over ports. Only ``main`` knows which adapters stand behind them.

An ADD runs through ``server`` (socket) -> ``attach`` (the use case) -> ``pool`` (an address, now or after a
cloud call) -> the kernel port -> answer. ``operations`` are the cloud's multi-step writes, ``recovery`` puts
three witnesses together at start, ``upkeep`` does the same while running, ``faults`` names the points where
a crash is repaired and how.
"""
