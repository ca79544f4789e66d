"""The forms an answer takes: JSON made by msgspec, and failures of one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response


class Json(Response):
    """Structs, lists and dicts as JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


def failure(status: int, message: str, headers: Mapping[str, str] | None = None) -> Json:
    """`{"error": message}`: one line that says what is wrong and what to do."""
    return Json({"error": message}, status, headers=headers)
