"""`watch`, `open`, parts of logs, `help` and `completion`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.cli_server import Asked, Say, Server, as_json, problem, serving
from tests.test_cli_commands import ATTEMPT, BUILD, DETAIL, STEP
from twistedipc.builds.logs import End, Lines, LogDigest, encoder
from twistedipc.cli import watch
from twistedipc.cli.failures import ExitCode
from twistedipc.cli.helping import TOPICS
from twistedipc.cli.main import COMMANDS, commands, main


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No repository, no browser, and nobody waits."""
    for name in ("NO_COLOR", "FORCE_COLOR", "BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "TWISTEDIPC_SERVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(watch, "INTERVAL", 0.001)
    return tmp_path


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def run(server: Server, *arguments: str, **environment: str) -> Result:
    env = {"TWISTEDIPC_URL": server.url, "TWISTEDIPC_TOKEN": "tipc_t", **environment}
    return CliRunner().invoke(commands, arguments, env=env)


# -- watch -----------------------------------------------------------------------------------------------------------


def detail(state: str, **more: object) -> Say:
    ended = None if state in ("queued", "running", "waiting_approval") else "2026-01-02T03:05:16Z"
    return as_json({**DETAIL, "state": state, "reason": "", "ended": ended, **more})


def test_watching_a_build_to_its_end(server: Server) -> None:
    going = {**ATTEMPT, "steps": [{**STEP, "outcome": "running", "ended": None}]}
    server.on(
        "GET /api/v1/builds/7",
        detail("queued", attempts=[]),
        detail("running", attempts=[going]),
        problem(503, "the database is away"),
        detail("running", attempts=[going]),
        detail("succeeded", release_url="http://shop.example/"),
    )
    done = run(server, "watch", "7")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "build 7 of shop: queued",
        "build 7 of shop: running, step build",
        "build 7 of shop: succeeded",
    ]
    assert "the database is away; it is asked again" in done.stderr
    assert "the server is back" in done.stderr
    assert done.stderr.endswith("build 7 succeeded\n")


@pytest.mark.parametrize(
    ("state", "code", "said"),
    [
        ("failed", ExitCode.NOT_SUCCEEDED, "build 7 failed: no such command\n`twistedipc logs 7 --failed`"),
        ("timed_out", ExitCode.NOT_SUCCEEDED, "build 7 timed out"),
        ("waiting_approval", ExitCode.WAITS_APPROVAL, "`twistedipc approve 7`"),
    ],
)
def test_how_a_watched_build_ends(server: Server, state: str, code: ExitCode, said: str) -> None:
    server.on("GET /api/v1/builds/7", detail(state, reason="no such command"))
    done = run(server, "watch", "7")
    assert done.exit_code == code
    assert said in done.stderr


