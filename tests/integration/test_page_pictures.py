"""
The pictures of the page in README: made of real builds in a real browser, so that they can always be made again.

    make pictures

writes them. Without that, the test only sees that the views they show are as they should be.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.integration.browser import SOON, chromium
from tests.integration.platform import BARE, Platform

PICTURES = Path(__file__).parent.parent.parent / "docs/pictures"

#: What the projects' tools print: they are stand-ins in node_modules/.bin, which npm runs.
VITE = """\033[36mvite v7.1.2 \033[32mbuilding for production...\033[39m
transforming...
\033[32m✓\033[39m 184 modules transformed.
rendering chunks...
\033[2mdist/\033[22m\033[32mindex.html                 \033[39m\033[1m\033[2m  0.46 kB\033[22m
\033[2mdist/\033[22m\033[36massets/index-Cq3v1x8u.js   \033[39m\033[1m\033[2m142.61 kB\033[22m
\033[32m✓ built in 1.84s\033[39m
"""
TSC = """\033[96msrc/cart/Total.tsx\033[0m:\033[93m31\033[0m:\033[93m18\033[0m - \
\033[91merror\033[0m\033[90m TS2345: \033[0mArgument of type 'string | undefined' is not assignable to 'number'.

\033[7m31\033[0m   return format(sum(lines.map((line) => line.price)));
\033[7m  \033[0m                   \033[91m~~~~~~~~~~\033[0m

Found 1 error in src/cart/Total.tsx\033[90m:31\033[0m
"""
SETTINGS = """[build]
steps = [{name = "typecheck", run = "npm run typecheck"}, {name = "build", run = "npm run build"}]
output = "dist"
"""
#: The projects, with what their commits say, the oldest first, and whether they build.
PROJECTS = {
    "design-system": [("Add the tokens of the dark theme", True)],
    "docs": [("Explain previews", True), ("Fix a link", True)],
    "shop": [
        ("Cart: show the total with tax", True),
        ("Checkout: keep the address", True),
        ("Round totals once", False),
    ],
}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform(tmp_path_factory.mktemp("pictures"), isolation=BARE) as platform:
        yield platform


def _tool(folder: Path, name: str, says: str, then: str) -> None:
    """Put a stand-in for a tool into a repository: it prints something, and does something."""
    tool = folder / "node_modules/.bin" / name
    tool.parent.mkdir(parents=True, exist_ok=True)
    tool.with_suffix(".txt").write_text(says)
    tool.write_text(f'#!/bin/sh\ncat "$(dirname "$0")/{name}.txt"\n{then}\n')
    tool.chmod(0o755)


def _make(platform: Platform) -> dict[str, int]:
    """Build all commits of the projects; the newest build of each."""
    newest = {}
    for name, commits in PROJECTS.items():
        scripts = {"typecheck": "tsc --noEmit", "build": "vite build"}
        package = json.dumps({"name": name, "version": "2.4.0", "private": True, "scripts": scripts})
        files = {"index.html": f"<h1>{name}</h1>", "package.json": package, ".twistedipc.toml": SETTINGS}
        repository = platform.repository(files)
        _tool(repository, "vite", VITE, "mkdir -p dist && cp index.html dist/")
        platform.add_project(name, repository, publish={"static": True}, default_ref="main")
        for message, good in commits:
            _tool(repository, "tsc", "" if good else TSC, "exit 0" if good else "exit 2")
            platform.commit(repository, {"CHANGES": message}, message)
            newest[name] = platform.build(name)
            platform.wait(newest[name])
    return newest


def _picture(page: Page, name: str) -> None:
    if os.environ.get("TWISTEDIPC_PICTURES"):
        PICTURES.mkdir(exist_ok=True)
        page.screenshot(path=PICTURES / f"{name}.png")


@pytest.mark.long
def test_the_pictures_of_readme(platform: Platform) -> None:
    newest = _make(platform)
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1200, "height": 450}, reduced_motion="reduce")
        page = context.new_page()
        page.set_default_timeout(SOON)
        page.goto(f"{platform.url}/#token={platform.token}")
        expect(page.locator("table.builds tbody tr")).to_have_count(sum(map(len, PROJECTS.values())))
        expect(page.locator(".chip", has_text="failed")).to_have_count(1)
        _picture(page, "builds")
        page.set_viewport_size({"width": 1200, "height": 680})
        page.emulate_media(color_scheme="dark", reduced_motion="reduce")
        page.goto(f"{platform.url}/#/builds/{newest['shop']}")
        expect(page.locator("main")).to_contain_text("TS2345")
        expect(page.locator(".log")).to_contain_text("Found 1 error")
        _picture(page, "build")
