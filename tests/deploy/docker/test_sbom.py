"""The bill of materials is of exactly what the image has."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from deploy.docker.daemon import call
from deploy.recipes import ROOT

UV = ROOT / ".uv/bin/uv"
EXPORT = [str(UV), "export", "--quiet", "--frozen", "--extra", "traces", "--no-dev", "--no-emit-project", "--no-hashes"]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not UV.exists(), reason="there is no .uv: run `make setup`")
def test_it_lists_what_the_lock_pins_for_the_image(tmp_path: Path) -> None:
    file = tmp_path / "kstream.cdx.json"
    call(["sh", str(ROOT / "deploy/sbom.sh"), str(file)], dict(os.environ), timeout=280)
    bill = json.loads(file.read_text())
    pins = call(EXPORT, dict(os.environ), cwd=ROOT)
    pinned = {f"{name}=={version}" for name, version in re.findall(r"^([\w.-]+)==(\S+)", pins, re.MULTILINE)}
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "kstream")
    assert {f"{one['name']}=={one['version']}".lower().replace("_", "-") for one in bill["components"]} == pinned
    assert [one["name"] for one in bill["components"] if not one.get("licenses")] == ["protobuf"]  # its wheel says none
    assert all(one["purl"].startswith("pkg:pypi/") for one in bill["components"])
