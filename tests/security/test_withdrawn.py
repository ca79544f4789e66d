"""Rights, passwords, tokens and certificates that go while an app runs: a line names what is missing, the page and
`/ready` say so, it is tried again at the pace of the restart strategy, nothing is lost, and no secret is told. Given
back, all is as it would have been."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest

import kstream
from kstream.errors import KStreamError
from security.lettered_service import make_app as lettered_app
from security.test_rights import RUN, Guarded, Right, guarded
from support.kafka import Reader, create
from support.running import until
from support.secured import KEY_PASSWORD, LIMITED, PASSWORD, settings_for
from support.serving import Served

__all__ = ["guarded"]

WATCHED = 4.0
"""Seconds in which it is counted how often something is tried again."""


def not_too_often(tries: Callable[[], float]) -> None:
    """Something is tried again once a second at most."""
    began, before = time.monotonic(), tries()
    time.sleep(WATCHED)
    after = tries()
    assert after - before <= time.monotonic() - began + 2  # reports lag behind


WITHDRAWN: dict[str, list[Right]] = {
    "read of the input": [("topic", "{app}.words", "READ")],
    "write to the output": [("topic", "{app}.counts", "WRITE")],
    "read of the repartition topic": [("topic", "{app}-by-word-repartition", "READ")],
    "write to the repartition topic": [("topic", "{app}-by-word-repartition", "WRITE")],
    "write to the changelog": [("topic", "{app}-seen-changelog", "WRITE")],
    "the group": [("group", "{app}", "READ")],
    "the transactional id": [("transactional_id", "{app}-*", "WRITE")],
}


class Watched:
    """An instance of the guarded service, and what it has counted."""

    def __init__(
        self,
        guarded: Guarded,
        monkeypatch: pytest.MonkeyPatch,
        app: kstream.App | None = None,
        target: str = "security.guarded_service:app",
        **more: object,
    ) -> None:
        monkeypatch.setenv("KSTREAM_TEST_APP", guarded.name)
        settings = guarded.settings(
            workers="1", web_port="0", announce_interval="0", restart_initial="1s", restart_max="1s",
            restart_jitter="0", session_timeout="6s", log_format="json", **more,
        )  # fmt: skip
        self.guarded = guarded
        self.served = Served(app or guarded.app, target, settings)
        (self.worker,) = self.served.supervisor.workers
        self._reader: Reader | None = None
        self.sent = 0

    def send(self, words: int) -> None:
        self.guarded.write(*["a"] * words)
        self.sent += words

    def counted(self) -> None:
        """All that was sent is, each once."""
        topic = f"{self.guarded.name}.counts"
        self._reader = self._reader or Reader(self.guarded.servers, [topic])
        rows = self._reader.rows[topic]
        until(lambda: len(rows) >= self.sent, f"{self.sent} counts, not {len(rows)}", 90, each=self._reader.poll)
        assert [int(row.value or b"") for row in rows] == list(range(1, self.sent + 1))

    def red(self, wanted: str) -> None:
        """Readiness turns red, with a reason that has these words."""
        seen: dict[str, None] = {}

        def found() -> bool:
            ready, reasons = self.served.probe("ready")
            seen.update(dict.fromkeys(reasons))
            return not ready and any(wanted in reason for reason in reasons)

        began = time.monotonic()
        while not found():
            assert time.monotonic() - began < 60, f"{wanted!r} is not in {list(seen)}"
            time.sleep(0.05)

    def ready(self) -> None:
        until(lambda: self.served.probe("ready")[0], "readiness")

    def tries(self) -> float:
        return self.worker.restarts + self.served.metrics()("kstream_task_retries_total")

    def said(self) -> str:
        """The API, the metrics, the page's reasons."""
        asked = [self.served.ask(path)[1].decode() for path in ("/api/status", "/metrics", "/ready", "/api/settings")]
        return "\n".join(asked)

    def stop(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self.served.stop()


class Lettered(Watched):
    """An instance of the service that sets records aside."""

    RIGHTS: ClassVar[list[Right]] = [
        *(right for right in RUN if not right[1].endswith(("-repartition", "-changelog", "-store-types"))),
        *(
            ("topic", "{app}-{app}.words-retry-1s", operation)
            for operation in ("CREATE", "DESCRIBE_CONFIGS", "READ", "WRITE", "DELETE")
        ),
        ("topic", "{app}.letters", "WRITE"),
    ]

    def __init__(self, guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
        create(guarded.servers, f"{guarded.name}.letters", 1)
        guarded.allow(*self.RIGHTS)
        super().__init__(guarded, monkeypatch, lettered_app(guarded.name), "security.lettered_service:app")
        self._topics = f"{guarded.name}.counts", f"{guarded.name}.letters"
        self._all = Reader(guarded.servers, self._topics)

    def passed(self, words: int, letters: int) -> None:
        """So many words came through, and so many are dead letters, each once."""
        rows = [self._all.rows[topic] for topic in self._topics]
        until(
            lambda: [len(found) for found in rows] >= [words, letters] and len(rows[1]) >= letters,
            f"{words} words and {letters} letters, not {[len(found) for found in rows]}",
            90,
            each=self._all.poll,
        )
        assert [row.value for row in rows[0]] == [b"a"] * words
        assert [row.value for row in rows[1]] == [b"boom"] * letters

    def stop(self) -> None:
        self._all.close()
        super().stop()


@pytest.fixture
def watched(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    guarded.allow(*RUN)
    made = Watched(guarded, monkeypatch)
    yield made
    made.stop()


EACH_TIME = {"write to the output", "the group"}


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=() if what in EACH_TIME else pytest.mark.slow) for what in WITHDRAWN]
)
def test_a_right_that_is_withdrawn_is_named_and_all_goes_on_when_it_is_back(
    watched: Watched, what: str, capfd: pytest.CaptureFixture[str]
) -> None:
    guarded = watched.guarded
    watched.send(2)
    watched.counted()
    right = WITHDRAWN[what]
    guarded.secured.withdraw(*guarded.rights(*right))
    watched.send(3)
    kind, name, operation = guarded.rights(*right)[0]
    wanted = f"may not {operation} {kind.replace('_', ' ')} {name.rstrip('*')}"
    watched.red(wanted)
    not_too_often(watched.tries)
    aborts = watched.served.metrics()("kstream_transaction_aborts_total")
    assert aborts <= 4 + watched.tries(), "no more than the search for a record at fault, and one for each try"
    said = watched.said()
    guarded.allow(*right)
    watched.counted()
    watched.ready()
    out, err = capfd.readouterr()
    secrets_are_kept(said, out, err)


