"""A page in a real browser that remembers what went wrong in it and whom it asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

import playwright.sync_api as playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""Of Chromium: nothing but the pages that are opened goes over the network."""
TOKEN = "a-token/with+signs=and%percent"
"""Of the instances that the browser tests make."""


@dataclass
class Page:
    """A browser's page on an instance.

    Attributes:
        errors: what it wrote to the console as an error, and exceptions that nobody caught.
        requests: every address that was asked for.
    """

    page: playwright.Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def open(self, url: str, token: str | None = None) -> None:
        """Opens the status page at `url`; with a token it waits until the numbers are there."""
        self.page.goto(f"{url}/#token={quote(token, safe='')}" if token else f"{url}/")
        if token:
            self.page.locator("#page").wait_for(state="visible")

    def value(self, name: str) -> float | None:
        """The exact number behind the one shown with this id; None when there is none."""
        given = self.page.locator(f"#{name}").get_attribute("value")
        return float(given) if given else None

    def wait_value(self, name: str, wanted: float) -> None:
        """Waits until the number with this id is the one wanted."""
        self.wait_number(f"#{name}", wanted)

    def wait_number(self, selector: str, wanted: float) -> None:
        """The same for the first <data> that the CSS selector finds."""
        self.page.wait_for_function(
            "([selector, wanted]) => { const given = document.querySelector(selector).value;"
            " return given !== '' && Number(given) === wanted }",
            arg=[selector, wanted],
        )

    def texts(self, selector: str) -> list[str]:
        return [one.strip() for one in self.page.locator(selector).all_inner_texts()]

    def section(self, name: str) -> playwright.Locator:
        return self.page.locator(f"#{name}")

    @property
    def hosts(self) -> set[str]:
        """Host and port of everything that was asked for."""
        return {urlsplit(url).netloc for url in self.requests if not url.startswith("data:")}

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))
