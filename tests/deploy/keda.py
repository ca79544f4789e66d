"""KEDA's programs, built with the scalers that the chart's ScaledObject uses.

The other seventy, and the clients that they bring, are most of what there is to build. What decides (operator,
executor, server of metrics) is built as it is.
"""

from __future__ import annotations

import re
from pathlib import Path

from deploy.recipes import CannotInstall

# the queue's has a name that metrics_api_scaler.go uses
KEPT = ("kafka_scaler.go", "metrics_api_scaler.go", "azure_queue_scaler.go", "scaler.go")
TYPES = ("kafka", "metrics-api")
CASE = re.compile(r'\tcase "([^"]+)":\n(?:\t\t.*\n)+')


def leave_out_scalers(source: Path) -> None:
    """Changes a copy of KEDA's source. Raises CannotInstall where it is not as it was."""
    for file in source.joinpath("pkg/scalers").glob("*.go"):
        if file.name not in KEPT:
            file.unlink()
    builder = source / "pkg/scaling/scalers_builder.go"
    before, begin, switch = builder.read_text().partition("switch triggerType {\n")
    left = CASE.sub(lambda case: case[0] if case[1] in TYPES else "", switch)
    found = CASE.findall(left)
    if not begin or sorted(found) != sorted(TYPES):
        raise CannotInstall(f"{builder.name} of this version is made in another way: {found}")
    builder.write_text(before + begin + left)