DELAY, LETTERS = "{app}-{app}.words-retry-1s", "{app}.letters"
ASIDE: dict[str, Right] = {
    "write to the delay topic": ("topic", DELAY, "WRITE"),
    "read of the delay topic": ("topic", DELAY, "READ"),
    "write to the dead letters": ("topic", LETTERS, "WRITE"),
}


@pytest.mark.parametrize("what", [pytest.param(what, marks=pytest.mark.slow) for what in ASIDE])
def test_a_right_to_what_is_set_aside_is_withdrawn(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, what: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Records that failed wait for it, and are set aside and dead letters once each."""
    lettered = Lettered(guarded, monkeypatch)
    try:
        guarded.write("a", "boom", "a")
        lettered.passed(2, 1)
        right = ASIDE[what]
        guarded.secured.withdraw(*guarded.rights(right))
        guarded.write("a", "boom", "a")
        ((_, name, operation),) = guarded.rights(right)
        lettered.red(f"may not {operation} topic {name}")
        not_too_often(lettered.tries)
        said = lettered.said()
        guarded.allow(right)
        lettered.passed(4, 2)
        guarded.write("boom", "a")
        lettered.passed(5, 3)
        lettered.ready()
    finally:
        lettered.stop()
    secrets_are_kept(said, *capfd.readouterr())


AT_START = [right for right in Lettered.RIGHTS if right[1] in (DELAY, LETTERS) and right[2] != "DELETE"]


@pytest.mark.parametrize(
    "right", [pytest.param(right, id=" ".join(right[1:]), marks=pytest.mark.more) for right in AT_START]
)
def test_without_a_right_to_what_is_set_aside_a_line_says_which(guarded: Guarded, right: Right) -> None:
    """With exactly these it runs (above); with one less it says which, at the start or where it is needed first."""
    guarded.app = lettered_app(guarded.name)
    create(guarded.servers, f"{guarded.name}.letters", 1)
    guarded.allow(*(one for one in Lettered.RIGHTS if one != right))
    guarded.write("boom", "a")
    with pytest.raises(KStreamError) as failed:
        guarded.run()
    ((_, name, operation),) = guarded.rights(right)
    line = str(failed.value)
    unseen = f"may not CREATE topic {name} "  # a topic that may not be seen looks as if it were not there
    assert f"may not {operation} topic {name}" in line or unseen in line, line
    assert "\n" not in line


CLUSTER: list[Right] = [
    ("cluster", "kafka-cluster", operation) for operation in ("IDEMPOTENT_WRITE", "DESCRIBE_CONFIGS", "DESCRIBE")
]


@pytest.mark.parametrize("guarantee", ["exactly_once", pytest.param("at_least_once", marks=pytest.mark.slow)])
@pytest.mark.more
def test_rights_to_the_cluster_are_of_no_use_to_an_app(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, guarantee: str
) -> None:
    """Withdrawn while it runs, they are missed neither by what runs nor by a worker that is started anew. Nor is the
    right to see the settings of its topics, which is for starts of the instance."""
    seen = [right for right in RUN if right[2] == "DESCRIBE_CONFIGS"]
    guarded.allow(*RUN, *CLUSTER)
    watched = Watched(guarded, monkeypatch, processing_guarantee=guarantee)
    try:
        watched.send(2)
        watched.counted()
        guarded.secured.withdraw(*guarded.rights(*CLUSTER, *seen))
        watched.send(3)
        watched.counted()
        began = time.monotonic()
        while time.monotonic() - began < WATCHED:
            assert watched.served.probe("ready") == (True, [])
            time.sleep(0.2)
        assert watched.worker.pid is not None
        os.kill(watched.worker.pid, signal.SIGKILL)
        until(lambda: watched.worker.restarts == 1, "the restart")
        watched.send(2)
        watched.counted()
        watched.ready()
        assert watched.tries() == 1
    finally:
        watched.stop()


@pytest.mark.more
def test_a_token_function_that_fails_for_a_while(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is named with its reason; when it works again, so does the app."""
    refusing, given = tmp_path / "refusing", tmp_path / "given"
    monkeypatch.setenv("KSTREAM_TEST_TOKENS", str(tmp_path / "tokens"))
    monkeypatch.setenv("KSTREAM_TEST_TOKENS_GIVEN", str(given))
    monkeypatch.setenv("KSTREAM_TEST_TOKENS_REFUSED", str(refusing))
    monkeypatch.setenv("KSTREAM_TEST_TOKEN_SECONDS", "10")
    monkeypatch.setenv("KSTREAM_TEST_TOKEN_USER", LIMITED)
    guarded.allow(*RUN)
    tokens = {**settings_for(guarded.secured, "OAUTHBEARER"), "kafka_tokens": "security.guarded_service:token"}
    watched = Watched(guarded, monkeypatch, **tokens)
    try:
        watched.send(2)
        watched.counted()
        refusing.touch()
        watched.red("kafka_tokens: security.guarded_service:token gives no token: ")
        said = watched.said()
        assert "guarded_service.py:" in said and "PermissionError: the identity provider says no" in said
        watched.send(3)
        not_too_often(watched.tries)
        said += watched.said()
        refusing.unlink()
        watched.counted()
        watched.ready()
        watched.send(1)
        watched.counted()
    finally:
        watched.stop()
    told = "\n".join((said, *capfd.readouterr()))
    secrets = given.read_text().split()
    assert len(secrets) > 2
    assert not [secret for secret in secrets if secret in told or secret.split(".")[1] in told]
    secrets_are_kept(told)


def secrets_are_kept(*texts: str) -> None:
    for text in texts:
        assert PASSWORD not in text and json.dumps(PASSWORD)[1:-1] not in text
        assert KEY_PASSWORD not in text


def test_a_password_that_is_changed(
    guarded: Guarded,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    guarded.allow(*RUN)
    watched = Watched(guarded, monkeypatch, **settings_for(guarded.secured, "SCRAM-SHA-256", LIMITED))
    try:
        watched.send(2)
        watched.counted()
        guarded.secured.set_password(LIMITED, "an0ther one")
        goes_wrong(watched, "does not let this user in")
    finally:
        guarded.secured.set_password(LIMITED, PASSWORD)
    watched.counted()
    watched.ready()
    said = watched.said()
    watched.stop()
    secrets_are_kept(said, *capfd.readouterr())


@pytest.mark.slow
def test_a_certificate_that_is_replaced(
    guarded: Guarded,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """By one that the broker does not take, then by the right one."""
    files = guarded.secured.files
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    certificate.write_bytes(files.client.read_bytes())
    key.write_bytes(files.client_key.read_bytes())
    mine = {"kafka.ssl.certificate.location": str(certificate), "kafka.ssl.key.location": str(key)}
    watched = Watched(guarded, monkeypatch, **{**settings_for(guarded.secured, "mTLS"), **mine})
    watched.send(2)
    watched.counted()
    for bad, bad_key in ((files.expired, files.expired_key), (files.stranger, files.stranger_key)):
        certificate.write_bytes(bad.read_bytes())
        key.write_bytes(bad_key.read_bytes())
        goes_wrong(watched, "does not take this client's certificate")
    certificate.write_bytes(files.client.read_bytes())
    key.write_bytes(files.client_key.read_bytes())
    watched.counted()
    watched.ready()
    said = watched.said()
    watched.stop()
    secrets_are_kept(said, *capfd.readouterr())


def goes_wrong(watched: Watched, wanted: str) -> None:
    """What stands is not ended; a worker that is started anew is not let in, and says so."""
    if watched.worker.pid is not None:
        with suppress(ProcessLookupError):
            os.kill(watched.worker.pid, signal.SIGKILL)
    watched.send(3)
    watched.red(wanted)
    not_too_often(watched.tries)
