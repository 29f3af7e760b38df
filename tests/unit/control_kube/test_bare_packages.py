"""What the agent imports of the Kubernetes client, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_agent_imports_nothing_that_only_a_kubeconfig_needs() -> None:
    """Two hundred modules, 6 MiB."""
    text = (
        "import sys, control.agent.node; "
        "print(*({'kubernetes.client', 'oauthlib', 'requests', 'websocket', 'yaml'} & sys.modules.keys()))"
    )
    told = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["kubernetes.client"]


KUBECONFIG = """
import sys
from pathlib import Path
from control.kube import connection
from control.kube.connection import KubernetesConfig

path = Path(sys.argv[1])
path.write_text(
    "apiVersion: v1\\nkind: Config\\ncurrent-context: c\\n"
    "clusters: [{name: k, cluster: {server: 'https://10.0.0.1:6443'}}]\\n"
    "contexts: [{name: c, context: {cluster: k, user: u}}]\\n"
    "users: [{name: u, user: {token: secret}}]\\n"
)
made = connection._configure(KubernetesConfig(node="n", kubeconfig=str(path)))
print(made.host, *({"requests"} & sys.modules.keys()))
from requests_oauthlib import OAuth2Session
import oauthlib.oauth2
print(OAuth2Session(client_id="i").client_id, oauthlib.oauth2.rfc6749.errors.InvalidClientIdError.__name__)
"""


def test_a_kubeconfig_is_read_without_oauth_which_is_there_for_who_needs_it(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", KUBECONFIG, str(tmp_path / "conf")], capture_output=True, text=True, check=True
    )
    assert told.stdout.splitlines() == ["https://10.0.0.1:6443", "i InvalidClientIdError"]


OAUTH = """
import sys, threading
from control.kube import bare_packages

bare_packages.defer_oauth()
from requests_oauthlib import OAuth2Session as stand_in

made, failed = [], []

def work():
    try:
        made.append(type(stand_in(client_id="i")))
    except BaseException as exc:
        failed.append(exc)

threads = [threading.Thread(target=work) for _ in range(8)]
for one in threads:
    one.start()
for one in threads:
    one.join()
made.append(type(stand_in(client_id="i")))
print(len(set(made)), len(made), failed)
"""


def test_oauth_is_imported_once_by_however_many_threads_meet_it_first() -> None:
    told = subprocess.run([sys.executable, "-c", OAUTH], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["1", "9", "[]"]
