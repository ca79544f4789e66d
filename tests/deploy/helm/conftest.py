"""Fixtures of the chart's tests: both helms, and one cluster for all tests that want it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.helm.chart import Helm
from deploy.helm.cluster import Cluster
from deploy.helm.release import Release
from deploy.helm.validation import crd_files


@pytest.fixture(params=["helm3", "helm4"])
def helm(request: pytest.FixtureRequest, tool: Callable[[str], Path], tmp_path: Path) -> Helm:
    """Each test runs with both."""
    return Helm(tool(request.param), tmp_path)


@pytest.fixture
def one_helm(tool: Callable[[str], Path], tmp_path: Path) -> Helm:
    """For what does not hang on Helm's version."""
    return Helm(tool("helm4"), tmp_path)


@pytest.fixture(scope="session")
def cluster(tool: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    crds = crd_files(tool("keda-crds"), tool("prometheus-operator-crds"))
    with Cluster(tmp_path_factory.mktemp("cluster"), tool, crds) as running:
        yield running


@pytest.fixture
def release(cluster: Cluster, helm: Helm, request: pytest.FixtureRequest) -> Iterator[Release]:
    """A name and a namespace for the chart, with each helm."""
    version = helm.program.parent.name.split("-")[0]
    test = request.node.originalname.removeprefix("test_").replace("_", "-")[:40].strip("-")
    with cluster.namespace(f"{test}-{version}", volumes=8) as namespace:
        yield Release(cluster, helm, namespace)
