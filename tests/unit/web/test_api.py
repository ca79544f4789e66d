"""The routes: what each answers, to whom, and how it refuses."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kstream.observe.letters import DeadLetters, LetterDetails
from kstream.observe.status import Graph, InstanceStatus, Point, SettingStatus, TableEntry
from kstream.web import api
from support.observed import FakeObserved
from support.running import until
from support.web import TOKEN, Client

DATA = [
    "/api/status",
    "/api/instances",
    "/api/graph",
    "/api/history",
    "/api/settings",
    "/api/events",
    "/api/tables/seen?key=ann",
    "/api/dead-letters",
    "/api/dead-letters/flights-dead-letters/1/0",
]
ACTIONS = ["/api/pause", "/api/resume", "/api/log-level", "/api/savepoints"]
STATIC = sorted(path.name for path in (Path(api.__file__).parent / "static").iterdir())


@pytest.mark.parametrize("probe", ["/live", "/ready", "/startup"])
def test_a_healthy_instance_is_green_for_everybody(client: Client, probe: str) -> None:
    answer = client.ask(probe, token=None)
    assert (answer.status, answer.json) == (200, {"status": "ok", "reasons": []})
    assert answer.headers["content-type"] == "application/json"


def test_a_restoring_instance_is_live_and_not_ready_and_says_why(client: Client, observed: FakeObserved) -> None:
    observed.restoring = True
    assert client.ask("/live", token=None).status == client.ask("/startup", token=None).status == 200
    answer = client.ask("/ready", token=None)
    assert answer.status == 503
    assert answer.json == {"status": "failing", "reasons": observed.ready().reasons}
    assert "restore" in answer.json["reasons"][0]


def test_a_start_that_hangs_is_red_on_startup_and_live(client: Client, observed: FakeObserved) -> None:
    observed.starting = True
    answer = client.ask("/startup", token=None)
    assert (answer.status, answer.json) == (503, {"status": "failing", "reasons": observed.started().reasons})
    assert client.ask("/live", token=None).status == 200


def test_metrics_are_prometheus_text_for_everybody(client: Client, observed: FakeObserved) -> None:
    answer = client.ask("/metrics", token=None)
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
    (sample,) = families["kstream_records_committed"].samples
    assert sample.value == observed.status().totals.committed > 0


def test_the_structs_go_over_the_wire(client: Client, observed: FakeObserved) -> None:
    assert msgspec.json.decode(client.ask("/api/status").body, type=InstanceStatus) == observed.status()
    assert msgspec.json.decode(client.ask("/api/instances").body, type=list[InstanceStatus]) == observed.instances()
    assert msgspec.json.decode(client.ask("/api/graph").body, type=Graph) == observed.graph()
    assert msgspec.json.decode(client.ask("/api/history").body, type=list[Point]) == observed.history()
    assert msgspec.json.decode(client.ask("/api/settings").body, type=list[SettingStatus]) == observed.settings()


@pytest.mark.parametrize("path", [*DATA, "/api", "/api/unknown", "/unknown", "//api/status", "/static", "/docs"])
@pytest.mark.parametrize("token", [None, "wrong", "correct", "", "correct-horse2", "kör"])
def test_nothing_else_is_answered_without_the_token(client: Client, path: str, token: str | None) -> None:
    answer = client.ask(path, token=None if token is None else token.encode().decode("latin-1"))
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "Authorization: Bearer" in answer.json["error"]
    assert "\n" not in answer.json["error"]


def test_dead_letters(client: Client, observed: FakeObserved) -> None:
    found = msgspec.json.decode(client.ask("/api/dead-letters").body, type=DeadLetters)
    assert found == observed.dead_letters().result() and len(found.letters) == 4
    answer = client.ask("/api/dead-letters/flights-dead-letters/1/0")
    assert msgspec.json.decode(answer.body, type=LetterDetails).letter == found.letters[2]
    for path in (
        "flights-dead-letters/1/1",
        "secrets/0/0",
        "flights-dead-letters/x/0",
        "flights-dead-letters/0/-1",
        "x",
    ):
        answer = client.ask(f"/api/dead-letters/{path}")
        assert (answer.status, answer.json["error"].count("\n")) == (404, 0), path


def test_dead_letters_while_kafka_is_away(
    client: Client, observed: FakeObserved, monkeypatch: pytest.MonkeyPatch
) -> None:
    observed.unreachable = True
    answer = client.ask("/api/dead-letters")
    assert (answer.status, answer.json) == (503, {"error": "no Kafka broker answers at localhost:1"})
    slow: Future[DeadLetters] = Future()
    monkeypatch.setattr(observed, "dead_letters", lambda: slow)
    monkeypatch.setattr(api, "READ_SECONDS", 0.05)
    answer = client.ask("/api/dead-letters")
    assert (answer.status, answer.json) == (504, {"error": "Kafka did not answer within 0.05 s: try again"})
    assert not slow.cancelled(), "others may wait for it"


@pytest.mark.parametrize("path", ACTIONS)
def test_actions_need_the_token(client: Client, observed: FakeObserved, path: str) -> None:
    assert client.ask(path, "POST", {"level": "DEBUG"}, token=None).status == 401
    assert client.ask(path, "POST", {"level": "DEBUG"}, token=None, Authorization="Basic correct-horse").status == 401
    assert observed.calls == []


def test_pause_and_resume(client: Client, observed: FakeObserved) -> None:
    answer = client.ask("/api/pause", "POST")
    assert (answer.status, answer.json, observed.paused) == (200, {"paused": True}, True)
    answer = client.ask("/api/resume", "POST")
    assert (answer.status, answer.json, observed.paused) == (200, {"paused": False}, False)
    assert observed.calls == [("pause",), ("resume",)]


def test_a_savepoint(client: Client, observed: FakeObserved) -> None:
    answer = client.ask("/api/savepoints", "POST", {"name": "before-upgrade", "timeout": 5})
    assert (answer.status, answer.json["name"], answer.json["state"]) == (202, "before-upgrade", "making")
    answer = client.ask("/api/savepoints", "POST")
    assert (answer.status, answer.json) == (409, {"error": "savepoint before-upgrade is being made"})
    assert client.ask("/api/status").json["savepoints"][0]["state"] == "making"
    observed.freeze(1_800_000_004.0)
    assert client.ask("/api/status").json["savepoints"][0]["state"] == "made"
    assert client.ask("/api/savepoints", "POST").status == 202
    assert observed.calls == [("savepoint", "before-upgrade", 5.0), ("savepoint", "20270115-080000", 60.0)]


@pytest.mark.parametrize(
    "body",
    [{"name": "../up"}, {"name": "x" * 101}, {"timeout": 0}, {"timeout": 1e9}, {"timeout": "long"}, {"nmae": "x"}, []],
    ids=["path", "long", "no time", "too much time", "no number", "unknown", "list"],
)
def test_a_savepoint_that_cannot_be(client: Client, observed: FakeObserved, body: Any) -> None:
    answer = client.ask("/api/savepoints", "POST", body)
    assert answer.status == 400 and "\n" not in answer.json["error"]
    assert observed.calls == []


def test_the_log_level_of_all_and_of_one_logger(client: Client, observed: FakeObserved) -> None:
    assert client.ask("/api/log-level", "POST", {"level": "DEBUG"}).status == 200
    assert client.ask("/api/log-level", "POST", {"level": "ERROR", "logger": "a.b"}).status == 200
    assert client.ask("/api/log-level", "POST", {"level": "INFO", "logger": ""}).status == 200
    assert observed.calls == [("log_level", "DEBUG", None), ("log_level", "ERROR", "a.b"), ("log_level", "INFO", None)]


@pytest.mark.parametrize("body", [None, b"", b"{", [], {}, {"level": 1}, {"level": "INFO", "loger": "x"}])
def test_a_bad_body_is_refused_in_one_line(client: Client, observed: FakeObserved, body: object) -> None:
    answer = client.ask("/api/log-level", "POST", body)
    assert answer.status == 400
    assert '{"level": "DEBUG"}' in answer.json["error"]
    assert observed.calls == []


def test_an_unknown_level_is_refused_in_the_words_of_the_error(client: Client) -> None:
    answer = client.ask("/api/log-level", "POST", {"level": "LOUD"})
    assert (answer.status, answer.json["error"][:22]) == (400, "log_level: 'LOUD' is n")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:PORT"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "same-origin", "Origin": "https://behind-a-proxy.example"}, 200),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        # a name that was made to point here
        ({"Host": "evil.example", "Origin": "http://127.0.0.1:PORT"}, 421),
    ],
)
def test_actions_are_refused_to_pages_of_others(client: Client, headers: dict[str, str], status: int) -> None:
    given = {name: value.replace("PORT", str(client.server.port)) for name, value in headers.items()}
    assert client.ask("/api/pause", "POST", **given).status == status


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api/status"), ("DELETE", "/live"), ("PUT", "/"), ("GET", "/api/pause")]
)
def test_other_methods_are_refused(client: Client, method: str, path: str) -> None:
    answer = client.ask(path, method)
    assert (answer.status, answer.json) == (405, {"error": f"{path} does not take {method}"})


@pytest.mark.parametrize("path", ["/", "/live", "/metrics", "/api/status", "/api/events", "/static/app.js"])
def test_head_is_answered_without_a_body(client: Client, path: str) -> None:
    answer = client.ask(path, "HEAD")
    assert (answer.status, answer.body) == (200, b"")


def test_unknown_paths_are_not_found(client: Client) -> None:
    answer = client.ask("/api/nothing")
    assert (answer.status, answer.json) == (404, {"error": "there is no /api/nothing"})
    assert client.ask("/static/nothing.js").status == 404
    assert client.ask("/static/../api.py").status == 404
    assert client.ask("/static/%2e%2e/api.py").status == 404


@pytest.mark.parametrize("path", ["/", "/live", "/api/status", "/api/nothing", "/static/app.js", "/unknown"])
@pytest.mark.parametrize("token", [None, TOKEN])
def test_every_answer_keeps_browsers_strict(client: Client, path: str, token: str | None) -> None:
    headers = client.ask(path, token=token).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == ("no-cache" if path in ("/", "/static/app.js") else "no-store")
    assert not [name for name in headers if name.startswith("access-control")]
    assert "server" not in headers


def test_the_page_and_its_files_hold_no_data_and_name_no_other_host(client: Client) -> None:
    page = client.ask("/", token=None)
    assert page.headers["content-type"].startswith("text/html")
    text = page.body.decode()
    for name in STATIC:
        answer = client.ask(f"/static/{name}", token=None)
        assert answer.status == 200
        content = answer.body.decode().replace("http://www.w3.org/", "")
        assert "http://" not in content.replace('"http:"', "")
        assert "innerHTML" not in content
        if name.endswith(".js"):
            assert f'href="/static/{name}"' in text or f'src="/static/{name}"' in text, "not preloaded"
            assert answer.headers["content-type"].startswith("text/javascript")
    assert "<script>" not in text
    assert "style=" not in text
    assert "flights" not in text


def test_files_that_did_not_change_are_not_sent_again(client: Client) -> None:
    tag = client.ask("/static/app.js").headers["etag"]
    answer = client.ask("/static/app.js", If_None_Match=tag)
    assert (answer.status, answer.body) == (304, b"")


def test_a_defect_is_one_line_for_the_client_and_a_trace_in_the_log(
    client: Client, observed: FakeObserved, caplog: pytest.LogCaptureFixture
) -> None:
    observed.broken = True
    with caplog.at_level(logging.ERROR):
        answer = client.ask("/api/status")
        until(lambda: "the observer is broken" in caplog.text, "the trace, which follows the answer")
    assert (answer.status, answer.json) == (
        500,
        {"error": "/api/status failed with RuntimeError; the log has the trace"},
    )
    observed.broken = False
    assert client.ask("/api/status").status == 200


def test_an_entry_of_a_table(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    found = client.ask("/api/tables/seen?key=ann")
    assert found.status == 200
    assert msgspec.json.decode(found.body, type=TableEntry) == TableEntry("seen", "ann", True, 7, [0, 2])
    missing = client.ask("/api/tables/seen?key=b%20ob")
    assert missing.status == 404 and missing.json["key"] == "b ob" and missing.json["partitions"] == [0, 2]
    assert client.ask("/api/tables/seen").json == {"error": "which key? ask for /api/tables/NAME?key=KEY"}
    unknown = client.ask("/api/tables/x?key=ann")
    assert (unknown.status, unknown.json["error"]) == (400, "there is no table 'x'; there are: seen")
    monkeypatch.setattr(api, "LOOKUP_SECONDS", 0.01)
    slow = client.ask("/api/tables/seen?key=slow")
    assert slow.status == 504 and "within 0.01 s" in slow.json["error"]
