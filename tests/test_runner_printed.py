"""What tools print: commands in the output, and errors of the sources. The captured output is of real tools."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.builds.logs import MAX_NAME, MAX_REMARK, Annotation, Group, Lines, Notice, Record
from twistedipc.runner.capture import Capture
from twistedipc.runner.channel import NoChannel
from twistedipc.runner.interleaving import Interleaving
from twistedipc.runner.printed import MAX_HELD, MAX_PROBLEMS, Part, Printed
from twistedipc.runner.problems import MAX_LINE, matchers
from twistedipc.runner.speech import MAX_REMARKS, Mask, Message

TOPS = ["/src/app/"]
CAPTURED = Path(__file__).parent / "fixtures" / "problems"


def joined(parts: list[Part]) -> list[bytes | Message]:
    """The same, with output that follows output as one piece, and each message by itself."""
    found: list[bytes | Message] = []
    for part in parts:
        if isinstance(part, list):
            found += part
        elif found and isinstance(found[-1], bytes):
            found[-1] += part
        else:
            found.append(part)
    return found


def printed(*pieces: bytes) -> list[bytes | Message]:
    """What becomes of output that comes in these pieces."""
    one = Printed(TOPS)
    parts = [part for piece in pieces for part in one.feed(piece)]
    return joined([*parts, *one.finish()])


def error(message: str, file: str = "", line: int = 0, column: int = 0) -> Annotation:
    return Annotation("error", message, file, line, column)


COMMANDS: list[tuple[bytes, list[bytes | Message]]] = [
    (b"a\n::group::Build it\nb\n::endgroup::\nc\n", [b"a\n", Group("Build it"), b"b\n", Group(""), b"c\n"]),
    (b"  ::group::Indented\r\n", [Group("Indented")]),
    (b"::group::50%25 of 100%25%0Aand more\n", [Group("50% of 100% and more")]),
    (b"::group::\x1b[36mcolour\x1b[0m\n", [Group("colour")]),
    (b"::group::" + b"x" * 500 + b"\n", [Group("x" * (MAX_NAME - 1) + "…")]),
    (b"::error::it failed\n", [error("it failed")]),
    (b"::error file=src/a.ts,line=3,col=7::no\n", [error("no", "src/a.ts", 3, 7)]),
    (b"::error file=/src/app/src/a.ts,line=3,endLine=4::no\n", [error("no", "src/a.ts", 3)]),
    (b"::error title=Type%3A bad%2C very,file=a.ts::x%0Ay\n", [error("Type: bad, very: x\ny", "a.ts")]),
    (b"::error line=3::no file\n", [error("no file")]),
    (b"::error file=a.ts,line=three::no\n", [error("no", "a.ts")]),
    (b"::error file=a.ts,line=99999999999999::no\n", [error("no", "a.ts")]),
    (b"::warning file=a.ts::careful\n", [Annotation("warning", "careful", "a.ts")]),
    (b"::notice::well\n::NOTICE::well\n", [Annotation("notice", "well"), Annotation("notice", "well")]),
    (b"::error::" + b"x" * 5000 + b"\n", [error("x" * (MAX_REMARK - 1) + "…")]),
    (b"a\n::add-mask::hunter22\nb\n", [b"a\n", Mask("hunter22"), b"b\n"]),
    (b"::add-mask::a%0Ab%25\n", [Mask("a\nb%")]),
    (b"::add-mask::\n", [Mask("")]),
    (b"\x1b[0Ksection_start:1560896352:my_id\r\x1b[0KHeader\nx\n", [Group("Header"), b"x\n"]),
    (b"section_start:1:my_id[collapsed=true]\r\x1b[0K\x1b[1mHeader\x1b[0m\n", [Group("Header", folded=True)]),
    (b"section_start:1:my_id\r\x1b[0K\n", [Group("my_id")]),
    (
        b"section_start:1:a\r\x1b[0KA\nx\n\x1b[0Ksection_end:2:a\r\x1b[0K\x1b[0Ksection_start:2:b\r\x1b[0KB\n",
        [Group("A"), b"x\n", Group(""), Group("B")],
    ),
    (b"section_start:1:a\r\x1b[0KA\nsection_end:2:a\r\x1b[0Kmore\n", [Group("A"), Group(""), b"more\n"]),
    (b"section_end:2:other\r\x1b[0K\n", []),
    (
        b"--- Build :rocket:\nx\n+++ Test\n~~~ Quiet\ny\n",
        [Group("Build :rocket:"), b"x\n", Group("Test"), Group("Quiet", folded=True), b"y\n"],
    ),
    (b"x\n^^^ +++\ny\n", [b"x\ny\n"]),
    (b"--- last\n", [Group("last")]),
    (b"--- no newline", [Group("no newline")]),
    (b"::error::no newline", [error("no newline")]),
]

#: What looks like a command and is none: it passes as it is.
TEXT = [
    b"",
    b"plain\n",
    b"see std::vector::size\n",
    b"a ::group::x\n",
    b"::group\n",
    b"::group::\n",
    b"::set-output name=a::b\n",
    b"::debug::quiet\n",
    b"::error::\n",
    b":: error ::x\n",
    b"<section_start:1:a\r\x1b[0K<X\n",
    b"section_start:x:a\r\x1b[0KX\n",
    b"section_start:1:a no return\n",
    b"---\n",
    b"--- \n",
    b"---- x\n",
    b"--- ---- ---\n",
    b"--- a/src/a.ts\n+++ b/src/a.ts\n@@ -1 +1 @@\n",
    b"--- expected\n+++ actual\n",
    b"--- /dev/null\n+++ b/new.ts\n",
    b"--- old.txt\t2026-01-01\n",
    b"~~~\n~~~js\n",
    b"^^^\n^^^ ---\n",
    b"an error occurred\n0 errors, 0 warnings\n",
    b"::",
    b"::add-ma",
    b"sec",
    b"--",
]


@pytest.mark.parametrize(
    ("output", "expected"), COMMANDS, ids=lambda value: value[:40].decode() if isinstance(value, bytes) else ""
)
def test_commands(output: bytes, expected: list[bytes | Message]) -> None:
    assert printed(output) == expected


@pytest.mark.parametrize("output", TEXT)
def test_what_is_no_command_stays(output: bytes) -> None:
    assert printed(output) == ([output] if output else [])


@pytest.mark.parametrize("output", [output for output, _expected in COMMANDS] + TEXT)
def test_how_it_was_split_is_nothing_to_it(output: bytes) -> None:
    whole = printed(output)
    assert printed(*(output[at : at + 1] for at in range(len(output)))) == whole
    for at in range(len(output)):
        assert printed(output[:at], output[at:]) == whole


def test_between_stop_commands_and_its_token_nothing_is_a_command() -> None:
    text = b"::stop-commands::t0k\n::error::no\n--- x\n::t0k::\n"
    assert printed(b"::group::a\n" + text + b"::group::b\n") == [Group("a"), text, Group("b")]


@pytest.mark.parametrize("token", ["3fa9-12", "__end__", "%%", ":", "é"])
def test_a_token_may_begin_with_anything(token: str) -> None:
    text = f"::stop-commands::{token}\n::error::no\n::{token}::\n".encode()
    expected = [text, Mask("hunter22"), b"x\n"]
    assert printed(text + b"::add-mask::hunter22\nx\n") == expected
    for at in range(len(text)):
        assert printed(text[:at], text[at:] + b"::add-mask::hunter22\nx\n") == expected


def test_all_other_output_passes_at_once() -> None:
    one = Printed()
    assert one.feed(b"50 %") == [b"50 %"]
    assert one.feed(b"::error::x\n") == [b"::error::x\n"], "it isn't at a line's beginning"
    assert one.feed(b"::err") == []
    assert joined(one.feed(b"or::x\ny")) == [error("x"), b"y"]
    assert one.feed(b"\n--- name\n") == [b"\n"]
    assert one.holds
    assert one.release() == [[Group("name")]]
    assert not one.holds


@pytest.mark.parametrize(
    "prompt", [b"--- Continue? [y/N] ", b"+++ ", b"s", b"  ::group::Continue? ", b"::err", b"^^^ "]
)
def test_a_prompt_is_shown_once_nothing_more_comes(prompt: bytes) -> None:
    """Though it may become a command: nobody would see what a program waits for. It is none after that."""
    one = Printed(TOPS)
    assert one.feed(b"before\n" + prompt) == [b"before\n"]
    assert one.holds
    assert one.release() == [prompt]
    assert one.release() == []
    assert joined([*one.feed(b"y\n::group::next\n"), *one.finish()]) == [b"y\n", Group("next")]


@pytest.mark.parametrize("begun", [b"::", b"::ADD-m", b" ::add-mask::s3cr", b"::add-mask foo=bar::s3"])
def test_what_may_hide_a_value_is_not_shown_before_its_end(begun: bytes) -> None:
    one = Printed(TOPS)
    assert one.feed(begun) == []
    assert not one.holds
    assert one.release() == []
    assert one.feed(b"-rest\n") in ([], [begun + b"-rest\n"], [[Mask("s3cr-rest")]], [[Mask("s3-rest")]])


def test_a_line_that_is_too_long_is_no_command() -> None:
    line = b"::error::" + b"x" * MAX_HELD
    assert printed(line, b"more\n") == [line + b"more\n"]


@pytest.mark.parametrize("command", [b"::add-mask::", b"\t::Add-Mask::", b"::add-mask a=b::"])
def test_a_mask_that_is_too_long_is_never_shown(command: bytes) -> None:
    found = printed(b"a\n" + command + b"x" * MAX_HELD, b"yyy", b"zzz\nb\n")
    assert [one for one in found if isinstance(one, bytes)] == [b"a\n", b"b\n"]
    assert isinstance(found[1], Mask)
    assert len(found[1].value) > MAX_HELD


def test_while_commands_are_stopped_a_long_line_is_shown() -> None:
    text = b"::stop-commands::t\n::add-mask::" + b"x" * MAX_HELD
    assert printed(text, b"more\n") == [text + b"more\n"]


# -- problems --

EXPECTED: dict[str, list[tuple[str, str, int, int, str]]] = {
    "tsc.txt": [
        ("error", "src/a.ts", 1, 10, "TS2305: Module '\"./b\"' has no exported member 'missing'."),
        ("error", "src/a.ts", 2, 7, "TS2322: Type 'string' is not assignable to type 'number'."),
        ("error", "src/a.ts", 4, 3, "TS2322: Type 'number' is not assignable to type 'string'."),
    ],
}
EXPECTED["tsc-pretty.txt"] = EXPECTED["tsc.txt"]
EXPECTED["eslint-stylish.txt"] = EXPECTED["eslint-stylish-colour.txt"] = [
    ("warning", "src/c.js", 1, 7, "'unused' is assigned a value but never used (no-unused-vars)"),
    ("error", "src/c.js", 2, 5, "'globalThing' is not defined (no-undef)"),
    ("error", "src/c.js", 2, 17, "Expected '===' and instead saw '==' (eqeqeq)"),
    ("error", "src/c.js", 2, 25, "'other' is not defined (no-undef)"),
    ("error", "src/d.js", 1, 18, "Parsing error: Unexpected token ;"),
]
EXPECTED["eslint-unix.txt"] = [
    ("warning", "src/c.js", 1, 7, "'unused' is assigned a value but never used. (no-unused-vars)"),
    ("error", "src/c.js", 2, 5, "'globalThing' is not defined. (no-undef)"),
    ("error", "src/c.js", 2, 17, "Expected '===' and instead saw '=='. (eqeqeq)"),
    ("error", "src/c.js", 2, 25, "'other' is not defined. (no-undef)"),
    ("error", "src/d.js", 1, 18, "Parsing error: Unexpected token ;"),
]
EXPECTED["vite-export.txt"] = EXPECTED["vite-export-colour.txt"] = [
    ("error", "src/main.js", 1, 10, '[MISSING_EXPORT] "nope" is not exported by "src/b.js".')
]
EXPECTED["vite-import.txt"] = [
    (
        "error",
        "src/main.js",
        0,
        0,
        'Rolldown failed to resolve import "left-pad-of-nobody" from "/src/app/src/main.js".',
    )
]
EXPECTED["vite-syntax.txt"] = [("error", "src/main.js", 2, 11, "[PARSE_ERROR] Unexpected token")]
EXPECTED["vite-file.txt"] = [
    ("error", "src/main.js", 1, 8, "[UNRESOLVED_IMPORT] Could not resolve './gone.js' in src/main.js")
]
EXPECTED["vite6-export.txt"] = [
    ("error", "src/main.js", 1, 9, '"nope" is not exported by "src/b.js", imported by "src/main.js".')
]
EXPECTED["vite6-import.txt"] = [
    (
        "error",
        "src/main.js",
        0,
        0,
        'Rollup failed to resolve import "left-pad-of-nobody" from "/src/app/src/main.js".',
    )
]
EXPECTED["vite6-syntax.txt"] = [("error", "src/main.js", 2, 10, "Expression expected")]
EXPECTED["vite6-file.txt"] = [("error", "src/main.js", 0, 0, 'Could not resolve "./gone.js" from "src/main.js"')]
EXPECTED["esbuild.txt"] = [
    ("error", "src/main.js", 1, 7, 'Could not resolve "./gone.js"'),
    ("error", "src/App.tsx", 1, 9, 'Unexpected "="'),
]
EXPECTED["webpack.txt"] = EXPECTED["webpack-colour.txt"] = [
    (
        "warning",
        "src/index.js",
        3,
        12,
        "export 'nope' (imported as 'nope') was not found in './b' (possible exports: yes)",
    ),
    ("error", "src/index.js", 1, 0, "Module not found: Error: Can't resolve './gone' in '/src/app/src'"),
    ("error", "src/syntax.js", 2, 10, "Module parse failed: Unexpected token (2:10)"),
    ("error", "src/t.ts", 1, 14, "TS2322: Type 'string' is not assignable to type 'number'."),
]
EXPECTED["webpack-fork.txt"] = EXPECTED["webpack.txt"]
EXPECTED["jest.txt"] = EXPECTED["jest-colour.txt"] = [
    ("error", "lib/sum.test.js", 4, 23, "sum › adds: expect(received).toBe(expected) // Object.is equality"),
    ("error", "lib/sum.test.js", 7, 10, "sum › throws: TypeError: Cannot read properties of null (reading 'x')"),
    (
        "error",
        "lib/broken.test.js",
        1,
        10,
        "Test suite failed to run: Jest encountered an unexpected token: Unexpected token",
    ),
]
EXPECTED["vitest.txt"] = EXPECTED["vitest-colour.txt"] = [
    (
        "error",
        "sum.test.js",
        4,
        19,
        "sum.test.js > sum > adds: AssertionError: expected -1 to be 3 // Object.is equality",
    )
]


def test_all_captured_output_is_expected() -> None:
    assert {path.name for path in CAPTURED.iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_problems_of_real_tools(name: str) -> None:
    output = (CAPTURED / name).read_bytes()
    expected = [
        Annotation("warning" if level == "warning" else "error", message, file, line, column, repeats=True)
        for level, file, line, column, message in EXPECTED[name]
    ]
    for size in (len(output), 1000, 7):
        found = printed(*(output[at : at + size] for at in range(0, len(output), size)))
        assert [one for one in found if not isinstance(one, bytes)] == expected
        assert b"".join(one for one in found if isinstance(one, bytes)) == output, "all of it stays"


def test_a_problem_is_right_behind_its_line() -> None:
    assert printed(b"x\na.ts(1,2): error TS1: no\ny\n") == [
        b"x\na.ts(1,2): error TS1: no\n",
        Annotation("error", "TS1: no", "a.ts", 1, 2, repeats=True),
        b"y\n",
    ]


@pytest.mark.parametrize(
    "output",
    [
        "ERROR in the middle of a sentence\nnext\n",
        "ERROR in step\nnext\n",
        "  ● a list's item\n  ● another one\n",
        "● (SSG) prerendered as static HTML\n",
        "see error: https://a.example:80:80\n",
        "12:30:01 error something\n",
        "  1:2  error  of no file\n",
        "FAIL to do it\n",
        "Found 0 errors.\n",
        "npm error code E404\n",
        "error during build:\n\n\n",
    ],
)
def test_what_only_looks_like_a_problem_is_none(output: str) -> None:
    assert printed(output.encode()) == [output.encode()]


def test_a_problem_is_said_once() -> None:
    found = printed(b"a.ts(1,2): error TS1: no\n" * 3)
    assert len([one for one in found if isinstance(one, Annotation)]) == 1


def test_many_problems_under_one_heading() -> None:
    lines = [b"  %d:1  error  'x' is not defined  no-undef\n" % line for line in range(1, 300)]
    found = printed(b"\n/src/app/src/a.js\n", *lines)
    remarks = [one for one in found if isinstance(one, Annotation)]
    assert [(one.file, one.line) for one in remarks] == [("src/a.js", line) for line in range(1, 300)]


def test_there_are_not_more_than_so_many() -> None:
    found = printed(b"".join(b"a.ts(%d,2): error TS1: no\n" % line for line in range(1, 2 * MAX_PROBLEMS)))
    assert len([one for one in found if isinstance(one, Annotation)]) == MAX_PROBLEMS


@pytest.mark.parametrize("tool", sorted({one.tool for one in matchers()}))
def test_each_tool_of_the_table_is_met(tool: str) -> None:
    samples = {
        "tsc, of no place": (b"error TS18003: No inputs were found.\n", "TS18003: No inputs were found."),
        "next lint": (
            b"./src/a.tsx\n3:5  Error: 'x' is never reassigned.  prefer-const\n",
            "'x' is never reassigned. (prefer-const)",
        ),
        "next build": (b"Failed to compile.\n\n./app/a.tsx:3:5\nType error: It is no number.\n", "It is no number."),
        "webpack, an entry": (
            b"ERROR in main\nModule not found: Error: Can't resolve './src' in '/src/app'\n",
            "Module not found: Error: Can't resolve './src' in '/src/app'",
        ),
        "compilers; esbuild in vite": (b'/src/app/src/a.ts:1:9: ERROR: Unexpected "="\n', 'Unexpected "="'),
    }  # the others' are captured
    if tool in samples:
        output, message = samples[tool]
        assert [one.message for one in printed(output) if isinstance(one, Annotation)] == [message]
    else:
        assert any(tool.split(",")[0].split(" ")[0] in name for name in EXPECTED) or tool == "ts-loader"


@pytest.mark.parametrize(
    "piece", [b"error ", b"(", b" at (", b"  ", b"a:1:", b"\x1b[", b"[Error/", b"warning  ", b"::", b"section_start:1:"]
)
@pytest.mark.parametrize(
    "begin", [b"", b"  \xe2\x97\x8f x\n", b"  1:1  error  ", b"a.ts:1:1: error: ", b"\xe2\x9c\x98 [ERROR] x\n"]
)
def test_time_is_linear(begin: bytes, piece: bytes) -> None:
    line = begin + piece * (MAX_LINE // len(piece)) + b" error\n"
    began = time.thread_time()
    printed(line * 20)
    assert time.thread_time() - began < 0.5


@pytest.mark.parametrize(
    ("begin", "piece"),
    [(b"::a", b" "), (b"::a", b" :"), (b"\t", b" "), (b"", b"section_end:1:a\r\x1b[0K"), (b"--- a", b"\x1b]")],
)
def test_time_is_linear_for_long_commands(begin: bytes, piece: bytes) -> None:
    line = begin + piece * (64 * 1024 // len(piece)) + b"\n"
    began = time.thread_time()
    printed(line)
    assert time.thread_time() - began < 0.5


# -- with the rest of the runner --


def records(*pieces: bytes) -> list[Record]:
    """The records of a step that prints this."""
    capture = Capture()
    found: list[Record] = []

    def take(batches: Sequence[Lines]) -> None:
        found.extend(record for batch in batches for record in batch.lines)

    interleaving = Interleaving(
        NoChannel(),
        token="t",
        mask=capture.mask_within_bounds,
        feed=lambda data: take(capture.feed(data, 0, 0)),
        say=lambda events: take(capture.events(events, 0, 0)),
        clock=lambda: 0.0,
        printed=Printed(TOPS),
    )
    for piece in pieces:
        interleaving.read(piece)
    say_rest = interleaving.end_output()
    take(capture.end_output(0, 0))
    say_rest()
    return found


def test_groups_stand_over_their_lines() -> None:
    output = b"".join(b"::group::group %c\nline %c0\nline %c1\n" % (name, name, name) for name in b"ABC")
    expected = [record for name in "ABC" for record in (Group(f"group {name}"), f"line {name}0", f"line {name}1")]
    assert records(output) == expected
    assert records(*(output[at : at + 5] for at in range(0, len(output), 5))) == expected


def test_a_value_is_hidden_from_the_next_line_on() -> None:
    output = b"hunter22\n::add-mask::hunter22\nhunter22\n::error file=a.ts::hunter22\n::group::hunter22\n"
    expected = ["hunter22", "***", Annotation("error", "***", "a.ts"), Group("***")]
    assert records(output) == expected
    for size in (1, 3, 10):
        assert records(*(output[at : at + size] for at in range(0, len(output), size))) == expected


def test_a_secret_with_several_blanks_is_hidden_in_a_groups_name() -> None:
    assert records(b"::add-mask::two  blanks\n::group::of two  blanks\n") == [Group("of ***")]


def test_a_value_that_is_too_short_is_refused() -> None:
    refusal = Notice("warning", "a value of fewer than 4 bytes can't be hidden")
    assert records(b"::add-mask::\nx\n::add-mask::abc\nabc\n") == [refusal, "x", refusal, "abc"]


def test_there_are_as_many_remarks_as_of_a_channel() -> None:
    found = records(b"::notice::x\n" * (MAX_REMARKS + 5))
    assert len(found) == MAX_REMARKS + 1
    assert found[-1] == Notice("warning", f"annotations and groups beyond {MAX_REMARKS} in a step are dropped")


PIECES = st.sampled_from(
    [
        b"\n",
        b"x",
        b" ",
        b"::",
        b"::group::",
        b"::error::",
        b"::add-mask::abcdef",
        b"--- a",
        b"+++ b",
        b"section_start:1:a\r\x1b[0K",
        b"section_end:1:a\r\x1b[0K",
        b"error",
        b"a.ts(1,2): error TS1: no",
        b"ERROR in ./a.js 1:2",
        b"  1:2  error  no  rule",
        b"\xe2\x97\x8f",
        b"\r",
        b"::stop-commands::t",
        b"::t::",
    ]
)


@given(st.lists(PIECES, max_size=25), st.lists(st.integers(1, 12), min_size=1, max_size=8))
def test_any_split_gives_the_same(pieces: list[bytes], sizes: list[int]) -> None:
    output = b"".join(pieces)
    cut: list[bytes] = []
    at = 0
    while at < len(output):
        size = sizes[len(cut) % len(sizes)]
        cut.append(output[at : at + size])
        at += size
    assert printed(*cut) == printed(output)
