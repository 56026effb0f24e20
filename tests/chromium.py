"""Pages as a person sees them: in a headless Chromium, without a network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

PHONE, DESKTOP = 390, 1280  # pixels wide


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium; the test is skipped without one."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        assert "REQUIRE_CHROMIUM" not in os.environ, "no Chromium on the path"
        pytest.skip("no Chromium on the path")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=program, args=options)
        try:
            yield browser
        finally:
            browser.close()


class Look:
    """A page that is open, what it has said on the console, and what it has asked for."""

    def __init__(
        self, browser: Browser, file: Path, width: int, scheme: Literal["light", "dark"]
    ) -> None:
        self.page: Page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.absolute().as_uri())

    def draw_all(self) -> int:
        """Scroll past every plot; return how many there are, all of them drawn."""
        plots = self.page.locator(".plot")
        for index in range(plots.count()):
            plots.nth(index).scroll_into_view_if_needed()
            plots.nth(index).locator("svg.marks").wait_for()
        return plots.count()
