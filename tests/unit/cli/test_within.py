"""A command that ends by itself, whatever it waits for (`kstream.cli.within`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(120)
def test_a_command_whose_app_hangs_ends(tmp_path: Path) -> None:
    """As in an init container, which no probe looks at: it would hang for ever."""
    tmp_path.joinpath("hangs.py").write_text("import time\nwhile True: time.sleep(3600)\n")
    command = [sys.executable, "-m", "kstream.cli", "topics", "hangs:app", "--create", "--within", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 2
    assert done.stderr == "kstream: topics has not ended within 1 s: it is ended\n"
