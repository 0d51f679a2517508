"""`twistedipc logs --grep`: what is asked for, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from click.testing import CliRunner, Result

from tests.cli_server import Answer, Asked, Say, Server, problem, serving
from twistedipc.cli.grep import PAGE
from twistedipc.cli.main import commands
from twistedipc.finding.blocks import Line
from twistedipc.finding.messages import LogHit, SearchedLog, SearchEnd
from twistedipc.web.logs.messages import Closed

LOG = "GET /api/v1/builds/7/log/search"
LOGS = "GET /api/v1/projects/shop/logs/search"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def run(server: Server, *arguments: str) -> Result:
    environment = {"TWISTEDIPC_URL": server.url, "TWISTEDIPC_TOKEN": "tipc_x", "NO_COLOR": ""}
    return CliRunner().invoke(commands, ["logs", *arguments], env=environment)


def hit(record: int, *parts: str, before: tuple[str, ...] = (), after: tuple[str, ...] = (), build: int = 7) -> LogHit:
    return LogHit(
        build=build,
        attempt=1,
        record=record,
        parts=list(parts),
        before=[Line(record - len(before) + index, text) for index, text in enumerate(before)],
        after=[Line(record + 1 + index, text) for index, text in enumerate(after)],
    )


def log(matches: int, build: int = 7, missing: int = 0, complete: bool = True) -> SearchedLog:
    return SearchedLog(build=build, attempt=1, matches=matches, searched=9, missing=missing, complete=complete)


def end(matches: int, next: int | str | None = None, missing: int = 0) -> SearchEnd:
    return SearchEnd(matches=matches, searched=9, missing=missing, complete=next is None, next=next)


def say(*messages: LogHit | SearchedLog | SearchEnd | Closed) -> Say:
    body = b"".join(msgspec.json.encode(message) + b"\n" for message in messages)
    return Say(200, body, "application/x-ndjson")


def test_lines_with_their_numbers(server: Server) -> None:
    server.answers[LOG] = [say(hit(3, "an ", "error", "\x1b[2J here"), hit(12, "", "error", ""), log(2), end(2))]
    result = run(server, "7", "--grep", "error", "--attempt", "2", "--after", "1")
    assert (result.stdout, result.stderr, result.exit_code) == ("3:an error here\n12:error\n", "", 0)
    assert server.asked[-1].query == {
        "q": "error",
        "kind": "text",
        "case": "1",
        "context": "0",
        "count": "0",
        "limit": str(PAGE),
        "format": "ndjson",
        "order": "oldest",
        "attempt": "2",
        "after": "1",
    }
    server.answers[LOG] = [say(hit(3, "an ", "error", ""), log(1), end(1))]
    assert run(server, "7", "--grep", "error", "--color").stdout == "3:an \x1b[1;31merror\x1b[0m\n"


def test_nothing_is_found(server: Server) -> None:
    server.answers[LOG] = [say(end(0))]
    result = run(server, "7", "--grep", "x+", "-E", "-i", "--newest")
    assert (result.output, result.exit_code) == ("", 1)
    query = server.asked[-1].query
    assert (query["kind"], query["case"], query["order"]) == ("regex", "0", "newest")


@pytest.mark.parametrize(("order", "name"), [("--oldest", "after"), ("--newest", "before")])
def test_all_hits_however_many(server: Server, order: str, name: str) -> None:
    def answer(asked: Asked) -> Say:
        where = int(asked.query.get(name, 0))
        return say(hit(where + 5, "x"), log(1), end(1, None if where == 10 else where + 5))

    server.answers[LOG] = [answer]
    assert run(server, "7", "--grep", "x", order).stdout == "5:x\n10:x\n15:x\n"
    assert run(server, "7", "--grep", "x", order, "-m", "2").stdout == "5:x\n10:x\n"
    assert [asked.query["limit"] for asked in server.asked[-2:]] == ["2", "1"]


def test_lines_around_are_shown_once(server: Server) -> None:
    hits = [
        hit(3, "x", before=("a", "b"), after=("d", "x")),
        hit(5, "x", before=("x", "d"), after=("f", "g")),
        hit(20, "x", before=("r", "s"), after=("u", "v")),
    ]
    server.answers[LOG] = [say(*hits, log(3), end(3))]
    result = run(server, "7", "--grep", "x", "-C", "2")
    assert result.stdout.split() == "1-a 2-b 3:x 4-d 5:x 6-f 7-g -- 18-r 19-s 20:x 21-u 22-v".split()
    server.answers[LOG] = [say(*hits[::-1], log(3), end(3))]
    result = run(server, "7", "--grep", "x", "-C", "2", "--newest")
    shown = "18-r 19-s 20:x 21-u 22-v -- 3-x 4-d 5:x 6-f 7-g -- 1-a 2-b 3:x 4-d 5-x".split()
    assert result.stdout.split() == shown


def test_a_project(server: Server) -> None:
    first = say(hit(3, "", "x", "!", build=9), log(1, 9), hit(1, "", "x", ""), log(1), end(2, "7-1"))
    server.answers[LOGS] = [lambda asked: say(end(0)) if "before" in asked.query else first]
    result = run(server, "--project", "shop", "--grep", "x")
    assert (result.stdout, result.exit_code) == ("9-1:3:x!\n7-1:1:x\n", 0)
    assert (server.asked[-1].query["before"], server.asked[-1].query["order"]) == ("7-1", "newest")
    server.answers[LOGS] = [say(hit(1, "x"), log(1), end(1, "7-1"))]
    result = run(server, "--project", "shop", "--grep", "x", "--oldest", "-m", "1")
    assert result.stdout == "7-1:1:x\n"
    assert server.asked[-1].query["order"] == "oldest"


def test_counts(server: Server) -> None:
    server.answers[LOG] = [say(log(12345, missing=3), end(12345, missing=3))]
    result = run(server, "7", "--grep", "x", "--count")
    assert (result.stdout, result.exit_code) == ("12345\n", 0)
    assert "3 records could not be searched" in result.stderr
    assert (server.asked[-1].query["count"], server.asked[-1].query["limit"]) == ("1", "0")
    server.answers[LOGS] = [say(log(2, 9), log(3, complete=False), end(5))]
    assert run(server, "--project", "shop", "--grep", "x", "--count").stdout == "9-1:2\n7-1:3 or more\n"


def test_what_could_not_be_searched_is_said(server: Server) -> None:
    removed = msgspec.structs.replace(log(0, missing=3), removed="this log was removed on 2030-03-17")
    server.answers[LOG] = [say(removed, end(0, missing=3))]
    result = run(server, "7", "--grep", "x")
    assert (result.stdout, result.exit_code) == ("", 6)
    assert "this log was removed on 2030-03-17" in result.stderr
    assert "could not be searched" not in result.stderr
    server.answers[LOG] = [say(log(0, missing=3), end(0, missing=3))]
    result = run(server, "7", "--grep", "x")
    assert (result.stdout, result.exit_code) == ("", 6)
    assert "some records could not be searched" in result.stderr


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (problem(422, "the regular expression isn't one of RE2: missing )"), 2, "missing )"),
        (problem(503, "2 searches run and 20 wait already; ask again soon"), 5, "ask again soon"),
        (say(hit(1, "x")), 5, "broke off in the middle of the search"),
        (say(Closed(code=4401, reason="the token was revoked")), 3, "the token was revoked"),
        (Say(200, b"{}\n"), 5, "isn't understood"),
    ],
)
def test_what_goes_wrong(server: Server, answer: Answer, code: int, said: str) -> None:
    server.answers[LOG] = [answer]
    result = run(server, "7", "--grep", "(")
    assert result.exit_code == code, result.output
    assert said in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--project", "shop"),
        ("7", "--project", "shop", "--grep", "x"),
        ("7", "--grep", "x", "--follow"),
        ("7", "-i"),
        ("7", "--oldest"),
        ("7", "--count"),
    ],
)
def test_options_that_make_no_sense(server: Server, arguments: tuple[str, ...]) -> None:
    assert run(server, *arguments).exit_code == 2
    assert not server.asked
