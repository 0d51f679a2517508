"""
The order of a step's words: every interleaving of a pipe, its channel and their reader that can happen; then real
programs, on a real pipe, on busy processors.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.node import node_path
from tests.test_runner_steps import records, steps
from twistedipc.builds.logs import Annotation, Group, Notice
from twistedipc.runner.node import install
from twistedipc.runner.order import MAX_MARKED, MAX_NAME, PATIENCE, OutputOrder, mark
from twistedipc.runner.steps import Command

TOKEN = "0123456789abcdef"


def plain(parts: list[bytes | list[str]]) -> list[str]:
    """Parts as one list of words: output by its characters, messages by their texts."""
    words: list[str] = []
    for part in parts:
        words += [chr(byte) for byte in part] if isinstance(part, bytes) else part
    return words


@dataclass
class World:
    """A pipe, some connections, and a reader that does what `conversation` does, one step at a time."""

    order: OutputOrder[str] = field(default_factory=lambda: OutputOrder(TOKEN))
    pipe: bytes = b""
    sockets: dict[int, deque[tuple[str, str, bool]]] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    words: list[str] = field(default_factory=list)

    def put(self, parts: list[bytes | list[str]]) -> None:
        found = plain(parts)
        self.words += found
        self.answered.update(word for word in found if len(word) > 1)

    def look(self) -> None:
        """Count, and hear."""
        if self.order.owed:
            return
        self.put(self.order.count(len(self.pipe)))
        for source, sent in self.sockets.items():
            self.order.hear(source, [(text, name) for text, name, _ended in sent if not _ended], 0.0)
            if any(ended for _text, _name, ended in sent):
                self.order.ended(source)
            sent.clear()

    def read(self, size: int) -> None:
        size = min(size, self.order.owed)
        self.put(self.order.feed(self.pipe[:size]))
        self.pipe = self.pipe[size:]


def program(world: World, number: int, script: str, how: str) -> Iterator[None]:
    """
    A program that prints (".") and says something ("!"), each at a moment of its own. ``how``: it sets marks, waits for
    answers, or does neither.
    """
    sent = world.sockets.setdefault(number, deque())
    for index, act in enumerate(script):
        if act == ".":
            world.pipe += bytes([65 + number])
        else:
            text = f"{number}:{index}"
            sent.append((text, text if how == "marks" else "", False))
            yield
            if how == "marks":
                world.pipe += mark(TOKEN, text)
            while how == "waits" and text not in world.answered:
                yield
        yield
    sent.append(("", "", True))


def expected(number: int, script: str) -> list[str]:
    return [chr(65 + number) if act == "." else f"{number}:{index}" for index, act in enumerate(script)]


_scripts = st.lists(
    st.tuples(st.text(".!", max_size=8), st.sampled_from(["marks", "waits", "neither"])), min_size=1, max_size=3
)


@given(
    scripts=_scripts, moves=st.lists(st.integers(0, 9), max_size=120), sizes=st.lists(st.integers(1, 60), min_size=1)
)
def test_every_interleaving(scripts: list[tuple[str, str]], moves: list[int], sizes: list[int]) -> None:
    """Line, message, line came out as line, line, message. What is marked, or waits, has one order only."""
    world = World()
    programs = {number: program(world, number, *script) for number, script in enumerate(scripts)}
    taken = itertools.cycle(sizes)
    moves = [*moves, *[*range(10)] * 60]
    for move in moves:
        if move < 3:
            if (one := programs.get(move)) is not None and next(one, "end") == "end":
                del programs[move]
        elif move < 6:
            world.look()
        else:
            world.read(next(taken))
    # However far they came with these moves, they all come to their end, and so does what they have sent.
    for _ in range(1000):
        for number, one in list(programs.items()):
            if next(one, "end") == "end":
                del programs[number]
        world.look()
        world.read(1000)
        if not (programs or world.pipe or world.order.waiting or any(world.sockets.values()) or world.order.owed):
            break
    assert not programs
    tail, rest = world.order.finish()
    assert (tail, rest) == (b"", [])
    for number, (script, how) in enumerate(scripts):
        own = [word for word in world.words if word == chr(65 + number) or word.startswith(f"{number}:")]
        if how == "neither":
            # Nothing is lost, and no message comes before what was printed before it.
            assert sorted(own) == sorted(expected(number, script))
            for index, act in enumerate(script):
                if act == "!":
                    before = own[: own.index(f"{number}:{index}")]
                    assert before.count(chr(65 + number)) >= script[:index].count(".")
        else:
            assert own == expected(number, script)


@given(
    st.lists(
        st.sampled_from([mark(TOKEN, "a"), mark(TOKEN, "b"), b"\x1b[1m", b"\x1b", b"x", b"\n", b"\x1b_twistedipc;"])
    ),
    st.integers(1, 9),
)
def test_marks_are_taken_out_at_every_cut(pieces: list[bytes], size: int) -> None:
    data = b"".join(pieces)
    order: OutputOrder[str] = OutputOrder(TOKEN)
    shown = b""
    for start in range(0, len(data), size):
        shown += b"".join(part for part in order.feed(data[start : start + size]) if isinstance(part, bytes))
    assert shown + order.finish()[0] == b"".join(piece for piece in pieces if not piece.endswith(b"\x1b\\"))


def test_what_isn_t_a_mark_is_output() -> None:
    order: OutputOrder[str] = OutputOrder(TOKEN)
    for data in (
        mark("another", "a"),
        b"\x1b_twistedipc;" + TOKEN.encode() + b";" + b"x" * 200 + b"\x1b\\",
        b"\x1b[1mx",
    ):
        assert order.feed(data) == [data]
    assert order.feed(b"x\x1b_twist") == [b"x"]
    held = [order.holds]
    assert order.release() == b"\x1b_twist"
    held.append(order.holds)
    assert held == [True, False]
    assert order.feed(b"edipc") == [b"edipc"]
    assert len(mark(TOKEN, "x" * MAX_NAME)) < 512  # what a pipe takes whole, on any system (POSIX, PIPE_BUF)


def test_a_lost_mark_holds_up_nothing_for_long() -> None:
    order: OutputOrder[str] = OutputOrder(TOKEN)
    order.count(0)
    order.hear(1, [("one", "1")], 100.0)
    order.hear(2, [("two", "2")], 101.0)
    waiting = [order.waiting]
    order.count(2)
    assert order.feed(b"ab") == [b"ab"]
    assert order.due == 100.0 + PATIENCE
    order.expire(100.0 + PATIENCE)
    waiting.append(order.waiting)
    assert waiting == [False, True]
    order.ended(2)
    # If they come after all, they count.
    order.count(1 + len(mark(TOKEN, "2")) + 1)
    assert order.feed(b"c" + mark(TOKEN, "2") + b"d") == [b"c", ["two"], b"d", ["one"]]
    assert order.feed(mark(TOKEN, "1")) == []


def test_a_mark_that_comes_first() -> None:
    order: OutputOrder[str] = OutputOrder(TOKEN)
    order.count(0)
    order.feed(mark(TOKEN, "1"))
    order.hear(1, [("one", "1")], 0.0)
    assert order.waiting
    assert order.count(0) == [["one"]]
    for number in range(5000):
        order.feed(mark(TOKEN, f"x{number}"))
    order.hear(1, [("long ago", "x0"), ("just now", "x4999")], 0.0)
    assert order.count(0) == [["just now"]], "the oldest marks are forgotten"


def test_a_flood_of_messages_without_their_marks() -> None:
    order: OutputOrder[str] = OutputOrder(TOKEN)
    order.hear(1, [(str(number), f"m{number}") for number in range(MAX_MARKED + 5)], 0.0)
    assert order.count(0) == [[str(number) for number in range(5)]]
    assert order.finish() == (b"", [str(number) for number in range(5, MAX_MARKED + 5)])


def test_output_that_somebody_else_has_read() -> None:
    order: OutputOrder[str] = OutputOrder(TOKEN)
    order.hear(1, [("one", "")], 0.0)
    order.count(10)
    assert order.feed(b"abc") == [b"abc"]
    assert order.vanished() == [["one"]]
    assert order.owed == 0


# -- real programs -----------------------------------------------------------------------------------------------------

NODE = """
const {writeSync} = require("fs");
const sleep = (ms) => ms && Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
const print = [console.log, console.error, (text) => writeSync(1, text + "\\n")][PRINT];
(async () => {
  for (let i = 0; i < ROUNDS; i++) {
    print(`before ${i}`);
    sleep(i % 7 === 0 ? i % 20 : 0);
    process.send({type: "group", name: `${i}`});
    if (i % 5 === 0) await new Promise((done) => setTimeout(done, i % 20));
    print(`after ${i}`);
    process.send({type: "mask", value: `secret-${i}-secret`});
    print(`is secret-${i}-secret`);
    if (i % 3 === 0) await null;
  }
})().then(() => process.exit(0));
"""

PYTHON = """
import os, sys, time
sys.path.append(os.environ["TWISTEDIPC_PYTHON"])
from twistedipc_say import say
for i in range(ROUNDS):
    print(f"before {i}")
    time.sleep((i % 20) / 1000)
    assert say({"type": "group", "name": f"{i}"})
    print(f"after {i}", flush=i % 2 == 0)
    assert say({"type": "mask", "value": f"secret-{i}-secret"})
    print(f"is secret-{i}-secret")
