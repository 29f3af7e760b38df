"""The agent's adapter to Kubernetes: implements ``control.model.pod.Kubernetes``.

``connection`` is the one door to the official client and maps its errors, ``pods`` reads pod objects,
``cache`` holds this node's pods, ``services`` the addresses of Services (``service_cidrs`` their ranges); a
``watcher`` for each keeps them current, and ``lists`` reads what may be long. ``outbox`` sends events and
annotations off every caller's path, ``adapter`` puts them together.
"""

from control.kube import bare_packages

bare_packages.register()
