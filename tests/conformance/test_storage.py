"""Every storage of snapshots does the same: a directory, and a bucket behind S3's protocol."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kstream.errors import FileMissing, StorageError
from kstream.state.snapshots.storage import Storage, open_storage, read
from support.objects import Objects, TroubledProxy, s3_server


@pytest.fixture(scope="module")
def server() -> Iterator[Objects]:
    with s3_server() as running:
        yield running


@pytest.fixture(params=["directory", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    if request.param == "directory":
        return open_storage(str(tmp_path / "storage"))
    return in_bucket(request.getfixturevalue("server"), monkeypatch)


def in_bucket(server: Objects, monkeypatch: pytest.MonkeyPatch, endpoint: str | None = None) -> Storage:
    bucket = server.bucket()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    if endpoint is not None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    return open_storage(f"s3://{bucket}/some/prefix")


def test_what_is_put_is_got(storage: Storage) -> None:
    storage.put("a/b/c", [b"one", b"", b"two"])
    storage.put("a/empty", [])
    assert read(storage, "a/b/c") == b"onetwo"
    assert read(storage, "a/empty") == b""
    assert storage.exists("a/b/c")
    assert not storage.exists("a/b")
    storage.put("a/b/c", [b"anew"])
    assert read(storage, "a/b/c") == b"anew"


def test_of_several_who_create_a_file_one_does(storage: Storage) -> None:
    assert storage.create("a/b", b"one")
    assert not storage.create("a/b", b"two")
    assert read(storage, "a/b") == b"one"
    with ThreadPoolExecutor(8) as pool:
        did = list(pool.map(lambda n: storage.create("a/c", b"%d" % n), range(8)))
    assert did.count(True) == 1 and read(storage, "a/c") == b"%d" % did.index(True)
    assert [entry.name for entry in storage.unfinished("")] == []


def test_a_large_file_travels_in_pieces(storage: Storage) -> None:
    pieces = [os.urandom(1 << 20) for _ in range(21)]
    storage.put("large", iter(pieces))
    got = list(storage.get("large"))
    assert b"".join(got) == b"".join(pieces)
    assert max(map(len, got)) <= 4 << 20, "it never lies in memory whole"
    (entry,) = [entry for entry in storage.list("") if entry.name == "large"]
    assert entry.size == 21 << 20
    assert abs(entry.modified - time.time()) < 60


def test_lists_are_of_a_folder_and_what_is_below(storage: Storage) -> None:
    for name in ("x/1", "x/y/2", "xy/3", "4"):
        storage.put(name, [b"."])
    assert {entry.name for entry in storage.list("x")} == {"x/1", "x/y/2"}
    assert {entry.name for entry in storage.list("")} == {"x/1", "x/y/2", "xy/3", "4"}
    assert list(storage.list("nowhere")) == []


def test_names_of_tasks_come_back_as_they_are(storage: Storage) -> None:
    """Sub-topologies have signs in their names that URLs and file systems know."""
    names = ["app/snapshots/a%40b+c~d/3/files/x", "app/snapshots/%5Bweird%5D%25/0/files/x", "app/a.b/1/files/x"]
    for name in names:
        storage.put(name, [b"."])
    assert {entry.name for entry in storage.list("app")} == set(names)
    assert [entry.name for entry in storage.list("app/snapshots/a%40b+c~d/3")] == names[:1]
    assert all(read(storage, name) == b"." for name in names)
    storage.delete(names)
    assert list(storage.list("")) == []


def test_what_is_deleted_is_gone_and_what_is_not_there_is_passed_over(storage: Storage) -> None:
    names = [f"d/{number}" for number in range(5)]
    for name in names:
        storage.put(name, [b"."])
    storage.delete(["d/none", *names[:3], "nowhere/at/all"])
    assert {entry.name for entry in storage.list("d")} == set(names[3:])
    storage.delete(names)
    assert list(storage.list("")) == []
    storage.put("d/again", [b"."])
    assert storage.exists("d/again")


def test_a_file_that_is_missing_says_so(storage: Storage) -> None:
    with pytest.raises(FileMissing, match="there is no file no/such"):
        read(storage, "no/such")


@pytest.mark.parametrize("size", [1 << 10, 20 << 20], ids=["small", "large"])
def test_a_put_that_is_broken_off_stores_nothing(storage: Storage, size: int) -> None:
    class Stopped(Exception):
        pass

    def pieces() -> Iterator[bytes]:
        for _ in range(max(1, size >> 20)):
            yield os.urandom(min(size, 1 << 20))
        raise Stopped

    storage.put("kept", [b"before"])
    for name in ("kept", "new"):
        with pytest.raises(Stopped):
            storage.put(name, pieces())
    assert read(storage, "kept") == b"before"
    assert {entry.name for entry in storage.list("")} == {"kept"}
    assert list(storage.unfinished("")) == []


# ---- an object store that is in trouble


@pytest.fixture
def proxy(server: Objects) -> Iterator[TroubledProxy]:
    made = TroubledProxy(server.endpoint)
    yield made
    made.close()


@pytest.mark.parametrize("kind", ["503", "reset", "slow"])
def test_what_passes_is_tried_again(
    server: Objects, proxy: TroubledProxy, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    storage = in_bucket(server, monkeypatch, proxy.endpoint)
    times: dict[tuple[str, str], int] = {}

    def twice(method: str, path: str) -> str | None:
        at = method, path
        times[at] = times.get(at, 0) + 1
        return kind if times[at] <= 2 else None

    proxy.trouble = twice
    content = os.urandom(9 << 20)
    storage.put("file", iter([content[: 5 << 20], content[5 << 20 :]]))
    assert read(storage, "file") == content
    assert [entry.name for entry in storage.list("")] == ["file"]
    storage.delete(["file"])
    assert not storage.exists("file")


def test_an_answer_that_ends_early_is_no_file(
    server: Objects, proxy: TroubledProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = in_bucket(server, monkeypatch, proxy.endpoint)
    content = os.urandom(3 << 20)
    storage.put("file", [content])
    cut = [True]
    proxy.trouble = lambda method, path: "cut" if method == "GET" and cut and cut.pop() else None
    try:
        assert read(storage, "file") == content  # the client asked for the rest
    except StorageError as error:
        assert "file cannot be read" in str(error)


def test_a_store_that_refuses_is_named_with_its_reason(
    server: Objects, proxy: TroubledProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = in_bucket(server, monkeypatch, proxy.endpoint)
    proxy.trouble = lambda method, path: "403"
    with pytest.raises(StorageError, match=r"s3://bucket-\w+/some/prefix: file cannot be written: .*403") as caught:
        storage.put("file", [b"."])
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_told_in_the_words_of_the_server(
    server: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_bucket(server, monkeypatch)
    missing = open_storage("s3://no-such-bucket/prefix")
    for call in (lambda: list(missing.list("a")), lambda: missing.put("a/b", [b"x"]), lambda: read(missing, "a/b")):
        with pytest.raises(StorageError, match=r"NoSuchBucket: The specified bucket does not exist$") as caught:
            call()
        assert not isinstance(caught.value, FileMissing)
