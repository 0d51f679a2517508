"""A stream between the package for Node and this library, whose processes are killed again and again."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.node import need_node

pytestmark = pytest.mark.long

PACKAGE = Path(__file__).parent.parent.parent / "packages/node/index.cjs"
DEADLINE = 180.0
COUNT = 400_000  # that many take some seconds also where all is fast

#: Writes what isn't in its outbox yet: the number of an item is its content.
NODE_SENDS = """
const { FileOutbox, dial } = require(process.argv[2]);
(async () => {
  const remote = dial('unix:s', 'shop', { name: 'sender', random: () => 0.05 });
  const stream = remote.stream('events', { outbox: new FileOutbox('outbox', { segmentBytes: 20_000 }) });
  while (stream.next <= COUNT) await stream.write({ n: stream.next });
  await stream.flushed();
  await remote.close();
})();
""".replace("COUNT", str(COUNT))

DECLARED = """
import msgspec
from twistedipc.ipc import Interface, StreamOf

class Event(msgspec.Struct):
    n: int

EVENTS = StreamOf("events", Event)
SHOP = Interface("shop", streams=[EVENTS])
"""

PYTHON_RECEIVES = """
import sqlite3
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twistedipc.ipc import Service, listen, receives
from declared import EVENTS, SHOP

database = sqlite3.connect("kept.sqlite")
database.execute("create table if not exists kept (number integer, n integer)")

class Shop(Service):
    interface = SHOP

    @receives(EVENTS)
    def events(self, stream):
        return self

    def position(self):
        return database.execute("select count(*) from kept").fetchone()[0] + 1

    def take(self, first, items):
        with database:
            rows = [(number, item.n) for number, item in enumerate(items, first)]
            database.executemany("insert into kept values (?, ?)", rows)

async def main(reactor):
    await listen(reactor, "unix:s", Shop())
    await Deferred()

react(main)
"""

PYTHON_SENDS = """
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twistedipc.ipc import FileOutbox, dial
from declared import EVENTS, SHOP, Event

async def main(reactor):
    remote = dial(reactor, "unix:s", SHOP, name="sender", random=lambda: 0.05)
    stream = remote.stream(EVENTS, FileOutbox("outbox", segment_bytes=20_000))
    while stream.next <= COUNT:
        await stream.write(Event(stream.next))
    await stream.flushed()
    await remote.close()

react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
""".replace("COUNT", str(COUNT))

#: Keeps each `take` as one line: a line that has no end was never acknowledged.
NODE_RECEIVES = """
const fs = require('node:fs');
const { listen } = require(process.argv[2]);
const whole = fs.existsSync('kept') ? fs.readFileSync('kept', 'utf8').split('\\n').slice(0, -1) : [];
fs.writeFileSync('kept.new', whole.map((line) => line + '\\n').join(''));
fs.renameSync('kept.new', 'kept');
let count = whole.flatMap((line) => JSON.parse(line)).length;
const file = fs.openSync('kept', 'a');
listen('unix:s', 'shop', {
  receiver: () => ({
    position: () => count + 1,
    take: (first, items) => {
      if (first !== count + 1) throw new Error(`${first} after ${count}`);
      fs.writeSync(file, JSON.stringify(items.map(({ n }) => n)) + '\\n');
      count += items.length;
    },
  }),
});
"""


def killed_until_all_is_sent(folder: Path, sender: list[str], receiver: list[str], seed: int) -> int:
    """Kill either until the sender has sent all, and return how often."""
    chance = random.Random(seed)
    start = lambda command: subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE)  # noqa: E731
    running = {"sender": start(sender), "receiver": start(receiver)}
    kills, deadline = 0, time.monotonic() + DEADLINE
    try:
        while True:
            assert time.monotonic() < deadline
            try:
                running["sender"].wait(0.15 + chance.random() / 2)
                assert running["sender"].returncode == 0, running["sender"].stderr
                return kills
            except subprocess.TimeoutExpired:
                pass
            if kills < 20:
                kills += 1
                victim = chance.choice(["sender", "receiver"])
                running[victim].send_signal(signal.SIGKILL)
                running[victim].communicate()
                running[victim] = start(sender if victim == "sender" else receiver)
    finally:
        for process in running.values():
            process.kill()
            process.communicate()


def test_from_node_to_python(tmp_path: Path) -> None:
    (tmp_path / "declared.py").write_text(DECLARED)
    (tmp_path / "sends.cjs").write_text(NODE_SENDS)
    (tmp_path / "receives.py").write_text(PYTHON_RECEIVES)
    node = str(need_node() / "node")
    kills = killed_until_all_is_sent(
        tmp_path, [node, "sends.cjs", str(PACKAGE)], [sys.executable, "receives.py"], seed=1
    )
    with closing(sqlite3.connect(tmp_path / "kept.sqlite")) as database:
        kept = database.execute("select number, n from kept order by rowid").fetchall()
    assert kept == [(n, n) for n in range(1, COUNT + 1)]
    assert kills >= 3


def test_from_python_to_node(tmp_path: Path) -> None:
    (tmp_path / "declared.py").write_text(DECLARED)
    (tmp_path / "sends.py").write_text(PYTHON_SENDS)
    (tmp_path / "receives.cjs").write_text(NODE_RECEIVES)
    node = str(need_node() / "node")
    kills = killed_until_all_is_sent(
        tmp_path, [sys.executable, "sends.py"], [node, "receives.cjs", str(PACKAGE)], seed=2
    )
    lines = (tmp_path / "kept").read_text("utf-8").splitlines()
    assert [n for line in lines for n in json.loads(line)] == list(range(1, COUNT + 1))
    assert kills >= 3
