"""Python and a Node child that are linked by Node's own channel: ``spawn(…, channel="node")`` and ``parent:``."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet import reactor as default_reactor
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.node import need_node, node_folders
from tests.test_node_links import CALC, PACKAGE, Add, Calculator, Note, Refuse, Sum
from twistedipc.ipc import CallFailed, NotConnected, Spawned, spawn

reactor: Any = default_reactor

ANSWERS = """
const listening = await ipc.listen('parent:', 'calc', {
  handlers: {
    add: async ({ a, b }, peer) => {
      console.log('adding');
      return { value: (await peer.call('add', { a, b })).value * 2, text: peer.info.role };
    },
    refuse: () => { throw new ipc.CallFailed('no', 'not me', [1]); },
    note: ({ text }) => { if (text === 'die') process.kill(process.pid, 'SIGKILL'); },
  },
});
await listening.closed();
console.log('closed');
"""

ASKS = """
const remote = ipc.dial('parent:', 'calc');
const sums = await Promise.all([1, 2, 3].map((a) => remote.call('add', { a, b: 1, text: 'größer 😀' })));
const stream = remote.stream('events');
for (let n = 1; n <= 5000; n++) await stream.write({ n });
await stream.flushed();
await remote.close();
console.log(JSON.stringify(sums));
"""


class NodeParent(TestCase):
    timeout: ClassVar[float] = 60

    def setUp(self) -> None:
        need_node()
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def start(self, node: Path, program: str, *interfaces: Any, **options: Any) -> tuple[Spawned, list[bytes]]:
        """Start a program, as a module: Node 20 crashed where one closes its channel before it is loaded."""
        printed: list[bytes] = []
        script = self.folder / "program.mjs"
        script.write_text(f"import ipc from {json.dumps(str(PACKAGE))};\n{program}", "utf-8")
        command: Sequence[str | Path] = [node / "node", script]
        child = spawn(
            reactor, command, *interfaces, service=Calculator(), channel="node", printed=printed.append, **options
        )
        return child, printed

    async def test_python_asks_and_the_child_calls_back(self) -> None:
        for node in node_folders().values():
            child, printed = self.start(node, ANSWERS, CALC)
            self.assertEqual(await child.call(Add(2, 3), timeout=30), Sum(10, "calc-client"))
            error: Any = await self.assertFailure(child.call(Refuse()), CallFailed)
            self.assertEqual((error.code, error.message, error.data), ("no", "not me", [1]))
            await child.close()
            self.assertEqual(str(await child.ended()), "has exited with the code 0")
            self.assertEqual(b"".join(printed), b"adding\nclosed\n")

    async def test_the_child_asks_and_sends_a_stream(self) -> None:
        for node in node_folders().values():
            child, printed = self.start(node, ASKS)
            self.assertEqual(str(await child.ended()), "has exited with the code 0")
            expected = [{"value": a + 1, "text": "größer 😀"} for a in (1, 2, 3)]
            self.assertEqual(json.loads(b"".join(printed)), expected)
            await child.close()

    async def test_a_child_that_is_killed(self) -> None:
        child, _ = self.start(need_node(), ANSWERS, CALC)
        await child.linked(30)
        child.send(Note("die"))
        lost: Any = await self.assertFailure(child.call(Add(1, 1)), NotConnected)
        self.assertIn("was ended by SIGKILL", f"{lost} {await child.ended()}")
        await child.close()

    async def test_without_a_channel(self) -> None:
        """A program that was started by hand, without a parent, ends with a sentence that says so."""
        script = "require(process.argv[1]).dial('parent:', 'calc')"
        done: Any = getProcessOutputAndValue(str(need_node() / "node"), ["-e", script, str(PACKAGE)], os.environ)
        _, errors, code = await done
        self.assertEqual(code, 1)
        self.assertIn(b"this process has no channel to the one that has started it", errors)
