"""Search in blocks of a log: against `re`, line by line, and what is refused."""

from __future__ import annotations

import re
import time
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from twistedipc.finding import blocks, literals
from twistedipc.finding.blocks import BEFORE_MATCH, MAX_SHOWN, PIECE, Block, Found, Line, around, matches, near, show
from twistedipc.finding.query import BadQuery, Needle, Query
from twistedipc.finding.scanning import Scanned, Wanted, scan
from twistedipc.finding.shown import shown
from twistedipc.finding.syntax import needed_literals
from twistedipc.terminal import escapes

# Few letters, so that much of it matches; two that are the same letter by Unicode alone (K and the sign for kelvin).
LETTERS = "aAbKk\u212aéÉ 1.🚀\t"
KELVIN = {0x212A: "k"}
LINE = st.text(LETTERS, max_size=8)
ATOM = st.sampled_from(
    ["a", "b", "k", "é", "1", ".", r"\.", r"\d", r"\s", r"\w", "[ab]", "[^a]", "[^ab1]", "(?:ab|b1)", "🚀"]
)


@st.composite
def expressions(draw: st.DrawFn) -> str:
    """Regular expressions that `re` and RE2 understand alike."""
    pieces = [
        draw(ATOM) + draw(st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{1,2}", "*?"]))
        for _ in range(draw(st.integers(1, 4)))
    ]
    text = "".join(pieces)
    if draw(st.booleans()):
        text += "|" + draw(ATOM)
    return draw(st.sampled_from(["", "", "^"])) + text + draw(st.sampled_from(["", "", "$"]))


def block_of(lines: list[str], first: int = 1) -> Block:
    return Block(first, len(lines), "".join(f"{line}\n" for line in lines).encode())


class Result(msgspec.Struct):
    count: int
    found: list[Found]


def search(needle: Needle, block: Block, most: int, *, newest: bool = False) -> Result:
    """What is found in a block, as it is shown."""
    matching = matches(needle, block, most, newest=newest)
    assert matching is not None
    return Result(matching.count, [show(needle, block, record, start) for record, start in matching.lines])


def oracle(query: Query) -> re.Pattern[str]:
    flags = 0 if query.case else re.IGNORECASE
    # RE2 knows digits, spaces and letters of ASCII by these names.
    text = query.text.replace(r"\d", "[0-9]").replace(r"\s", "[\\t\\n\\f\\r ]").replace(r"\w", "[0-9A-Za-z_]")
    return re.compile(text if query.kind == "regex" else re.escape(query.text), flags)


@given(
    st.lists(LINE, min_size=1, max_size=12),
    expressions() | st.text(LETTERS, min_size=1, max_size=3),
    st.sampled_from(["text", "regex"]),
    st.booleans(),
    st.integers(0, 4),
    st.booleans(),
    st.sampled_from([0, 5, PIECE]),
)
def test_the_lines_that_re_finds_one_by_one(
    lines: list[str], text: str, kind: str, case: bool, most: int, newest: bool, piece: int
) -> None:
    query = Query(text=text, kind="regex" if kind == "regex" else "text", case=case)
    try:
        needle, pattern = Needle(query), oracle(query)
    except (BadQuery, re.error):
        assume(False)
    expected = [index for index, line in enumerate(lines) if pattern.search(line)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "PIECE", piece)
        patch.setattr(blocks, "WIDE", piece)
        found = search(needle, block_of(lines, 7), most, newest=newest)
    assert found.count == len(expected)
    if newest:
        expected.reverse()
    assert [each.record - 7 for each in found.found] == expected[:most]
    for each in found.found:
        line = lines[each.record - 7]
        assert "".join(each.parts) == line
        assert each.parts[1::2] == [part for part in _all(pattern, line) if part]
    # What is known that each match holds is in each line that matches.
    for index in expected:
        folded = lines[index].translate(KELVIN).lower()
        for needs in needle.needed:
            assert any(literal in folded for literal in needs), needle.needed


def _all(pattern: re.Pattern[str], line: str) -> list[str]:
    """What RE2 finds one after the other: unlike `re`, an empty match isn't tried where one that isn't empty ended."""
    return [found[0] for found in pattern.finditer(line)]


_WORD = st.sampled_from(
    ["error", "Error", "ERROR", "ſkip", "\u212aelvin", "skip", "kelvin", " ", "é", "err", "or", "x"]
)


@given(
    st.lists(st.lists(_WORD, max_size=4).map("".join), min_size=1, max_size=6),
    st.sampled_from(["error", "kelvin", "skip", "r", "é", "err|kelvin", "kelvin|skip|error", "error.*x", "^skip"]),
    st.sampled_from(["text", "regex"]),
    st.booleans(),
    st.sampled_from([1, 40, 400]),
    st.sampled_from([0, 64]),
)
def test_lines_by_their_words_are_those_that_re2_finds(
    lines: list[str], text: str, kind: str, case: bool, times: int, few: int
) -> None:
    needle = Needle(Query(text=text, kind="regex" if kind == "regex" else "text", case=case))
    block = block_of([*lines, "." * 2000] * times)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(literals, "_FEW", few)
        found = matches(needle, block, 5)
        needle.literals = None
        assert found == matches(needle, block, 5)


@given(st.lists(LINE, max_size=8), st.integers(1, 12), st.integers(0, 12), st.sampled_from([1, 256]))
def test_a_part_of_a_block(lines: list[str], first: int, count: int, near_bytes: int) -> None:
    block = block_of(lines, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_NEAR", near_bytes)
        _check_part(block, lines, first, count)


def _check_part(block: Block, lines: list[str], first: int, count: int) -> None:
    part = block.part(first, first + count - 1)
    kept = [number for number in range(3, 3 + len(lines)) if first <= number < first + count]
    assert part.records == len(kept)
    assert part.text == "".join(f"{lines[number - 3]}\n" for number in kept).encode()
    assert near(block, first, first + count - 1) == [Line(number, lines[number - 3]) for number in kept]


@given(st.lists(LINE, min_size=1, max_size=8), st.integers(0, 7), st.integers(0, 7), st.integers(1, 4))
def test_what_is_around_a_hit(lines: list[str], index: int, inside: int, context: int) -> None:
    index = min(index, len(lines) - 1)
    block = block_of(lines, 3)
    record = 3 + index
    offset = block.offset(record) + min(inside, len(lines[index].encode()))
    before, after = around(block, record, offset, context)
    assert before == near(block, record - context, record - 1)
    assert after == near(block, record + 1, record + context)


def scanned(block: Block, stopped_after: int, **wanted: Any) -> Scanned:
    """What is found of an "a" in a block by RE2, if it is stopped when it has asked so often whether it is."""
    asked = iter([False] * stopped_after)
    last = block.first + block.records - 1
    return scan(
        Wanted(needle=Needle(Query(text="[a]", kind="regex")), **wanted), [block], 1, last, lambda: next(asked, True)
    )


def test_a_scan_is_stopped_in_the_middle_of_a_block() -> None:
    """Between two pieces of it, and between two of its hits: then nothing of it counts."""
    block = block_of(["b" * 99] * 1000 + ["a"] * 50)
    pieces = len(block.text) // PIECE + 2  # once more behind all of them
    nothing = Scanned(matches=0, searched=0, reached=0, hits=[])
    for stopped_after in (0, 1, pieces - 1, pieces, pieces + 1, pieces + 29):
        assert scanned(block, stopped_after, most=30) == nothing
    found = scanned(block, pieces + 30, most=30)
    assert (found.matches, found.searched, found.reached, len(found.hits)) == (50, 1050, 1050, 30)


def test_lines_near_hits_cost_the_same_wherever_they_are() -> None:
    block = block_of(["a"] * 80_000)
    began = time.thread_time()
    found = scanned(block, 10_000, most=200, context=5, newest=True)
    assert time.thread_time() - began < 2  # it was ten seconds, when each hit counted lines from the beginning
    assert [len(hit.before) for hit in found.hits] == [5] * 200
    assert [len(hit.after) for hit in found.hits] == [0, 1, 2, 3, 4] + [5] * 195
    assert found.hits[199].before[0] == Line(80_000 - 199 - 5, "a")


SEQUENCES = [
    "\x1b[31m",
    "\x1b[0m",
    "\x1b[1;38:5:200m",
    "\x1b]8;;http://x\x07",
    "\x1b]0;t\x1b\\",
    "\x1b(B",
]


@given(st.lists(st.sampled_from([*"ab m1;[]\n", *SEQUENCES])))
def test_a_text_as_people_see_it(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert shown(text.encode()).decode() == escapes.plain(text)


@given(st.lists(st.sampled_from([*"ab m1;[]\r\n", *SEQUENCES, "\x1b[2K"])))
def test_of_a_line_that_is_redrawn_it_is_the_last_drawing(pieces: list[str]) -> None:
    # Not what is left of earlier ones behind a shorter last one, which a terminal would show: no index has that.
    text = "".join(pieces)
    lines = [
        next((part for part in reversed(line.split("\r")) if part), "")
        for line in re.sub(r"\x1b(?:\[[0-9;:]*[mK]|\][^\x07\x1b]*(?:\x07|\x1b\\)|\(B)", "", text).split("\n")
    ]
    assert shown(text.encode()).decode() == "\n".join(lines)


def test_a_word_that_is_coloured_in_the_middle() -> None:
    text = shown(b"\x1b[31mer\x1b[1mror\x1b[0m: no module\n50 %\r100 %\n")
    found = search(Needle(Query(text="error:")), Block(1, 2, text), 10)
    assert [(each.record, each.parts) for each in found.found] == [(1, ["", "error:", " no module"])]
    assert search(Needle(Query(text="50 %")), Block(1, 2, text), 10).count == 0


@pytest.mark.parametrize(
    ("expression", "needed"),
    [
        ("error", [{"error"}]),
        ("ERROR: .*Timeout", [{"error: "}, {"timeout"}]),
        ("errors?:", [{"errors:", "error:"}]),
        ("(?i)err(?:or|no) in", [{"error in", "errno in"}]),
        ("warning|fatal", [{"warning", "fatal"}]),
        ("warning|[0-9]+", []),
        ("(?:abc)*", []),
        ("(?:abc)+def", [{"abc"}, {"def"}]),
        ("(?:abc){0,3}", []),
        ("(abc|x.*yz)", [{"abc", "yz"}]),
        ("[ab]cd", [{"acd", "bcd"}]),
        ("[^a]bcd", [{"bcd"}]),
        ("[]x]y", [{"]y", "xy"}]),
        ("[a-z]bc", [{"bc"}]),
        ("[[:alpha:]]bc", [{"bc"}]),
        (r"\bfoo\.js\b", [{"foo.js"}]),
        (r"\Qa.b\E*foo", [{"foo"}]),
        (r"\x41\pLabc\p{Greek}", [{"abc"}]),
        ("(?P<name>abc)(?<other>def)", [{"abcdef"}]),
        ("a{,5}b", [{"a{,5}b"}]),
        ("^$", []),
        ("Straße der", [{"stra"}, {"e der"}]),
        ("[é]abc", [{"abc"}]),
    ],
)
def test_what_each_match_holds(expression: str, needed: list[set[str]]) -> None:
    Needle(Query(text=expression, kind="regex"))
    assert needed_literals(expression) == needed


def test_which_letters_re2_takes_for_one_of_ascii() -> None:
    """What a block holds is known of ASCII alone, with these letters for those of ASCII."""
    beyond = "".join(map(chr, range(0x80, 0xD800))) + "".join(map(chr, range(0xE000, 0x20000)))
    needle = Needle(Query(text="[a-z]+", kind="regex"))
    [found] = search(needle, block_of(["\u017f", "\u212a"]), 9).found[:1]
    assert found.parts == ["", "\u017f", ""]
    text = beyond.replace("\u017f", "").replace("\u212a", "").encode()
    assert needle.search(text, 0, len(text)) == (-1, -1)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (Query(text=""), "the query is empty"),
        (Query(text="x" * 10_240), "has 10240 characters, and at most 1000"),
        (Query(text="a\nb"), "line by line"),
        (Query(text="\ud800"), "half of a surrogate"),
        (Query(text="(", kind="regex"), "isn't one of RE2: missing ): ("),
        (Query(text="a)(b", kind="regex"), "isn't one of RE2: unexpected )"),
        (Query(text=r"(a)\1", kind="regex"), r"isn't one of RE2: invalid escape sequence: \1"),
        (Query(text="(?=a)", kind="regex"), "isn't one of RE2: invalid perl operator"),
        (Query(text=r"(?:\pL{100}){9}", kind="regex"), "too large"),
        (Query(text=r"\pL{40}", kind="regex"), "too large"),
        (Query(text=r"\Aabc", kind="regex"), "^ is the beginning of a line"),
        (Query(text=r"abc(?:d|\z)", kind="regex"), "$ is the end of a line"),
        (Query(text=r"(?i-m)^abc", kind="regex"), "the flag m"),
        (Query(text=r"a\Cb", kind="regex"), "cut characters into bytes"),
        (Query(text="(" * 300 + "a" + ")" * 300, kind="regex"), "more than 100 deep"),
        (Query(text="(?:" * 101 + "a" + ")" * 101, kind="regex"), "more than 100 deep"),
    ],
)
def test_what_is_refused(query: Query, said: str) -> None:
    with pytest.raises(BadQuery) as refused:
        Needle(query)
    assert said in str(refused.value)


def test_what_looks_refused_and_is_not() -> None:
    for text in (
        r"\\A",
        r"[(?m)]",
        r"\Q\A(?m)\E",
        r"(?i:x)",
        r"[\\z]",
        "(?:m)",
        "(" * 100 + "a" + ")" * 100,
        "(a)" * 300,
    ):
        Needle(Query(text=text, kind="regex"))


def test_every_line_matches_and_few_objects_are_made() -> None:
    block = block_of(["npm warn deprecated glob@7.2.3"] * 5000)
    found = search(Needle(Query(text="npm")), block, 3)
    assert (found.count, [each.record for each in found.found]) == (5000, [1, 2, 3])
    found = search(Needle(Query(text="x*", kind="regex")), block, 2, newest=True)
    assert (found.count, [each.record for each in found.found]) == (5000, [5000, 4999])
    assert found.found[0].parts == ["npm warn deprecated glob@7.2.3"]


def test_a_long_line_is_shown_in_part() -> None:
    line = "a" * 9000 + "needle" + "é" * 5000
    [found] = search(Needle(Query(text="NEEDLE")), block_of([line]), 1).found
    assert found.skipped == 9000 - BEFORE_MATCH
    assert found.cut
    assert found.parts == ["a" * BEFORE_MATCH, "needle", "é" * (MAX_SHOWN - BEFORE_MATCH - 6)]
    [found] = search(Needle(Query(text="needle")), block_of(["needle" * 2000]), 1).found
    assert found.cut
    assert sum(map(len, found.parts)) == MAX_SHOWN


def test_words_in_a_text_beyond_ascii_take_time_by_its_size() -> None:
    """An "s" and a "k" have letters of other alphabets beside them, for which the text is looked through, once."""
    line = "✓ é some text, as many tools print it\n".encode()
    count = 8 * 2**20 // len(line)
    began = time.process_time()
    assert matches(Needle(Query(text="risk")), Block(1, count, line * count), 50) == blocks.Matches(0, [])
    assert time.process_time() - began < 0.5  # 0.05; once 1.2


def test_the_worst_expressions_take_bounded_time() -> None:
    """Each is of a kind that takes other engines for ever."""
    block = block_of([("a" * 2000 + "b") * 4] * 8)
    for text in ("(a+)+$", "(a|aa)+$", "(.*a){12}c", "(?:a?){200}a{200}$", "a.{200}c", r"(?:.*\pL){20}\d"):
        needle = Needle(Query(text=text, kind="regex"))
        began = time.thread_time()
        search(needle, block, 10)
        assert time.thread_time() - began < 3, text
