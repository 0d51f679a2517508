"""Reading a log over HTTP: each record once, in order, whatever breaks; and never "complete" when it isn't."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli_server import Asked, Say, Server, problem, serving
from twistedipc.builds.logs import Gap, Lines, LogDigest, Notice, Record, StepEnded, StepStarted, encoder
from twistedipc.cli.client import Client
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.logs import LogCheck, Message, follow, read
from twistedipc.cli.printer import LogPrinter
from twistedipc.web.schemas import End


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def client(server: Server) -> Client:
    return Client(server.url, "tipc_x", timeout=5, sleep=lambda seconds: None)


def batch(first: int, *lines: Record, step: int = 0, more: list[int] | None = None) -> Lines:
    return Lines(first=first, time=1, step=step, lines=list(lines), more=more or [])


def end_of(*batches: Lines, state: str = "succeeded", complete: bool = True) -> End:
    digest = LogDigest()
    for each in batches:
        digest.add(each)
    return End(digest.count, digest.hexdigest(), state, complete)


def ndjson(*messages: Message) -> bytes:
    return b"".join(encoder.encode(message) + b"\n" for message in messages)


LOG = "GET /api/v1/builds/7/log"
ALL = [
    batch(1, StepStarted(0, "build", "npm run build"), "one"),
    batch(3, "zwei", "três"),
    batch(5, StepEnded(0, "succeeded", 1200, 0)),
]


def followed(server: Server, after: int = 0) -> list[Message]:
    return list(follow(client(server), 7, 2, after))


def test_a_log_that_does_not_break_off(server: Server) -> None:
    server.on(LOG, Say(chunks=[ndjson(*ALL, end_of(*ALL))]))
    assert followed(server) == [*ALL, end_of(*ALL)]
    assert server.asked[0].query == {"format": "json", "follow": "1", "attempt": "2", "after": "0"}
    assert server.asked[0].headers["authorization"] == "Bearer tipc_x"


def test_it_goes_on_behind_what_was_seen(server: Server) -> None:
    whole = ndjson(ALL[0], ALL[1])
    server.on(
        LOG,
        Say(chunks=[ndjson(ALL[0])], cut=True),
        Say(hang_up=True),
        problem(503, "the database is locked"),
        # Not closed, but without its end: also a break.
        Say(chunks=[ndjson(ALL[0])]),
        # Broken off in the middle of a message.
        Say(chunks=[whole, ndjson(ALL[2])[:20]], cut=True),
        Say(chunks=[ndjson(ALL[2], end_of(*ALL))]),
    )
    assert followed(server) == [*ALL, end_of(*ALL)]
    assert [asked.query["after"] for asked in server.asked] == ["0", "2", "2", "2", "2", "4"]


def test_an_overlap_is_trimmed_by_number(server: Server) -> None:
    server.on(
        LOG,
        Say(chunks=[ndjson(batch(1, "a", "b", "c"))], cut=True),
        Say(chunks=[ndjson(batch(2, "b", "c", "d"), end_of(batch(1, "a", "b", "c", "d")))]),
    )
    lines = [record for m in followed(server) if isinstance(m, Lines) for record in m.lines]
    assert lines == ["a", "b", "c", "d"]


def test_a_gap_is_followed_and_trimmed_as_lines_are(server: Server) -> None:
    end = End(6, "", "succeeded", False)
    server.on(
        LOG,
        Say(chunks=[ndjson(batch(1, "a"), Gap(2, 4, "lost"))], cut=True),
        Say(chunks=[ndjson(Gap(2, 5, "lost"))], cut=True),
        Say(chunks=[ndjson(batch(6, "f"), end)]),
    )
    assert followed(server) == [batch(1, "a"), Gap(2, 4, "lost"), Gap(5, 5, "lost"), batch(6, "f"), end]
    assert [asked.query["after"] for asked in server.asked] == ["0", "4", "5"]


def test_a_server_that_stays_away(server: Server) -> None:
    server.on(LOG, Say(hang_up=True))
    clock = iter(range(0, 10_000, 50))
    with pytest.raises(Failure) as caught:
        list(follow(client(server), 7, 1, 0, monotonic=lambda: float(next(clock))))
    assert caught.value.exit_code == ExitCode.UNAVAILABLE


def test_a_token_that_is_revoked_meanwhile(server: Server) -> None:
    server.on(LOG, Say(chunks=[ndjson(ALL[0])], cut=True), problem(401, "this token is not good"))
    with pytest.raises(Failure) as caught:
        followed(server)
    assert caught.value.exit_code == ExitCode.NOT_ALLOWED


def test_nonsense_instead_of_a_log(server: Server) -> None:
    server.on(LOG, Say(chunks=[b"<html>\n"]))
    with pytest.raises(Failure, match="isn't understood"):
        followed(server)


def test_pages(server: Server) -> None:
    def page(asked: Asked) -> Say:
        after = int(asked.query["after"])
        # As many as fit: here, a batch a page.
        found = [each for each in ALL if each.first > after][:1]
        last = found[-1].end - 1 if found else after
        end = json.loads(encoder.encode(end_of(*ALL))) if last == 5 else None
        batches = [json.loads(encoder.encode(each)) for each in found]
        return Say(body=json.dumps({"attempt": 1, "batches": batches, "after": last, "end": end}).encode())

    server.on(LOG, page)
    assert list(read(client(server), 7, 1, 0)) == [*ALL, end_of(*ALL)]
    assert [asked.query["after"] for asked in server.asked] == ["0", "2", "4"]


def test_the_pages_of_a_log_that_goes_on(server: Server) -> None:
    def page(asked: Asked) -> Say:
        found = [each for each in ALL[:2] if each.first > int(asked.query["after"])]
        batches = [json.loads(encoder.encode(each)) for each in found]
        return Say(body=json.dumps({"attempt": 1, "batches": batches, "after": 4, "end": None}).encode())

    server.on(LOG, page)
    check = LogCheck()
    for message in read(client(server), 7, 1, 0):
        check.see(message)
    assert check.verdict() == (ExitCode.OK, "4 lines so far; the log goes on")


# -- the verdict -----------------------------------------------------------------------------------------------------


def verdict(*messages: Message, after: int = 0) -> tuple[ExitCode, str]:
    check = LogCheck(after)
    for message in messages:
        check.see(message)
    return check.verdict()


def test_complete() -> None:
    assert verdict(*ALL, end_of(*ALL)) == (ExitCode.OK, "complete, verified (5 lines)")
    assert verdict(end_of()) == (ExitCode.OK, "complete, verified (0 lines)")


def test_other_bytes() -> None:
    other = [ALL[0], batch(3, "zwei", "tres"), ALL[2]]
    code, text = verdict(*other, end_of(*ALL))
    assert (code, text) == (ExitCode.INCOMPLETE, "not what the build wrote: the SHA-256 of the 5 lines differs")


def test_lines_are_missing() -> None:
    assert verdict(*ALL[:2], end_of(*ALL)) == (ExitCode.INCOMPLETE, "incomplete: 4 of 5 lines came")
    with_gap: list[Message] = [ALL[0], Gap(3, 4, "the disk was full"), ALL[2], end_of(*ALL)]
    assert verdict(*with_gap) == (ExitCode.INCOMPLETE, "incomplete: 2 of 5 lines are missing")
    code, text = verdict(*ALL, end_of(*ALL, complete=False))
    assert code is ExitCode.INCOMPLETE
    assert "couldn't verify" in text


def test_a_hole_that_is_not_called_one() -> None:
    with pytest.raises(Failure, match="sent record 5 of the log where record 3 is next") as caught:
        verdict(ALL[0], ALL[2])
    assert caught.value.exit_code == ExitCode.INCOMPLETE


def test_a_gap_that_hides_another() -> None:
    with pytest.raises(Failure, match="sent record 4 of the log where record 3 is next"):
        verdict(ALL[0], Gap(4, 4, "lost"), ALL[2])


def test_a_log_with_a_gap_is_never_complete() -> None:
    """Whatever the server says of it; of a part, that part's gaps count."""
    assert verdict(Gap(1, 5, "lost"), end_of(*ALL))[0] is ExitCode.INCOMPLETE
    part: list[Message] = [Gap(4, 4, "lost"), ALL[2], end_of(*ALL)]
    assert verdict(*part, after=3) == (ExitCode.INCOMPLETE, "incomplete: 1 of 5 lines are missing")


