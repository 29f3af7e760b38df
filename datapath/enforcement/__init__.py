"""What must hold, or the pod does not start: that it sends as nobody else.

locks   who refuses what, per kind of lie; whether that is enough for an endpoint
guard   the table of nf_tables

What may fail is ``datapath.acceleration``: a pod without it is routed.
"""
