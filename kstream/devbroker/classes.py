"""An archive of the classes that a broker loads (JEP 350): with it a start takes half the processor time. The JVM
writes it when the first broker ends in good order; it then lies beside the jars, and each broker after that reads it.

An archive of another Java has another name. One that the JVM does not know it leaves alone; one that is damaged it may
die of, so it goes with the first broker that does.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from pathlib import Path


class Classes:
    """The archive for this Java. `directory` has the jars; `drafts` is where the JVM may write one."""

    def __init__(self, directory: Path, java: Path, drafts: Path) -> None:
        about = java.resolve().stat()
        named = hashlib.sha256(f"{java.resolve()} {about.st_size} {about.st_mtime_ns}".encode()).hexdigest()[:12]
        self.archive = directory / f"classes-{named}.jsa"
        self.draft = drafts / "classes.jsa"

    @property
    def read(self) -> list[str]:
        """Options of a JVM that is to read it; none while it is not there."""
        return [f"-XX:SharedArchiveFile={self.archive}"] if self.archive.exists() else []

    @property
    def read_or_write(self) -> list[str]:
        """The same, of one that is to write it where it is not there, when it ends."""
        return self.read or [f"-XX:ArchiveClassesAtExit={self.draft}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]

    def keep(self) -> None:
        """The JVM has ended in good order: what it wrote is for those to come."""
        if not self.draft.exists():
            return
        part = self.archive.with_name(f".{self.archive.name}.{os.getpid()}.part")  # jars.py clears up what is left
        with contextlib.suppress(OSError):  # no room for it: the next broker starts as this one did
            with self.draft.open("rb") as written, part.open("wb") as copy:
                shutil.copyfileobj(written, copy)
                copy.flush()
                os.fsync(copy.fileno())
            os.replace(part, self.archive)
        part.unlink(missing_ok=True)
        self.draft.unlink(missing_ok=True)

    def drop(self) -> None:
        """The next broker does without."""
        self.archive.unlink(missing_ok=True)
