"""Debian's Chromium, pages in it, and a fake instance to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import playwright.sync_api as playwright
import pytest

from kstream.web.server import WebServer
from support.observed import FakeObserved
from support.page import ARGUMENTS, TOKEN, Page
from support.tools import tool

WAIT = 60_000
"""Milliseconds until a page has to show something: seconds pass on a busy machine before Chromium is given its turn."""
playwright.expect.set_options(timeout=WAIT)


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    """For a module, not for the session: Playwright runs an event loop in this thread, where other tests run theirs."""
    chromium_path = tool("chromium")  # Debian's: a browser is never downloaded
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=chromium_path, args=ARGUMENTS, timeout=2 * WAIT)
        yield chromium
        chromium.close()


@pytest.fixture
def make_page(browser: playwright.Browser) -> Iterator[Callable[..., Page]]:
    """Makes pages, each with its own storage; options are those of Playwright's new_context."""
    contexts = []

    def make(**options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(WAIT)
        contexts.append(context)
        return Page(context.new_page())

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def page(make_page: Callable[..., Page]) -> Page:
    """A page of 1280 by 900, in light colours."""
    return make_page(color_scheme="light")


@pytest.fixture
def observed() -> FakeObserved:
    return FakeObserved(partitions=8, instance_count=3)


@pytest.fixture
def server(observed: FakeObserved) -> Iterator[WebServer]:
    server = WebServer(observed, TOKEN, "127.0.0.1", 0)
    server.start()
    yield server
    server.stop()
