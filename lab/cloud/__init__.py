"""The cloud of the lab: what ECS, VPC and the metadata service know and allow.

Reading order: ``model`` (values) -> ``history`` and ``resources`` (what is true now, and since when) ->
``interfaces`` and ``assignments`` (what may be written) -> ``views`` (who sees it when) -> ``state``
(all of it behind one lock). ``dispatch`` turns a signed request into an action of ``actions``;
``openapi`` and ``metadata`` are the two HTTP servers.
"""
