"""Drift: a foreign hand changes or deletes what the agent set.

``./run perf drift`` and ``./run test -k drift`` go by one catalogue:

    catalogue   every alteration by name: links, replug, routing, settings, guard, hooks, rows, files, pod
    item        what an alteration is
    stage       nodes, one after the other; scene is one of them with its pods
    traffic     questions and answers over every path meanwhile
    trial       one alteration, watched until the object is as it was
    haste       the agent's next round at once, for tests
    table       what was seen, for a person                                        main
"""

from perf.drift.main import main

__all__ = ["main"]
