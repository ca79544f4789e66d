"""Writes kstream's settings into the chart's values.schema.json: `python helm/generate_schema.py`.

The rest of the schema is written by hand. tests/deploy/helm/test_generated.py holds the file to the list of settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from kstream.config import Settings, about

SCHEMA = Path(__file__).parent / "kstream" / "values.schema.json"

# What the chart decides itself, or takes from values of its own; and what belongs into a Secret.
NOT_HERE = {
    "bootstrap_servers": "bootstrapServers",
    "groups": "groups",
    "instance": "the pod's name",
    "on_stop": "onStop",
    "shutdown_timeout": "shutdownTimeout",
    "state_dir": "persistence",
    "web": "always on: the probes need it",
    "web_host": "0.0.0.0",
    "web_port": "web.port",
    "web_tls_ca": "tls.web",
    "web_tls_certificate": "tls.web",
    "web_tls_key": "tls.web",
    "web_token": "secrets",
    "web_url": "the pod's host name",
    "workers": "workers",
}

DURATION = {"type": ["string", "number"], "pattern": r"^\d+(\.\d+)?\s*(ms|s|m|h|d)?$", "minimum": 0}
SIZE = {"type": ["string", "integer"], "pattern": r"^\d+(\.\d+)?\s*([KMGT]i?|k)?B$", "minimum": 0}
# Helm's checker has no look-ahead, so this is a little wider than kstream.config.kinds.is_secret
CLIENT_KEYS = {
    "type": "object",
    "propertyNames": {"not": {"pattern": "password|passphrase|secret|credential|jaas|key.pem|private|user.info"}},
    "additionalProperties": {"type": ["string", "number", "boolean"]},
}


def render() -> str:
    """The file's text, with the settings in it."""
    schema = json.loads(SCHEMA.read_text())
    hints = get_type_hints(Settings)
    schema["definitions"]["settings"]["properties"] = {
        one.name: {"description": about()[one.name].doc, **kind(hints[one.name], about()[one.name].unit)}
        for one in fields(Settings)
        if one.name not in NOT_HERE
    }
    return json.dumps(schema, indent=2) + "\n"


def kind(hint: Any, unit: str) -> dict[str, Any]:
    """What a setting accepts, from its type and unit."""
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if get_origin(hint) is Mapping:
        return CLIENT_KEYS
    if unit:
        return {"seconds": DURATION, "bytes": SIZE}[unit]
    names = {int: "integer", float: "number", bool: "boolean", str: "string"}
    return {"type": next(names[member] for member in (hint, *get_args(hint)) if member in names)}


if __name__ == "__main__":
    SCHEMA.write_text(render())
