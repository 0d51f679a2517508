"""
``python -m bench.browser``: a build's page in Chromium, on real services: how soon a long log is seen, and any line of
it; how a fast build is followed; how soon a search shows something, and the page is back after a restart; and what
hundreds of projects cost.

Times are the browser's own, from the address or the key to the frame in which the rows are there. Memory is the tab's
JavaScript heap; a task is what keeps the tab from answering (the Long Tasks API tells those of 50 ms and more).
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from playwright.sync_api import CDPSession, Page

from bench.common.records import Bar, Question
from bench.common.runs import Asked, Candidate, Measured, command
from bench.search.made import RARE, make_logs
from bench.search.served import served
from tests.integration.browser import chromium
from tests.integration.platform import BARE, Platform, wait_for

OURS = "twistedipc"

#: Seconds until something is there, at the latest.
DEADLINE = 60.0

#: What the builds of these projects print.
PROGRAMS = {
    "many": "for i in range({lines}): print(f'line {{i}} of many, with some more text behind it')\n",
    "flood": (
        "import sys, time\nbegan = time.monotonic()\nfor i in range({lines}):\n"
        "    print(f'line {{i}} of a flood, with some more text behind it')\n"
        "    early = began + i / 5000 - time.monotonic()\n"
        "    if early > 0.01:\n        sys.stdout.flush()\n        time.sleep(early)\n"
    ),
}

#: Notes each long task, and each moment at which something that is waited for is drawn.
WATCH = """() => {
  window.tasks = [];
  new PerformanceObserver((list) => tasks.push(...list.getEntries().map((each) => each.duration)))
    .observe({ type: "longtask", buffered: true });
  // The time until `there()` holds, with the frame that shows it.
  window.until = (there) => new Promise((resolve) => {
    const began = performance.now();
    const look = () => (there() ? resolve(performance.now() - began) : requestAnimationFrame(look));
    look();
  });
  window.row = (number) => {
    const found = document.querySelector(`.log .record[data-n="${number}"]`)?.getBoundingClientRect();
    const log = document.querySelector(".log")?.getBoundingClientRect();
    return Boolean(found && found.top < log.bottom && found.bottom > log.top);
  };
}"""


#: Goes to a line, and tells when it is there.
JUMP = """([build, number]) => {
  location.hash = `#/builds/${build}/1/L${number}`;
  return until(() => row(number));
}"""


#: The rows of the list of projects; and how the list is gone to, until the first of them is there.
ROWS = "table.projects tbody tr"
OPEN_PROJECTS = """(rows) => {
  location.hash = "#/projects";
  return until(() => document.querySelector(rows));
}"""


#: Ends a search, until nothing of it is shown: what it has found would be taken for the next one's.
FORGET = """() => {
  const input = document.querySelector(".find input");
  input.value = "";
  input.dispatchEvent(new Event("input"));
  return until(() => !/[0-9]/.test(document.querySelector(".found").textContent));
}"""


def questions(options: argparse.Namespace) -> Iterator[Asked]:
    """A long log, a flood, many projects, and a search. What none of the wanted is about isn't made."""
    for makes, names in ((_of_one_log, ONE_LOG), (_of_projects, PROJECTS), (_of_searches, SEARCHES)):
        if not options.only or {OURS, *names} & set(options.only):
            yield from makes(options)


#: The questions that need the same to be made, which takes minutes.
ONE_LOG = ("browser/open", "browser/flood", "browser/restart")
PROJECTS = ("browser/projects", "browser/restart-queued")
SEARCHES = ("browser/search",)


def _of_one_log(options: argparse.Namespace) -> Iterator[Asked]:
    lines, seconds = (100_000, 5) if options.quick else (1_000_000, 60)
    with tempfile.TemporaryDirectory(prefix="twistedipc-bench-") as name, _platform(Path(name), lines, seconds) as made:
        yield (
            Question(
                name="browser/open",
                title=f"A log of {lines:,} lines: from the address to its last rows",
                unit="ms",
                ours=OURS,
                must={
                    "": Bar(500, at_most=True),
                    "longest jump, ms": Bar(300, at_most=True),
                    "heap, MB": Bar(100, at_most=True),
                },
                lower_is_better=True,
            ),
            [Candidate(OURS, partial(_open, made, lines))],
        )
        yield (
            Question(
                name="browser/flood",
                title=f"5,000 lines a second for {seconds} s: the longest task",
                unit="ms",
                ours=OURS,
                must={"": Bar(100, at_most=True), "most heap, MB": Bar(100, at_most=True)},
                lower_is_better=True,
                repetitions=1,
            ),
            [Candidate(OURS, partial(_flood, made, seconds))],
        )
        yield (
            Question(
                name="browser/restart",
                title="The apiserver is killed and started: from its first answer to the page being live",
                unit="s",
                ours=OURS,
                must={"": Bar(2, at_most=True)},
                lower_is_better=True,
                repetitions=1,
            ),
            [Candidate(OURS, partial(_restart, made))],
        )