def test_a_watch_that_ends_before_the_build(server: Server) -> None:
    server.on("GET /api/v1/builds/7", detail("running"))

    def stop(self: object, *rest: object, **more: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(watch._Shown, "show", stop)
        done = run(server, "watch", "7")
    assert done.exit_code == ExitCode.INTERRUPTED
    assert "build 7 goes on: `twistedipc logs 7 --follow`" in done.stderr


def test_watching_all_builds(server: Server) -> None:
    other = {**BUILD, "id": 8, "state": "running"}
    old = {**BUILD, "id": 6, "state": "failed", "ended": "2026-01-02T03:05:16Z"}

    pages = [
        [BUILD, old],
        [other, {**BUILD, "state": "running"}, old],
        [other, {**BUILD, "state": "succeeded", "ended": "2026-01-02T03:05:16Z"}, old],
    ]
    server.on(
        "GET /api/v1/builds",
        *(as_json({"builds": page, "next": None}) for page in pages),
        problem(403, "your token has ended"),
    )
    done = run(server, "watch")
    # Those that had ended before aren't news.
    assert done.stdout.splitlines() == [
        "build 7 of shop at main: queued",
        "build 7 of shop at main: running",
        "build 8 of shop at main: running",
        "build 7 of shop at main: succeeded",
    ]
    assert done.exit_code == ExitCode.NOT_ALLOWED


# -- open ------------------------------------------------------------------------------------------------------------


def test_addresses_of_pages(server: Server) -> None:
    server.on("GET /api/v1/projects/shop", problem(404, "there is no project shop"))
    server.on("GET /api/v1/builds", as_json({"builds": [BUILD], "next": None}))
    assert run(server, "open", "--print").stdout == f"{server.url}/\n"
    assert run(server, "open", "7", "--print").stdout == f"{server.url}/#/builds/7\n"
    assert run(server, "open", "latest", "--print").stdout == f"{server.url}/#/builds/7\n"
    assert run(server, "open", "shop", "--print").exit_code == ExitCode.NOT_FOUND


def test_addresses_of_releases(server: Server) -> None:
    made = {**ATTEMPT, "release": 3, "release_state": "live"}
    found = {"release_url": "http://shop.example/", "previews": ["http://build-7--shop.example/"]}
    server.on("GET /api/v1/builds/7", detail("succeeded", attempts=[made], **found))
    assert run(server, "open", "7", "--release", "--print").stdout == "http://shop.example/\n"
    server.on("GET /api/v1/builds/7", detail("succeeded", attempts=[{**made, "release_state": "packed"}], **found))
    assert run(server, "open", "7", "--release", "--print").stdout == "http://build-7--shop.example/\n"
    server.on("GET /api/v1/builds/7", detail("failed"))
    assert run(server, "open", "7", "--release", "--print").exit_code == ExitCode.NOT_FOUND


def test_a_browser_is_given_the_address(server: Server, home: Path) -> None:
    browser = home / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {home}/opened\n')
    browser.chmod(0o755)
    done = run(server, "open", "7", BROWSER=str(browser))
    assert done.exit_code == 0, done.output
    assert (home / "opened").read_text() == f"{server.url}/#/builds/7"
    done = run(server, "open", "7")
    assert done.exit_code == ExitCode.UNAVAILABLE
    assert f"{server.url}/#/builds/7" in done.stderr


# -- parts of logs ---------------------------------------------------------------------------------------------------

#: A line each second from this time on.
BEGAN = 1_767_323_045_000
TOTAL = 40


def with_log(server: Server) -> None:
    batches = [
        Lines(first=number, time=BEGAN + number * 1000, step=0, lines=[f"line {number}"])
        for number in range(1, TOTAL + 1)
    ]
    digest = LogDigest()
    for batch in batches:
        digest.add(batch)

    def page(asked: Asked) -> Say:
        after, limit = int(asked.query["after"]), int(asked.query["limit"])
        shown = batches[after : after + limit]
        until = after + len(shown)
        end = End(lines=TOTAL, sha256=digest.hexdigest(), complete=True, state="failed")
        body = {
            "attempt": 1,
            "batches": json.loads(encoder.encode(shown)),
            "after": until,
            "end": json.loads(encoder.encode(end)) if until >= TOTAL else None,
        }
        return as_json(body)

    def step(index: int, name: str, outcome: str, first: int | None, last: int | None) -> dict[str, object]:
        return {**STEP, "index": index, "name": name, "outcome": outcome, "first": first, "last": last}

    outline = {
        "attempt": 1,
        "records": TOTAL,
        "bytes": 1,
        "complete": True,
        "steps": [
            step(0, "checkout", "succeeded", 1, 9),
            step(1, "build", "failed", 10, 19),
            step(2, "unknown", "succeeded", None, None),
            step(3, "pack", "running", 30, None),
        ],
        "groups": [],
        "annotation_counts": {"errors": 0, "warnings": 0, "notices": 0},
        "annotations": [],
        "errors": [],
    }
    server.on("GET /api/v1/builds/7", detail("failed"))
    server.on("GET /api/v1/builds/7/log", page)
    server.on("GET /api/v1/builds/7/log/outline", as_json(outline))


@pytest.mark.parametrize(
    ("options", "first", "last", "said"),
    [
        (["--failed"], 10, 19, "lines 10 to 19"),
        (["--step", "checkout"], 1, 9, "lines 1 to 9"),
        (["--step", "2"], 10, 19, "lines 10 to 19"),
        (["--step", "pack"], 30, 40, "log complete from line 30 to 40"),
        (["--failed", "--tail", "3"], 17, 19, "lines 17 to 19"),
        (["--tail", "2"], 39, 40, "log complete from line 39 to 40"),
        (["--tail", "100"], 1, 40, "log complete, verified (40 lines)"),
        (["--failed", "--after", "15"], 16, 19, "lines 16 to 19"),
        (["--since", "2026-01-02T03:04:35+00:00"], 30, 40, "log complete from line 30 to 40"),
        (["--since", "2026-01-02T03:04:20+00:00", "--failed"], 15, 19, "lines 15 to 19"),
    ],
)
def test_a_part_of_a_log(server: Server, options: list[str], first: int, last: int, said: str) -> None:
    with_log(server)
    done = run(server, "logs", "7", *options)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [f"line {number}" for number in range(first, last + 1)]
    assert said in done.stderr


def test_parts_that_are_empty(server: Server) -> None:
    with_log(server)
    for options in (["--since", "1s"], ["--tail", "0"], ["--after", "1000"], ["--after", "40"]):
        done = run(server, "logs", "7", *options)
        assert (done.exit_code, done.stdout) == (0, "")
        assert "log has 40 lines: there is none after line" in done.stderr
    done = run(server, "logs", "7", "--failed", "--after", "25")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "no lines\n")


