"""The settings of snapshots, with the meaning of Flink's `execution.checkpointing.*`, and what URLs they take."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from kstream.config import kinds
from kstream.config.declaring import setting as _setting

OBJECT_STORES: Final = {
    "s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "azure": "az", "abfs": "az", "abfss": "az",
}  # fmt: skip
"""Schemes of URLs, and what each means."""


def kind_of(url: str) -> tuple[str, str]:
    """Of a storage's URL what it is ("file", "s3", "gs" or "az"), and its path, or "bucket/prefix".

    Raises:
        ValueError: it is none that could be one; the message says what is wrong, and does not repeat the URL.
    """
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", url):
        return "file", _path(url)
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            "has a user, a password or parameters in it; leave them out: credentials come from the environment "
            "(AWS_..., GOOGLE_..., AZURE_...)"
        )
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise ValueError(f"names the host {parts.netloc}: write file:///path, with three slashes")
        return "file", _path(unquote(parts.path))
    if parts.scheme not in OBJECT_STORES:
        raise ValueError("is neither a path nor a URL that begins with file://, s3://, gs:// or az://")
    if not parts.netloc:
        raise ValueError(f"names no bucket: write {parts.scheme}://BUCKET/PREFIX")
    path = unquote(parts.path).strip("/")
    return OBJECT_STORES[parts.scheme], f"{parts.netloc}/{path}" if path else parts.netloc


def _path(path: str) -> str:
    if not path.strip("/ ") or "\0" in path:
        raise ValueError("names no directory")
    return kinds.at_home(path)


def shown_url(url: str) -> str:
    """A storage's URL without what might be a secret in it."""
    return re.sub(r"[?#].*", "?***", re.sub(r"//[^/]*@", "//***@", url))


def _storage(value: Any) -> str:
    if not isinstance(value, str):
        value = str(kinds.text(accepted="a path or a URL")(value))
    kind_of(value)
    return kinds.at_home(value)


@dataclass(frozen=True, kw_only=True)
class SnapshotSettings:
    """A part of `kstream.config.Settings`."""

    snapshots: str | None = _setting(
        None,
        kinds.optional(_storage, "", "none"),
        "Where snapshots of state are kept: a directory that all instances see, or s3://bucket/prefix, gs://..., "
        "az://... (kstream[objects]); without one, none are taken.",
    )
    snapshot_interval: float = _setting(
        60.0, kinds.duration(0.1), "Time between the beginnings of two snapshots of a task.", "seconds"
    )
    snapshot_timeout: float = _setting(
        300.0,
        kinds.duration(0.1),
        "Time after which a snapshot that is not complete is given up, and counts as failed.",
        "seconds",
    )
    snapshot_min_pause: float = _setting(
        30.0, kinds.duration(), "Least time between the end of a snapshot of a task and its next one.", "seconds"
    )
    snapshot_max_concurrent: int = _setting(
        1, kinds.integer(1), "Snapshots that a worker takes at the same time, of different tasks."
    )
    snapshot_tolerable_failures: int | None = _setting(
        3,
        kinds.optional(kinds.integer(0), "unlimited"),
        "Snapshots of a task that may fail one after the other; with one more the task fails, and its restart strategy "
        "applies. unlimited: no number is too many.",
    )
    snapshots_retained: int = _setting(3, kinds.integer(1), "Snapshots of each task that are kept, the newest.")
    snapshot_incremental: bool = _setting(
        True, kinds.flag, "Snapshots of a task share the files that did not change; otherwise each has all of its own."
    )
