"""Pages that are open in a real browser while another release goes live: each loads the files of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.integration.browser import chromium
from tests.site_client import put_release

ROOT = Path(__file__).parent.parent.parent

HOME = """<!doctype html><link rel=icon href="data:,"><link rel=stylesheet href="/style.css">
<script src="/classic.js"></script><link rel=modulepreload href="/chunk.js"><body>
<script type=module src="./app.js"></script><script type=module src="/chunk.js"></script>"""
APP = """import {chunk} from "./chunk.js"; window.chunk = chunk;
window.lazy = async () => (await import("./lazy/part.js")).part;"""
CLASSIC = """window.load = () => new Promise((done, failed) => {
  const script = document.createElement("script");
  Object.assign(script, {src: "/pack" + ".js", onload: () => done(window.pack), onerror: failed});
  document.head.append(script);
});
window.variable = (name) => getComputedStyle(document.body).getPropertyValue(name);"""
SEEN = "async () => [chunk, await lazy(), runs, variable('--own'), variable('--named')].join()"


def files(number: int) -> dict[str, bytes]:
    texts = {
        "index.html": HOME,
        "app.js": APP,
        "classic.js": CLASSIC,
        "chunk.js": f"window.runs = (window.runs || 0) + 1; export const chunk = {number};",
        f"lazy/only-in-{number}.js": f"export const only = {number};",
        "lazy/part.js": f"""import {{chunk}} from "../chunk.js"; import {{only}} from "./only-in-{number}.js";
            export const part = `${{chunk}}-${{only}}`;""",
        "pack.js": f"window.pack = {number}",
        "style.css": f"@import url(/more.css); body {{ --own: {number} }}",
        "more.css": f"body {{ --named: {number} }}",
    }
    return {path: text.encode() for path, text in texts.items()}


@pytest.mark.long
def test_two_tabs_of_two_releases_load_their_own_files(tmp_path: Path) -> None:
    for number in (1, 2):
        put_release(tmp_path, "shop", number, files(number))
    command = [sys.executable, "-m", "tests.integration.site_server", str(tmp_path)]
    with (
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server,
        chromium() as browser,
    ):
        assert server.stdin is not None
        assert server.stdout is not None
        address = f"http://shop.localhost:{server.stdout.readline().strip()}/"
        tabs: list[Page] = []
        context = browser.new_context()
        for number in (1, 2):
            print(number, file=server.stdin, flush=True)
            assert server.stdout.readline() == f"{number}\n"
            if tabs:
                assert tabs[0].evaluate("load()") == 1, "by the cookie, as long as no newer page was opened"
            tabs.append(context.new_page())
            tabs[-1].goto(address)
            tabs[-1].wait_for_function("window.chunk")
        for number, tab in enumerate(tabs, 1):
            assert tab.evaluate(SEEN) == f"{number},{number}-{number},1,{number},{number}"
        server.stdin.close()
