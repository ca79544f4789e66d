"""The settings that let one code be deployed several times on one cluster.

They make names, which are needed when the app is declared: so they are taken from the environment alone
(kstream/dsl/deployed.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kstream.config import kinds
from kstream.config.declaring import setting as _setting

_NAME: Final = r"[A-Za-z0-9._-]"


@dataclass(frozen=True, kw_only=True)
class DeploymentSettings:
    """A part of `kstream.config.Settings`."""

    app_name: str | None = _setting(
        None,
        kinds.optional(kinds.text(_NAME + "{1,100}", "a name of at most 100 letters, digits, '.', '_' and '-'")),
        "Name of the app in place of the one in the code. Only as an environment variable.",
    )
    topic_prefix: str = _setting(
        "",
        kinds.text("(" + _NAME + "{1,60})?", "at most 60 letters, digits, '.', '_' and '-'"),
        "What the names of the app and of all its topics begin with. Only as an environment variable.",
    )
    shared_topics: str = _setting(
        "",
        kinds.names(_NAME + "{1,249}", "a list of topics with commas"),
        "Topics of the code that topic_prefix leaves as they are. Only as an environment variable.",
    )


FROM_ENVIRONMENT: Final = ("app_name", "topic_prefix", "shared_topics")


def variable_of(name: str) -> str:
    """The one place where such a setting is read."""
    return f"KSTREAM_{name.upper()}"
