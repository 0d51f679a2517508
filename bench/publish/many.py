"""
Releases of sites with many files of which few have changed: what goes up, how soon it is live, and how soon a rollback
is served. The repositories are sites as they are, so that no build takes a part of the time.
"""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path

from bench.common.runs import Measured
from tests.corpus.look import get
from tests.integration.platform import Platform, wait_for

CHANGED = 10
ROLLBACKS = 100

#: Seconds for one build.
_LIMIT = 300.0


def again(folder: Path, files: int) -> Measured:
    """From the beginning of the pack step to the answer with the new page, in seconds; the second release of a site."""
    with Platform(folder) as platform:
        _two_releases(platform, files)
        build, seen = _release(platform, "second")
        found = platform.api("GET", f"/api/v1/builds/{build}")["attempts"][0]
        pack = next(step for step in found["steps"] if step["name"] == "pack")
        began, ended = (datetime.fromisoformat(pack[name]).timestamp() for name in ("started", "ended"))
        new = re.search(r"Of these, (\d+) files", platform.log(build))
        # A small archive goes up whole.
        uploaded = float(new[1]) if new else files + 1
        more = {"uploaded (files)": uploaded, "pack (s)": ended - began, "to live after it (s)": seen - ended}
        return Measured(seen - began, more=more)


def rollback(folder: Path, files: int) -> Measured:
    """From the request to the answer with the other page, in milliseconds: the slowest of a hundred but one."""
    with Platform(folder) as platform:
        _two_releases(platform, files)
        _release(platform, "second")
        ids = sorted(each["id"] for each in platform.api("GET", "/api/v1/projects/app/releases")["releases"])
        took: list[float] = []
        for turn in range(ROLLBACKS):
            text = ("first", "second")[turn % 2]
            began = time.perf_counter()
            platform.api("POST", f"/api/v1/projects/app/releases/{ids[turn % 2]}/activate")
            if text not in _page(platform):
                raise AssertionError("the answer came before the release was live")
            took.append((time.perf_counter() - began) * 1000)
        took.sort()
        return Measured(took[-2], more={"median": took[len(took) // 2]})


def _two_releases(platform: Platform, count: int) -> None:
    """Release a site, and change some of its files."""
    files = {f"pages/{number % 250}/{number}.html": f"<!doctype html><p>{number}</p>\n" * 20 for number in range(count)}
    repository = platform.repository({"index.html": "first", **files})
    platform.add_project("app", repository)
    _release(platform, "first")
    changed = dict.fromkeys(list(files)[: CHANGED - 1], "changed")
    platform.commit(repository, {"index.html": "second", **changed})


def _release(platform: Platform, text: str) -> tuple[int, float]:
    """Build; the build's number, and when the page with this text was served, in seconds since the epoch."""
    build = platform.build("app")
    wait_for(f"{text} is served", lambda: text in _page(platform), _LIMIT)
    seen = time.time()
    platform.succeed(build)
    return build, seen


def _page(platform: Platform) -> str:
    return get(f"http://127.0.0.1:{platform.releases_port}", f"app.localhost:{platform.releases_port}", "/").body
