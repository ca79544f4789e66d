"""What URLs mean, and what only a directory does; what every storage must do: tests/conformance/test_storage.py."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstream.errors import ConfigError, StorageError
from kstream.state.snapshots.storage import DirectoryStorage, kind_of, open_storage, read


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("/var/snapshots", ("file", "/var/snapshots")),
        ("./here", ("file", "./here")),
        ("file:///var/snap%20shots", ("file", "/var/snap shots")),
        ("file://localhost/var/x", ("file", "/var/x")),
        ("s3://bucket", ("s3", "bucket")),
        ("s3a://bucket/a/b/", ("s3", "bucket/a/b")),
        ("gs://bucket/a", ("gs", "bucket/a")),
        ("abfss://container/a", ("az", "container/a")),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_urls(url: str, kind: tuple[str, str]) -> None:
    assert kind_of(url) == kind


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "names no directory"),
        ("/", "names no directory"),
        ("file://host/path", "with three slashes"),
        ("s3://", "names no bucket"),
        ("s3:///key", "names no bucket"),
        ("s3://me:hunter2@bucket/a", "credentials come from the environment"),
        ("s3://bucket/a?secret=hunter2", "credentials come from the environment"),
        ("ftp://host/x", "neither a path nor a URL"),
        ("hdfs://host/x", "neither a path nor a URL"),
    ],
)
def test_what_is_no_storage_is_refused_without_its_secrets(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        kind_of(url)
    assert "hunter2" not in str(caught.value)


def test_names_stay_within_the_directory(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "storage"))
    for name in ("../x", "a/../../x", "/etc/x", "a//b", "."):
        with pytest.raises(StorageError, match="not a name within it"):
            storage.put(name, [b"."])
    assert list(tmp_path.iterdir()) == []


def test_folders_go_with_their_last_file(tmp_path: Path) -> None:
    storage = DirectoryStorage(tmp_path / "storage")
    storage.put("a/b/c", [b"."])
    storage.put("a/d", [b"."])
    storage.delete(["a/b/c"])
    assert [path.name for path in (tmp_path / "storage" / "a").iterdir()] == ["d"]
    storage.delete(["a/d"])
    assert list((tmp_path / "storage").iterdir()) == []


def test_a_full_disk_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    storage = DirectoryStorage(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(StorageError, match=r"large cannot be written: File too large"):
            storage.put("large", [bytes(1 << 20)] * 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"/file: x/y cannot be written: Not a directory"):
        DirectoryStorage(tmp_path / "file").put("x/y", [b"."])


_KILLED = """
import os, sys
from pathlib import Path
from kstream.state.snapshots.storage import DirectoryStorage

def chunks():
    yield b"half"
    os.kill(os.getpid(), 9)

DirectoryStorage(Path(sys.argv[1])).put("a/b", chunks())
"""


def test_a_process_that_is_killed_leaves_an_unfinished_file_that_is_told_apart(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    storage = DirectoryStorage(tmp_path)
    assert list(storage.list("")) == []
    (left,) = storage.unfinished("")
    assert left.name.startswith("a/b.")
    assert storage.exists(left.name)
    storage.delete([left.name])
    assert list(tmp_path.iterdir()) == []


def test_a_listing_passes_over_what_is_deleted_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = DirectoryStorage(tmp_path)
    for name in ("a", "b"):
        storage.put(name, [b"."])
    walk = os.walk

    def deleting(*arguments: object, **named: object) -> Iterator[tuple[str, list[str], list[str]]]:
        for found in walk(*arguments, **named):  # type: ignore[call-overload]
            storage.delete(["a"])
            yield found

    monkeypatch.setattr(os, "walk", deleting)
    assert [entry.name for entry in storage.list("")] == ["b"]
    assert read(storage, "b") == b"."


def test_a_file_that_was_created_is_so_where_the_answer_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An NFS client asks again, and is told that the file exists: it is its own."""
    storage, link = DirectoryStorage(tmp_path), os.link

    def asked_again(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(17, "File exists")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", asked_again)
        assert storage.create("a/b", b"one")
    assert not storage.create("a/b", b"two")
    assert read(storage, "a/b") == b"one"
