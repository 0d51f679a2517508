"""
What a terminal would show of a line, or of several: in Python, in the page's JavaScript, and by pyte. The table of
cases is for both languages; pyte is the oracle where it does what terminals do.
"""

from __future__ import annotations

import json
import random
import subprocess
import unicodedata
from itertools import groupby
from pathlib import Path
from typing import Any

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.node import node_path
from twistedipc.terminal import escapes
from twistedipc.terminal.drawing import FAR, REACH, parameters_of, width

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "fixtures" / "terminal.json").read_text())
PAGE = Path(__file__).parent.parent / "twistedipc" / "web" / "page" / "static" / "log"

#: JavaScript that reads lists of lines, and writes the rows of each.
SCRIPT = """
import { readFileSync } from "node:fs";
const { clean, draw, runsOf, widthOf } = await import("./drawing.js");
const { withAddresses } = await import("./weblinks.js");
const { readable, colourOf, contrast } = await import("./colours.js");
const asked = JSON.parse(readFileSync(0, "utf8"));
const texts = (runs) => runs.map(({ text, style }) => [text, style.key]);
const answer = {
  rows: asked.rows.map((lines) => draw(lines.map((text, index) => ({ number: index + 1, text }))).rows
    .map(({ number, redrawn, runs }) => [number, redrawn, texts(runs)])),
  alone: asked.alone.map((line) => texts(runsOf(line).runs)),
  clean: asked.clean.map(clean),
  widths: [...asked.widths].map(widthOf),
  links: asked.links.map((line) => withAddresses(runsOf(line).runs).map(({ text, link }) => [text, link])),
  contrasts: asked.grounds.map((ground) => {
    const found = [];
    for (let n = 16; n < 256; n++) found.push(contrast(readable(colourOf(`38;5;${n}`), ground), ground));
    return Math.min(...found);
  }),
};
process.stdout.write(JSON.stringify(answer));
"""


