"""The images that the Dockerfile and the compose file name, made here under their public names: nothing can be pulled.

Each is the real program at the paths of the public image: Python and Java of Debian, Kafka's own jars, Debian's
Prometheus and Alertmanager. Grafana is not to be had.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

from deploy import tools
from deploy.docker.daemon import Daemon, call
from kstream.devbroker import jars

ROOT = Path(__file__).parents[3]
FOLDERS = Path(__file__).parent / "images"

# Kafka's command line, which the development broker does without.
KAFKA_TOOLS = jars.Jar(
    "org.apache.kafka",
    "kafka-tools",
    jars.KAFKA_VERSION,
    698668,
    "62f3c5dd7aa3442d4c5bc6a95f86e2502178ea09de8e27f74d9563bf955e253c",
)


def python_image() -> str:
    """What the Dockerfile starts from."""
    text = (ROOT / "Dockerfile").read_text()
    version = re.search(r"^ARG PYTHON_VERSION=(\S+)$", text, re.MULTILINE)
    assert version is not None
    assert "FROM python:${PYTHON_VERSION}-slim" in text
    return f"python:{version[1]}-slim"


def image_of(service: str) -> str:
    """The image of a service in the compose file."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    name: str = compose["services"][service]["image"]
    return name


def provide_base_images(daemon: Daemon) -> None:
    """Makes all of them; quick where they are there already, for the layers are cached."""
    import_root(daemon, "rootfs-python", python_image())
    import_root(daemon, "rootfs-servers", "kstream-test/servers")
    for service in ("prometheus", "alertmanager"):
        build(daemon, FOLDERS / service, image_of(service))
    with tempfile.TemporaryDirectory() as name:
        context = Path(name) / "kafka"
        shutil.copytree(FOLDERS / "kafka", context)
        (context / "libs").mkdir()
        for jar in (*jars.install(), kafka_tools()):
            shutil.copyfile(jar, context / "libs" / jar.name)  # theirs are for their owner only
        build(daemon, context, image_of("kafka"))


def import_root(daemon: Daemon, root: str, tag: str) -> None:
    """A root file system as an image of one layer, unless it was imported before."""
    file = tools.tool(root)
    made = str(int(file.stat().st_mtime))
    label = "org.kstream.made"
    known = daemon.docker("image", "ls", "--filter", f"label={label}={made}", "--format", "{{.Repository}}:{{.Tag}}")
    if tag not in {name.removesuffix(":latest") for name in known.split()}:
        tools.say(f"docker: importing {tag}")
        daemon.docker(
            "import",
            "--change",
            f"LABEL {label}={made}",
            "--change",
            "ENV PATH=/usr/local/bin:/usr/bin:/bin:/sbin",
            file,
            tag,
        )


def build(daemon: Daemon, context: Path, tag: str, *options: str) -> None:
    """`docker build`; says so first, for the first time takes long."""
    tools.say(f"docker: building {tag}")
    daemon.docker("build", "--quiet", "--tag", tag, *options, context, DOCKER_BUILDKIT="1")


def kafka_tools() -> Path:
    """The jar with Kafka's command line, from the repository of the others, checked."""
    folder = tools.CACHE / "kafka-tools"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / KAFKA_TOOLS.name
    if not file.exists():  # under its own name it is whole and checked
        jars.fetch([KAFKA_TOOLS], folder, jars.repository())
    return file


def project(into: Path) -> Path:
    """A copy of what git has of the project, as users have it, with wheels: the build has no network.

    Uncommitted changes are in it, ignored files are not.
    """
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    for name in listed.split("\0"):
        if name and (ROOT / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, into / name)
    wheels = provide_wheels()
    for wheel in wheels.iterdir():
        shutil.copy2(wheel, into / "deploy" / "wheels" / wheel.name)
    return into


def provide_wheels() -> Path:
    """What deploy/wheels.sh fetches, kept until the lock or the script changes."""
    inputs = b"".join((ROOT / name).read_bytes() for name in ("uv.lock", "pyproject.toml", "deploy/wheels.sh"))
    folder = tools.CACHE / f"wheels-{hashlib.sha256(inputs).hexdigest()[:16]}"
    if not folder.exists():
        tools.say("docker: fetching the wheels that uv.lock pins")
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        call(["sh", str(ROOT / "deploy/wheels.sh"), str(partial)], dict(os.environ))
        partial.rename(folder)
    return folder
