"""Java programs beside ours: where a JDK is, and the jars that they need besides the broker's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kstream.devbroker import jars
from kstream.devbroker.jars import Jar
from kstream.devbroker.java import MINIMUM, version_of
from kstream.errors import BrokerError

KAFKA_STREAMS: Final = Jar(
    "org.apache.kafka", "kafka-streams", "4.3.1", 2277950,
    "bd73f3805e116f711e8456ee89a8a5b43ff5dcf5a5bb865afae29deae89e7c4b",
)  # fmt: skip


def jdk() -> Path:
    """The folder with `java` and `javac`: that of `$JAVA_HOME`, or of the one on the path.

    Raises:
        BrokerError: there is none.
    """
    home = os.environ.get("JAVA_HOME")
    folders = [Path(home) / "bin"] if home else []
    if found := shutil.which("javac"):
        folders.append(Path(found).parent)
    for folder in folders:
        if (folder / "javac").exists() and (version_of(folder / "java") or 0) >= MINIMUM:
            return folder
    raise BrokerError(f"no JDK >= {MINIMUM}: there is no javac on the path, nor in JAVA_HOME")


def fetched(wanted: Sequence[Jar], folder: str) -> list[Path]:
    """These jars, in a folder of the user's cache beside the broker's. Raises BrokerError where they cannot be had."""
    directory = jars.cache_dir().parent / folder
    if missing := [jar for jar in wanted if not (directory / jar.name).exists()]:
        jars.fetch(missing, directory, jars.repository())
    return [directory / jar.name for jar in wanted]
