"""Runs support/java/Codecs.java, with the jars that Java's users of Kafka Streams and DataSketches have."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from benchmarks.jdk import KAFKA_STREAMS, fetched, jdk
from kstream.devbroker import jars
from kstream.devbroker.jars import Jar
from kstream.errors import BrokerError

SOURCE = Path(__file__).parent / "java" / "Codecs.java"

JARS = [
    *(jar for jar in jars.pinned() if jar.artifact in ("kafka-clients", "slf4j-api")),
    KAFKA_STREAMS,
    Jar(
        "org.apache.datasketches", "datasketches-java", "6.2.0", 1022777,
        "1b55103e1f7564150a0867eca4ce3bca13cd5935a32c199a5e738f8c5c24901a",
    ),
    Jar(
        "org.apache.datasketches", "datasketches-memory", "3.0.2", 117692,
        "a3dbdec4de16bf2b0a4c9b1b253bd4064d587675fc76063f8972cdfa104c66cb",
    ),
]  # fmt: skip


def call(*calls: str) -> list[str]:
    """What the program returns for these calls. Where there is no JDK, or the jars cannot be had, the test is
    skipped."""
    try:
        java, class_path = jdk() / "java", fetched(JARS, "java-tests")
    except BrokerError as error:
        pytest.skip(str(error))
    opened = ["--add-opens=java.base/java.nio=ALL-UNNAMED", "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED"]
    done = subprocess.run(
        [java, *opened, "-cp", os.pathsep.join(map(str, class_path)), SOURCE],
        input="\n".join(calls) + "\n",
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
