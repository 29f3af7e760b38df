"""The agent's adapter to Kubernetes: implements ``control.model.pod.Kubernetes``.

``connection`` is the one door to the official client and maps its errors, ``pods`` reads pod objects,
``cache`` holds this node's pods and ``watcher`` feeds it, ``outbox`` sends events and annotations off every
caller's path, ``adapter`` puts them together.
"""
