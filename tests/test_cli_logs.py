"""Reading a log over HTTP: each record once, in order, whatever breaks; and never "complete" when it isn't."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli_server import Asked, Say, Server, problem, serving
from twistedipc.builds.logs import (
    Annotation,
    End,
    Gap,
    Group,
    Lines,
    LogDigest,
    Message,
    Notice,
    Progress,
    Record,
    StepEnded,
    StepStarted,
    Summary,
    encoder,
)
from twistedipc.cli.client import Client
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.logs import LogCheck, follow, read
from twistedipc.terminal.bar import ERASE
from twistedipc.terminal.printer import LogPrinter, columns_of


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def client(server: Server) -> Client:
    return Client(server.url, "tipc_x", timeout=60, sleep=lambda seconds: None)


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
    return list(follow(client(server), 7, 2, after, lambda sentence: None))


class Away:
    """A clock on which each attempt at the server takes so many seconds, and what the command says of it."""

    def __init__(self, server: Server, seconds: float) -> None:
        self._server = server
        self._seconds = seconds
        self._now = 0.0
        self.said: list[str] = []

    def monotonic(self) -> float:
        self._now += self._seconds
        return self._now

    def followed(self) -> list[Message]:
        return list(follow(client(self._server), 7, 2, 0, self.said.append, monotonic=self.monotonic))


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


def test_a_server_that_stays_away_for_long(server: Server) -> None:
    """The command gave up after two minutes. Now it says once a minute that it waits, and when the server is back."""
    server.on(
        LOG,
        Say(chunks=[ndjson(ALL[0])], cut=True),
        *[Say(hang_up=True)] * 20,
        Say(chunks=[ndjson(*ALL[1:], end_of(*ALL))]),
    )
    away = Away(server, 20.0)
    assert away.followed() == [*ALL, end_of(*ALL)]
    assert len(away.said) == 8
    assert all(sentence.startswith(f"can't reach the server at {server.url}: ") for sentence in away.said[:-1])
    assert "asked for again until it goes on" in away.said[0]
    assert away.said[-1] == "the log goes on"


def test_a_short_interruption_is_not_worth_a_word(server: Server) -> None:
    server.on(
        LOG,
        Say(chunks=[ndjson(ALL[0])], cut=True),
        *[Say(hang_up=True)] * 2,
        Say(chunks=[ndjson(*ALL[1:], end_of(*ALL))]),
    )
    away = Away(server, 0.5)
    assert away.followed() == [*ALL, end_of(*ALL)]
    assert away.said == []


def test_a_silent_build(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's signs of life, and messages of later versions, say nothing of the log."""
    alive = b'{"type":"alive"}\n'
    server.on(
        LOG,
        Say(
            chunks=[
                alive * 30,
                ndjson(ALL[0]),
                b'{"type":"weather","sun":true}\n',
                ndjson(*ALL[1:], end_of(*ALL)),
                alive,
            ]
        ),
    )
    away = Away(server, 1000.0)
    assert away.followed() == [*ALL, end_of(*ALL)]
    assert away.said == []