"""

RAW = """
import json, os, socket, sys, time
channel = socket.socket(socket.AF_UNIX)
channel.connect(os.environ["TWISTEDIPC_CHANNEL"])
answers = channel.makefile()
def say(message, ack):
    channel.sendall(json.dumps(dict(message, ack=ack)).encode() + b"\\n")
    assert json.loads(answers.readline()) == {"type": "ack", "ack": ack}
for i in range(ROUNDS):
    print(f"before {i}", flush=True)
    time.sleep((i % 20) / 1000)
    say({"type": "group", "name": f"{i}"}, i)
    print(f"after {i}", flush=True)
    say({"type": "mask", "value": f"secret-{i}-secret"}, f"m{i}")
    print(f"is secret-{i}-secret", flush=True)
"""

SHELL = """
i=0
while [ $i -lt ROUNDS ]; do
  echo "before $i"; twistedipc-say group "$i"; echo "after $i"
  echo "secret-$i-secret" | twistedipc-say mask; echo "is secret-$i-secret"
  i=$((i + 1))
done
"""


@pytest.fixture
def busy() -> Iterator[None]:
    """Something else for every processor to do."""
    hogs = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    yield
    for hog in hogs:
        hog.kill()
        hog.wait()


def run(folder: Path, script: str, path: str = os.environ["PATH"]) -> list[object]:
    """A step that is a shell's command line, with the platform's commands: what it left in the log."""
    made, _journal, control = steps(folder, timeout=120.0)
    control.listen_to_signals()
    try:
        result = made.run(
            Command(
                name="x",
                command="script",
                argv=["sh", "-c", script],
                environment={"PATH": path, **install(folder / "bin", path)},
                folder=folder,
                channel=folder,
            )
        )
    finally:
        control.close()
    found = records(folder)[1:-1]
    assert result.exit_code == 0, found
    return found


def in_order(found: list[object], rounds: int) -> None:
    wanted: list[object] = []
    for i in range(rounds):
        wanted += [f"before {i}", Group(f"{i}"), f"after {i}", "is ***"]
    assert found == wanted


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("module", ["cjs", "mjs"])
@pytest.mark.parametrize("how", [0, 1, 2])
def test_node(tmp_path: Path, module: str, how: int) -> None:
    """Groups came after the lines that belong to them: 9 builds of 9."""
    text = NODE.replace("ROUNDS", "20").replace("PRINT", str(how))
    if module == "mjs":
        text = text.replace('const {writeSync} = require("fs")', 'import {writeSync} from "node:fs"')
    (tmp_path / f"say.{module}").write_text(text)
    in_order(run(tmp_path, f"node say.{module}", node_path()), 20)


@pytest.mark.usefixtures("busy")
def test_python(tmp_path: Path) -> None:
    (tmp_path / "say.py").write_text(PYTHON.replace("ROUNDS", "10"))
    in_order(run(tmp_path, f"{sys.executable} say.py"), 10)


@pytest.mark.usefixtures("busy")
def test_a_raw_socket_that_waits_for_its_answers(tmp_path: Path) -> None:
    (tmp_path / "say.py").write_text(RAW.replace("ROUNDS", "20"))
    in_order(run(tmp_path, f"{sys.executable} say.py"), 20)


@pytest.mark.usefixtures("busy")
def test_a_shell(tmp_path: Path) -> None:
    in_order(run(tmp_path, SHELL.replace("ROUNDS", "6")), 6)


def test_more_output_than_the_pipe_takes(tmp_path: Path) -> None:
    """Node keeps what the pipe has no room for: a mark comes after that, not before it."""
    (tmp_path / "say.js").write_text(
        """
        for (let i = 0; i < 20; i++) {
          console.log(("x".repeat(99) + "\\n").repeat(3000) + `before ${i}`);
          process.send({type: "group", name: `${i}`});
          console.log(`after ${i}`);
        }
        """
    )
    found = [record for record in run(tmp_path, "node say.js", node_path()) if record != "x" * 99]
    wanted: list[object] = []
    for i in range(20):
        wanted += [f"before {i}", Group(f"{i}"), f"after {i}"]
    assert found == wanted


def test_marks_are_in_nothing_but_the_log(tmp_path: Path) -> None:
    """Output that goes to a file, or to another program, has no marks in it; then messages wait for their answers."""
    (tmp_path / "say.js").write_text(
        'console.log("a"); process.send({type: "group", name: "g"});'
        'console.log("b"); process.send({type: "group", name: "h"})'
    )
    found = run(
        tmp_path,
        "node say.js > out 2>&1; node say.js 2>&1 | od -c > piped; node say.js > out2; node say.js | cat; cat out out2",
        node_path(),
    )
    assert (tmp_path / "out").read_bytes() == (tmp_path / "out2").read_bytes() == b"a\nb\n"
    assert "033" not in (tmp_path / "piped").read_text()
    assert [record for record in found if isinstance(record, Group)] == [Group("g"), Group("h")] * 4
    assert [record for record in found if isinstance(record, str)] == ["a", "b"] * 3


def test_process_send_is_as_it_is_elsewhere_in_node(tmp_path: Path) -> None:
    (tmp_path / "say.js").write_text(
        """
        const assert = require("assert");
        const {Worker} = require("worker_threads");
        const {fork, spawnSync} = require("child_process");
        if (process.argv[2] === "child") {
          assert.deepStrictEqual(process.execArgv, []);
          process.send({type: "group", name: "to the parent"}, () => process.disconnect());
        } else {
          assert.deepStrictEqual(process.execArgv, []);
          assert.strictEqual(process.env.TWISTEDIPC_ORDERED_FD, undefined);
          assert.strictEqual(process.send({type: "group", name: "1"}), true);
          const self = {}; self.self = self;
          assert.throws(() => process.send(self), TypeError);
          assert.throws(() => process.send({type: "group", name: 1n}), TypeError);
          assert.throws(() => process.send(undefined), {code: "ERR_MISSING_ARGS"});
          assert.throws(() => process.send(() => 1), {code: "ERR_INVALID_ARG_TYPE"});
          spawnSync("sh", ["-c", "find /proc/self/fd -lname 'socket:*'"], {stdio: "inherit"}); // none of ours
          new Worker("if (process.send) throw 1", {eval: true}).on("exit", (code) => assert.strictEqual(code, 0));
          let now = true;
          process.send({type: "group", name: "2"}, (error) => {
            assert.ok(!now && error === null);
            process.send({type: "group", name: "3"}, undefined, {}, () => {
              fork(__filename, ["child"]).on("message", (message) => {
                process.send({type: "group", name: `${message.name} 4`});
                process.send({type: "group", name: "5", ack: "x"});
                process.on("message", (answer) => {
                  console.log(JSON.stringify(answer));
                  process.disconnect();
                  assert.strictEqual(process.connected, false);
                  const closed = (error) => assert.strictEqual(error.code, "ERR_IPC_CHANNEL_CLOSED");
                  process.send({type: "group", name: "6"}, closed);
                });
              });
            });
          });
          now = false;
        }
        """
    )
    found = run(tmp_path, "node say.js", node_path())
    assert [record for record in found if isinstance(record, Group)] == [
        Group(name) for name in ("1", "2", "3", "to the parent 4", "5")
    ]
    assert [record for record in found if isinstance(record, str)] == ['{"type":"ack","ack":"x"}']


def test_a_program_that_is_a_link(tmp_path: Path) -> None:
    """`npm` is a link: Node follows it, unless the last file that it was asked about is a pipe."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "say.js").write_text('process.send({type: "group", name: require("./name.json")})')
    (tmp_path / "real" / "name.json").write_text('"g"')
    (tmp_path / "say").symlink_to("real/say.js")
    assert run(tmp_path, "node say; node say | cat", node_path()) == [Group("g")] * 2


