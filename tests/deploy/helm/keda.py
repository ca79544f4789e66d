"""KEDA beside the cluster: its operator and its server of metrics, as real as the HPA that asks them. And pods: kwok
plays what Kubernetes sees of them, and real instances do their work."""

from __future__ import annotations

import http.client
import http.server
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import trustme

from deploy.helm.chart import Object
from deploy.helm.cluster import Cluster, free_ports
from support.serving import Served

NAMESPACE = "keda"
VERSION, GROUP = "v1beta1", "external.metrics.k8s.io"
METRICS = f"{VERSION}.{GROUP}"


@contextmanager
def keda(cluster: Cluster, tool: Callable[[str], Path], namespace: str, pods: Pods) -> Iterator[None]:
    """Looks after each ScaledObject of one namespace, whose pods it asks as they are named there."""
    operator, adapter = tool("keda-operator"), tool("keda-adapter")
    grpc, secure, *others = free_ports(5)
    folder = cluster.folder / "keda"
    certificates(folder)
    cluster.kubectl("apply", "--server-side", "-f", str(tool("keda-crds")))
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    settings = {
        "KUBECONFIG": str(cluster.kubeconfig),
        "WATCH_NAMESPACE": namespace,
        "POD_NAMESPACE": NAMESPACE,
        "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE,
        "HTTP_PROXY": pods.proxy,
    }
    with ExitStack() as stack:
        stack.enter_context(
            cluster.program(
                "keda-operator",
                operator,
                f"--cert-dir={folder}",
                f"--metrics-service-bind-address=127.0.0.1:{grpc}",
                f"--metrics-bind-address=127.0.0.1:{others[0]}",
                f"--health-probe-bind-address=127.0.0.1:{others[1]}",
                **settings,
            )
        )
        stack.enter_context(
            cluster.program(
                "keda-adapter",
                adapter,
                "--bind-address=127.0.0.1",
                f"--secure-port={secure}",
                f"--port={others[2]}",
                f"--cert-dir={folder}",
                f"--tls-cert-file={folder / 'tls.crt'}",
                f"--tls-private-key-file={folder / 'tls.key'}",
                f"--metrics-service-address=localhost:{grpc}",
                f"--lister-kubeconfig={cluster.kubeconfig}",
                f"--authentication-kubeconfig={cluster.kubeconfig}",
                f"--authorization-kubeconfig={cluster.kubeconfig}",
                **settings,
            )
        )
        cluster.apply(*metrics_server(secure))
        available = ("get", "apiservice", METRICS, "-o", 'jsonpath={.status.conditions[?(@.type=="Available")].status}')
        cluster.until(lambda: cluster.kubectl(*available) == "True", "KEDA's server of metrics does not answer", 120)
        yield
    cluster.kubectl("delete", "apiservice", METRICS)  # else namespaces stay: what is in them is asked of it, too


def certificates(folder: Path) -> None:
    """With which operator and server of metrics know each other."""
    folder.mkdir()
    authority = trustme.CA()
    own = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.crt")
    own.private_key_pem.write_to_path(folder / "tls.key")
    folder.joinpath("tls.crt").write_bytes(b"".join(one.bytes() for one in own.cert_chain_pems))


def metrics_server(port: int) -> tuple[Object, Object]:
    """Where the API server asks for external metrics: a Service by the name of this machine."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "keda-metrics-apiserver", "namespace": NAMESPACE},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    }
    spec = {
        "group": GROUP,
        "version": VERSION,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "insecureSkipTLSVerify": True,
        "service": {"name": "keda-metrics-apiserver", "namespace": NAMESPACE, "port": port},
    }
    api = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": METRICS},
        "spec": spec,
    }
    return service, api


class Pods:
    """An instance for each pod of a StatefulSet, under its name. `proxy` leads who asks for any name to one of them, as
    the headless Service does."""

    def __init__(self, start: Callable[[str], Served], state: Path) -> None:
        self.instances: dict[str, Served] = {}
        self.asked = 0
        """How often one of them answered."""
        self._start, self._state = start, state
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.proxy = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def served(self) -> Iterator[None]:
        thread = threading.Thread(target=self._server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()
            self.follow(())

    def follow(self, names: Iterable[str]) -> None:
        """Starts and stops instances, so that they are those of these pods."""
        wanted = set(names)
        for name in self.instances.keys() - wanted:
            self.instances.pop(name).stop()
        for name in sorted(wanted - self.instances.keys()):
            self.instances[name] = self._start(name)

    def lose_volumes(self) -> None:
        """Of pods that are gone."""
        assert not self.instances
        shutil.rmtree(self._state)

    def ask(self, path: str, host: str) -> tuple[int, bytes]:
        """As a pod answers who asks under that name; 502 where there is none."""
        for instance in list(self.instances.values()):
            connection = http.client.HTTPConnection(urlsplit(instance.url).netloc, timeout=10)
            try:
                connection.request("GET", path, headers={"Host": host})
                answer = connection.getresponse()
                found = answer.status, answer.read()
            except OSError:
                continue
            finally:
                connection.close()
            self.asked += 1
            return found
        return 502, b"no pod"

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        pods = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                code, body = pods.ask(url.path, url.netloc)
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler
