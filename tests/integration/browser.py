"""Chromium for tests, driven by playwright: Debian's, or whichever is on PATH."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.integration.platform import DEADLINE

# What is expected of a page may come late on a machine that is busy; 5 s is playwright's own idea.
expect.set_options(timeout=DEADLINE * 1000)


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