def test_a_place_by_time_takes_few_questions(server: Server) -> None:
    with_log(server)
    assert run(server, "logs", "7", "--since", "2026-01-02T03:04:35+00:00").exit_code == 0
    assert len([asked for asked in server.asked if asked.query.get("limit") == "1"]) <= 6


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--step", "tset"], ExitCode.NOT_FOUND, "has no step tset; there are checkout, build, unknown, pack"),
        (["--step", "unknown"], ExitCode.NOT_FOUND, "doesn't say where step unknown is"),
        (["--step", "build", "--failed"], ExitCode.USAGE, "contradict"),
        (["--failed", "--follow"], ExitCode.USAGE, "--follow goes to the log's end"),
        (["--since", "yesterday"], ExitCode.USAGE, "isn't 30s, 5m, 2h"),
        (["--since", "25:00"], ExitCode.USAGE, "isn't 30s, 5m, 2h"),
    ],
)
def test_parts_that_there_are_not(server: Server, options: list[str], code: ExitCode, said: str) -> None:
    with_log(server)
    done = run(server, "logs", "7", *options)
    assert done.exit_code == code
    assert said in done.stderr


def test_a_build_of_which_nothing_failed(server: Server) -> None:
    with_log(server)
    server.on("GET /api/v1/builds/7/log/outline", lambda asked: as_json({**json.loads(OUTLINE), "steps": []}))
    done = run(server, "logs", "7", "--failed")
    assert done.exit_code == ExitCode.NOT_SUCCEEDED
    assert "no step of build 7 has failed" in done.stderr


OUTLINE = json.dumps(
    {
        "attempt": 1,
        "records": 0,
        "bytes": 0,
        "complete": True,
        "groups": [],
        "annotation_counts": {"errors": 0, "warnings": 0, "notices": 0},
        "annotations": [],
        "errors": [],
    }
)


# -- help ------------------------------------------------------------------------------------------------------------


def say(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(commands, words, env=environment)


def test_help_of_commands_and_topics() -> None:
    assert "Add the project NAME" in say("help", "project", "add").stdout
    assert "Topics of" in say("help").stdout
    for topic, text in TOPICS.items():
        assert say("help", topic).stdout == text
        assert topic in say("help", "--help").stdout
    wrong = say("help", "bulid")
    assert wrong.exit_code == ExitCode.USAGE
    assert "build" in wrong.stderr
    assert say("help", "build", "more").exit_code == ExitCode.USAGE


def test_the_exit_codes_are_those_that_there_are() -> None:
    said = {int(line.split()[0]) for line in TOPICS["exit-codes"].splitlines()}
    assert said == set(map(int, ExitCode))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    done = say("completion", shell)
    assert done.exit_code == 0
    assert "_TWISTEDIPC_COMPLETE" in done.stdout
    assert shell in say("completion", "--help").stdout


def completed(server: Server, *words: str) -> list[str]:
    """What bash is given for a command line."""

    line = " ".join(["twistedipc", *words])
    with pytest.MonkeyPatch.context() as patched:
        for name, value in {
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words)),
            "_TWISTEDIPC_COMPLETE": "bash_complete",
            "TWISTEDIPC_URL": server.url,
        }.items():
            patched.setenv(name, value)
        runner = CliRunner()
        with runner.isolation() as (out, *_rest):
            with pytest.raises(SystemExit):
                main([])
            return [each.partition(",")[2] for each in out.getvalue().decode().split()]


def test_what_is_completed(server: Server) -> None:
    assert "build" in completed(server, "bui")
    assert "latest:failed" in completed(server, "logs", "latest:f")
    assert completed(server, "build", "sh") == []  # nobody wants an error there
    assert set(COMMANDS) <= set(completed(server, ""))
    assert os.environ.get("_TWISTEDIPC_COMPLETE") is None
