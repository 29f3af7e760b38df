"""A real Kubernetes whose nodes stand in the lab's VPC.

``binaries`` builds its programs, ``images`` and ``archive`` what its containers start from; ``conformance``
runs Kubernetes' own network tests against it.
"""
