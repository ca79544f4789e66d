"""The status page in a real browser, over an instance whose numbers are known."""

from __future__ import annotations

import json
import math
import re
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from playwright.sync_api import expect
from prometheus_client.parser import text_string_to_metric_families

from kstream.observe.status import InstanceStatus, TableStatus
from kstream.web.server import WebServer
from support.observed import EVIL, FakeObserved
from support.page import TOKEN, Page

pytestmark = pytest.mark.timeout(300)

START_UP = 1.0
"""Seconds from asking for the page to seeing the numbers, on a machine that does nothing else."""


def api(server: WebServer, path: str) -> Any:
    request = urllib.request.Request(server.url + path, headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def metrics(server: WebServer) -> dict[str, float]:
    """Sums over all series of each metric."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=60) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    sums: dict[str, float] = {}
    for family in families:
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def slowdown() -> float:
    """How many times longer work takes now than it would on a machine that does nothing else."""
    began, worked = time.monotonic(), time.thread_time()
    while (done := time.thread_time() - worked) < 0.05:
        pass
    return max(1.0, (time.monotonic() - began) / done)


def test_it_is_there_within_a_second_without_errors_and_asks_nobody_else(
    make_page: Callable[..., Page], server: WebServer
) -> None:
    """The best of several, by the speed that is left to us: what else runs on the machine does not count."""
    best, deadline = math.inf, time.monotonic() + 80
    while best >= START_UP and time.monotonic() < deadline:
        page, slower = make_page(), slowdown()
        before = time.monotonic()
        page.open(server.url, TOKEN)
        best = min(best, (time.monotonic() - before) / slower)
        assert page.value("committed")
        expect(page.section("connection")).to_have_text("live")
        assert page.errors == []
        assert page.hosts == {f"127.0.0.1:{server.port}"}
        page.page.context.close()
    assert best < START_UP


def test_the_token_leaves_the_address_and_is_kept_for_the_tab(page: Page, server: WebServer) -> None:
    page.open(server.url, TOKEN)
    assert page.page.url == f"{server.url}/"
    assert not [url for url in page.requests if "token=" in url.partition("#")[0]]
    page.page.reload()
    page.section("page").wait_for(state="visible")
    assert page.value("committed")
    assert page.errors == []


def test_without_a_token_it_asks_and_says_when_it_is_wrong(page: Page, server: WebServer) -> None:
    page.open(server.url)
    form = page.section("token-form")
    expect(form).to_be_visible()
    expect(page.section("page")).to_be_hidden()
    assert page.errors == []
    page.section("token").fill("wrong")
    page.page.keyboard.press("Enter")
    expect(page.section("token-problem")).to_have_text("The token is not the right one.")
    expect(page.section("page")).to_be_hidden()
    page.section("token").fill(TOKEN)
    form.get_by_role("button").click()
    expect(page.section("page")).to_be_visible()
    expect(form).to_be_hidden()
    assert page.value("committed")
    assert [error for error in page.errors if "401" not in error] == []


def event_times(graph: Any, status: Any) -> dict[str, float]:
    """By edge from a topic, the least of its partitions here that are not idle."""
    nodes = {node["id"]: node for node in graph["nodes"]}
    found: dict[str, float] = {}
    for edge in graph["edges"]:
        topic, part = nodes[edge["source"]], nodes[edge["target"]]["part"]
        inputs = [
            one
            for task in status["tasks"]
            for one in task["inputs"]
            if task["name"].rpartition("/")[0] == part and one["topic"] == topic["label"] and not one["idle"]
        ]
        if topic["kind"] == "topic" and inputs:
            found[edge["id"]] = min(one["event_time"] for one in inputs)
    assert found
    return found


def test_numbers_are_those_of_the_api_and_of_the_metrics(page: Page, server: WebServer, observed: FakeObserved) -> None:
    observed.freeze()
    page.open(server.url, TOKEN)
    status, scraped = api(server, "/api/status"), metrics(server)
    totals = status["totals"]
    page.wait_value("committed", totals["committed"])
    shown = {
        name: page.value(name) for name in ("committed", "produced", "checkpoints-done", "checkpoint-failures", "lag")
    }
    assert shown == {
        "committed": scraped["kstream_records_committed_total"],
        "produced": scraped["kstream_records_produced_total"],
        "checkpoints-done": scraped["kstream_checkpoints_total"],
        "checkpoint-failures": scraped["kstream_checkpoint_failures_total"],
        "lag": scraped["kstream_consumer_lag_records"],
    }
    assert page.value("rate-in") == totals["rate_in"]
    assert page.value("rate-out") == totals["rate_out"]
    assert page.value("latency") == totals["latency_p99"]
    assert page.value("load") == totals["busy"]
    edges = {
        label.get_attribute("data-edge"): float(label.get_attribute("data-value") or "nan")
        for label in page.page.locator(".rates text").all()
    }
    assert edges == status["edges"]
    times = {
        label.get_attribute("data-edge"): float(label.get_attribute("data-value") or "nan")
        for label in page.page.locator(".times text[data-value]").all()
    }
    assert times == event_times(api(server, "/api/graph"), status)
    rows = page.page.locator("#tasks tbody tr")
    lags = {
        row.locator("td").nth(0).inner_text(): row.locator("data").nth(0).get_attribute("value") for row in rows.all()
    }
    announced = {task["name"]: str(task["lag"]) for one in api(server, "/api/instances") for task in one["tasks"]}
    assert lags == announced
    assert len(lags) == 24
    behind = {
        row.locator("td").nth(0).inner_text(): row.locator("data").nth(1).get_attribute("value") for row in rows.all()
    }
    told = {
        task["name"]: max(one["behind"] for one in task["inputs"])
        for one in api(server, "/api/instances")
        for task in one["tasks"]
    }
    assert {name: float(value or "nan") for name, value in behind.items()} == told
    assert page.value("behind") == max(told[task["name"]] for task in status["tasks"])


def test_numbers_move_by_themselves(page: Page, server: WebServer, observed: FakeObserved) -> None:
    observed.freeze()
    page.open(server.url, TOKEN)
    before = observed.status().totals.committed
    page.wait_value("committed", before)
    observed.freeze(observed.now() + 100)
    page.wait_value("committed", observed.status().totals.committed)
    assert observed.status().totals.committed > before
    points = api(server, "/api/history")
    page.wait_number("#curves .value.one data", points[-1]["rate_in"])
    assert page.errors == []


def test_pause_and_resume_ask_first(page: Page, server: WebServer, observed: FakeObserved) -> None:
    page.open(server.url, TOKEN)
    page.section("pause").click()
    dialog = page.page.get_by_role("dialog")
    expect(dialog).to_contain_text("Pause flights-0?")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
    page.section("pause").click()
    page.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert observed.calls == []
    page.section("pause").click()
    dialog.get_by_role("button", name="Pause").click()
    expect(page.section("toast")).to_have_text("Paused.")
    expect(page.section("state")).to_have_text("paused")
    expect(page.section("ready")).to_have_text("not ready")
    expect(page.section("reasons")).to_contain_text("paused by request")
    expect(page.section("pause")).to_have_text("Resume")
    page.section("pause").click()
    dialog.get_by_role("button", name="Resume").click()
    expect(page.section("state")).to_have_text("running")
    assert observed.calls == [("pause",), ("resume",)]
    assert page.errors == []


def test_the_log_level_of_one_logger(page: Page, server: WebServer, observed: FakeObserved) -> None:
    page.open(server.url, TOKEN)
    page.section("log-level").click()
    dialog = page.page.get_by_role("dialog")
    dialog.locator("select").select_option("DEBUG")
    dialog.locator("input").fill("kstream.runtime")
    dialog.get_by_role("button", name="Change").click()
    expect(page.section("toast")).to_have_text("Log level of kstream.runtime is DEBUG.")
    assert observed.calls == [("log_level", "DEBUG", "kstream.runtime")]


def test_an_action_that_fails_says_so_in_its_dialog(
    page: Page, server: WebServer, observed: FakeObserved, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.open(server.url, TOKEN)

    def fail() -> None:
        raise OSError("no worker listens")

    monkeypatch.setattr(observed, "pause", fail)
    page.section("pause").click()
    dialog = page.page.get_by_role("dialog")
    dialog.get_by_role("button", name="Pause").click()
    expect(dialog.get_by_role("alert")).to_have_text("/api/pause failed with OSError; the log has the trace")


def test_a_lost_connection_is_said_with_the_age_of_the_data_and_mended(
    page: Page, server: WebServer, observed: FakeObserved
) -> None:
    observed.freeze()
    # pauses of 41 s and more between tries: the button is not gone before it is clicked, and it is what mends it
    page.page.add_init_script("Math.random = () => 100")
    page.open(server.url, TOKEN)
    expect(page.section("connection")).to_have_text("live")
    server.stop()
    expect(page.section("lost")).to_be_visible()
    at = page.page.evaluate("at => new Date(at * 1000).toLocaleTimeString('en-GB')", observed.now())
    expect(page.section("lost-words")).to_contain_text(f"Connection lost, data of {at}.")
    expect(page.section("pause")).to_be_disabled()
    observed.freeze(observed.now() + 60)
    again = WebServer(observed, TOKEN, "127.0.0.1", server.port)
    again.start()
    try:
        page.section("again").click()
        expect(page.section("lost")).to_be_hidden(timeout=30_000)
        page.wait_value("committed", observed.status().totals.committed)
        expect(page.section("pause")).to_be_enabled()
    finally:
        again.stop()


def test_colours_follow_the_system_and_the_choice(make_page: Callable[..., Page], server: WebServer) -> None:
    def lightness(page: Page) -> float:
        colour = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(one) for one in re.findall(r"\d+", colour)[:3]) / 3

    dark = make_page(color_scheme="dark")
    dark.open(server.url, TOKEN)
    assert lightness(dark) < 40
    light = make_page(color_scheme="light")
    light.open(server.url, TOKEN)
    assert lightness(light) > 220
    light.section("theme").click()
    assert lightness(light) < 40
    light.page.reload()
    light.section("page").wait_for(state="visible")
    assert lightness(light) < 40
    light.section("theme").click()
    assert lightness(light) > 220


@pytest.mark.parametrize("width", [1280, 1920, 390])
def test_64_partitions_and_20_instances_fit(make_page: Callable[..., Page], width: int) -> None:
    observed = FakeObserved(partitions=64, instance_count=20, worker_count=4, failing=True)
    server = WebServer(observed, TOKEN, "127.0.0.1", 0)
    server.start()
    try:
        page = make_page(viewport={"width": width, "height": 900})
        page.open(server.url, TOKEN)
        expect(page.page.locator(".square")).to_have_count(192)
        expect(page.page.locator("#tasks tbody tr")).to_have_count(192)
        expect(page.page.locator("#instances tbody tr")).to_have_count(20)
        assert page.overflow() <= 0
        if width >= 1280:
            assert wider_than_their_cards(page) == []
            assert len(tops_of_squares(page)) == 1, "64 squares in a line"
        assert page.errors == []
    finally:
        server.stop()


def tops_of_squares(page: Page) -> list[float]:
    """Of the first sub-topology; all at one moment, because the page moves when its numbers do."""
    found: list[float] = page.page.evaluate(
        "[...new Set([...document.querySelector('.part-row').querySelectorAll('.square')]"
        ".map(one => one.getBoundingClientRect().top))]"
    )
    return found


def wider_than_their_cards(page: Page) -> list[str]:
    """Tables that would have to be scrolled sideways."""
    found: list[str] = page.page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth + 1)"
        ".map(one => one.getAttribute('aria-label'))"
    )
    return found


def test_tasks_are_filtered_and_sorted(page: Page, server: WebServer, observed: FakeObserved) -> None:
    observed.freeze()
    observed.failing = True
    page.open(server.url, TOKEN)
    rows = page.page.locator("#tasks tbody tr")
    expect(rows).to_have_count(24)
    expect(rows.first).to_contain_text("flights/0")  # the failed one has the most lag
    expect(rows.first).to_contain_text("ValueError")
    page.page.locator("#tasks select").first.select_option("failed")
    expect(rows).to_have_count(1)
    expect(page.section("task-count")).to_have_text("1 of 24 tasks, 7 not running")
    page.page.locator("#tasks select").first.select_option("all states")
    page.page.locator("#tasks input[type=search]").fill("weather flights-1")
    expect(rows).to_have_count(3)
    page.page.locator("#tasks").get_by_role("button", name="Task", exact=True).click()
    assert page.texts("#tasks tbody td:first-child") == ["weather/1", "weather/4", "weather/7"]
    page.page.locator("#tasks").get_by_role("button", name="Task", exact=True).click()
    assert page.texts("#tasks tbody td:first-child") == ["weather/7", "weather/4", "weather/1"]
    page.page.locator("#tasks input[type=search]").fill("")
    page.page.locator(".square").first.click()
    expect(rows).to_have_count(1)


def test_a_restore_is_shown_with_its_progress(page: Page, server: WebServer, observed: FakeObserved) -> None:
    page.open(server.url, TOKEN)
    expect(page.section("restoring")).to_be_hidden()
    observed.restoring = True
    expect(page.section("restoring")).to_be_visible()
    expect(page.section("restore")).to_contain_text(
        "2,860,000 of 4,100,000 changelog records replayed, 1,240,000 (296 MiB) left, about 14.2 s"
    )
    expect(page.section("warm")).to_contain_text("3 tasks of other instances kept warm, 1,200 changelog records behind")
    expect(page.section("state")).to_have_text("restoring")
    assert page.page.locator("progress").get_attribute("value") == str(2_860_000 / 4_100_000)
    observed.restoring = False
    expect(page.section("restoring")).to_be_hidden()
    expect(page.section("ready")).to_have_text("ready")
    expect(page.section("reasons")).to_be_hidden()


def test_global_tables_are_shown(page: Page, server: WebServer, observed: FakeObserved) -> None:
    page.open(server.url, TOKEN)
    observed.tables = [
        TableStatus("prices", "prices", "0", rows=1_200, lag=7, there=True),
        TableStatus("prices", "prices", "1", lag=31_000, why="<b>no</b> right to it"),
    ]
    rows = page.section("global-tables").locator("li")
    expect(rows).to_have_text(
        [
            "worker 0, global table prices: 1,200 rows, 7 records behind",
            "worker 1, global table prices: 0 rows, 31,000 records behind: <b>no</b> right to it",
        ]
    )
    observed.tables = []
    expect(page.section("restoring")).to_be_hidden()


def test_a_killed_worker_is_shown_until_it_is_back(page: Page, server: WebServer, observed: FakeObserved) -> None:
    page.open(server.url, TOKEN)
    observed.killed = True
    worker = page.page.locator("#workers tbody tr").nth(1)
    expect(worker).to_contain_text("restarting")
    expect(worker).to_contain_text("killed by signal 9, again in 1.20 s")
    expect(page.section("state")).to_have_text("degraded")
    expect(page.section("errors")).to_contain_text("worker 1 was killed by signal 9")
    expect(page.page.locator("#tasks tbody")).to_contain_text("its worker is not running")
    observed.killed = False
    expect(worker).to_contain_text("running")
    expect(page.section("state")).to_have_text("running")


def test_workers_that_follow_the_load_say_why(page: Page, server: WebServer) -> None:
    page.open(server.url, TOKEN)
    said = page.texts("#scaling")[0]
    assert re.fullmatch(
        r"default: 2 of 1 to 4 workers, 46\s?% busy or backpressured; "
        r"[\d:]+ 97% busy or backpressured for 30 s, more than 80%",
        said,
    ), said
    between = page.page.evaluate(  # at one moment, because the page moves when its numbers do
        "document.querySelector('#scaling').getBoundingClientRect().top"
        " - document.querySelector('#workers table').getBoundingClientRect().bottom"
    )
    assert between >= 0, "it lies over the table"
    assert page.texts("#workers tbody tr:first-child td")[:2] == ["0", "default"]


def test_what_holds_a_worker_up_and_what_failed_is_said_where_they_are_drawn(
    page: Page, server: WebServer, observed: FakeObserved
) -> None:
    observed.held = observed.failing = True
    page.open(server.url, TOKEN)
    expect(page.page.locator("#workers tbody tr").first).to_contain_text(
        "slow user code: delays (app.py, line 61) has not returned for 4 s, in task flights/0"
    )
    expect(page.page.locator('[data-part="flights"]')).to_contain_text("1 of 3 failed")


def test_estimates_are_marked_and_counts_are_exact(page: Page, server: WebServer, observed: FakeObserved) -> None:
    observed.freeze()
    page.open(server.url, TOKEN)
    shown = dict(zip(page.texts("#stores td:first-child"), page.texts("#stores td:nth-child(3)"), strict=True))
    counted = {store.name: store.entries for store in observed.status().stores}
    assert shown["route-delays"].startswith("~") and shown["route-counts"] == f"{counted['route-counts']:,}"


def test_what_is_known_of_state_is_shown(page: Page, server: WebServer, observed: FakeObserved) -> None:
    """How large it is over time, how it grows, which keys are used most, and how it lies in its tasks."""
    observed.freeze()
    page.open(server.url, TOKEN)
    point, store = observed.history()[-1], observed.status().stores[0]
    page.wait_number("#curves .value.size data", point.state_bytes)
    page.wait_number("#curves .value.entries data", point.state_entries)
    row = page.page.locator("#stores tbody tr").filter(has_text="route-delays")
    expect(row).to_contain_text("+600 B")
    expect(row).to_contain_text("JFK-LAX (31%), 1 more")
    assert store.tasks[1].size > store.tasks[0].size
    expect(row.locator("td").last).to_contain_text("1: ~2")
    empty = page.page.locator("#stores tbody tr").filter(has_text="route-counts")
    expect(empty.locator("td").last).to_have_text("\u2013")
    assert page.errors == [] and page.overflow() <= 0


def test_curves_of_all_instances_lie_beside_this_ones(page: Page, server: WebServer, observed: FakeObserved) -> None:
    observed.freeze()
    page.open(server.url, TOKEN)
    point = observed.history()[-1]
    assert point.app is not None
    page.wait_number("#curves .value.all-one data", point.app.rate_in)
    observed.instance_count = 1
    page.page.reload()
    expect(page.page.locator("#curves .value.all-one").first).to_be_hidden()


def test_long_names_are_cut_in_their_middle(page: Page, server: WebServer) -> None:
    page.open(server.url, TOKEN)
    cut = page.page.evaluate(
        "async ([words, most]) => (await import('/static/format.js')).cut(words, most)",
        ["flights-by-route-repartition-europe", 20],
    )
    assert cut == "flights-\N{HORIZONTAL ELLIPSIS}tion-europe" and len(cut) == 20
    label = page.page.locator(".part-name", has_text="\N{HORIZONTAL ELLIPSIS}").first
    assert label.get_attribute("title") == "flights-by-route-repartition"
    assert label.inner_text().endswith("repartition")


def test_a_narrow_page_shows_the_whole_topology(make_page: Callable[..., Page], server: WebServer) -> None:
    narrow = make_page(viewport={"width": 390, "height": 800})
    narrow.open(server.url, TOKEN)
    outside = narrow.page.evaluate(
        """() => {
            const frame = document.querySelector("svg.graph").getBoundingClientRect();
            const inside = (box) => box.left >= frame.left - 1 && box.right <= frame.right + 1;
            return [...document.querySelectorAll(".graph .part .frame, .graph .topic rect")]
                .filter((one) => !inside(one.getBoundingClientRect())).length;
        }"""
    )
    assert outside == 0 and narrow.overflow() <= 0


NONE = "\N{EN DASH}"


class OneSilent(FakeObserved):
    """The second of three instances was killed; `taken` says whether the third has its tasks by now."""

    taken = False

    def instances(self) -> list[InstanceStatus]:
        first, dead, third = super().instances()
        dead.state, dead.ready, dead.reasons = "silent", False, ["not heard of for 30 s"]
        if self.taken:
            third.tasks = [*third.tasks, *(msgspec.structs.replace(task, worker="0") for task in dead.tasks)]
        return [first, dead, third]


def test_a_silent_instance_is_shown_as_such_and_is_in_no_sum(make_page: Callable[..., Page]) -> None:
    """Half a minute after it was killed its tasks were green and running, and its lag and rate were in the sums."""
    observed = OneSilent(partitions=6, instance_count=3)
    server = WebServer(observed, TOKEN, "127.0.0.1", 0)
    server.start()
    try:
        page = make_page()
        page.open(server.url, TOKEN)
        expect(page.page.locator("main")).to_contain_text("· all 2:")
        silent = page.page.locator("#instances tbody tr", has_text="silent")
        expect(silent).to_have_count(1)
        expect(silent).to_contain_text("not heard of for 30 s")
        assert [cell for cell in silent.locator("data").all_inner_texts() if cell != NONE] == []
        dead = observed.instances()[1]
        expect(page.page.locator(".square.bad")).to_have_count(len(dead.tasks))
        expect(page.page.locator("#tasks tbody tr", has_text="not heard of for 30 s")).to_have_count(len(dead.tasks))
        observed.taken = True
        expect(page.page.locator(".square.bad")).to_have_count(0)
        expect(page.page.locator(".square")).to_have_count(18)
        assert page.errors == []
    finally:
        server.stop()


class OfOldRecords(FakeObserved):
    """It reads what came while it was down for `age` seconds."""

    age = 7 * 86_400.0

    def _latencies(self, at: float) -> tuple[float, float]:
        return self.age, 1.01 * self.age


def test_the_age_of_a_backlog_is_not_shown_as_slowness(make_page: Callable[..., Page]) -> None:
    """After an outage, and where history is replayed, records are as old as they are; what that says, and what a record
    takes, is said beside it."""
    observed = OfOldRecords(partitions=2)
    server = WebServer(observed, TOKEN, "127.0.0.1", 0)
    server.start()
    try:
        page = make_page()
        page.open(server.url, TOKEN)
        said = page.page.locator(".tile", has_text="Age at commit, p99")
        expect(said).to_contain_text("7 d 1 h")
        expect(said).to_contain_text("a backlog or history is read")
        expect(said.locator("p[title]")).to_have_attribute("title", re.compile("in an outage too.*age of the history"))
        observed.age = 0.03
        expect(said).to_contain_text("processing 0.1 ms a record")
        expect(said).not_to_contain_text("backlog")
        assert page.errors == []
    finally:
        server.stop()


def test_what_users_data_holds_is_text(page: Page, server: WebServer, observed: FakeObserved) -> None:
    observed.failing = True
    page.open(server.url, TOKEN)
    expect(page.section("errors")).to_contain_text(EVIL)
    page.page.locator("#stores details").first.click()
    expect(page.section("stores")).to_contain_text(EVIL)
    page.page.locator("#errors summary").first.click()
    expect(page.page.locator("#errors pre").first).to_contain_text("'<b>NA</b>'")
    assert page.page.evaluate("window.hacked") is None
    assert page.page.locator("main img").count() == 0
    links = [link.get_attribute("href") for link in page.page.locator("#instances a").all()]
    assert links == ["http://node-2.example:8010/"], "the other one is a javascript: address"
    assert page.errors == []


def test_an_open_trace_stays_open_when_numbers_move(page: Page, server: WebServer, observed: FakeObserved) -> None:
    observed.failing = True
    observed.freeze()
    page.open(server.url, TOKEN)
    page.page.locator("#errors summary").first.click()
    observed.freeze(observed.now() + 1)
    page.wait_value("committed", observed.status().totals.committed)
    expect(page.page.locator("#errors details[open]")).to_have_count(1)


def test_settings_say_where_they_come_from(page: Page, server: WebServer) -> None:
    page.open(server.url, TOKEN)
    page.page.get_by_label("changed only").check()
    assert page.texts("#settings tbody td:first-child") == ["commit_interval", "kafka", "workers"]
    expect(page.section("settings")).not_to_contain_text("secret")
    expect(page.section("settings")).to_contain_text("KSTREAM_COMMIT_INTERVAL")


def test_it_can_be_used_with_the_keyboard(page: Page, server: WebServer, observed: FakeObserved) -> None:
    page.open(server.url, TOKEN)
    page.page.keyboard.press("Tab")
    assert page.page.evaluate("document.activeElement.textContent") == "Skip to the numbers"
    page.section("pause").focus()
    page.page.keyboard.press("Enter")
    expect(page.page.get_by_role("dialog")).to_be_visible()
    page.page.keyboard.press("Escape")
    expect(page.page.get_by_role("dialog")).to_have_count(0)  # while it is there nothing else takes the focus
    graph = page.page.locator("svg.graph")
    graph.focus()
    before = graph.get_attribute("viewBox")
    page.page.keyboard.press("+")
    page.page.keyboard.press("ArrowLeft")
    assert graph.get_attribute("viewBox") != before
    page.page.keyboard.press("0")
    assert graph.get_attribute("viewBox") == before
    unnamed = page.page.evaluate(
        "[...document.querySelectorAll('button, input, select, a')].filter(one => !(one.textContent.trim()"
        " || one.getAttribute('aria-label') || one.labels?.length)).map(one => one.outerHTML)"
    )
    assert unnamed == []


def test_what_fails_is_shown_at_its_step(page: Page, server: WebServer, observed: FakeObserved) -> None:
    """As the API says it, at an operator and at a topic; and gone when nothing failed for a minute."""
    nodes = [node.id for node in observed.graph().nodes]
    operator = next(node.id for node in observed.graph().nodes if node.part and node.kind not in ("source", "sink"))
    topic = next(node for node in nodes if node.startswith("topic:"))
    observed.failures = {operator: 1234, topic: 2}
    page.open(server.url, TOKEN)
    expect(page.page.locator(f'.badges [data-node="{operator}"]')).to_have_attribute("data-value", "1234")
    badges = {
        badge.get_attribute("data-node"): badge.get_attribute("data-value")
        for badge in page.page.locator(".badges text[data-value]").all()
    }
    assert badges == {node: str(count) for node, count in api(server, "/api/status")["failing"].items()}
    expect(page.page.locator(f'.badges [data-node="{topic}"]')).to_have_text("2 failed/min")
    assert page.page.locator(".graph .failing").count() == 2
    observed.failures = {}
    expect(page.page.locator(".badges text[data-value]")).to_have_count(0)
    assert page.page.locator(".graph .failing").count() == 0


def test_snapshots_are_listed_with_size_age_and_duration(page: Page, server: WebServer, observed: FakeObserved) -> None:
    observed.freeze()
    page.open(server.url, TOKEN)
    page.wait_value("committed", api(server, "/api/status")["totals"]["committed"])
    status = api(server, "/api/status")
    rows = page.page.locator("#snapshots tbody tr")
    expect(rows).to_have_count(len(status["snapshots"]))
    newest = max(status["snapshots"], key=lambda one: one["at"])
    shown = [cell.get_attribute("value") for cell in rows.nth(0).locator("data").all()]
    assert [float(value or "nan") for value in shown] == [
        status["at"] - newest["at"], newest["number"], newest["size"], newest["uploaded"], newest["seconds"],
    ]  # fmt: skip
    assert "503 Slow Down" in page.page.locator("#snapshots tr.failed").inner_text()
    assert page.errors == []


def test_a_savepoint_is_asked_for_and_shown_until_its_end(
    page: Page, server: WebServer, observed: FakeObserved
) -> None:
    observed.freeze()
    page.open(server.url, TOKEN)
    expect(page.section("savepoints")).to_be_hidden()
    page.section("savepoint").click()
    dialog = page.page.get_by_role("dialog")
    expect(dialog).to_contain_text("Make a savepoint of flights?")
    dialog.get_by_role("button", name="Cancel").click()
    assert observed.calls == []
    page.section("savepoint").click()
    dialog.get_by_label("Name").fill("../up")
    dialog.get_by_role("button", name="Make it").click()
    expect(dialog.get_by_role("alert")).to_contain_text("a name has letters")
    dialog.get_by_label("Name").fill("before-upgrade")
    dialog.get_by_label("Seconds").fill("30")
    dialog.get_by_role("button", name="Make it").click()
    expect(page.section("toast")).to_have_text("Savepoint before-upgrade is being made.")
    row = page.page.locator("#savepoints tbody tr")
    expect(row).to_contain_text("the inputs are held")
    expect(row.locator(".badge")).to_have_text("making")
    assert observed.calls == [("savepoint", "before-upgrade", 30.0)]

    page.section("savepoint").click()  # one at a time
    dialog.get_by_role("button", name="Make it").click()
    expect(dialog.get_by_role("alert")).to_have_text("savepoint before-upgrade is being made")
    dialog.get_by_role("button", name="Cancel").click()

    observed.freeze(observed.now() + 4)
    expect(page.section("toast")).to_have_text("Savepoint before-upgrade is there.")
    expect(row.locator(".badge")).to_have_text("made")
    expect(row).to_contain_text("11.8 MiB")
    page.section("savepoint").click()
    dialog.get_by_label("Name").fill("bad")
    dialog.get_by_role("button", name="Make it").click()
    expect(row).to_have_count(2)
    observed.freeze(observed.now() + 4)
    failed = page.page.locator("#savepoints tr.failed")
    expect(failed).to_contain_text(f"worker 1 refuses: {EVIL}")
    expect(page.section("toast")).to_have_text(f"There is no savepoint bad: worker 1 refuses: {EVIL}")
    assert [error for error in page.errors if "400" not in error and "409" not in error] == []
    assert page.page.evaluate("window.hacked") is None
