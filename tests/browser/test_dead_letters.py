"""The panel of dead letters, in a real browser."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from kstream.web.server import WebServer
from support.observed import EVIL, TRACE, FakeObserved
from support.page import TOKEN, Page

pytestmark = pytest.mark.timeout(300)


def shoot(page: Page, name: str) -> None:
    """A picture to look at, where somebody wants one."""
    if directory := os.environ.get("KSTREAM_TEST_PICTURES"):
        page.page.screenshot(path=Path(directory) / f"{name}.png")


def test_counts_and_the_latest(page: Page, server: WebServer, observed: FakeObserved) -> None:
    page.open(server.url, TOKEN)
    expect(page.section("letters-said")).to_contain_text("4 not handled, among the latest 4 · ")
    assert page.texts("#letter-counts li") == ["3ValueError", f"1{EVIL}"]
    rows = page.page.locator("#dead-letters tbody tr")
    expect(rows).to_have_count(4)
    first = rows.nth(0)
    expect(first.locator("td").nth(0)).to_have_text("0:0")
    for words in ("flights[0] 0", "delay", "process", "3", "ValueError", f"invalid literal {EVIL}"):
        expect(first).to_contain_text(words)
    expect(page.page.locator("#dead-letters tbody tr.handled")).to_have_count(2)
    page.section("dead-letters").scroll_into_view_if_needed()
    shoot(page, "dead-letters")
    assert page.errors == [] and page.page.evaluate("window.hacked") is None
    assert page.overflow() <= 0


def test_one_of_them_whole_as_text(page: Page, server: WebServer) -> None:
    page.open(server.url, TOKEN)
    page.section("dead-letters").get_by_role("button", name="1:0").click()
    dialog = page.page.get_by_role("dialog")
    for words in ("Dead letter 1:0 of flights-dead-letters", "flights/2", "Header trace", EVIL, "JSON is malformed"):
        expect(dialog).to_contain_text(words)
    expect(dialog.locator("pre")).to_have_text(TRACE)
    shoot(page, "dead-letter")
    assert page.errors == [] and page.page.evaluate("window.hacked") is None
    page.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.section("dead-letters").get_by_role("button", name="1:1").click()  # gone meanwhile
    expect(dialog.get_by_role("alert")).to_have_text("there is no dead letter flights-dead-letters:1:1")


def test_an_app_without_a_policy_has_no_panel(
    make_page: Callable[..., Page], server: WebServer, observed: FakeObserved
) -> None:
    observed.letters = 0
    page = make_page()
    with page.page.expect_response("**/api/dead-letters"):
        page.open(server.url, TOKEN)
    expect(page.section("dead-letters")).to_be_hidden()
    expect(page.section("letters-link")).to_be_hidden()
    assert page.errors == []


def test_kafka_is_away_and_comes_back(page: Page, server: WebServer, observed: FakeObserved) -> None:
    page.open(server.url, TOKEN)
    expect(page.section("letters-said")).to_contain_text("not handled")
    observed.unreachable = True
    page.section("letters-again").click()
    expect(page.section("letters-said")).to_have_text("no Kafka broker answers at localhost:1")
    expect(page.page.locator("#dead-letters tbody tr")).to_have_count(4)
    observed.unreachable = False
    observed.letters = 3
    page.section("letters-again").click()
    expect(page.page.locator("#dead-letters tbody tr")).to_have_count(6)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_narrow_page(make_page: Callable[..., Page], server: WebServer, scheme: str) -> None:
    page = make_page(viewport={"width": 420, "height": 800}, color_scheme=scheme)
    page.open(server.url, TOKEN)
    page.section("dead-letters").get_by_role("button", name="0:0").click()
    expect(page.page.get_by_role("dialog")).to_contain_text("flights/2")
    shoot(page, f"dead-letter-narrow-{scheme}")
    assert page.overflow() <= 0
