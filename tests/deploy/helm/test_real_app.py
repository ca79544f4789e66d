"""What the chart runs in pods, on a real instance: the command of `helm test`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.helm.chart import Helm
from support.observing import Service, running, services


@pytest.fixture
def service(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for make in services(bootstrap_servers, tmp_path, monkeypatch):
        yield make(1)


def test_the_command_of_helm_test(one_helm: Helm, service: Service) -> None:
    """By the Service's name, as in a cluster: here a proxy setting leads it to the instance."""
    rendered = one_helm.template()
    (container,) = rendered.one("Pod")["spec"]["containers"]
    (variable,) = container["env"]
    assert variable["name"] == "URL" and variable["value"] == "http://air-kstream:8010"
    assert container["command"][:2] == ["python", "-c"]

    def test(url: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "URL": variable["value"], "http_proxy": url, "no_proxy": ""}
        command = [sys.executable, *container["command"][1:]]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    served = service.start("a", web_hosts=rendered.one("ConfigMap")["data"]["KSTREAM_WEB_HOSTS"])
    running(served)
    done = test(served.url)
    assert done.returncode == 0, done.stderr
    assert "/ready:" in done.stdout and f'app="{service.name}"' in done.stdout
    served.stop()
    assert test(served.url).returncode != 0
    strange = service.start("b")
    running(strange)
    assert "421" in test(strange.url).stderr, "of an instance that does not know the name"
