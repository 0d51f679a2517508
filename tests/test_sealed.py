"""A sealed chunk gives back what was sealed, or says that it can't. Its text, its row and its words are searched."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
import zlib

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties import examples
from twistedipc.builds.logs import (
    Annotation,
    Batch,
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
)
from twistedipc.sealed import chunk
from twistedipc.sealed.chunk import Damaged, seal, text_of
from twistedipc.sealed.grams import bits_of, grams_of, may_hold, row_of
from twistedipc.sealed.messages import Piece, pieces_of
from twistedipc.sealed.messages import text_of as text_of_run
from twistedipc.sealed.strings import lines_of
from twistedipc.sealed.words import between, joined, places, searchable, taken_apart

NOW = 1_732_300_000_000

_line = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_name = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
_record: st.SearchStrategy[Record] = st.one_of(
    _line,
    st.lists(st.sampled_from(["\x1b[31m", "\x1b[0m", "\x1b(B", "\x1b[", *'"\\ é']), max_size=9).map("".join),
    st.sampled_from(["", "\x1b[31merror\x1b[0m", "a\nb", "added 41 packages in 3s", "ſ K é"]),
    st.builds(Annotation, st.sampled_from(["notice", "warning", "error"]), _name, _line, st.integers(0, 99)),
    st.builds(StepStarted, st.integers(0, 9), _name, _line),
    st.builds(StepEnded, st.integers(0, 9), st.just("failed"), st.integers(0, 99), st.none() | st.integers(0, 255)),
    st.builds(Notice, st.just("error"), _line),
    st.builds(Group, _line),
    st.builds(Progress, st.floats(0.01, 0.99), _line),
    st.builds(Summary, _line),
    st.builds(lambda value: {"type": "later", "value": value}, _line | st.floats(allow_nan=False) | st.none()),
)


@st.composite
def logs(draw: st.DrawFn, gaps: bool = False) -> list[Batch]:
    """Consecutive batches, with gaps among them if wanted."""
    first = draw(st.integers(1, 1 << 30))
    found: list[Batch] = []
    for _ in range(draw(st.integers(1, 6))):
        if gaps and draw(st.integers(0, 3)) == 0:
            found.append(Gap(first, first + draw(st.integers(0, 1000)), "the journal is damaged"))
        else:
            records = draw(st.lists(_record, min_size=1, max_size=8))
            more = draw(st.lists(st.integers(0, len(records) - 1), unique=True, max_size=3).map(sorted))
            time, step = draw(st.integers(0, NOW)), draw(st.integers(-1, 9))
            found.append(Lines(first=first, time=time, step=step, lines=records, more=more))
        first = found[-1].end
    return found


def stored(batches: list[Batch]) -> list[bytes]:
    return [encoder.encode(batch) for batch in batches]


@given(logs())
@settings(max_examples=examples(150))
def test_what_was_sealed_comes_out_byte_by_byte(batches: list[Batch]) -> None:
    messages = stored(batches)
    sealed = seal(messages)
    assert chunk.messages(sealed.data) == messages
    assert (sealed.first, sealed.records) == (batches[0].first, batches[-1].end - batches[0].first)
    assert sealed.size == sum(len(message) + 1 for message in messages)
    text = chunk.text(sealed.data)
    assert [text] == text_of(messages)
    lines = text.text.split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == text.records == sealed.records
    records = [record for batch in batches if isinstance(batch, Lines) for record in batch.lines]
    for line, record in zip(lines, records, strict=True):
        if isinstance(record, str):
            assert line == searchable(record.replace("\n", " ").encode())


@given(logs(), st.integers(-2, 50), st.integers(1, 400))
@settings(max_examples=examples(100))
def test_a_part_of_a_chunk(batches: list[Batch], skip: int, limit: int) -> None:
    first = batches[0].first + skip
    wanted = [batch for batch in batches if batch.end > first]
    part = chunk.part(seal(stored(batches)).data, first, limit)
    taken = wanted[: len(part.messages)]
    assert part.messages == stored(taken)
    assert bool(taken) == bool(wanted)
    if taken:
        assert (part.first, part.first + part.count) == (taken[0].first, taken[-1].end)
        assert sum(map(len, part.messages[:-1])) < limit
        assert len(taken) == len(wanted) or sum(map(len, part.messages)) >= limit


@given(logs(gaps=True))
@settings(max_examples=examples(50))
def test_a_gap_is_a_chunk_by_itself(batches: list[Batch]) -> None:
    found: list[bytes] = []
    messages = stored(batches)
    for run, _pieces in chunk.runs(messages, pieces_of(messages)):
        found += chunk.messages(seal(run).data)
    assert found == stored(batches)
    assert sum(text.records for text in text_of(stored(batches))) == batches[-1].end - batches[0].first
    assert b"".join(text.text for text in text_of(stored(batches))).count(b"\n") == sum(
        len(batch.lines) for batch in batches if isinstance(batch, Lines)
    )
    if len(batches) > 1 and any(isinstance(batch, Gap) for batch in batches):
        with pytest.raises(ValueError, match="by itself"):
            seal(stored(batches))


def test_what_another_encoder_wrote_comes_out_as_it_wrote_it() -> None:
    """A space, an escape, a number with a point: the same JSON, but not the same bytes."""
    messages = [
        b'{"type": "lines", "first": 1, "time": 5, "step": 0, "lines": ["caf\\u00e9"]}',
        b'{"type":"lines","first":2,"time":5,"step":0,"lines":[{"type":"later","value":1e3}],"more":[]}',
    ]
    sealed = seal(messages)
    assert chunk.messages(sealed.data) == messages
    assert chunk.text(sealed.data).text == "café\n\n".encode()


@pytest.mark.parametrize("more", ["[-1]", "[1,0]", "[0,2]", "[7]"])
def test_marks_that_are_no_records_come_out_as_they_were(more: str) -> None:
    """They would be taken for those of another batch."""
    messages = [
        b'{"type":"lines","first":1,"time":5,"step":0,"lines":["a","b"],"more":%b}' % more.encode(),
        b'{"type":"lines","first":3,"time":5,"step":0,"lines":["c"]}',
    ]
    assert chunk.messages(seal(messages).data) == messages


def test_half_characters_around_a_colour_are_no_text() -> None:
    with pytest.raises(ValueError, match="decode"):
        seal([b'{"type":"lines","first":1,"time":5,"step":0,"lines":["\xc3\\u001b[1m\xa9"]}'])


def test_a_message_with_a_line_break_between_its_tokens_is_not_sealed() -> None:
    """It is JSON, but messages are kept one a line where they can't be made again."""
    for message in (
        b'{"type":"lines",\n"first":1,"time":5,"step":0,"lines":["a","b"]}',
        b'{"type":"lines","first":1,"time":5,"step":0,"lines":["a","b"]}\n',
    ):
        with pytest.raises(ValueError, match="come out as others"):
            seal([message, b'{"type":"lines","first":3,"time":5,"step":0,"lines":["c"]}'])


