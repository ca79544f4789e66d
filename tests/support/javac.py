"""Runs support/java/Codecs.java, with the jars that Java's users of Kafka Streams and DataSketches have."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kstream.devbroker import jars
from kstream.devbroker.jars import Jar
from kstream.devbroker.java import MINIMUM, version_of
from kstream.errors import BrokerError

SOURCE = Path(__file__).parent / "java" / "Codecs.java"

JARS = [
    *(jar for jar in jars.pinned() if jar.artifact in ("kafka-clients", "slf4j-api")),
    Jar(
        "org.apache.kafka", "kafka-streams", "4.3.1", 2277950,
        "bd73f3805e116f711e8456ee89a8a5b43ff5dcf5a5bb865afae29deae89e7c4b",
    ),
    Jar(
        "org.apache.datasketches", "datasketches-java", "6.2.0", 1022777,
        "1b55103e1f7564150a0867eca4ce3bca13cd5935a32c199a5e738f8c5c24901a",
    ),
    Jar(
        "org.apache.datasketches", "datasketches-memory", "3.0.2", 117692,
        "a3dbdec4de16bf2b0a4c9b1b253bd4064d587675fc76063f8972cdfa104c66cb",
    ),
]  # fmt: skip


def jdk() -> Path:
    """A Java that has a compiler: `$JAVA_HOME`'s, or the one on the path. Where there is none the test is skipped."""
    home = os.environ.get("JAVA_HOME")
    folders = [Path(home) / "bin"] if home else []
    if found := shutil.which("javac"):
        folders.append(Path(found).parent)
    for folder in folders:
        if (folder / "javac").exists() and (version_of(folder / "java") or 0) >= MINIMUM:
            return folder / "java"
    pytest.skip(f"no JDK >= {MINIMUM}: there is no javac on the path, nor in JAVA_HOME")


def class_path() -> list[Path]:
    """The jars, in the user's cache beside the broker's. Where they cannot be had the test is skipped."""
    directory = jars.cache_dir().parent / "java-tests"
    try:
        if missing := [jar for jar in JARS if not (directory / jar.name).exists()]:
            jars.fetch(missing, directory, jars.repository())
    except BrokerError as error:
        pytest.skip(f"no jars of Kafka Streams: {error}")
    return [directory / jar.name for jar in JARS]


def call(*calls: str) -> list[str]:
    """What the program returns for these calls."""
    java = jdk()
    opened = ["--add-opens=java.base/java.nio=ALL-UNNAMED", "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED"]
    done = subprocess.run(
        [java, *opened, "-cp", os.pathsep.join(map(str, class_path())), SOURCE],
        input="\n".join(calls) + "\n",
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
