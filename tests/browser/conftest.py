"""A Chromium for each file of tests, closed before anything asynchronous runs, and people who have signed in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.eyes import Eyes

_PICTURES = Path(__file__).resolve().parents[2] / "docs" / "img"


class Take(Protocol):
    def __call__(self, eyes: Eyes, name: str, height: int = 900) -> None: ...


@pytest.fixture(scope="module")
def chromium(browser_type_launch_args: dict[str, object]) -> Iterator[Browser]:
    # Playwright's loop runs in this thread, where some tests also ask the database
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**browser_type_launch_args)  # type: ignore[arg-type]
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture(scope="session")
def picture() -> Take:
    """Take a picture for the README, if AGENTAUTH_TEST_PICTURES=1 says so: a test leaves the checkout as it was."""

    def take(eyes: Eyes, name: str, height: int = 900) -> None:
        if os.environ.get("AGENTAUTH_TEST_PICTURES") == "1":
            _PICTURES.mkdir(parents=True, exist_ok=True)
            eyes.picture(_PICTURES / f"{name}.png", height)

    return take
