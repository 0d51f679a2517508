"""The log over HTTP: pages, streams, and their forms."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import deferLater

from tests.web_world import Answer, TwinEntry, World, connect, eventually, reactor, request_bytes
from twistedipc.builds.logs import (
    Annotation,
    End,
    Gap,
    Group,
    Lines,
    Notice,
    Progress,
    Record,
    StepEnded,
    StepStarted,
    Summary,
    encoder,
    lines_decoder,
)
from twistedipc.storage.errors import LedgerUnavailable
from twistedipc.web.api.schemas import LogPage
from twistedipc.web.logs.forms import TextForm, message_part
from twistedipc.web.logs.stream import Pace


class Pages(World):
    async def prepare(self) -> None:
        await self.project()
        self.number = await self.build()
        self.log = self.logs.of(f"{self.number}-1")
        self.path = f"/api/v1/builds/{self.number}/log"

    async def test_pages_until_the_end(self) -> None:
        self.log.stored = True
        self.log.add("a", "b", "c", more=[1])
        self.log.gap(2)
        self.log.add("f")
        self.log.end()
        after, seen = 0, []
        for _ in range(10):
            answer = await self.ask("GET", f"{self.path}?after={after}&limit=2")
            page = answer.json
            # A client in Python has it by its type.
            assert msgspec.to_builtins(msgspec.json.decode(answer.body, type=LogPage)) == page
            seen += page["batches"]
            after = page["after"]
            if page["end"] is not None:
                break
        assert [(each["type"], each.get("first", each.get("from"))) for each in seen][:1] == [("lines", 1)]
        assert after == 6
        assert page["end"] == {"type": "end", "lines": 6, "sha256": "00", "state": "succeeded", "complete": True}
        assert seen[0] == {"type": "lines", "first": 1, "time": 1, "step": 0, "lines": ["a", "b"], "more": [1]}
        assert all(cursor.closed for cursor in self.log.cursors)

    async def test_from_within_a_gap(self) -> None:
        self.log.add("a")
        self.log.gap(5)
        self.log.add("g")
        self.log.end(complete=False)
        page = (await self.ask("GET", f"{self.path}?after=3")).json
        assert page["batches"] == [
            {"type": "gap", "from": 4, "to": 6, "reason": "lost"},
            {"type": "lines", "first": 7, "time": 1, "step": 0, "lines": ["g"]},
        ]
        assert (page["after"], page["end"]["complete"]) == (7, False)
        # A gap is one message, however many records it stands for.
        page = (await self.ask("GET", f"{self.path}?after=1&limit=1")).json
        assert (page["after"], [each["type"] for each in page["batches"]]) == (6, ["gap"])
        text = (await self.ask("GET", f"{self.path}?format=text&after=3")).body.decode()
        assert (
            text == "==> records 4 to 6 are missing: lost\ng\n==> succeeded: 7 records, NOT complete, sha256 unknown\n"
        )

    async def test_a_log_that_goes_on_has_no_end(self) -> None:
        self.log.add("a")
        page = (await self.ask("GET", self.path)).json
        assert (page["after"], page["end"], page["attempt"]) == (1, None, 1)
        page = (await self.ask("GET", f"{self.path}?after=1")).json
        assert (page["after"], page["batches"]) == (1, [])

    async def test_bad_queries(self) -> None:
        for query in (
            "after=-1",
            "after=NaN",
            "after=" + "9" * 30,
            "limit=0",
            "limit=10001",
            "format=html",
            "follow=yes",
            "x=1",
            "attempt=0",
            "after=1&after=2",
            "after=1e3",
            "after=1.0",
            "after=01",
            "after=%2B1",
            "limit=1E1",
            "attempt=1.0",
        ):
            self.problem(await self.ask("GET", f"{self.path}?{query}"), 422)
        self.problem(await self.ask("GET", f"{self.path}?attempt=2"), 404, "no attempt 2")

    async def test_an_unavailable_ledger_is_503_also_for_a_stream(self) -> None:
        self.log.stored = True
        self.log.fault = LedgerUnavailable("the database is locked")
        for query in ("", "?format=text", "?follow=1"):
            self.problem(await self.ask("GET", self.path + query), 503, "locked")
        assert all(cursor.closed for cursor in self.log.cursors)


class Streams(World):
    async def prepare(self) -> None:
        await self.project()
        self.number = await self.build()
        self.log = self.logs.of(f"{self.number}-1")
        self.path = f"/api/v1/builds/{self.number}/log"

    def go_at(self, pace: Pace) -> None:
        """Have followed logs go at this pace."""
        # The context is frozen, so that this isn't done by accident.
        object.__setattr__(self.context, "log_pace", pace)

    def forgotten(self) -> bool:
        """No response holds a place in the log any more."""
        return all(cursor.closed for cursor in self.log.cursors)

    async def _follow(self, query: str) -> Any:
        client = await connect(self.port)
        assert client.transport is not None
        headers = {"Authorization": f"Bearer {self.admin}"}
        client.transport.write(request_bytes("GET", f"{self.path}?{query}", headers, b""))
        return client

    async def test_text_as_it_is_now(self) -> None:
        self.log.add(StepStarted(0, "install", "npm ci"), "\x1b[31mred\x1b[0m \x1b[2J", "10%\r100%")
        self.log.add("frag", "ment", StepEnded(0, "failed", 1500, 2), Notice("warning", "careful"), more=[0])
        answer = await self.ask("GET", f"{self.path}?format=text")
        assert answer.whole
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.body.decode() == (
            "==> install: npm ci\nred \n100%\nfragment\n"
            "==> install failed (exit code 2) after 1.5 s\n==> warning: careful\n"
        )
        assert self.forgotten()

    async def test_colours(self) -> None:
        self.log.add("\x1b[31mred\x1b]52;c;x\x07\x1b[2J")
        answer = await self.ask("GET", f"{self.path}?format=ansi")
        assert answer.body == b"\x1b[31mred\n\x1b[0m"

    async def test_limit(self) -> None:
        self.log.add("a", "b", "c")
        assert (await self.ask("GET", f"{self.path}?format=text&limit=2")).body == b"a\nb\n"
        assert (await self.ask("GET", f"{self.path}?format=text&limit=2&after=3")).body == b""

    async def test_a_file_to_be_kept(self) -> None:
        self.log.add("\x1b[31ma", "b")
        self.log.end()
        for form, suffix, ending in (("text", "txt", b"b\n"), ("ansi", "log", b"b\n"), ("json", "ndjson", b'"end"')):
            answer = await self.ask("GET", f"{self.path}?format={form}&download=1")
            name = self.path.split("/")[-2]
            assert answer.headers["content-disposition"] == f'attachment; filename="build-{name}-1.{suffix}"'
            assert ending in answer.body
        numbered = await self.ask("GET", f"{self.path}?format=text&numbers=true&limit=2")
        assert numbered.body.startswith(b"1:a\n2:b\n==> ")
        assert "content-disposition" not in numbered.headers
        refused = await self.ask("GET", f"{self.path}?numbers=true")
        assert refused.status == 422
        assert "format=text" in refused.json["detail"]

    async def test_follow_until_the_end(self) -> None:
        client = await self._follow("follow=1")
        await client.until(b"application/x-ndjson")
        self.log.add("one")
        await client.until(b'"one"')
        self.log.add("two")
        self.log.gap(1)
        self.log.end()
        await client.closed
        answer = Answer(bytes(client.received))
        assert answer.whole
        assert [json.loads(line)["type"] for line in answer.body.splitlines()] == ["lines", "lines", "gap", "end"]

    async def test_a_followed_log_has_signs_of_life_while_nothing_comes(self) -> None:
        """A proxy cut it after a minute, and the command took a quiet build for a dead server."""
        assert Pace().alive <= 15, "docs/protocol.md promises that"
        self.go_at(Pace(alive=0.02))
        client = await self._follow("follow=1")
        await client.until(b'{"type":"alive"}\n')
        self.log.add("one")
        await client.until(b'"one"')
        seen = len(client.received)
        await eventually(lambda: client.received.count(b"alive", seen) > 2)
        self.log.end()
        await client.closed
        kinds = [json.loads(line)["type"] for line in Answer(bytes(client.received)).body.splitlines()]
        assert [kind for kind in kinds if kind != "alive"] == ["lines", "end"]

    async def test_signs_of_life_in_a_text(self) -> None:
        """Signs of life are headings there, on lines of their own."""
        self.go_at(Pace(alive=0.02))
        client = await self._follow("follow=1&format=text")
        self.log.add("one", "tw", more=[1])
        await client.until(b"==> nothing new yet; the log goes on\n")
        self.log.add("o")
        self.log.end()
        await client.closed
        lines = Answer(bytes(client.received)).body.decode().splitlines()
        assert [line for line in lines if not line.startswith("==> ")] == ["one", "tw", "o"]

    async def test_a_reader_that_has_not_asked_to_follow_gets_none(self) -> None:
        self.go_at(Pace(alive=0.0))
        self.log.add("one")
        assert (await self.ask("GET", f"{self.path}?format=text")).body == b"one\n"

    async def test_a_reader_that_goes_is_forgotten(self) -> None:
        client = await self._follow("follow=1&format=text")
        self.log.add("one")
        await client.until(b"one")
        client.transport.loseConnection()
        await eventually(self.forgotten)
        self.log.add("two")

    async def test_our_stopping_breaks_it_off_visibly(self) -> None:
        client = await self._follow("follow=1")
        self.log.add("one")
        await client.until(b'"one"')
        await self.site.stop()
        await client.closed
        assert not Answer(bytes(client.received)).whole

    async def _slow(self, looks: int, times: int) -> Any:
        """A reader that takes some of a long log, then nothing for so many looks, and so on, so many times."""
        self.go_at(Pace(stall=0.5))
        for _ in range(1000):
            self.log.add(*["x" * 1000] * 20)
        client = await self._follow("follow=1")
        client.transport.pauseProducing()
        for _ in range(times):
            await deferLater(reactor, looks * 0.05)
            for _ in range(4):
                client.transport.resumeProducing()
                await deferLater(reactor, 0)
            client.transport.pauseProducing()
        return client

    async def test_a_slow_reader_is_waited_for(self) -> None:
        client = await self._slow(4, 6)
        assert len(client.received) < 15_000_000, "it was not so slow"
        assert not self.forgotten()
        client.abort()
        await client.closed
        await eventually(self.forgotten)

    async def test_a_reader_that_takes_nothing_any_more_is_cut_off(self) -> None:
        client = await self._slow(30, 1)
        await eventually(self.forgotten)
        client.abort()
        await client.closed

    async def test_a_reader_that_stands_still_costs_nothing(self) -> None:
        self.log.add(*["x" * 1000] * 60)
        client = await self._follow("follow=1")
        client.transport.pauseProducing()
        await eventually(lambda: len(self.log.cursors) == 1)
        for _ in range(1000):
            self.log.add(*["x" * 1000] * 60)
        (cursor,) = self.log.cursors
        before = -1

        def still() -> bool:
            nonlocal before
            same, before = before == cursor.taken, cursor.taken
            return same and before > 0

        await eventually(still)
        assert cursor.taken < 300, "what the kernel takes, and no more"
        self.log.end()
        client.transport.resumeProducing()
        await client.closed
        assert client.received.count(b'"lines":[') == 1001


@given(st.integers(1, 12), st.integers(1, 12), st.sets(st.integers(0, 11)))
def test_a_cut_message_is_the_beginning_of_the_whole(count: int, cut: int, more: set[int]) -> None:
    lines = [f"line {index}" for index in range(count)]
    batch = Lines(first=5, time=1, step=0, lines=list(lines), more=sorted(each for each in more if each < count))
    entry = TwinEntry(5, batch.end, encoder.encode(batch))
    message, end = message_part(entry, cut)
    part = lines_decoder.decode(message)
    assert part.first == 5
    assert part.end == end == 5 + min(count, cut)
    assert part.lines == lines[:cut]
    assert part.more == [each for each in batch.more if each < cut]


def test_a_gap_is_not_cut() -> None:
    gap = encoder.encode(Gap(5, 900, "lost"))
    assert message_part(TwinEntry(5, 901, gap), 1) == (gap, 901)


@given(st.lists(st.text(alphabet="ab\x1b[m1\r", max_size=6), min_size=1, max_size=8), st.integers(0, 8))
def test_text_of_a_log_is_the_same_however_it_is_cut(lines: list[str], cut: int) -> None:
    def text(*batches: list[str]) -> bytes:
        form, first, rendered = TextForm(colour=False), 1, b""
        for batch in batches:
            if batch:
                message = Lines(first=first, time=1, step=0, lines=list(batch))
                rendered += form.render(encoder.encode(message))
                first = message.end
        return rendered + form.finish()

    assert text(lines) == text(lines[:cut], lines[cut:])


def test_an_open_fragment_ends_before_a_heading() -> None:
    form = TextForm(colour=False)
    batch = Lines(first=1, time=1, step=0, lines=["open", Notice("error", "broken\noff")], more=[0])
    assert form.render(encoder.encode(batch)) == b"open\n==> error: broken off\n"
    batch = Lines(first=3, time=1, step=0, lines=["open"], more=[0])
    assert form.render(encoder.encode(batch)) + form.finish() == b"open\n"


def text_of(*records: Record, end: bool = False, colour: bool = False) -> str:
    form = TextForm(colour)
    rendered = form.render(encoder.encode(Lines(first=1, time=1, step=0, lines=list(records))))
    if end:
        rendered += form.render(encoder.encode(End(len(records), "", "succeeded", False)))
    return (rendered + form.finish()).decode()


def test_each_line_of_a_text_with_its_number() -> None:
    records: list[Record] = [
        StepStarted(0, "build", ""),
        "10%\r20%",
        "compil",
        Progress(0.5),
        "ing",
        Group("x"),
        "",
        "o",
    ]
    form = TextForm(colour=False, numbers=True)
    text = form.render(encoder.encode(Lines(first=7, time=1, step=0, lines=records, more=[2, 7])))
    text += form.render(encoder.encode(Gap(15, 19, "lost"))) + form.render(encoder.encode(End(19, "", "failed", False)))
    assert (text + form.finish()).decode().splitlines() == [
        "7:==> build",
        "8:20%",
        "9:compiling",
        "12:==> x",
        "13:",
        "14:o",
        "15:==> records 15 to 19 are missing: lost",
        "==> failed: 19 records, NOT complete, sha256 unknown",
    ]


def test_what_a_build_says_as_text() -> None:
    said = text_of(
        Group("bundle"),
        Annotation("error", "no such name", "src/app.ts", 12),
        Annotation("warning", "large\nfile", "logo.png"),
        Annotation("notice", "done\rDONE"),
        Group(""),
        "a line",
    )
    assert said == (
        "==> bundle\n==> src/app.ts:12: error: no such name\n==> logo.png: warning: large file\n"
        "==> notice: DONE\na line\n"
    )


def test_of_what_tools_print_a_text_has_their_own_words() -> None:
    line = "src/app.ts(12,3): error TS1: no"
    assert text_of(line, Annotation("error", "TS1: no", "src/app.ts", 12, 3, repeats=True)) == f"{line}\n"
    assert text_of(Annotation("error", "no", "src/app.ts", 12, 3)) == "==> src/app.ts:12:3: error: no\n"


def test_progress_is_thinned_in_a_text() -> None:
    growing = [Progress(index / 1000 if index % 1000 else index // 1000, f"file {index}") for index in range(1001)]
    said = text_of(*growing)
    assert said == "==> 0% file 0\n==> 25% file 250\n==> 50% file 500\n==> 75% file 750\n==> 100% file 1000\n"
    # The next step begins at 0 again, and so does a build that turns to something else.
    again = text_of(Progress(0.3), StepStarted(1, "test", ""), Progress(0.4), Progress(0.1, "linting"), Progress(0.2))
    assert again == "==> 30%\n==> test\n==> 40%\n==> 10% linting\n"
    assert text_of(Progress(0.9999)) == "==> 99%\n", "100% only when it is"


def test_progress_and_a_summary_break_no_line() -> None:
    form = TextForm(colour=False)
    records: list[Record] = ["compil", Progress(0.5), Summary("# Done"), "ing", Progress(0.75)]
    assert form.render(encoder.encode(Lines(first=1, time=1, step=0, lines=records, more=[0]))) == (
        b"compiling\n==> 75%\n"
    )
    assert form.finish() == b"==> summary\n# Done\n"


def test_a_summary_comes_once_at_the_end() -> None:
    records: list[Record] = [Summary("first"), "line", Summary("\n# Size\r\n\r\n| a |\n\x1b[2J"), "more"]
    assert text_of(*records, end=True) == (
        "line\nmore\n==> summary\n# Size\n\n| a |\n==> succeeded: 4 records, NOT complete, sha256 unknown\n"
    )
    assert text_of(*records) == "line\nmore\n==> summary\n# Size\n\n| a |\n", "of a part, what there is"
    assert text_of(Summary("x"), Summary("")) == "", "taken back"


@pytest.mark.parametrize("colour", [False, True])
def test_what_a_build_says_can_not_harm_a_terminal(colour: bool) -> None:
    evil = "\x1b[2J\x1b]52;c;ZXZpbA==\x07\x9b2J\u202e\x08\n==> forged"
    said = text_of(Group(evil), Annotation("error", evil, evil, 1), Progress(0.5, evil), end=True, colour=colour)
    for bad in ("\x1b[2J", "\x1b]", "\x9b", "\u202e", "\x08", "\x07", "\n==> forged"):
        assert bad not in said
