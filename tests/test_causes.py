"""
What is named as the cause of failures. The logs in ``fixtures/causes`` are what the tools have really printed;
``tests/failures`` made them, and says which line a developer would name. `test_made_again` makes some again.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.failures.cases import CASES, Case
from tests.failures.making import Made, make
from tests.node import node_folder
from twistedipc.builds.causes import find_cause, new_lines
from twistedipc.builds.templates import template, templates
from twistedipc.finding.shown import shown

FOLDER = Path(__file__).parent / "fixtures" / "causes"
MADE = msgspec.json.decode((FOLDER / "made.json").read_bytes(), type=dict[str, Made])

#: What a build that goes well prints before: nothing of it is a cause.
BEFORE = """\
Cloning into '/build/src'...
added 312 packages, and audited 313 packages in 9s
found 0 vulnerabilities
npm warn deprecated inflight@1.0.6: This module is not supported, and leaks memory. Do not use it.
[build] 0 errors, 2 warnings
✓ handles errors of the API (12 ms)
✓ src/errors.test.ts (3 tests) 41ms
Tests: 41 passed, 0 failed
""".splitlines()


def lines_of(name: str) -> list[str]:
    """The lines of a log, as they are searched."""
    return shown((FOLDER / f"{name}.txt").read_bytes().rstrip(b"\n") + b"\n").decode().split("\n")[:-1]


def found_in(case: Case, lines: list[str]) -> str:
    at = find_cause(lines, MADE[case.name].exit).at
    return "" if at is None else lines[at]


def test_the_cause_is_found() -> None:
    right: Counter[str] = Counter()
    wrong: list[str] = []
    for case in CASES:
        line = found_in(case, lines_of(case.name))
        if re.search(case.cause, line):
            right[case.kind] += 1
        else:
            wrong.append(f"{case.name}: {line!r}")
    of_kind = Counter(case.kind for case in CASES)
    score = ", ".join(f"{kind} {right[kind]} of {count}" for kind, count in of_kind.items())
    print(f"causes found: {right.total()} of {len(CASES)} ({score})")
    assert len(CASES) >= 50
    assert right.total() >= 0.9 * len(CASES), f"{score}; {wrong}"


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_each_case_is_kept_as_it_was_made(case: Case) -> None:
    """Its cause is there to be found, and what it printed is free of the machine on which it was made."""
    lines = lines_of(case.name)
    assert any(re.search(case.cause, line) for line in lines)
    assert MADE[case.name].exit > 0
    assert MADE[case.name].tools["node"]


def test_no_file_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == {case.name for case in CASES} == set(MADE)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_what_is_printed_before_changes_nothing(case: Case) -> None:
    """Once a success has printed it, too."""
    lines = lines_of(case.name)
    alone = find_cause(lines, MADE[case.name].exit)
    noise = [*BEFORE, "Error: expected by a test that passes", "TypeError: x is not a function", *BEFORE]
    both = find_cause([*noise, *lines], MADE[case.name].exit, templates(noise))
    assert alone.at is not None
    assert both.at == len(noise) + alone.at


def test_what_a_success_prints_is_no_cause() -> None:
    green = [*BEFORE, "Error: retrying the download of 12 files (attempt 1 of 3)", "done in 4.1s"]
    red = [*BEFORE, "Error: retrying the download of 9 files (attempt 1 of 3)", "src/a.ts(3,1): error TS2304: no b", ""]
    assert find_cause(red, 1).at == len(red) - 3
    assert find_cause(red, 1, templates(green)).at == len(red) - 2
    # But if there is nothing else, it is better than nothing.
    assert find_cause(green, 1, templates(green)).at == len(green) - 2


def test_the_first_of_several_is_named() -> None:
    lines = [f"src/page{n}.ts({n},1): error TS2304: Cannot find name 'x'." for n in range(1, 400)]
    assert find_cause(lines, 2).at == 0


def test_many_warnings_hide_no_error() -> None:
    warnings = [f"src/{number}.js: 'x' is unused, or must be required" for number in range(10_000)]
    error = "src/cart.ts(3,29): error TS2322: Type 'string' is not assignable to type 'number'."
    assert find_cause([*warnings, error, *warnings], 2).at == len(warnings)


def test_what_is_known_is_explained() -> None:
    cause = find_cause(["> build", "sh: 1: vite: not found", ""], 127)
    assert cause.at == 1
    assert cause.explanation is not None
    assert cause.explanation.name == "no-command"
    # By the exit code alone there is an explanation, and the last line that says something.
    cause = find_cause(["bundling", "", "> "], 137)
    assert cause.at == 0
    assert cause.explanation is not None


def test_what_the_build_says_itself() -> None:
    """An annotation counts as an error; its line is the one that it was made of, if there is one."""
    lines = ["building", "the chunk is odd", "the chunk is odd a.ts:3", "done"]
    assert find_cause(lines, 1).at == 3
    assert find_cause(lines, 1, said={2: "the chunk is odd"}).at == 1
    assert find_cause(["building", "pages are odd a.ts:3", "done"], 1, said={1: "pages are odd"}).at == 1
    assert find_cause(["Error: no page", "pages are odd"], 1, said={1: "pages are odd"}).at == 0


def test_nothing_is_found_in_nothing() -> None:
    assert find_cause([], 1).at is None
    assert find_cause(["", "   ", "-----"], 1).at is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("✓ built in 980 ms", "✓ built in 1.02 s"),
        (
            "dist/assets/index-BhT3x9aZ.js  219.12 kB │ gzip: 68.51 kB",
            "dist/assets/index-CqKKaaZb.js 9 kB │ gzip: 7 kB",
        ),
        ("10:31:02 AM [vite] page reload", "9:05:59 PM [vite] page reload"),
        ("2026-01-31T12:00:00.123Z start", "2027-12-01T01:02:03Z start"),
        ("HEAD is now at 0a1b2c3 fix", "HEAD is now at ffe94b1 fix"),
        ("wrote /tmp/npm-aKxB/a.txt", "wrote /tmp/npm-Zqqq/a.txt"),
        ("id 123e4567-e89b-12d3-a456-426614174000", "id 00000000-0000-4000-8000-00000000000f"),
        ("[#####-----] 50%", "[#####-----] 51%"),
        ("sha512-AAAAAPrDwmP1+SMHXZ/htLtJv90yiyVfluGsX5iNCVkrhQtU3TQ==", "sha512-B/bb=="),
    ],
)
def test_runs_differ_in_this(one: str, other: str) -> None:
    assert template(one) == template(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("error TS2304: no x", "error TS2322: no x"),
        ("npm error code E404", "npm error code E403"),
        ("src/header.ts ok", "src/footer.ts ok"),
        ("decade", "facade"),
    ],
)
def test_runs_do_not_differ_in_this(one: str, other: str) -> None:
    assert template(one) != template(other)


@given(st.text(max_size=400))
def test_a_template_is_its_own(text: str) -> None:
    """Whatever a line has: it is short, on one line, and nothing more goes from it."""
    shape = template(text)
    assert len(shape) <= 300
    assert template(shape) == shape or not shape.isascii() or "#" in shape
    assert "\n" not in shape


def test_new_lines() -> None:
    green = ["built 3 pages", "done in 2 s"]
    red = ["built 4 pages", "page /a is broken", "page /a is broken", "    at render (a.js:1:2)", "done in 3 s", "bye"]
    assert new_lines(red, templates(green), 10) == ([1, 5], 2)
    assert new_lines(red, templates(green), 1) == ([1], 2)


def test_no_line_is_slow() -> None:
    """Text that nearly fits, again and again, in many lines."""
    for piece in ("error ", "[a] ", "Error: ", "a-b/", "npm error ", "a:b: ", "[vite] [x] ", "0", "1:1 ", "a.b ", "[a"):
        lines = [piece * 10_000] * 1000
        began = time.process_time()
        find_cause(lines, 1)
        templates(lines)
        assert time.process_time() - began < 10  # mostly 0.5


def test_no_line_is_slow_that_is_mostly_blank() -> None:
    """What a line begins with is looked at once, and not again from each of its blanks."""
    for line in (" " * 490 + "x.y:1", "\t" * 490 + "error"):
        lines = [line] * 300
        began = time.process_time()
        find_cause(lines, 1)
        templates(lines)
        assert time.process_time() - began < 2  # mostly 0.2; once 5


@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["npm-no-version", "env-missing", "no-command", "heap", "killed", "eslint", "tsc-type"]
)
def test_made_again(name: str, tmp_path: Path) -> None:
    """With the tools as they are today."""
    if node_folder() is None:
        pytest.skip("there is no npm")
    case = next(case for case in CASES if case.name == name)
    output, made = make(case, tmp_path / "kits", tmp_path / "case")
    lines = shown(output.encode().rstrip(b"\n") + b"\n").decode().split("\n")[:-1]
    at = find_cause(lines, made.exit).at
    assert at is not None
    assert re.search(case.cause, lines[at]), lines[at]
    assert made.exit == MADE[name].exit
