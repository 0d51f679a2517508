"""The classic pair of examples/node_lines: its parser at every cut, and its client when connections end."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet import reactor as default_reactor
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.node import need_node
from tests.test_node_links import Add, Note, Sum
from twistedipc.ipc import Interface, NotConnected, Peer, Service, dial_plain, handles, listen_plain

reactor: Any = default_reactor
LINES = Path(__file__).parent.parent / "examples/node_lines/lines.cjs"

PARSER = """
const { LineParser } = require(process.argv[1]);
const sent = [{ text: 'größer 😀' }, [], { n: 1 }, { text: '\\n\\u2028' }];
const bytes = Buffer.from(sent.map(LineParser.encode).join(''));
const feed = (chunks) => {
  const got = [];
  const parser = new LineParser();
  parser.on('message', (message) => got.push(message));
  parser.on('error', (error) => got.push(error.name));
  for (const chunk of chunks) parser.feed(chunk);
  return JSON.stringify(got);
};
const expected = JSON.stringify(sent);
for (let cut = 0; cut <= bytes.length; cut++) {
  const got = feed([bytes.subarray(0, cut), bytes.subarray(cut)]);
  if (got !== expected) throw new Error(`cut at ${cut}: ${got}`);
}
if (feed(Array.from(bytes, (byte) => Buffer.from([byte]))) !== expected) throw new Error('byte by byte');
const many = feed([Buffer.concat(Array(1000).fill(bytes))]);
if (JSON.parse(many).length !== 4000) throw new Error('many');
if (feed([Buffer.from('nonsense\\n{}\\n')]) !== '["SyntaxError",{}]') throw new Error('nonsense');
const long = feed([Buffer.alloc(1 << 21, 'x'), Buffer.from('\\n{}\\n')]);
if (long !== '["Error","SyntaxError",{}]') throw new Error(`too long: ${long}`);
"""

CLIENT = """
const { LineClient } = require(process.argv[1]);
const said = [];
let connections = 0;
const client = new LineClient(process.argv[2], { delay: 20 });
client.on('error', () => {});
client.on('connect', () => client.send({ type: 'add', a: ++connections, b: 1, text: 'größer 😀', id: connections }));
client.on('end', () => said.push('end'));
client.on('message', ({ type, id, reply }) => {
  if (type !== 'reply') return; // the server says goodbye
  said.push([id, reply.value, reply.text]);
  if (id === 4) client.end();
  else client.send({ type: 'note', text: 'cut' });
});
client.connect();
process.on('exit', () => console.log(JSON.stringify(said)));
"""

SERVER = """
const { serve } = require(process.argv[1]);
let count = 0;
serve(process.argv[2], ({ type, id, a, b }, socket) => {
  if (type === 'note') process.exit();
  if (++count % 2 === 0) return void socket.destroy();
  return { id, value: a + b, text: '😀'.repeat(1000) };
});
"""


PLAIN = Interface("lines", Add, Note)


class Cutting(Service):
    """A service that ends a client's connection when the client asks for it."""

    interface = PLAIN

    @handles(Add)
    def add(self, request: Add, peer: Peer) -> Sum:
        return Sum(request.a + request.b, request.text)

    @handles(Note)
    def note(self, message: Note, peer: Peer) -> None:
        peer.close("closed", "as you say")


class NodeLines(TestCase):
    timeout: ClassVar[float] = 60

    def setUp(self) -> None:
        self.node = str(need_node() / "node")
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = str(self.folder / "s")

    def test_the_parser(self) -> None:
        done = subprocess.run([self.node, "-e", PARSER, str(LINES)], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    async def test_node_asks_over_four_connections(self) -> None:
        listening = await listen_plain(reactor, f"unix:{self.path}", Cutting())
        done: Any = getProcessOutputAndValue(self.node, ["-e", CLIENT, str(LINES), self.path])
        output, errors, code = await done
        self.assertEqual((code, errors), (0, b""))
        said: list[Any] = []
        for number in (1, 2, 3, 4):
            said += [[number, number + 1, "größer 😀"], "end"]
        self.assertEqual(json.loads(output), said)
        await listening.close()

    async def test_python_asks_a_server_that_closes_connections(self) -> None:
        done: Any = getProcessOutputAndValue(self.node, ["-e", SERVER, str(LINES), self.path])
        remote = dial_plain(reactor, f"unix:{self.path}", PLAIN, random=lambda: 0.01)
        for number in range(3):
            self.assertEqual(await remote.call(Add(number, 1), timeout=30), Sum(number + 1, "😀" * 1000))
            await self.assertFailure(remote.call(Add(number, 1), timeout=30), NotConnected)
        await remote.linked(timeout=30)
        remote.send(Note("stop"))
        _, errors, code = await done
        self.assertEqual((code, errors), (0, b""))
        await remote.close()