def by_page(folder: Path, **asked: Any) -> dict[str, Any]:
    """What the page's modules make of these."""
    path = node_path()
    for name in ("drawing.js", "weblinks.js", "colours.js"):
        (folder / name).write_bytes((PAGE / name).read_bytes())
    (folder / "package.json").write_text('{"type": "module"}')  # as the browser is told
    (folder / "script.mjs").write_text(SCRIPT)
    defaults: dict[str, Any] = {"rows": [], "alone": [], "clean": [], "widths": "", "links": [], "grounds": []}
    done = subprocess.run(
        ["node", "script.mjs"],
        cwd=folder,
        env={"PATH": path},
        input=json.dumps({**defaults, **asked}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def runs(text: str) -> list[list[str]]:
    """A line by itself in Python: its texts, each with its style."""
    cells = escapes._drawn(text.rstrip("\r")).cells()
    grouped = groupby((cell for cell in cells if cell.text), key=lambda cell: parameters_of(cell.style))
    return [["".join(cell.text for cell in group), style] for style, group in grouped]


def by_pyte(lines: list[str], columns: int = 200) -> list[str]:
    """The rows that a terminal shows once all lines are drawn."""
    screen = pyte.Screen(columns, 60)
    pyte.Stream(screen).feed("".join(line + "\r\n" for line in lines))
    shown = [row.rstrip() for row in screen.display]
    return [row for at, row in enumerate(shown) if at < screen.cursor.y or row]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["what"])
def test_lines_by_themselves_in_python(case: dict[str, Any]) -> None:
    if len(case["lines"]) > 1:
        return  # lines over one another are the page's: in a text, each line stands for itself
    ((_number, _redrawn, expected),) = case["rows"]
    line = case["lines"][0]
    assert escapes.plain(line) == "".join(text for text, _style in expected)
    if "\t" not in escapes.plain(line):  # cells have none
        assert runs(line) == expected


def test_the_page_draws_the_same(tmp_path: Path) -> None:
    found = by_page(tmp_path, rows=[case["lines"] for case in CASES])["rows"]
    for case, rows in zip(CASES, found, strict=True):
        assert rows == case["rows"], case["what"]


PIECES = ["a", "bc", "def", " ", "é", "日", "\r", "\b", "\t"]
PIECES += ["\x1b[K", "\x1b[1K", "\x1b[2K", "\x1b[2C", "\x1b[D", "\x1b[3D", "\x1b[4G", "\x1b[J", "\x1b[31m", "\x1b[m"]
# pyte leaves the other half of a wide character that is drawn over.
NARROW = [piece for piece in PIECES if piece != "日"]


@given(st.lists(st.sampled_from(NARROW), max_size=30).map("".join))
def test_a_line_is_what_a_terminal_shows(line: str) -> None:
    # A tab doesn't draw, so that text is compared as it is seen.
    assert escapes.plain(line).expandtabs().rstrip() == "".join(by_pyte([line])[:1])


@given(st.lists(st.sampled_from([*PIECES, "\x1b[A", "\x1b[2B", "\x1b[E", "\x1b[3F", "\n"]), max_size=30).map("".join))
def test_colours_change_nothing_of_it(text: str) -> None:
    assert escapes.plain(escapes.colours(text)) == escapes.plain(text)


def random_lines(draw: random.Random) -> list[str]:
    """Lines that draw over one another, and never go down where nothing has been."""
    lines = []
    row = bottom = 0
    for _ in range(draw.randint(2, 12)):
        line = ""
        for _ in range(draw.randint(0, 8)):
            count = draw.randint(1, 3)
            if draw.random() < 0.25 and row:
                row = max(0, row - count)
                line += f"\x1b[{count}{draw.choice('AF')}"
            elif draw.random() < 0.15 and row + count <= bottom:
                row += count
                line += f"\x1b[{count}{draw.choice('BE')}"
            else:
                line += draw.choice(NARROW)
        lines.append(line)
        row += 1
        bottom = max(bottom, row)
    return lines


def test_the_page_shows_what_a_terminal_shows(tmp_path: Path) -> None:
    draw = random.Random(19)
    programs = [random_lines(draw) for _ in range(400)]
    found = by_page(tmp_path, rows=programs)["rows"]
    for lines, rows in zip(programs, found, strict=True):
        shown = ["".join(text for text, _style in runs) for _number, redrawn, runs in rows if not redrawn]
        # A line that moves nothing has its tabs in the page, too.
        assert [row.expandtabs().rstrip() for row in shown] == by_pyte(lines), lines
        assert [number for number, _redrawn, _runs in rows] == list(range(1, len(lines) + 1)), "no line is lost"
        assert all(redrawn == 0 or number <= redrawn for number, redrawn, _runs in rows)


def test_the_page_and_python_clean_alike(tmp_path: Path) -> None:
    draw = random.Random(7)
    parts = [*PIECES, "[", "]", "m", "0", "31", "38;5;200", ";", ":", "2J", "\x07", "😀", "P", "(", "\x1b", "\x9b"]
    parts += ["\x1b[?25l", "\x1b]8;;https://a.example/\x07", "\x1b]8;;", "\x1b\\", "\x90", "\x9c", "\u202e", "\x1b[A"]
    parts += ["\x1b[2B", "\x1b[E", "e\u0301", "\x1b[999C", "\x1b[38:2::1:2:3m", "\x1b[4:3m"]
    lines = ["".join(draw.choices(parts, k=draw.randint(1, 14))) for _ in range(2000)]
    found = by_page(tmp_path, alone=lines)["alone"]
    for line, one in zip(lines, found, strict=True):
        assert "".join(text for text, _style in one) == escapes.plain(line), line


def test_the_page_and_python_drop_the_same_characters(tmp_path: Path) -> None:
    """Of each character alone: controls, and those that turn the order of letters around."""
    lines = [f"1{chr(code)}2" for code in range(0x3000) if chr(code) not in "\b\n\r"]  # which are drawn
    found = by_page(tmp_path, alone=lines, clean=lines)
    cleaned = [escapes.plain(line) for line in lines]
    assert ["".join(text for text, _style in one) for one in found["alone"]] == cleaned
    assert found["clean"] == cleaned


def test_characters_take_as_many_columns_in_both(tmp_path: Path) -> None:
    # What engines and Python's version know of Unicode differs at its edges: these have been there for long.
    blocks = [(0x20, 0x7F), (0xA0, 0x600), (0x1100, 0x1200), (0x2000, 0x2330), (0x2600, 0x27C0), (0x3000, 0x3248)]
    blocks += [(0x4E00, 0x4E20), (0xAC00, 0xAC20), (0xFE00, 0xFF70), (0x1F300, 0x1F650), (0x20000, 0x20010)]
    text = "".join(chr(code) for first, end in blocks for code in range(first, end))
    text = "".join(one for one in text if unicodedata.category(one) != "Cn")
    found = by_page(tmp_path, widths=text)["widths"]
    assert [(one, size) for one, size in zip(text, found, strict=True) if width(one) != size] == []


def test_addresses_are_links_and_nothing_else_is(tmp_path: Path) -> None:
    lines = {
        "Local: \x1b[36mhttp://localhost:\x1b[1m5173\x1b[22m/\x1b[39m ok": [
            ["Local: ", ""],
            ["http://localhost:", "http://localhost:5173/"],
            ["5173", "http://localhost:5173/"],
            ["/", "http://localhost:5173/"],
            [" ok", ""],
        ],
        "(see https://a.example/b_(c)). Or": [
            ["(see ", ""],
            ["https://a.example/b_(c)", "https://a.example/b_(c)"],
            ["). Or", ""],
        ],
        "javascript:alert(1) file:///etc/passwd": [["javascript:alert(1) file:///etc/passwd", ""]],
        "\x1b]8;;https://a.example/\x1b\\X\x1b]8;;\x1b\\Y": [["X", "https://a.example/"], ["Y", ""]],
        "\x1b]8;id=1;HTTP://a.example\x07X\x1b]8;;\x07": [["X", "http://a.example/"]],
        "\x1b]8;;javascript:alert(1)\x07X\x1b]8;;\x07": [["X", ""]],
        "\x1b]8;;data:text/html,x\x07X\x1b]8;;\x07": [["X", ""]],
        "\x1b]8;;https://evil.example/\x07https://good.example/\x1b]8;;\x07": [
            ["https://good.example/", "https://evil.example/"]
        ],
        "https://": [["https://", ""]],
    }
    found = by_page(tmp_path, links=list(lines))["links"]
    for line, links in zip(lines, found, strict=True):
        assert links == lines[line], line


def test_colours_can_be_read_on_light_and_dark(tmp_path: Path) -> None:
    grounds = [
        [255, 255, 255],
        [246, 247, 249],
        [28, 33, 44],
        [18, 21, 28],
        [0, 0, 0],
        [128, 128, 128],
        [118, 118, 118],
    ]
    assert min(by_page(tmp_path, grounds=grounds)["contrasts"]) >= 4.5


def test_nothing_grows_beyond_its_bounds() -> None:
    assert len(escapes.plain("a\x1b[999999999Cb")) == FAR + 1
    assert escapes.plain(f"a\x1b[{'9' * 15}Ab") == " b"
    assert escapes.plain("x\x1b[1A" * (REACH + 50))[-1] == "x"


@pytest.mark.parametrize(
    "piece", ["x\x1b[1K", "\x1b[K", "x\x1b[A", "x\r", "x\b", "日\r", "\x1b[J", "\x1b[999C", "x\x1b[2K"]
)
def test_a_hostile_line_takes_no_longer_than_others(piece: str) -> None:
    line = piece * (16_384 // len(piece))
    escapes.plain(line)
    escapes.colours(line)