def test_a_part_is_verified_by_number_only() -> None:
    code, text = verdict(*ALL[1:], end_of(*ALL), after=2)
    assert (code, text) == (ExitCode.OK, "complete from line 3 to 5; verified by number only")
    assert verdict(ALL[1], end_of(*ALL), after=2)[0] is ExitCode.INCOMPLETE
    # Beyond the end there is nothing, which is all there is.
    assert verdict(end_of(*ALL), after=100)[0] is ExitCode.OK


@given(st.lists(st.lists(st.text(max_size=5), min_size=1, max_size=4), max_size=6), st.data())
def test_it_is_complete_only_if_it_is(texts: list[list[str]], data: st.DataObject) -> None:
    batches, first = [], 1
    for lines in texts:
        batches.append(batch(first, *lines))
        first += len(lines)
    end = end_of(*batches)
    assert verdict(*batches, end)[0] is ExitCode.OK
    if batches:
        index = data.draw(st.integers(0, len(batches) - 1))
        try:
            code, _ = verdict(*batches[:index], *batches[index + 1 :], end)
        except Failure as failure:
            code = ExitCode(failure.exit_code)
        assert code is ExitCode.INCOMPLETE


# -- how it looks ----------------------------------------------------------------------------------------------------


def printed(*messages: Message, colour: bool = False) -> str:
    out = io.StringIO()
    printer = LogPrinter(out, colour=colour)
    for message in messages:
        printer.show(message)
    return out.getvalue()