@pytest.mark.parametrize("lines", [1, 40_000])
def test_a_fault_in_taking_messages_apart_is_found(lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a small chunk at once. A message of many KiB is made again in some chunks only, since that takes long."""

    def wrong(messages: list[bytes], pieces: list[Piece]) -> bytes:
        return text_of_run(messages, pieces).replace(b"b", b"x")

    monkeypatch.setattr("twistedipc.sealed.chunk.text_of_run", wrong)
    refused: list[str] = []
    for first in range(1, 31):
        try:
            seal(stored([Lines(first=first, time=5, step=0, lines=["ab"] * lines)]))
        except ValueError as error:
            refused.append(str(error))
    assert all("come out as others" in said for said in refused)
    assert len(refused) == 30 if lines == 1 else 0 < len(refused) < 15


def test_a_gap_that_another_encoder_wrote_is_not_sealed() -> None:
    with pytest.raises(ValueError, match="gap"):
        seal([b'{"type": "gap", "from": 5, "to": 9, "reason": "lost"}'])


# What people's programs write between words, by another expression than the one that finds it (ST is in it).
_SEQUENCE = re.compile(rb"\x1b(?:\[[ -?]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[ -/]*[0-~])?")

ESCAPES = [
    "\x1b[31m",
    "\x1b[0m",
    "\x1b[38;5;12m",
    "\x1b[2K",
    "\x1b]8;;https://example.org\x07",
    "\x1b]0;title\x1b\\",
    "\x1b(B",
    "\x1b",
    "\x1b[",
    "\x1b[31",
]

_JSON = st.text(
    st.sampled_from('ab",\\{}[]:é€\x1b\x07\r\t\b\x00\x1f\x7f') | st.characters(exclude_categories=["Cs"]), max_size=12
)


@given(st.lists(st.lists(_JSON, min_size=1, max_size=5), min_size=1, max_size=5))
@settings(max_examples=examples(300))
def test_strings_become_lines_as_if_each_was_decoded(parts: list[list[str]]) -> None:
    found = lines_of([encoder.encode(part)[1:-1] for part in parts])
    if any("\n" in line for part in parts for line in part):
        assert found is None
    else:
        assert found is not None
        assert found.text.decode() == "".join(f"{line}\n" for part in parts for line in part)
        assert found.counts == [len(part) for part in parts]


@given(
    st.lists(
        st.sampled_from([*'"\\,u01bnt{}a\n\x1b', '","', "\\u001b", "\\u000a", "\\u0041", "\\n", "\\/"]), max_size=12
    )
)
@settings(max_examples=examples(500))
def test_what_is_taken_for_strings_is_what_the_encoder_writes(pieces: list[str]) -> None:
    said = f'"{"".join(pieces)}"'.encode()
    found = lines_of([said])
    if found is not None:
        lines = found.text.decode().split("\n")[:-1]
        assert encoder.encode(lines)[1:-1] == said
        assert found.counts == [len(lines)]
    else:
        with contextlib.suppress(msgspec.DecodeError):
            lines = msgspec.json.decode(b"[" + said + b"]", type=list[str])
            assert encoder.encode(lines)[1:-1] != said or any("\n" in line for line in lines)


_COLOURS = ["\x1b[31m", "\x1b[0m", "\x1b[2K", "\x1b[38;2;255;255;255m", "\x1b[" + "1;" * 9 + "m"]


@given(
    st.lists(st.sampled_from([*ESCAPES, *"[;m\\ é\n\x07"]), max_size=30)
    | st.lists(st.sampled_from([*_COLOURS, *"[;m\\ é\n"]), max_size=30),
    st.sampled_from(["", "\n", "\x1b[3", "\x1b"]),
    st.integers(1, 40),
)
@settings(max_examples=examples(300))
def test_a_text_is_put_together_again(pieces: list[str], last: str, times: int) -> None:
    text = "".join([*pieces, last]).encode() * times
    parts, taken = taken_apart(text)
    put = places(parts)
    assert (put is None) == (taken is None)
    if put is not None and taken is not None:
        assert put.tolist() == taken.tolist()
    assert b"\x1b" not in parts.plain
    assert parts.plain == _SEQUENCE.sub(b"", text)
    assert joined(parts) == text
    begins = 0
    for plain, whole in list(zip(parts.plain.splitlines(True), text.splitlines(True), strict=False))[:9]:
        if whole.endswith(b"\n"):
            assert joined(between(parts, begins, begins + len(plain))) == whole
        begins += len(plain)
    if parts.pieces:
        for wrong in (
            parts._replace(gaps=parts.gaps[:-4]),
            parts._replace(pieces=parts.pieces[1:]),
            parts._replace(plain=b"", gaps=b"\xff" * len(parts.gaps)),
        ):
            with pytest.raises(ValueError, match="piece"):
                joined(wrong)


def test_what_can_not_be_one_chunk() -> None:
    one = Lines(first=1, time=1, step=0, lines=["x"])
    with pytest.raises(ValueError, match="nothing"):
        seal([])
    with pytest.raises(ValueError, match="no records"):
        seal([encoder.encode(Lines(1, 0, 0, ["x"])), encoder.encode(Lines(2, 0, 0, []))])
    with pytest.raises(ValueError, match="record 2 is missing"):
        seal(stored([one, Lines(first=3, time=1, step=0, lines=["y"])]))
    with pytest.raises(msgspec.DecodeError):
        seal([b"{}"])


SAMPLE: list[Batch] = [
    Lines(first=7, time=NOW, step=-1, lines=[StepStarted(0, "install", "npm ci"), "added 41 packages", "é"]),
    Lines(first=10, time=NOW + 9, step=0, lines=["x" * 40, "y" * 40], more=[0]),
]


@pytest.mark.parametrize("batches", [SAMPLE, [Gap(5, 900, "lost")]], ids=["lines", "gap"])
def test_every_flipped_bit_and_every_cut_is_found(batches: list[Batch]) -> None:
    data = seal(stored(batches)).data
    for read in (chunk.messages, chunk.text):
        for at in range(len(data)):
            for bit in range(8):
                with pytest.raises(Damaged):
                    read(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
            with pytest.raises(Damaged):
                read(data[:at])
        for added in (b"\x00", data):
            with pytest.raises(Damaged):
                read(data + added)


@given(st.binary(max_size=200), st.integers(0, 1 << 32), st.integers(0, 1 << 32))
@settings(max_examples=examples(200))
def test_nonsense_with_a_good_checksum_is_found(body: bytes, text: int, columns: int) -> None:
    for frame in (body, zstandard.compress(body), zstandard.compress(b"x" * 99)):
        header = chunk._HEADER.pack(1, 1, text & 0xFFFFFFFF, columns & 0xFFFFFFFF, text % (len(frame) + 1))
        checksum = zlib.crc32(header + frame).to_bytes(4, "little")
        for read in (chunk.messages, chunk.text):
            with pytest.raises(Damaged):
                read(chunk._MAGIC + checksum + header + frame)


def test_a_frame_that_claims_to_be_huge_is_not_decompressed() -> None:
    bomb = zstandard.compress(bytes(chunk.MAX_BODY + 1))
    assert len(bomb) < 10_000
    header = chunk._HEADER.pack(1, 1, chunk.MAX_BODY, 0, len(bomb))
    checksum = zlib.crc32(header + bomb).to_bytes(4, "little")
    with pytest.raises(Damaged, match="size"):
        chunk.text(chunk._MAGIC + checksum + header + bomb)


def test_what_events_say_can_be_searched_for() -> None:
    records: list[Record] = [
        Annotation("error", "is not\nassignable", "src/a.ts", 3),
        Annotation("error", "no such file", "src/b.ts"),
        StepStarted(1, "build", "npm run build"),
        Notice("info", "cancelled by ann"),
        Group("Tests"),
        Progress(0.5, "half"),
        StepEnded(1, "failed", 9, 1),
        {"type": "later"},
    ]
    (text,) = text_of(stored([Lines(first=1, time=1, step=0, lines=records)]))
    assert text.text.decode().split("\n") == [
        "is not assignable src/a.ts:3",
        "no such file src/b.ts",
        "build npm run build",
        "cancelled by ann",
        "Tests",
        "",
        "",
        "",
        "",
    ]


@given(
    st.lists(st.sampled_from(ESCAPES[:4]) | st.sampled_from(["error", "\n", " ", "é", "["]), max_size=40),
    st.lists(st.sampled_from([*ESCAPES, "x", "\n"]), max_size=6),
    st.integers(1, 20),
)
@settings(max_examples=examples(300))
def test_words_are_found_between_colours(many: list[str], few: list[str], times: int) -> None:
    """Whichever way the sequences are removed, and however many there are."""
    text = ("".join(many) * times + "".join(few)).encode()
    found = searchable(text)
    assert found.count(b"\n") == text.count(b"\n")
    assert b"\x1b" not in found
    # Each piece alone has few sequences, so it goes the other way.
    assert b"\n".join([searchable(line) for line in text.split(b"\n")]) == found


def test_a_colour_does_not_cut_a_word() -> None:
    line = b"\x1b[96msrc/a.ts\x1b[0m:\x1b[93m3\x1b[0m - \x1b[91merror\x1b[0m TS2322: \x1b]8;;x\x07link\x1b]8;;\x07"
    assert searchable(line) == b"src/a.ts:3 - error TS2322: link"
    line = line.replace(b"\x1b]8;;x\x07", b"").replace(b"\x1b]8;;\x07", b"")
    assert searchable(line * 50) == b"src/a.ts:3 - error TS2322: link" * 50


@pytest.mark.parametrize("length", [10, 63, 64, 200_000])
def test_a_sequence_may_be_as_long_as_it_likes(length: int) -> None:
    """The work is bounded by the bytes of a text, not by those times the longest sequence's."""
    long = b"\x1b[" + b";" * length
    text = b"\x1b[0mred" * 20 + long + b"m done\n"
    began = time.process_time()
    assert searchable(text) == b"red" * 20 + b" done\n"
    assert searchable(text * 3) == (b"red" * 20 + b" done\n") * 3
    assert searchable(b"\x1b[0mred" * 20 + long) == b"red" * 20 + long.removeprefix(b"\x1b[")
    assert time.process_time() - began < 1.0


@given(st.text(max_size=300), st.data())
@settings(max_examples=examples(300))
def test_a_row_never_says_no_to_what_is_there(text: str, data: st.DataObject) -> None:
    encoded = text.encode("utf-8", "replace")
    text = encoded.decode()
    row = bits_of(row_of(encoded))
    assert len(row) >= 64
    assert len(row) & (len(row) - 1) == 0
    begins = data.draw(st.integers(0, len(text)))
    literal = text[begins : begins + data.draw(st.integers(0, 12))]
    assert may_hold(row, grams_of(literal))
    for other in (literal.upper(), literal.lower(), literal.swapcase()):
        if re.search(re.escape(other), text, re.IGNORECASE) is not None:
            assert may_hold(row, grams_of(other))


def test_a_row_says_no_to_most_of_what_is_not_there() -> None:
    text = "".join(f"src/pages/page-{number}.tsx compiled in {number} ms\n" for number in range(3000)).encode()
    row = bits_of(row_of(text))
    assert len(row) / 3000 < 0.5
    missing = ["TS2322", "error", "node_modules", "webpack", "cannot find", "undefined", "ENOENT", "Timeout"]
    assert not any(may_hold(row, grams_of(word)) for word in missing)
    assert may_hold(row, grams_of("PAGE-17.tsx"))
    assert may_hold(row, grams_of("pa"))
    assert may_hold(b"", grams_of("anything"))
    assert may_hold(b"abc", grams_of("anything"))


def test_a_row_that_lost_a_bit_holds_everything() -> None:
    whole = row_of(b"\n".join(b"src/page-%d.tsx" % n for n in range(30)))
    assert not may_hold(bits_of(whole), grams_of("missing"))
    for bit in range(8 * len(whole)):
        row = bytearray(whole)
        row[bit >> 3] ^= 1 << (bit & 7)
        assert may_hold(bits_of(bytes(row)), grams_of("missing"))
    for length in range(len(whole)):
        assert may_hold(bits_of(whole[:length]), grams_of("missing"))


def test_numpy_begins_no_threads() -> None:
    """On a machine of many processors they would be many, in a service that never uses them."""
    script = (
        "import os, sys; from twistedipc.sealed import grams; before = dict(os.environ); "
        "assert 'numpy' not in sys.modules; grams.row_of(b'abc'); assert dict(os.environ) == before; "
        "print(len(os.listdir('/proc/self/task')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_letters_that_are_others_in_ascii() -> None:
    """A search that ignores case takes the long s for an s, and the sign for kelvin for a k."""
    row = bits_of(row_of("miſsing 300 \u212aelvin ÉTÉ".encode()))
    for found in ("missing", "MISSING", "kelvin", "Kelvin", "miſsing", "été", "ÉTÉ"):
        assert may_hold(row, grams_of(found)), found
    assert not may_hold(row, grams_of("passing"))


def test_nothing_is_found_across_lines() -> None:
    row = bits_of(row_of(b"one\ntwo\nthree\n"))
    assert grams_of("one\ntwo") == grams_of("one") | grams_of("two")
    assert may_hold(row, grams_of("one"))
    assert not may_hold(row, grams_of("etwo"))
