"""A headless Chromium of this machine, and what it noticed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

# No name but this machine's is looked up: where a firewall drops what goes outside, a page that asks for it would wait, not fail.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"]
CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium; only one at a time in a process, and no asyncio.run meanwhile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """A page and all that went wrong on it.

    Attributes:
        page: Playwright's page.
        said: What it wrote to the console, and uncaught errors.
        asked: Addresses of all its requests.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(url)

    def outside(self) -> list[str]:
        """Addresses asked for that are not the server's own."""
        return [url for url in self.asked if not url.startswith((self.url, "data:", "blob:"))]

    def too_wide_px(self) -> int:
        """How far the page sticks out of the window, pixels."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))
