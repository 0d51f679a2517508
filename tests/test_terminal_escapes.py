"""Output of strangers made safe for a terminal."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.terminal.escapes import colours, plain

_SGR = re.compile(r"\x1b\[[0-9;:]*m")
_BAD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

_PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "\x1b",
                "[",
                "]",
                "m",
                "3",
                ";",
                ":",
                "?",
                "\r",
                "\n",
                "\t",
                "\b",
                "\x07",
                "\\",
                "\x9b",
                "\x9d",
                "\x9c",
                "\x1b[31m",
                "\x1b[0m",
                "\x1b[2J",
                "\x1b]8;;javascript:1\x07",
                "\x1b]52;c;aGk=\x1b\\",
                "\x1bP",
                "\x1bc",
                "\u202e",
                "x",
                " ",
                "é",
            ]
        ),
        st.text(max_size=5),
    ),
    max_size=30,
).map("".join)


@given(_PIECES)
def test_plain_leaves_no_control(text: str) -> None:
    assert _BAD.search(plain(text)) is None


@given(_PIECES)
def test_colours_leave_no_control_but_colours(text: str) -> None:
    assert _BAD.search(_SGR.sub("", colours(text))) is None


@given(_PIECES)
def test_cleaning_is_finished_after_once(text: str) -> None:
    assert plain(plain(text)) == plain(text)
    assert colours(colours(text)) == colours(text)


@given(_PIECES)
def test_both_show_the_same_text(text: str) -> None:
    assert _SGR.sub("", colours(text)) == plain(text)


@given(st.lists(_PIECES, max_size=6))
def test_a_block_is_cleaned_as_its_lines_are(lines: list[str]) -> None:
    lines = [line.replace("\n", "") for line in lines]
    block = "\n".join(lines)
    if lines:
        assert plain(block).count("\n") == len(lines) - 1
        assert colours(block).count("\n") == len(lines) - 1
        if "\x1b" not in block and "\x9b" not in block:
            assert plain(block) == "\n".join(map(plain, lines))


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "Zs"])))
def test_what_is_printable_stays(text: str) -> None:
    assert plain(text) == colours(text) == text


@pytest.mark.parametrize(
    ("text", "expected", "coloured"),
    [
        ("\x1b[2J\x1b[Hgone", "gone", "gone"),
        ("\x1b[31mred\x1b[0m", "red", "\x1b[31mred\x1b[0m"),
        ("\x1b[38;2;1;2;3mx\x1b[38:5:1my", "xy", "\x1b[38;2;1;2;3mx\x1b[38:5:1my"),
        ("\x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\", "link", "link"),
        ("\x1b]52;c;ZXZpbA==\x07x", "x", "x"),
        ("\x1b]0;title", "0;title", "0;title"),
        ("\x9b2Jx", "x", "x"),
        ("\x9b31mx", "x", "x"),
        ("\x1bcx", "x", "x"),
        ("\x1b[>4;2mx", "x", "x"),
        ("\x1b", "", ""),
        ("a\x1b[", "a", "a"),
        ("10%\r20%\r30%", "30%", "30%"),
        ("done\r", "done", "done"),
        ("\x1b[32m1\r2\x1b[0m", "2", "\x1b[32m2\x1b[0m"),
        ("100%\r\x1b[0m", "100%", "100%"),
        ("\x1b[32m99%\r100%\r\x1b[0m\r\r", "100%", "\x1b[32m100%\x1b[0m"),
        ("\r\x1b[1m\r", "", "\x1b[1m"),
        ("\r\x1b[1mx\rab\n\x1b[Kc", "ab\nc", "\x1b[1mab\nc"),
        ("a\rb\nc", "b\nc", "b\nc"),
        ("ab\bc\0\x7f", "ac", "ac"),
        ("safe\u202etxt.exe", "safetxt.exe", "safetxt.exe"),
        ("tab\tstays", "tab\tstays", "tab\tstays"),
        ("\x1b\x1b[31m[31m", "[31m", "\x1b[31m[31m"),
    ],
)
def test_examples(text: str, expected: str, coloured: str) -> None:
    assert plain(text) == expected
    assert colours(text) == coloured


@pytest.mark.parametrize("piece", ["\x1b", "\x1b[", "\x1b]", "\x1b[1;", "\x9d", "\r", "\x1b]x", "\x1b[?", "\x1b("])
def test_time_is_linear(piece: str) -> None:
    text = piece * 100_000
    plain(text)
    colours(text)


@pytest.mark.parametrize("piece", ["x\x1b[2K", "x\x1b[A\x1b[J\x1b[B", "\u0301", "\x1b[500G\x1b[1K"])
def test_drawing_takes_linear_time(piece: str) -> None:
    text = "\rab" + piece * 50_000
    began = time.thread_time()
    plain(text)
    colours(text)
    assert time.thread_time() - began < 4
