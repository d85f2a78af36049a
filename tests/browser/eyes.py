"""A person's browser that notices more than its person: broken policies, script errors, pages that shut people out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, Locator, Page, Response

WIDTHS = (320, 390, 1440)
_HEIGHT = 900
# Told by the event, not by the console: the address of what was blocked stands only there.
_WATCH = """document.addEventListener("securitypolicyviolation", (event) =>
  tellTheTest(`${location.pathname}: ${event.effectiveDirective} blocked ${event.blockedURI}`))"""
# The rules that answer differently in other colours or on another screen; all others ask only the markup
_BY_LAYOUT = ["color-contrast", "target-size", "link-in-text-block", "scrollable-region-focusable", "bypass"]
_BY_LAYOUT += ["label", "button-name", "link-name", "empty-heading", "aria-hidden-focus", "region", "heading-order"]
_SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


class Eyes:
    """One browser of one person. `found` is what was wrong on any page so far."""

    def __init__(self, browser: Browser, base_url: str, **context: Any) -> None:
        self.base_url = base_url
        self.found: list[str] = []
        options: dict[str, Any] = {"viewport": {"width": 1440, "height": _HEIGHT}, "reduced_motion": "reduce"}
        self.context = browser.new_context(**(options | context))
        self.context.set_default_timeout(15_000)
        self.context.expose_function("tellTheTest", lambda what: self.found.append(what))  # noqa: PLW0108  # wants a function
        self.context.add_init_script(_WATCH)
        self.context.on("weberror", lambda error: self.found.append(f"{error.page and error.page.url}: {error.error}"))
        self.context.on("response", self._answered)
        self.page: Page = self.context.new_page()
        self._axe = Axe()

    def sign_in(self, email: str, password: str) -> Eyes:
        self.open("/account/login/")
        self.page.fill("#id_login", email)
        self.page.fill("#id_password", password)
        self.page.click("button.main")
        self.page.wait_for_url(re.compile(r"/t/acme/"))
        return self

    def open(self, path: str) -> Response:
        answer = self.page.goto(path if "://" in path else self.base_url + path)
        assert answer is not None
        return answer

    def press(self, name: str) -> None:
        """The button whose name begins so, for whoever sees it or hears it."""
        self.page.get_by_role("button", name=re.compile(f"^{re.escape(name)}")).first.click()

    def follow(self, name: str) -> None:
        self.page.get_by_role("link", name=re.compile(f"^{re.escape(name)}")).first.click()

    def enter(self, client: Client) -> Eyes:
        """Be the person who has signed in there, without the page for it."""
        name = settings.SESSION_COOKIE_NAME
        self.context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": self.base_url}])
        return self

    def tab_to(self, wanted: Locator) -> None:
        """Go on from field to field by the key, as far as this one."""
        for _ in range(80):
            self.page.keyboard.press("Tab")
            if wanted.evaluate("one => one === document.activeElement"):
                return
        raise AssertionError(f"the key does not lead to {wanted}")

    @property
    def words(self) -> str:
        """What the page says."""
        return " ".join(self.page.locator("main").inner_text().split())

    def look(self, path: str = "") -> None:
        """Open the page and look at it as everybody: at each width, by day and by night, by rules."""
        if path:
            self.open(path)
        where = self.fits()
        self._judge(f"{where} by day at 1440")
        # At night nothing but the colours differs, and on a phone the layout: both at once
        self.page.set_viewport_size({"width": 390, "height": _HEIGHT})
        self.page.emulate_media(color_scheme="dark")
        self._judge(f"{where} by night at 390", {"runOnly": _BY_LAYOUT})
        self.page.emulate_media(color_scheme="light")
        self.page.set_viewport_size({"width": 1440, "height": _HEIGHT})

    def fits(self) -> str:
        """Nothing runs out of this page at any width. The page's path."""
        where = urlsplit(self.page.url).path
        for width in WIDTHS:
            self.page.set_viewport_size({"width": width, "height": _HEIGHT})
            if beyond := self.page.evaluate(_SIDEWAYS):
                self.found.append(f"{where}: scrolls {beyond} px sideways at {width}")
        return where

    def _judge(self, where: str, options: dict[str, Any] | None = None) -> None:
        said = self._axe.run(self.page, options=options).response
        assert said["passes"], f"axe did not look at {where}"
        for rule in said["violations"]:
            self.found += [f"{where}: {rule['id']}: {node['html'][:200]}" for node in rule["nodes"]]

    def picture(self, file: Path, height: int = _HEIGHT) -> None:
        """Save what is seen; the style that Playwright injects for it breaks the page's policy and does not count."""
        before = len(self.found)
        self.page.set_viewport_size({"width": 1440, "height": height})
        self.page.screenshot(path=file, animations="disabled")
        self.page.set_viewport_size({"width": 1440, "height": _HEIGHT})
        self.page.evaluate("1")  # what the picture caused has been told by now
        del self.found[before:]

    def _answered(self, answer: Response) -> None:
        if answer.status >= 500:
            self.found.append(f"{answer.url}: {answer.status}")

    @contextmanager
    def downloading(self) -> Iterator[Callable[[], Path]]:
        """What is pressed inside gives a file; where it is."""
        with self.page.expect_download() as download:
            yield lambda: Path(str(download.value.path()))
