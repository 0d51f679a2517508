"""`python -m twistedipc.ipc typescript`: the types of an interface, and what TypeScript's compiler makes of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from tests.ipc_warehouse import WAREHOUSE
from tests.node import node_path
from twistedipc.ipc import Interface, Message
from twistedipc.ipc.typescript import typescript

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "fixtures/typescript/warehouse.ts"
PACKAGE = ROOT / "packages/node"
DEADLINE = 120


class Function(msgspec.Struct):
    pass


class string(Message):
    """A name that is a word of TypeScript's, as is that of the class which it holds."""

    one: Function
    two: Annotated[int, msgspec.Meta(title="two")]


Function.__name__ = "Interface"


def test_golden() -> None:
    """What has changed on purpose is written again by TWISTEDIPC_GOLDEN=1."""
    made = typescript(WAREHOUSE, "WAREHOUSE")
    if os.environ.get("TWISTEDIPC_GOLDEN"):
        GOLDEN.write_text(made, "utf-8")
    assert made == GOLDEN.read_text("utf-8")


def test_the_command() -> None:
    command = [sys.executable, "-m", "twistedipc.ipc", "typescript", "tests.ipc_warehouse:WAREHOUSE"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == GOLDEN.read_text("utf-8")


def test_names_that_are_taken() -> None:
    made = typescript(Interface("a", string), "class")
    assert "export interface string2 {\n  type: 'string';\n  one: Interface2;\n  two: number;\n}" in made
    assert "export const INTERFACE: Interface<AInterface> = {" in made


def test_nothing_at_all() -> None:
    made = typescript(Interface("nothing"), "NOTHING")
    assert "export interface NothingInterface {\n  calls: {};\n  messages: {};\n  streams: {};\n}" in made


def tsc(folder: Path, program: str) -> str:
    """What the compiler says of a program beside the generated types, with the package's own."""
    compiler = PACKAGE / "node_modules/typescript/bin/tsc"
    if not compiler.exists():
        pytest.skip("TypeScript isn't there: `make check` installs it")
    (folder / "warehouse.ts").write_text(GOLDEN.read_text("utf-8"), "utf-8")
    (folder / "program.ts").write_text(program, "utf-8")
    (folder / "package.json").write_text('{"type": "module"}', "utf-8")
    (folder / "node_modules").mkdir(exist_ok=True)
    for name, there in (("twistedipc", PACKAGE), ("@types", PACKAGE / "node_modules/@types")):
        (folder / "node_modules" / name).symlink_to(there)
    options = "--strict --noEmit --module node16 --target es2022 --types node --allowImportingTsExtensions"
    done = subprocess.run(
        ["node", str(compiler), *options.split(), "--erasableSyntaxOnly", "program.ts"],
        cwd=folder,
        env={**os.environ, "PATH": node_path()},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode in (0, 1, 2), done.stderr
    return done.stdout


USES = """
import { dial, listen, MemoryOutbox, type Peer } from 'twistedipc';
import { WAREHOUSE, type Everything, type Node, type BigWarehouseInterface } from './warehouse.ts';

const warehouse = dial('unix:warehouse.sock', WAREHOUSE, { name: 'shop' });
const found: Everything = await warehouse.call('find', { id: 1, shape: { type: 'Square', side: 2 } }, { timeout: 5 });
const amount: number = found.amount;
const { rows, next } = await warehouse.call('list all', {});
const count: number = await warehouse.call('count', {});
for await (const page of warehouse.streamCall('stock', { above: 3 })) {
  const more: Node[] = page?.rows ?? [];
  console.log(more.length);
}
const names: string[] = rows.map((node: Node) => node.name);
const page: number | null = next;
warehouse.send('log.line', { text: 'x' });
warehouse.send('stop', {});
const stream = warehouse.stream('drawings', { outbox: new MemoryOutbox() });
const circle = { type: 'Circle', radius: 1 } as const;
const number: number = await stream.write({ shape: { type: "three's", sides: [1, 2, 3] }, circle });
warehouse.on('link', (peer: Peer<BigWarehouseInterface>) => peer.send('stop', {}));

await listen('unix:warehouse.sock', WAREHOUSE, {
  handlers: {
    find: async ({ id, shape }, peer, { signal }) => {
      return { ...found, amount: id + (shape?.type === 'Square' ? shape.side : 0), anything: signal.aborted };
    },
    'list all': (request, peer) => ({ rows: [{ name: peer.info.name }], next: request.page ?? null }),
    count: () => count,
    stock: async function* ({ above }) {
      yield { rows: rows.slice(above), next: null };
    },
    stop: () => {},
    'log.line': ({ text }) => console.log(text.toUpperCase()),
  },
  receiver: (id) => ({ position: () => 1, take: (first, items) => console.log(id.peer, items[0].circle.radius) }),
});
console.log(amount, names, page, number);
"""

#: Each would be an error when the program runs, or later.
WRONG = [
    "warehouse.call('other', {});",
    "warehouse.call('find', { id: 'one' });",
    "warehouse.call('find', {});",
    "warehouse.call('find', { id: 1, shape: { type: 'circle', side: 2 } });",
    "warehouse.send('find', { id: 1 });",
    "warehouse.call('stock', {});",
    "warehouse.streamCall('find', { id: 1 });",
    "for await (const page of warehouse.streamCall('stock', {})) page.rows;",
    "warehouse.send('log.line', {});",
    "warehouse.stream('events');",
    "warehouse.stream('drawings').write({ shape: 1 });",
    "(await warehouse.call('list all', {})).next.toFixed();",
    "listen('unix:s', WAREHOUSE, { handlers: { stop: () => {} } });",
    "dial('unix:s', 1);",
]


@pytest.mark.long
def test_a_program_that_uses_it(tmp_path: Path) -> None:
    assert tsc(tmp_path, USES) == ""


@pytest.mark.long
def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    head = "import { dial, listen } from 'twistedipc';\nimport { WAREHOUSE } from './warehouse.ts';\n"
    head += "const warehouse = dial('unix:s', WAREHOUSE);\n"
    said = tsc(tmp_path, head + "\n".join(WRONG))
    for line, program in enumerate(WRONG, head.count("\n") + 1):
        assert f"program.ts({line}," in said, program
