"""The demonstration: nodes with real agents, pods by the real executable, and a probe of every path.

``python -m lab.demo`` brings it up. ``matrix`` says what there is to try, ``trial`` tries it: ``echo`` serves
in every place, ``probes`` sends common packets and ``unusual`` the others, with the help of ``narrow``;
``counters`` are read around each, and ``witness`` tells from them what carried it. ``vitals`` measures the
daemons, ``report`` prints.
"""