def _of_projects(options: argparse.Namespace) -> Iterator[Asked]:
    projects = 100 if options.quick else 500
    # Runners that go on write into the folder while it is removed.
    many = tempfile.TemporaryDirectory(prefix="twistedipc-bench-", ignore_cleanup_errors=True)
    with many as name, _many(Path(name), projects) as platform:
        yield (
            Question(
                name="browser/projects",
                title=f"{projects} projects, each with a build that waits: the longest task, also while scrolling",
                unit="ms",
                ours=OURS,
                must={"": Bar(100, at_most=True)},
                lower_is_better=True,
            ),
            [Candidate(OURS, partial(_projects, platform, projects))],
        )
        yield (
            Question(
                name="browser/restart-queued",
                title=f"The same after a restart of the apiserver with {projects} builds that wait",
                unit="s",
                ours=OURS,
                must={"": Bar(2, at_most=True)},
                lower_is_better=True,
                repetitions=1,
            ),
            [Candidate(OURS, partial(_back, platform, "#/queue", "main table tbody tr"))],
        )


def _of_searches(options: argparse.Namespace) -> Iterator[Asked]:
    size = (64 if options.quick else options.mib) << 20
    with ExitStack() as stack:
        folder = options.logs or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="twistedipc-bench-")))
        text = folder / "log.txt"
        if not text.exists() or text.stat().st_size < size:
            folder.mkdir(exist_ok=True)
            make_logs(folder, size)
        yield (
            Question(
                name="browser/search",
                title=f"A search in {text.stat().st_size / 1e9:.2f} GB of text: from the key to the first hit",
                unit="ms",
                ours=OURS,
                must={"": Bar(150, at_most=True)},
                lower_is_better=True,
            ),
            [Candidate(OURS, partial(_search, folder))],
        )


class _Made:
    """A platform with a build that has ended, and what makes another."""

    def __init__(self, platform: Platform, ended: int) -> None:
        self.platform = platform
        self.ended = ended


@contextmanager
def _platform(folder: Path, lines: int, seconds: int) -> Iterator[_Made]:
    with Platform(folder, isolation=BARE) as platform:
        for name, count in (("many", lines), ("flood", seconds * 5000)):
            step = f'[build]\nsteps = [{{name = "{name}", run = "{sys.executable} say.py"}}]\n'
            files = {".twistedipc.toml": step, "say.py": PROGRAMS[name].format(lines=count)}
            platform.add_project(name, platform.repository(files), publish={"static": False}, default_ref="main")
        build = platform.build("many")
        platform.succeed(build)
        yield _Made(platform, build)


@contextmanager
def _signed_in(url: str, token: str) -> Iterator[tuple[Page, CDPSession]]:
    with chromium() as browser:
        page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
        page.set_default_timeout(DEADLINE * 1000)
        page.goto(f"{url}/#token={token}")
        page.wait_for_selector("#who:not(:empty)")
        page.wait_for_selector("#connection.live")
        page.evaluate(WATCH)
        yield page, page.context.new_cdp_session(page)


def _heap(session: CDPSession) -> float:
    session.send("HeapProfiler.collectGarbage")
    used: float = session.send("Runtime.getHeapUsage")["usedSize"]
    return used / 1e6


