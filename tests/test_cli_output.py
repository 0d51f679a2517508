"""How the command shows things: tables in terminals of any width and in pipes, colours, and parts of JSON."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pyte
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from tests.cli_server import Server, as_json, serving
from tests.test_cli_commands import BUILD, DETAIL
from twistedipc.cli.fields import NoSuchField, picked, plain
from twistedipc.cli.main import commands
from twistedipc.cli.output import ago, with_fields_joined
from twistedipc.cli.tables import GAP, fitted


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        now = datetime.now(UTC)
        running.on(
            "GET /api/v1/builds",
            as_json(
                {
                    "builds": [
                        {
                            **BUILD,
                            "id": 1204,
                            "project": "live",
                            "state": "failed",
                            "tone": "bad",
                            "commit": "ab" * 20,
                            "subject": "Make the größte basket \U0001f600 that anybody has ever seen in a shop",
                            "reason": "step build ended with exit code 127: there is no command vite. Add the package",
                            "created": (now - timedelta(minutes=3, seconds=20)).isoformat(),
                            "started": (now - timedelta(minutes=3)).isoformat(),
                            "ended": (now - timedelta(minutes=1)).isoformat(),
                        },
                        {**BUILD, "id": 7, "state": "running", "ref": "cd" * 20, "created": now.isoformat()},
                    ],
                    "next": None,
                }
            ),
        )
        running.on("GET /api/v1/builds/7", as_json(DETAIL))
        yield running


def run(server: Server, *arguments: str, **environment: str) -> Result:
    env: dict[str, str | None] = {"NO_COLOR": None, "TWISTEDIPC_URL": server.url, "TWISTEDIPC_TOKEN": "tipc_t"}
    return CliRunner().invoke(commands, arguments, env={**env, **environment}, color=True)


def in_terminal(server: Server, columns: int, *arguments: str, **environment: str) -> str:
    """What a program writes into a terminal of this width."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "twistedipc.cli", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=subprocess.STDOUT,
        env={**kept, "TERM": "xterm", "TWISTEDIPC_URL": server.url, "TWISTEDIPC_TOKEN": "tipc_t", **environment},
    )
    os.close(slave)
    written = b""
    try:
        while data := os.read(master, 65536):
            written += data
    except OSError:
        pass  # the terminal's other end is closed
    os.close(master)
    assert process.wait() == 0, written
    return written.decode()


def lines(written: str, columns: int) -> list[str]:
    screen = pyte.Screen(columns, 24)
    pyte.Stream(screen).feed(written)
    return [line.rstrip() for line in screen.display if line.strip()]


# -- tables ----------------------------------------------------------------------------------------------------------


def test_builds_at_80_columns(server: Server) -> None:
    shown = lines(in_terminal(server, 80, "builds"), 80)
    assert len(shown) == 3
    assert "cdcdcdcdcdcd " in shown[2]
    assert shown[0].split() == ["BUILD", "PROJECT", "STATE", "REF", "ASKED", "FOR", "BY", "TOOK", "DETAIL"]
    assert shown[1].startswith("1204   live     failed   main          3 min ago  ann  2 min 0 s  step build en…")
    assert shown[1].endswith("…")
    assert "just now" in shown[2]


def test_builds_at_40_columns(server: Server) -> None:
    shown = lines(in_terminal(server, 40, "builds"), 40)
    assert shown == [
        "BUILD  PROJECT  STATE    ASKED FOR",
        "1204   live     failed   3 min ago",
        "7      shop     running  just now",
    ]


def test_builds_where_everything_fits(server: Server) -> None:
    shown = lines(in_terminal(server, 250, "builds"), 250)
    assert "abababababab" in shown[1]
    assert shown[1].endswith("Add the package")


def test_a_projects_name_is_never_coloured_as_a_state(server: Server) -> None:
    written = in_terminal(server, 80, "builds")
    assert "\x1b[31mfailed" in written
    assert "  live  " in written


def test_builds_in_a_pipe(server: Server) -> None:
    done = run(server, "builds")
    head, first, _second = done.stdout.splitlines()
    assert head.split("\t")[:4] == ["BUILD", "PROJECT", "STATE", "REF"]
    assert first.split("\t")[:5] == ["1204", "live", "failed", "main", "abababababab"]
    # Nothing is cut, padded or coloured, and a time is a time.
    assert first.split("\t")[5].startswith("20")
    assert first.endswith("there is no command vite. Add the package")
    assert "  " not in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"CLICOLOR_FORCE": "1"}, True),
        ({"FORCE_COLOR": "0", "CLICOLOR_FORCE": "1"}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"FORCE_COLOR": "", "CLICOLOR_FORCE": "0"}, False),
    ],
)
def test_colours_that_are_forced(server: Server, environment: dict[str, str], coloured: bool) -> None:
    done = run(server, "builds", **environment)
    assert ("\x1b[31mfailed\x1b[0m" in done.stdout) is coloured
    assert done.stdout.splitlines()[1].split("\t")[1] == "live"


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"CLICOLOR": "0"}, {"TERM": "dumb"}])
def test_terminals_without_colours(server: Server, environment: dict[str, str]) -> None:
    assert "\x1b[31m" not in in_terminal(server, 80, "builds", **environment)


WIDTHS = st.lists(st.integers(0, 200), min_size=1, max_size=12)


