"""The demonstration: nodes with real agents, pods by the real executable, and a probe of every path.

``python -m lab.demo`` brings it up, ``matrix`` says which paths there are, ``probes`` sends over them,
``vitals`` measures the daemons, ``report`` prints.
"""