def _open(made: _Made, lines: int) -> Measured:
    chance = random.Random(lines)
    with _signed_in(made.platform.url, made.platform.token) as (page, session):
        records = made.platform.api("GET", f"/api/v1/builds/{made.ended}/log/outline")["records"]
        first = page.evaluate(
            "([build, last]) => { location.hash = `#/builds/${build}`; return until(() => row(last)); }",
            [made.ended, records],
        )
        jumps = []
        for _ in range(30):
            number = chance.randrange(1, records)
            jumps.append(page.evaluate(JUMP, [made.ended, number]))
        heap = _heap(session)
        longest = max(page.evaluate("tasks"), default=0.0)
    jumps.sort()
    return Measured(
        first,
        {
            "median jump, ms": jumps[len(jumps) // 2],
            "longest jump, ms": jumps[-1],
            "heap, MB": heap,
            "longest task, ms": longest,
        },
    )


def _flood(made: _Made, seconds: int) -> Measured:
    build = made.platform.build("flood")
    heaps: list[float] = []
    with _signed_in(made.platform.url, made.platform.token) as (page, session):
        page.evaluate(f"location.hash = '#/builds/{build}'")
        page.wait_for_selector(".log .record:has-text('of a flood')")
        page.evaluate("tasks.length = 0")
        behind = []
        until = time.monotonic() + seconds - 1
        while time.monotonic() < until:
            time.sleep(1)
            heaps.append(session.send("Runtime.getHeapUsage")["usedSize"] / 1e6)
            shown = page.evaluate("Number([...document.querySelectorAll('.log .record')].at(-1).dataset.n)")
            behind.append(made.platform.api("GET", f"/api/v1/builds/{build}/log/outline")["records"] - shown)
        tasks: list[float] = page.evaluate("tasks")
        page.wait_for_selector(".log-foot .good")
        verdict = page.locator(".log-foot .good").inner_text()
        assert "complete, verified" in verdict, verdict
    made.platform.succeed(build)
    return Measured(
        max(tasks, default=0.0),
        {"long tasks": len(tasks), "most heap, MB": max(heaps), "records behind, at most": max(behind)},
    )


@contextmanager
def _many(folder: Path, projects: int) -> Iterator[Platform]:
    """A platform of which two builds go on, and all others wait."""
    with Platform(folder, isolation=BARE) as platform:
        step = '[build]\nsteps = ["while true; do sleep 1; done"]\n'
        repository = platform.repository({".twistedipc.toml": step})
        for number in range(projects):
            platform.add_project(f"p{number}", repository, publish={"static": False}, default_ref="main")
            platform.build(f"p{number}")
        yield platform


def _projects(platform: Platform, projects: int) -> Measured:
    with _signed_in(platform.url, platform.token) as (page, _session):
        page.evaluate("tasks.length = 0")
        rows = page.locator(ROWS)
        first = page.evaluate(OPEN_PROJECTS, ROWS)
        until = time.monotonic() + DEADLINE
        while rows.count() < projects and time.monotonic() < until:
            page.mouse.wheel(0, 2000)
            page.wait_for_timeout(50)
        assert rows.count() == projects
        page.get_by_role("searchbox").fill("p4")
        page.wait_for_timeout(500)
        tasks: list[float] = page.evaluate("tasks")
    return Measured(max(tasks, default=0.0), {"long tasks": len(tasks), "to the first rows, ms": first})


def _restart(made: _Made) -> Measured:
    return _back(made.platform, f"#/builds/{made.ended}", ".log-foot .good")


def _back(platform: Platform, address: str, shown: str) -> Measured:
    with _signed_in(platform.url, platform.token) as (page, _session):
        page.evaluate(f"location.hash = '{address}'")
        page.wait_for_selector(shown)
        platform.apiserver.kill()
        page.wait_for_selector("#connection:not(.live)")
        time.sleep(5)  # as long as a restart may take, so that the page's pauses have grown
        platform.apiserver.start()
        wait_for("the apiserver", platform.health)
        began = time.monotonic()
        page.wait_for_selector("#connection.live")
        took = time.monotonic() - began
    platform.linked()
    return Measured(took)


def _search(folder: Path) -> Measured:
    with served(folder) as server, _signed_in(f"http://127.0.0.1:{server.port}", server.token) as (page, session):
        page.evaluate("location.hash = '#/builds/1'")
        page.wait_for_selector(".log .record")
        search = """(text) => {
          const input = document.querySelector(".find input");
          input.value = text;
          input.dispatchEvent(new Event("input"));
          return until(() => /^[1-9]/.test(document.querySelector(".found").textContent));
        }"""
        very_first = page.evaluate(search, RARE.lower())
        page.evaluate(FORGET)
        first = page.evaluate(search, RARE)
        shown = page.evaluate(
            "() => { document.querySelector('.find').requestSubmit(); "
            "return until(() => document.querySelector('.record.current')); }"
        )
        page.evaluate("() => until(() => !document.querySelector('.found').textContent.includes('+'))")
        hits = page.locator(".found").inner_text()
        heap = _heap(session)
    return Measured(
        first,
        {"very first, ms": very_first, "to the hit's row, ms": shown, "heap, MB": heap},
        note=f"found: {hits}",
    )


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mib", type=int, default=1024, help="how much text is searched (%(default)s)")
    parser.add_argument("--logs", type=Path, help="a folder for the log that is searched; one that is there is taken")


if __name__ == "__main__":
    command("bench.browser", questions, _add_options)