def test_node_that_may_run_nothing_else_first(tmp_path: Path) -> None:
    (tmp_path / "say.js").write_text('process.send({type: "group", name: "g"})')
    option = next(
        (
            option
            for option in ("--permission", "--experimental-permission")
            if subprocess.run(
                ["node", option, "-v"], env={"PATH": node_path()}, capture_output=True, check=False
            ).returncode
            == 0
        ),
        None,
    )
    assert option is not None
    found = run(tmp_path, f"node {option} --allow-fs-read='*' say.js", node_path())
    assert Group("g") in found


def test_the_command(tmp_path: Path) -> None:
    found = run(
        tmp_path,
        """
        twistedipc-say group a
        twistedipc-say annotation warning 'look here' src/a.c 7
        twistedipc-say annotation error no
        twistedipc-say json <<'END'
{"type":"group","name":"b"}

{"type":"nonsense"}
END
        twistedipc-say json '{"type":"group","name":"c"}'
        for bad in '' 'group' 'group a b' 'progress x' 'progress nan' 'annotation x' 'json [1]' 'what x'; do
          twistedipc-say $bad 2>err && echo "took $bad"; grep -q 'twistedipc-say group NAME' err || echo "no usage"
        done
        TWISTEDIPC_CHANNEL= twistedipc-say group none && echo outside
        """,
    )
    assert found == [
        Group("a"),
        Annotation("warning", "look here", "src/a.c", 7),
        Annotation("error", "no"),
        Group("b"),
        Notice(
            "warning",
            "a message on the channel was ignored: its type is 'nonsense', and can be progress, annotation, mask,"
            " summary or group",
        ),
        Group("c"),
        "outside",
    ]


def test_the_module_needs_nothing_of_ours(tmp_path: Path) -> None:
    folder = install(tmp_path / "bin", "/nonexistent")["TWISTEDIPC_PYTHON"]
    assert os.listdir(folder) == ["twistedipc_say.py"]
    code = "import sys, twistedipc_say; twistedipc_say.say({'type': 'group', 'name': 'x'})"
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
    subprocess.run([python, "-S", "-B", "-c", code], cwd=folder, env={}, check=True)
