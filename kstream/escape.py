"""Text for terminals and logs: what is in a record, a name or an exception must not move a cursor or forge a line."""

from __future__ import annotations

import json
import re
from typing import Final

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 and C1, what ends a line or turns the direction of writing, and halves of characters: no stream encodes them."""


def escaped(text: str) -> str:
    """Control characters as JSON writes them; all else as it is."""
    return _CONTROL.sub(lambda found: json.dumps(found[0])[1:-1], text)