def test_steps_are_headings() -> None:
    failed = batch(6, StepStarted(1, "test", "npm test\n--all"), "no", StepEnded(1, "timed_out", 61_000, 143))
    assert printed(*ALL, failed, end_of()) == (
        "── build $ npm run build\none\nzwei\ntrês\n✓ build 1.2 s\n"
        "── test $ npm test --all\nno\n✗ test timed out after 1 min 1 s, exit code 143\n"
    )


def test_notices_and_gaps() -> None:
    text = printed(batch(1, Notice("warning", "the disk is full\nagain")), Gap(2, 4, "the runner was killed"))
    assert text == "warning: the disk is full again\n… 3 lines are missing here: the runner was killed\n"
    assert printed(Gap(2, 2, "lost")) == "… 1 line is missing here: lost\n"


def test_fragments_are_joined() -> None:
    text = printed(batch(1, "a", "b", more=[0]), batch(3, "c", more=[0]), batch(4, "d", "e"))
    assert text == "ab\ncd\ne\n"


def test_a_line_without_its_end_is_ended_before_what_the_platform_says() -> None:
    text = printed(batch(1, "rendering 20%", more=[0]), batch(2, StepEnded(0, "cancelled", 5, None)))
    assert text == "rendering 20%\n✗ step 1 cancelled after 0.0 s\n"
    assert printed(batch(1, "x", more=[0]), end_of()) == "x\n"


def test_colours_are_kept_and_do_not_leak() -> None:
    message = batch(1, "\x1b[32mgreen", "plain", StepEnded(0, "succeeded", 0, 0))
    assert printed(message) == "green\nplain\n✓ step 1 0.0 s\n"
    assert printed(message, colour=True) == ("\x1b[32mgreen\nplain\x1b[0m\n\x1b[32m✓ step 1 0.0 s\x1b[0m\n")


@pytest.mark.parametrize("colour", [False, True])
def test_nothing_that_a_terminal_obeys_gets_through(colour: bool) -> None:
    evil = "\x1b[2J\x1b]52;c;ZXZpbA==\x07\x1b]8;;javascript:alert(1)\x1b\\x\x9b2J\u202e\x08"
    text = printed(
        batch(1, evil, StepStarted(0, evil, evil), Notice("error", evil), more=[]), Gap(5, 6, evil), colour=colour
    )
    for bad in ("\x1b[2J", "\x1b]", "\x9b", "\u202e", "\x08", "\x07"):
        assert bad not in text
