"""The Dockerfile and the compose file by linters and by rules of our own; no daemon is needed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.docker.daemon import call

ROOT = Path(__file__).parents[3]
Tool = Callable[[str], Path]

ONE_BROKER: tuple[str, ...] = ()
THREE_BROKERS = ("--env-file", "deploy/compose/cluster.env")
ONE_SHOT = {"topics"}


@pytest.fixture(scope="module")
def resolved(tool: Tool) -> Callable[[tuple[str, ...]], dict[str, Any]]:
    """The compose file as compose itself reads it, warnings being errors."""

    def read(options: tuple[str, ...]) -> dict[str, Any]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("COMPOSE", "KAFKA"))}
        command = [str(tool("docker-compose")), *options, "config", "--format", "json"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        project: dict[str, Any] = json.loads(done.stdout)
        return project

    return read


@pytest.fixture(params=[ONE_BROKER, THREE_BROKERS], ids=["one broker", "three brokers"])
def project(request: pytest.FixtureRequest, resolved: Callable[[tuple[str, ...]], dict[str, Any]]) -> dict[str, Any]:
    return resolved(request.param)


def test_hadolint_finds_nothing(tool: Tool) -> None:
    said = call([str(tool("hadolint")), "--no-color", "Dockerfile"], dict(os.environ), cwd=ROOT)
    assert said == ""


def test_the_profile_has_three_brokers_of_one_quorum(resolved: Callable[[tuple[str, ...]], dict[str, Any]]) -> None:
    one, three = resolved(ONE_BROKER)["services"], resolved(THREE_BROKERS)["services"]
    assert set(three) - set(one) == {"kafka-2", "kafka-3"}
    settings = [three[name]["environment"] for name in ("kafka", "kafka-2", "kafka-3")]
    assert [each["KAFKA_NODE_ID"] for each in settings] == ["1", "2", "3"]
    assert len({each["KAFKA_CONTROLLER_QUORUM_VOTERS"] for each in settings}) == 1
    assert {each["KAFKA_TRANSACTION_STATE_LOG_MIN_ISR"] for each in settings} == {"2"}
    assert three["flights"]["environment"]["KSTREAM_BOOTSTRAP_SERVERS"].count(",") == 2
    assert one["kafka"]["environment"]["KAFKA_CONTROLLER_QUORUM_VOTERS"] == "1@kafka:9093"


def test_what_is_mounted_is_there(project: dict[str, Any]) -> None:
    sources = [
        Path(volume["source"])
        for service in project["services"].values()
        for volume in service.get("volumes", [])
        if volume["type"] == "bind"
    ]
    assert {source.relative_to(ROOT).parts[0] for source in sources} == {"monitoring", "deploy"}
    assert [source for source in sources if not source.exists()] == []


def test_images_are_pinned(project: dict[str, Any]) -> None:
    for name, service in project["services"].items():
        repository, _, tag = service["image"].rpartition(":")
        assert repository, name
        assert re.search(r"\d+\.\d+", tag), f"{name}: {service['image']}"


def test_each_service_is_hardened_limited_and_watched(project: dict[str, Any]) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "HEALTHCHECK" in dockerfile.partition(" AS kstream\n")[2]
    for name, service in project["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["deploy"]["resources"]["limits"]["memory"]) > 0, name
        assert "container_name" not in service, name  # it could not be scaled
        if name in ONE_SHOT:
            assert service["restart"] == "no"
            continue
        assert service["restart"] == "unless-stopped", name
        assert "test" in service.get("healthcheck", {}) or "build" in service, f"{name} has no health check"


def test_services_can_be_scaled_and_stopped_in_good_order(project: dict[str, Any]) -> None:
    for name in ("flights", "airports"):
        service = project["services"][name]
        assert service["stop_grace_period"] == "2m0s"
        (port,) = service["ports"]
        first, last = map(int, port["published"].split("-"))
        assert (last - first, port["host_ip"]) == (9, "127.0.0.1")
        assert "kstream-instances" in service["networks"]["default"]["aliases"]
        assert "topics" in service["depends_on"]


def test_prometheus_looks_for_the_name_that_the_instances_have() -> None:
    configuration = yaml.safe_load((ROOT / "monitoring/prometheus.yml").read_text())
    (job,) = configuration["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert job["job_name"] == "kstream"
    assert found["names"] == ["kstream-instances"]
    assert f"KSTREAM_WEB_PORT={found['port']}" in (ROOT / "Dockerfile").read_text()


def test_grafana_is_given_the_projects_dashboard_and_its_data_source(project: dict[str, Any]) -> None:
    provisioning = ROOT / "deploy/compose/grafana"
    (provider,) = yaml.safe_load((provisioning / "dashboards/kstream.yml").read_text())["providers"]
    mounts = {volume["target"]: volume["source"] for volume in project["services"]["grafana"]["volumes"]}
    (dashboard,) = [path for path in mounts if path.startswith(provider["options"]["path"])]
    assert Path(mounts[dashboard]) == ROOT / "monitoring/dashboard.json"
    variables = json.loads((ROOT / "monitoring/dashboard.json").read_text())["templating"]["list"]
    assert "prometheus" in [one["query"] for one in variables if one["type"] == "datasource"]
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    assert source["url"] == "http://prometheus:9090"


def test_the_image_ends_as_a_number_with_what_it_needs_and_no_more() -> None:
    final = (ROOT / "Dockerfile").read_text().partition(" AS kstream\n")[2]
    assert re.findall(r"^USER (.*)$", final, re.MULTILINE) == ["10001:10001"]
    assert 'ENTRYPOINT ["kstream"]' in final
    for word in ("apt-get", "pip install", "gcc", "curl"):
        assert word not in final


def test_labels_say_the_projects_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert f"ARG VERSION={project['version']}\n" in dockerfile
    assert f'licenses="{project["license"]}"' in dockerfile
    compose = (ROOT / "docker-compose.yml").read_text()
    assert f"kstream-examples:${{KSTREAM_VERSION:-{project['version']}}}" in compose
    makefile = (ROOT / "Makefile").read_text()
    uv = re.search(r"^UV_VERSION := (\S+)$", makefile, re.MULTILINE)
    assert uv is not None
    assert f"ARG UV_VERSION={uv[1]}\n" in dockerfile


def test_the_build_is_sent_only_what_the_dockerfile_copies() -> None:
    copied = {
        word.split("/")[0] if word != "deploy/wheels" else word
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        for word in line.split()
    }
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line.removeprefix("!") for line in ignore if line.startswith("!")} == copied


PLATFORMS = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}


def test_make_builds_an_image_for_both_processors() -> None:
    def said(*variables: str) -> str:
        command = ["make", "--dry-run", "--no-print-directory", "images", *variables]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    kept, pushed = said(), said("REGISTRY=registry.example/air")
    for each in (kept, pushed):
        assert f"docker buildx build --platform {','.join(PLATFORMS)} " in each
        assert f"--build-arg VERSION={version} " in each and "--target kstream " in each
    assert "--push" not in kept and f"dest=dist/kstream-{version}-image.tar" in kept
    assert f"--tag registry.example/air/kstream:{version}" in pushed and "--push" in pushed


def test_the_dockerfile_names_no_processor() -> None:
    for word in ("amd64", "arm64", *PLATFORMS.values()):
        assert word not in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("machine", PLATFORMS.values())
def test_every_package_of_the_image_has_a_wheel_for(machine: str) -> None:
    """Nothing is compiled when an image is built: there is no compiler."""
    image = re.search(r"^ARG PYTHON_VERSION=3\.(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert image is not None
    fits = re.compile(
        rf"-(cp3{image[1]}-cp3{image[1]}|cp3\d+-abi3|py3-none|py2\.py3-none)-(any|.*manylinux\w*_{machine}).*\.whl$"
    )
    lock = {one["name"]: one for one in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    project = lock["kstream"]
    wanted = [one["name"] for one in (*project["dependencies"], *project["optional-dependencies"]["traces"])]
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        wanted += [one["name"] for one in lock[name].get("dependencies", []) if "marker" not in one]
        names = [one["url"].rpartition("/")[2] for one in lock[name].get("wheels", [])]
        assert any(fits.search(each) for each in names), f"{name}: {names}"
    assert {"confluent-kafka", "rocksdict", "msgspec"} <= seen
