"""One contract for every Kubernetes API server that the lab can run, spoken through the official client.

The lab's small server always answers it. A real one does too where its programs are
(``tests.kube_programs``).
"""
