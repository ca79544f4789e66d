"""Schemas for kubeconform: Kubernetes' own of several versions, and those of the operators' CRDs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

VERSIONS = ("1.28.0", "1.31.0", "1.34.0", "1.37.0")
LOCATION = "{folder}/{{{{.NormalizedKubernetesVersion}}}}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
CRD_LOCATION = "{folder}/crds/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"


def locations(folder: Path) -> list[str]:
    """kubeconform's arguments for what `write_schemas` has written."""
    return [f"-schema-location={one.format(folder=folder)}" for one in (LOCATION, CRD_LOCATION)]


def crd_files(*folders: Path) -> list[Path]:
    """The CRDs of what the chart can contain."""
    kinds = ("scaledobjects", "podmonitors", "servicemonitors", "prometheusrules")
    return [file for folder in folders for kind in kinds for file in folder.glob(f"*_{kind}.yaml")]


def write_schemas(folder: Path, kubernetes: Path, crds: list[Path]) -> None:
    """Write schemas where `locations` looks for them."""
    for version in VERSIONS:
        target = folder / f"v{version}"
        target.mkdir(parents=True)
        for file in kubernetes.joinpath(f"v{version}-local-strict").glob("*.json"):
            # the references are made for a web server; kubeconform wants them beside the file
            text = file.read_text().replace("/api/_definitions.json", f"file://{target}/_definitions.json")
            target.joinpath(file.name).write_text(text)
    target = folder / "crds"
    target.mkdir()
    for file in crds:
        write_crd(target, yaml.safe_load(file.read_text())["spec"])


def write_crd(folder: Path, spec: dict[str, Any]) -> None:
    """The schemas of a custom resource's versions."""
    kind, group = spec["names"]["kind"].lower(), spec["group"].split(".")[0]
    for version in spec["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        schema["properties"]["metadata"] = {"type": "object"}
        closed(schema)
        folder.joinpath(f"{kind}-{group}-{version['name']}.json").write_text(json.dumps(schema))


def closed(schema: Any) -> None:
    """Refuse fields that are not named, as the API server does with `--validate=strict`."""
    if isinstance(schema, list):
        for one in schema:
            closed(one)
    if not isinstance(schema, dict):
        return
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    for one in schema.values():
        closed(one)
