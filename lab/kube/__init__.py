"""A small Kubernetes API server: the part of the API that this product uses, over an in-memory store.

``resources`` says which kinds exist, ``history`` keeps objects and their changes by revision, ``store`` gives
the verbs their meaning, ``watching`` turns changes into a stream, and ``server`` speaks HTTP/1.1.
``tests/contract/kube`` holds it, and a real kube-apiserver, to the same behaviour.

What it does not have: schemas and defaults, admission, RBAC, server-side apply, OpenAPI documents, protobuf
and Table output. So ``kubectl apply`` and ``create -f`` want ``--validate=false``, and ``kubectl get`` shows
names and ages only.
"""
