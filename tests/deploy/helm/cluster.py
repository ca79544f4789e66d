"""A Kubernetes of real parts on this machine: etcd, API server, controller manager, scheduler; kwok plays the nodes.

What Kubernetes decides is decided; containers do not run.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import trustme
import yaml

from deploy.helm.chart import Object

STAGES = Path(__file__).with_name("stages.yaml")
NODES = [f"node-{letter}" for letter in "abc"]
FRONT = "front-proxy"
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


class Cluster:
    """Use it as a context manager. Nodes and the CRDs given are there when it begins."""

    def __init__(self, folder: Path, tool: Callable[[str], Path], crds: list[Path]) -> None:
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self.programs = {name: tool(name) for name in ("etcd", "kubernetes", "kwok", "kubectl")}
        self._crds = crds
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        etcd, peer, api, controllers, scheduler = free_ports(5)
        kubernetes, key = self.programs["kubernetes"], self.folder / "service-account.key"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        token = secrets.token_hex(16)
        self.folder.joinpath("tokens").write_text(f'{token},admin,admin,"system:masters"\n')
        self._write_kubeconfig(api, token)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.folder / "front.ca")
        front = authority.issue_cert("localhost", common_name=FRONT)
        front.private_key_and_cert_chain_pem.write_to_path(self.folder / "front.pem")
        self._run(
            "etcd",
            self.programs["etcd"],
            f"--data-dir={self.folder / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls=http://127.0.0.1:{etcd}",
            f"--advertise-client-urls=http://127.0.0.1:{etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
        )
        self._run(
            "kube-apiserver",
            kubernetes / "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            f"--secure-port={api}",
            "--bind-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--cert-dir={self.folder}",
            f"--token-auth-file={self.folder / 'tokens'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.0.0.0/16",
            # it asks others in its callers' names, such as a server of metrics: they know it by its certificate
            f"--proxy-client-cert-file={self.folder / 'front.pem'}",
            f"--proxy-client-key-file={self.folder / 'front.pem'}",
            f"--requestheader-client-ca-file={self.folder / 'front.ca'}",
            f"--requestheader-allowed-names={FRONT}",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        )
        self.until(
            lambda: self.kubectl("get", "--raw=/readyz", check=False) == "ok", "the API server is not ready", 120
        )
        common = [f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1"]
        self._run(
            "kube-controller-manager",
            kubernetes / "kube-controller-manager",
            *common,
            f"--secure-port={controllers}",
            f"--service-account-private-key-file={key}",
            "--pvclaimbinder-sync-period=1s",
            "--horizontal-pod-autoscaler-sync-period=1s",
        )
        self._run("kube-scheduler", kubernetes / "kube-scheduler", *common, f"--secure-port={scheduler}")
        self._run(
            "kwok",
            self.programs["kwok"],
            f"--kubeconfig={self.kubeconfig}",
            "--manage-all-nodes",
            f"--config={STAGES}",
            "--node-lease-duration-seconds=40",
        )
        for crd in self._crds:
            self.kubectl("create", "-f", str(crd))
        self.apply(*(node(name, zone) for zone, name in enumerate(NODES)))
        self.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=60s")

    def _write_kubeconfig(self, port: int, token: str) -> None:
        # the API server's certificate is its own, made at start, and the address is this machine's
        server = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": server}],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }
        self.kubeconfig.write_text(yaml.safe_dump(content))
        self.kubeconfig.chmod(0o600)  # helm warns otherwise

    def _run(self, name: str, *command: object) -> None:
        """Start a part, which ends with the cluster."""
        self._stack.enter_context(self.program(name, *command))

    @contextmanager
    def program(self, name: str, *command: object, **environment: str) -> Iterator[None]:
        """A program beside it, with a log; it ends with the block, and with this process however that ends."""
        whole = ["setpriv", "--pdeathsig", "KILL", *map(str, command)]
        with self.folder.joinpath(f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                whole, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            try:
                yield
            finally:
                stop(process)

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        """Standard output; with `check` a failure is an error with what kubectl said."""
        done = subprocess.run(
            [str(self.programs["kubectl"]), "--kubeconfig", str(self.kubeconfig), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def apply(self, *objects: Object) -> None:
        self.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def get(self, kind: str, name: str, namespace: str) -> Object:
        found: Object = json.loads(self.kubectl("-n", namespace, "get", kind, name, "-o", "json"))
        return found

    def all(self, kind: str, namespace: str) -> list[Object]:
        """Objects of a kind, by name."""
        found: list[Object] = json.loads(self.kubectl("-n", namespace, "get", kind, "-o", "json"))["items"]
        return found

    def pods(self, namespace: str) -> dict[str, Object]:
        """Pods that are not on their way out."""
        return {
            one["metadata"]["name"]: one
            for one in self.all("pods", namespace)
            if "deletionTimestamp" not in one["metadata"]
        }

    def until(self, holds: Callable[[], object], otherwise: str, seconds: float = 60) -> None:
        """Wait for a condition; a deadline ends it with `otherwise` and the logs' ends."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                logs = "\n".join(f"--- {log.stem}\n{log.read_text()[-1500:]}" for log in self.folder.glob("*.log"))
                raise AssertionError(f"after {seconds:.0f} s: {otherwise}\n{logs}")
            time.sleep(0.2)

    @contextmanager
    def namespace(self, name: str, volumes: int = 0) -> Iterator[str]:
        """A namespace that enforces the Pod Security Standard `restricted`, and volumes for so many claims."""
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}})
        names = [f"{name}-{number}" for number in range(volumes)]
        if names:
            self.apply(*map(volume, names))
        try:
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false")
            if names:
                self.kubectl("delete", "persistentvolume", *names, "--wait=false")

    @contextmanager
    def watched(self, namespace: str) -> Iterator[list[dict[str, Any]]]:
        """What happens to the pods of a namespace meanwhile, filled in when the block ends: the watch's events."""
        command = [str(self.programs["kubectl"]), "--kubeconfig", str(self.kubeconfig), "-n", namespace]
        command += ["get", "pods", "--watch", "--output-watch-events", "-o", "json"]
        file = self.folder / f"watch-{namespace}-{time.monotonic_ns()}.json"
        events: list[dict[str, Any]] = []
        there = len(self.pods(namespace))
        with file.open("w") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output)
            try:
                self.until(lambda: len(parsed(file.read_text())) >= there, "the watch does not begin")
                yield events
                # what happens last is seen when everything before it was
                mark = f"mark-{time.monotonic_ns()}"
                pod = next(iter(self.pods(namespace)))
                self.kubectl("-n", namespace, "annotate", "pod", pod, f"{mark}=seen")
                self.until(lambda: mark in file.read_text(), "the watch is behind")
            finally:
                stop(process)
        events += parsed(file.read_text())


def parsed(text: str) -> list[dict[str, Any]]:
    """JSON values behind each other; one that is not whole yet is left out."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text):
        try:
            one, at = decoder.raw_decode(text, at)
        except ValueError:
            break
        found.append(one)
        while at < len(text) and text[at].isspace():
            at += 1
    return found


def is_ready(pod: Object) -> bool:
    """Whether a pod is ready and stays."""
    conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def node(name: str, zone: int) -> Object:
    labels = {
        "kubernetes.io/hostname": name,
        "topology.kubernetes.io/zone": f"zone-{zone}",
        "kubernetes.io/os": "linux",
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def volume(name: str) -> Object:
    """Claims without a class are bound to these."""
    spec = {
        "capacity": {"storage": "20Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": f"/nowhere/{name}"},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that this one started."""
    if process.poll() is None:
        os.kill(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
