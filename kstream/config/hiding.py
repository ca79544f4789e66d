"""What of a setting's value may be seen: in logs, errors, pages, reports and on the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kstream.config import about
from kstream.config.kinds import SECRET, is_secret, may_be_secret
from kstream.config.snapshots import shown_url


def redact(name: str, value: Any) -> Any:
    """The value of a setting as it may be seen."""
    known = about().get(name)
    if value is None:
        return None
    if known is not None and known.secret:
        return SECRET
    if isinstance(value, Mapping):
        hidden = may_be_secret if name == "kafka" else is_secret
        return {key: SECRET if hidden(str(key)) else redact(str(key), item) for key, item in value.items()}
    if name == "snapshots" and isinstance(value, str):
        return shown_url(value)
    if name == "web_url" and isinstance(value, str):
        return re.sub(r"//[^/]*@", f"//{SECRET}@", value)
    return SECRET if known is None and is_secret(name) else value


def shown(name: str, value: Any) -> str:
    """A bad value as an error line may show it: short, without secrets."""
    if name in ("kafka", "kafka_tokens"):
        return "the value"  # what could not be read as keys, or as a name, cannot be told apart from secrets
    text = repr(redact(name, value))
    return text if len(text) <= 60 else text[:57] + "..."
