"""Make uv.lock anew (`make lock`); existing pins stay unless `--upgrade` or the like is passed on to `uv lock`.

The committed lock names no package host: they are replaced by the placeholders below (docs/decisions/0001). uv needs
real ones to keep the existing pins, so the lock is made in a scratch folder, with pip's own constants put back first.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pip._internal.models.index import PyPI

INDEX = "https://index.invalid/simple"
FILES = "https://files.invalid/"
ROOT = Path(__file__).resolve().parent.parent


def with_hosts(lock: str) -> str:
    """The lock as uv knows it."""
    return lock.replace(INDEX, PyPI.simple_url).replace(FILES, f"https://{PyPI.file_storage_domain}/")


def without_hosts(lock: str) -> str:
    """The lock as it is committed, whatever index it was made from."""
    lock = re.sub(r'(registry = ")https?://[^"]*', rf"\g<1>{INDEX}", lock)
    return re.sub(r'(url = ")https?://[^/"]+/', rf"\g<1>{FILES}", lock)


def main(arguments: list[str]) -> int:
    """Lock in a scratch folder; replace uv.lock only when that succeeded."""
    lock = ROOT / "uv.lock"
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        shutil.copy(ROOT / "pyproject.toml", scratch)
        if lock.exists():
            (scratch / "uv.lock").write_text(with_hosts(lock.read_text()))
        uv = Path(sys.executable).parent / "uv"
        status = subprocess.run([uv, "lock", "--project", scratch, *arguments], check=False).returncode
        if status == 0:
            lock.write_text(without_hosts((scratch / "uv.lock").read_text()))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
