"""One contract for every Kubernetes API server that the lab can run, spoken through the official client.

The lab's small server always answers it. A real one does too if TERWAY_KUBE_BIN names a directory with
``etcd`` and ``kube-apiserver``.
"""
