"""The package for Node as `twistedipc conform` tries it against docs/protocol.md: links both ways, and plain lines."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.integration.platform import wait_for
from tests.node import need_node
from twistedipc.conform.command import conform

pytestmark = pytest.mark.long

PACKAGE = Path(__file__).parent.parent.parent / "packages/node/index.cjs"

LISTENS = """
const { listen, readKey } = require(process.argv[1]);
const kept = new Map();
const calls = { calls: ['add', 'large'], streamed: ['rows'] };
const described = { name: 'calc', ...calls, messages: ['note'], streams: ['events'] };
const service = {
  handlers: {
    add: ({ a, b }) => ({ value: a + b }),
    large: () => 'x'.repeat(8000),
    rows: () => Array(100).fill('x'.repeat(100)),
    note: () => {},
  },
  receiver: ({ id }) => ({
    position: () => (kept.get(id) ?? 0) + 1,
    take: (first, items) => void kept.set(id, first + items.length - 1),
  }),
};
listen('unix:s', described, service, { key: readKey('key') }).then((listening) => listening.on('fault', () => {}));
"""

DIALS = """
const { dial, readKey } = require(process.argv[1]);
const described = { name: 'calc', calls: [], messages: [], streams: [] };
const handlers = { large: () => 'x'.repeat(8000), rows: function* () { yield* Array(100).fill('x'.repeat(100)); } };
const remote = dial('unix:s', described, { key: readKey('key'), random: () => 0.05, service: { handlers } });
remote.on('fault', () => {});
"""


PLAIN = """
const { listenPlain } = require(process.argv[1]);
const described = { name: 'calc', calls: ['add'], messages: ['note'] };
const handlers = { add: ({ a, b }) => ({ value: a + b }), note: () => {} };
listenPlain('unix:s', described, { handlers }).then((listening) => listening.on('fault', () => {}));
"""

REPLIES = ("--items", '{"type":"rows"}', "--large", '{"type":"large"}')


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a UNIX socket's has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="node-") as folder:
        key = Path(folder) / "key"
        key.touch(0o600)
        key.write_text("0011" * 16 + "\n")
        yield Path(folder)


def failed(folder: Path, program: str, *words: str, least: int = 45) -> list[str]:
    """Return the cases that an end in Node fails; some must have been tried."""
    process = subprocess.Popen([str(need_node() / "node"), "-e", program, str(PACKAGE)], cwd=folder)
    try:
        if program is not DIALS:
            wait_for("it listens", (folder / "s").exists, 30)
        done = CliRunner().invoke(conform, [f"unix:{folder / 's'}", "--key", str(folder / "key"), "--json", *words])
    finally:
        process.kill()
        process.wait()
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(outcome.get("verdict") == "passed" for outcome in outcomes) >= least, outcomes
    return [str(outcome) for outcome in outcomes if outcome.get("verdict") == "failed"]


def test_the_end_that_listens(folder: Path) -> None:
    more = ["--stream", "events", "--item", '{"n":1}', *REPLIES]
    assert failed(folder, LISTENS, "--role", "calc-client", *more) == []


def test_the_end_that_dials(folder: Path) -> None:
    assert failed(folder, DIALS, "--listen", "--role", "calc-server", *REPLIES) == []


def test_the_server_of_plain_lines(folder: Path) -> None:
    assert failed(folder, PLAIN, "--as", "plain", least=10) == []