def test_a_silent_connection_is_made_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is dead, or the server sends no signs of life: in neither case is the server unreachable."""
    monkeypatch.setattr("twistedipc.cli.client.SILENCE", 0.05)
    server.on(LOG, *[Say(chunks=[ndjson(ALL[0])], silent=True)] * 3, Say(chunks=[ndjson(*ALL[1:], end_of(*ALL))]))
    away = Away(server, 1000.0)
    assert away.followed() == [*ALL, end_of(*ALL)]
    assert away.said == []


def test_a_token_that_is_revoked_meanwhile(server: Server) -> None:
    server.on(LOG, Say(chunks=[ndjson(ALL[0])], cut=True), problem(401, "this token is not valid"))
    with pytest.raises(Failure) as caught:
        followed(server)
    assert caught.value.exit_code == ExitCode.NOT_ALLOWED


def test_a_token_that_is_revoked_while_a_log_is_followed(server: Server) -> None:
    """The server says why it breaks off: the log isn't asked for again, and isn't taken for a whole one."""
    closed = b'{"type":"closed","code":4401,"reason":"the token was revoked"}\n'
    server.on(LOG, Say(chunks=[ndjson(ALL[0]), closed], cut=True))
    with pytest.raises(Failure, match="the token was revoked: the log breaks off here") as caught:
        followed(server)
    assert caught.value.exit_code == ExitCode.NOT_ALLOWED
    assert len(server.asked) == 1


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
    assert verdict(end_of(*ALL), after=100) == (ExitCode.OK, "has 5 lines: there is none after line 100")


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


def printed(*messages: Message, colour: bool = False, numbers: bool = False) -> str:
    out = io.StringIO()
    with LogPrinter(out, colour=colour, numbers=numbers) as printer:
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


def test_each_line_with_its_number() -> None:
    first = batch(7, StepStarted(0, "build", ""), "10%\r20%", "compil", Progress(0.5), more=[2])
    second = batch(11, "ing", Group("x"), Group(""), "", "", "o", more=[4, 5])
    assert printed(first, second, Gap(17, 19, "lost"), numbers=True).splitlines() == [
        "7:── build",
        "8:20%",
        "9:compiling",
        "12:▸ x",
        "14:",
        "15:o",
        "17:… 3 lines are missing here: lost",
    ]
    assert printed(batch(1, "\x1b[31mred"), colour=True, numbers=True) == "1:\x1b[31mred\x1b[0m\n"


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
        batch(1, evil, StepStarted(0, evil, evil), Notice("error", evil), more=[]),
        Gap(5, 6, evil),
        batch(7, Group(evil), Annotation("error", evil, evil, 1), Progress(0.5, evil), Summary(evil)),
        colour=colour,
    )
    for bad in ("\x1b[2J", "\x1b]", "\x9b", "\u202e", "\x08", "\x07"):
        assert bad not in text


# -- what the build says of itself -----------------------------------------------------------------------------------


def test_annotations_and_groups_are_lines() -> None:
    said = batch(
        1, Group("bundle"), Annotation("error", "no\nsuch name", "a.ts", 3), Annotation("notice", "ok"), Group(""), "x"
    )
    assert printed(said) == "▸ bundle\na.ts:3: error: no such name\nnotice: ok\nx\n"
    assert "\x1b[31ma.ts:3: error: no such name\x1b[0m\n" in printed(said, colour=True)


def test_of_what_tools_print_their_own_words_are_lines() -> None:
    line = "a.ts(3,4): error TS1: no"
    assert printed(batch(1, line, Annotation("error", "TS1: no", "a.ts", 3, 4, repeats=True))) == f"{line}\n"
    assert printed(batch(1, Annotation("error", "no", "a.ts", 3, 4))) == "a.ts:3:4: error: no\n"


def test_without_a_terminal_progress_is_thinned() -> None:
    many = [Progress(index / 1000, f"file {index}") for index in range(1001)]
    assert printed(batch(1, *many)) == "0% file 0\n25% file 250\n50% file 500\n75% file 750\n100% file 1000\n"
    assert printed(batch(1, "compil", Progress(0.5), "ing", more=[0])) == "compiling\n", "no line is broken for it"


def test_the_summary_comes_once_and_last() -> None:
    said = batch(1, Summary("# One"), "line", Summary("# Two\r\n\n* a\n"), StepEnded(0, "succeeded", 0, 0))
    whole = "line\n✓ step 1 0.0 s\n── summary\n# Two\n\n* a\n"
    assert printed(said, end_of()) == printed(said) == whole


class Terminal(io.StringIO):
    """A terminal that a log is printed to: what a person sees of it."""

    def __init__(self, columns: int = 60, rows: int = 12) -> None:
        super().__init__()
        self._screen = pyte.HistoryScreen(columns, rows, history=10_000)
        self._stream = pyte.Stream(self._screen)
        self.columns = columns
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        self.writes.append(text)
        self._stream.feed(text.replace("\n", "\r\n"))  # as the kernel does
        return len(text)

    @property
    def rows(self) -> list[str]:
        """All rows up to the last that has something, those that have scrolled away too."""
        gone = ["".join(row[column].data for column in range(self.columns)) for row in self._screen.history.top]
        rows = [row.rstrip() for row in [*gone, *self._screen.display]]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    @property
    def cursor(self) -> tuple[int, int]:
        """The cursor's row, counted as `rows` are, and its column."""
        return len(self._screen.history.top) + self._screen.cursor.y, self._screen.cursor.x

    def printer(self, *, colour: bool = True, live: bool = True) -> LogPrinter:
        return LogPrinter(self, colour=colour, columns=lambda: self.columns, live=live)


