"""Chromium for tests, driven by playwright: Debian's, or whichever is on PATH."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.integration.platform import DEADLINE

#: Milliseconds until the page shows what it has been told, or what was done on it, on a machine that may be busy.
#: Playwright's own idea is 5 s.
SOON = 20_000

#: Milliseconds until it shows what processes do first: a build's beginning and end, a service that comes back.
LATE = DEADLINE * 1000

expect.set_options(timeout=SOON)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; the test is skipped without one."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium on PATH (Debian's package chromium)")
    # Chromium's own sandbox refuses root, as which CI runs.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        try:
            yield browser
        finally:
            browser.close()
