"""Packages the chart into dist/: `kstream-VERSION.tgz`, and `chart`, an OCI image layout of the same for a registry.

    python scripts/chart.py HELM [FOLDER]

`make chart` calls it. What is in the layout is what `helm push` would send: a manifest with the chart's metadata as its
configuration and the package as its only layer (https://helm.sh/docs/topics/registries).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
CHART = ROOT / "helm" / "kstream"

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIGURATION = "application/vnd.cncf.helm.config.v1+json"
PACKAGE = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
TITLES = "org.opencontainers.image"


def package(helm: Path, into: Path) -> Path:
    """The chart as helm packs it: links out of it become files."""
    into.mkdir(parents=True, exist_ok=True)
    command = [str(helm), "package", str(CHART), "--destination", str(into)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return into / f"kstream-{metadata()['version']}.tgz"


def metadata() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(CHART.joinpath("Chart.yaml").read_text())
    return found


def layout(made: Path, folder: Path) -> Path:
    """An OCI image layout of a package, in place of one that was there."""
    shutil.rmtree(folder, ignore_errors=True)
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(kind: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs.joinpath(digest).write_bytes(content)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    about = metadata()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob(CONFIGURATION, json.dumps(about).encode()),
        "layers": [blob(PACKAGE, made.read_bytes())],
        "annotations": {
            f"{TITLES}.title": about["name"],
            f"{TITLES}.version": about["version"],
            f"{TITLES}.description": about["description"],
            f"{TITLES}.source": about["sources"][0],
            f"{TITLES}.licenses": about["annotations"]["licenses"],
        },
    }
    tag = about["version"].replace("+", "_")  # a tag may not have the plus of a version
    entry = {**blob(MANIFEST, json.dumps(manifest).encode()), "annotations": {f"{TITLES}.ref.name": tag}}
    folder.joinpath("index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    folder.joinpath("oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
    return folder


if __name__ == "__main__":
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "dist"
    made = package(Path(sys.argv[1]), target)
    print(made)
    print(layout(made, target / "chart"))