def test_a_bar_is_below_what_is_followed() -> None:
    screen = Terminal()
    with screen.printer() as printer:
        printer.show(batch(1, "one", Progress(0.5, "bundling")))
        bar = f" {'━' * 15}{'─' * 15}  50% bundling"
        assert screen.rows == ["one", bar]
        assert screen.cursor == (1, 0)
        for number in range(3, 33):
            printer.show(batch(number, f"line {number}"))
        assert screen.rows == ["one", *[f"line {number}" for number in range(3, 33)], bar], "it scrolls with it"
        printer.show(batch(33, "a line that ", more=[0]))
        assert screen.rows[-2:] == ["a line that", bar]
        printer.show(batch(34, Progress(1)))
        assert screen.rows[-2:] == ["a line that", f" {'━' * 30} 100%"]
        printer.show(batch(35, "goes on"))
        assert screen.rows[-2:] == ["a line that goes on", f" {'━' * 30} 100%"]
        printer.show(batch(36, StepEnded(0, "succeeded", 1000, 0)))
        assert screen.rows[-2:] == ["a line that goes on", "✓ step 1 1.0 s"], "it was the step's"


def test_each_message_is_one_write() -> None:
    """Between two writes a terminal may paint: text without its bar would flicker."""
    screen = Terminal()
    with screen.printer() as printer:
        printer.show(batch(1, "a", Progress(0.1), "b", Notice("info", "c"), Progress(0.2), "d"))
        printer.show(batch(7, Progress(0.3)))
        assert len(screen.writes) == 2
        assert ERASE not in screen.writes[1].removesuffix(f"{ERASE}\r"), "it is drawn over"
        printer.show(batch(8, Progress(0.3)))
        assert len(screen.writes) == 2, "nothing is new"


def test_what_is_said_besides_is_not_mixed_with_the_bar() -> None:
    screen = Terminal()
    with screen.printer() as printer:
        printer.show(batch(1, "one", "two", Progress(0.5), more=[1]))
        printer.aside(lambda: print("the server is away", file=screen))
        assert screen.rows == ["one", "two", "the server is away"]
        printer.show(batch(4, "three"))
        assert screen.rows[:-1] == ["one", "two", "the server is away", "three"]
        assert screen.rows[-1].endswith(" 50%")


def test_no_bar_is_left_when_it_is_interrupted() -> None:
    screen = Terminal()

    def interrupted() -> None:
        with screen.printer() as printer:
            printer.show(batch(1, "one", "two", Progress(0.5), more=[1]))
            assert len(screen.rows) == 3
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert screen.rows == ["one", "two"]
    assert screen.cursor == (2, 0)


def test_a_log_that_is_only_looked_at_has_no_bar() -> None:
    screen = Terminal()
    with screen.printer(live=False) as printer:
        printer.show(batch(1, "one", Progress(0.5, "bundling")))
    assert screen.rows == ["one", "50% bundling"]