@given(WIDTHS, st.integers(1, 300), st.data())
def test_no_table_is_wider_than_its_terminal(widths: list[int], room: int, data: st.DataObject) -> None:
    drop = data.draw(st.lists(st.sampled_from(range(len(widths))), unique=True))
    wrapped = data.draw(st.sampled_from([None, len(widths) - 1]))
    shown = fitted(widths, room, drop=drop, wrapped=wrapped)
    assert [index for index, _width in shown] == sorted({index for index, _width in shown})
    assert all(0 < width <= widths[index] for index, width in shown)
    used = sum(width for _index, width in shown) + GAP * max(len(shown) - 1, 0)
    # At the least each has a cell.
    assert used <= max(room, (1 + GAP) * len(shown))
    if sum(widths) + GAP * (len(widths) - 1) <= room:
        assert shown == [(index, width) for index, width in enumerate(widths) if width]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *[(-3, "just now"), (4.9, "just now"), (59, "59 s ago"), (60, "1 min ago"), (3599, "59 min ago")],
        *[(3600, "1 h ago"), (86399, "23 h ago"), (86400, "1 d ago"), (29.5 * 86400, "29 d ago"), (30 * 86400, "")],
    ],
)
def test_how_long_ago(seconds: float, text: str) -> None:
    assert ago(seconds) == text


# -- fields ----------------------------------------------------------------------------------------------------------


def test_fields_of_a_listing(server: Server) -> None:
    assert json.loads(run(server, "builds", "--json", "id,state").stdout) == [
        {"id": 1204, "state": "failed"},
        {"id": 7, "state": "running"},
    ]
    assert json.loads(run(server, "builds", "--json=id").stdout) == [{"id": 1204}, {"id": 7}]
    assert run(server, "builds", "--field", "id").stdout == "1204\n7\n"
    assert json.loads(run(server, "builds", "--json").stdout)["next"] is None


def test_fields_of_one_thing(server: Server) -> None:
    assert run(server, "show", "7", "--field", "state").stdout == "failed\n"
    assert run(server, "show", "--json", "7").stdout.startswith("{")
    assert json.loads(run(server, "show", "7", "--json", "id,attempts.steps.name").stdout) == {
        "id": 7,
        "attempts.steps.name": [["build"]],
    }


def test_a_field_that_there_is_not(server: Server) -> None:
    done = run(server, "show", "7", "--field", "sate")
    assert done.exit_code == 2
    assert "there is no field sate here; there are id, project" in done.stderr
    assert run(server, "show", "7", "--field", "id", "--json").exit_code == 2


ANSWER = json.dumps(
    {"name": "a\nb", "on": True, "none": None, "size": 1.5, "list": [{"x": 1, "y": {"z": "ü"}}, {"x": 2, "y": None}]}
).encode()


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("name", "a\nb\n"),
        ("on", "true\n"),
        ("none", "\n"),
        ("none.more", "\n"),
        ("size", "1.5\n"),
        ("list.x", "1\n2\n"),
        ("list.0.y.z", "ü\n"),
        ("list.y.z", "ü\n\n"),
        ("list.9.x", "\n"),
        ("list.0", '{"x": 1, "y": {"z": "ü"}}\n'),
        ("x", "1\n2\n"),
    ],
)
def test_one_field_for_a_shell(field: str, text: str) -> None:
    assert plain(ANSWER, field) == text


@pytest.mark.parametrize("field", ["nmae", "name.x", "list.z", "", ".", "list."])
def test_fields_that_there_are_not(field: str) -> None:
    with pytest.raises(NoSuchField):
        plain(ANSWER, field)
    with pytest.raises(NoSuchField):
        picked(ANSWER, [field])


def test_a_listing_of_nothing() -> None:
    assert picked(b'{"builds": [], "next": null}', ["id", "state"]) == b"[]"
    assert plain(b'{"builds": [], "next": null}', "id") == ""


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        (["--json", "id,state"], ["--json=id,state"]),
        (["--json", "shop"], ["--json=*", "shop"]),
        (["--json"], ["--json=*"]),
        (["--json", "--limit", "1"], ["--json=*", "--limit", "1"]),
        (["--json=id"], ["--json=id"]),
        (["--", "--json", "a,b"], ["--", "--json", "a,b"]),
    ],
)
def test_which_words_are_fields(words: list[str], joined: list[str]) -> None:
    assert with_fields_joined(words) == joined


def test_every_json_takes_what_a_command_line_is_made_to() -> None:
    """A plain flag doesn't: `chaos --json` was refused."""

    def options(group: click.Group, above: str) -> Iterator[tuple[str, click.Option]]:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            if isinstance(command, click.Group):
                yield from options(command, f"{above}{name} ")
            for each in command.params:
                if isinstance(each, click.Option) and "--json" in each.opts:
                    yield above + name, each

    found = dict(options(commands, ""))
    assert {"chaos", "builds", "project list"} <= set(found)
    assert [name for name, option in found.items() if option.is_flag] == []
    refused = CliRunner().invoke(commands, ["chaos", "--json=id"])
    assert (refused.exit_code, "only all of this command's JSON can be printed" in refused.output) == (2, True)


def test_inspecting_has_fields_too(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("hi")
    done = CliRunner().invoke(commands, ["inspect", str(tmp_path), "--field", "outputs"])
    assert done.stdout == ".\n", done.output