def test_a_bar_fits_every_terminal() -> None:
    event = Progress(0.5, "日本語 " * 30)
    for columns in range(1, 130):
        screen = Terminal(columns)
        with screen.printer() as printer:
            printer.show(batch(1, event))
            assert len(screen.rows) <= 1
            assert screen.cursor == (0, 0)
            assert columns < 6 or "50%" in screen.rows[0]


def test_a_terminal_that_has_another_size_now() -> None:
    screen = Terminal()
    with screen.printer() as printer:
        printer.show(batch(1, "one", Progress(0.5, "bundling")))
        screen.columns = 20
        printer.show(batch(3, Progress(0.5, "bundling")))
        assert screen.rows == ["one", f" {'━' * 6}{'─' * 7}  50%"]


pieces = st.text(alphabet="abc ", max_size=12)
said_records = st.lists(
    pieces
    | st.builds(Progress, st.floats(0, 1), pieces)
    | st.builds(Annotation, st.sampled_from(["notice", "warning", "error"]), st.just("m"))
    | st.just(StepEnded(0, "succeeded", 0, 0))
    | st.builds(Group, pieces),
    min_size=1,
    max_size=5,
)


@given(st.lists(st.tuples(said_records, st.sets(st.integers(0, 4))), max_size=8))
def test_bars_leave_nothing_behind(groups: list[tuple[list[Record], set[int]]]) -> None:
    """In the end a terminal shows what it would show had there never been a bar."""
    with_bar, without = Terminal(30, 6), Terminal(30, 6)
    first = 1
    with with_bar.printer() as one, without.printer() as other:
        for records, open_ones in groups:
            more = sorted(index for index in open_ones if index < len(records) and isinstance(records[index], str))
            one.show(batch(first, *records, more=more))
            silent: list[Record] = ["" if isinstance(record, Progress) else record for record in records]
            as_before = sorted({*more, *[index for index, each in enumerate(records) if isinstance(each, Progress)]})
            other.show(batch(first, *silent, more=as_before))
            first += len(records)
    assert with_bar.rows == without.rows


def test_a_terminal_shows_the_summary_as_markdown() -> None:
    screen = Terminal(rows=40)
    markdown = (
        "# Sizes\n\n| file | bytes |\n| --- | ---: |\n| a.js | 10 |\n\n**ok** [all](https://x.example/) <b>\n\n* one\n"
    )
    with screen.printer() as printer:
        printer.show(batch(1, "line", Summary(markdown)))
        printer.show(end_of())
    shown = "\n".join(screen.rows)
    assert "── summary" in shown
    assert "file  bytes" in shown
    assert "ok all (https://x.example/)" in shown, "an address is seen, not hidden"
    assert " • one" in shown
    assert "**" not in shown
    assert "\x1b]8" not in "".join(screen.writes)


@given(st.text(alphabet="#*_`[]()!<>|-~ \n\t\\1.ab:\x1b\u202e&;", max_size=200))
def test_any_summary_can_be_shown(markdown: str) -> None:
    screen = Terminal()
    with screen.printer() as printer:
        printer.show(batch(1, Summary(markdown)))
    text = "".join(screen.writes)
    assert "\u202e" not in text
    assert all(piece.split("m")[0].replace(";", "").isdigit() for piece in text.split("\x1b[")[1:])


def test_what_is_no_terminal_to_draw_in(monkeypatch: pytest.MonkeyPatch) -> None:
    parent, child = os.openpty()
    with open(parent, "rb", buffering=0), open(child, "w") as out:
        monkeypatch.setenv("TERM", "dumb")
        assert columns_of(out) is None
        monkeypatch.setenv("TERM", "xterm-256color")
        columns = columns_of(out)
        assert columns is not None
        assert columns() == 80, "it doesn't say"
    assert columns() == 80, "it is gone"
    assert columns_of(io.StringIO()) is None
