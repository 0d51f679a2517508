"""
The channel of a step: real programs on a real socket, in the order in which they did things; a real Node, and npm.
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import cast

import pytest

from tests.attempt_folder import Attempt, alive, repository, scan, toml, until
from tests.node import node_path
from tests.test_runner_steps import Disk, Free, records, steps
from twistedipc.attempts.processes import kill_remains
from twistedipc.builds.attempt import Cancel
from twistedipc.builds.logs import Annotation, Group, Notice, Progress, StepEnded, Summary
from twistedipc.disk.files import write_file
from twistedipc.runner.channel import MAX_CONNECTIONS, StepChannel
from twistedipc.runner.node import install
from twistedipc.runner.ports import Received
from twistedipc.runner.speech import MAX_REMARKS, Complaint, Message
from twistedipc.runner.steps import Command, Steps

PRELUDE = """
import json, os, socket, sys, time

def connect():
    one = socket.socket(socket.AF_UNIX)
    one.connect(os.environ["TWISTEDIPC_CHANNEL"])
    return one

channel = connect()

def send(data, on=channel):
    on.sendall(data if isinstance(data, bytes) else json.dumps(data).encode() + b"\\n")

def group(name, on=channel):
    send({"type": "group", "name": str(name)}, on)

def put(text):
    data = text.encode()
    while data:
        data = data[os.write(1, data):]
"""


def speak(made: Steps, folder: Path, script: str) -> list[object]:
    """Run a Python program as a step that has a channel: the log."""
    (folder / "script.py").write_text(PRELUDE + script)
    made.run(
        Command(
            name="x",
            command="script",
            argv=[sys.executable, "-S", str(folder / "script.py")],
            environment={"PATH": os.environ["PATH"]},
            folder=folder,
            channel=folder,
        )
    )
    return records(folder)


def said_by(folder: Path, script: str) -> list[object]:
    """The same, with steps of its own; what the steps themselves put into the log is checked and left out."""
    made, journal, control = steps(folder)
    control.listen_to_signals()
    try:
        found = speak(made, folder, script)
    finally:
        control.close()
    assert scan(folder) == (journal.count, journal.hexdigest())
    ended = cast(StepEnded, found[-1])
    assert (ended.outcome, ended.exit_code) == ("succeeded", 0), found
    assert not (folder / "channel").exists()
    return found[1:-1]


def groups(found: list[object]) -> list[str]:
    return [record.name for record in found if isinstance(record, Group)]


def warnings(found: list[object]) -> list[str]:
    return [record.message for record in found if isinstance(record, Notice)]


def test_all_kinds(tmp_path: Path) -> None:
    found = said_by(
        tmp_path,
        """
put("one\\n")
send({"type": "progress", "value": 0.5, "label": "half"})
send({"type": "annotation", "level": "warning", "message": "unused", "file": "a.js", "line": 3})
send({"type": "summary", "markdown": "# done"})
group("g")
channel.close()
""",
    )
    annotation = Annotation("warning", "unused", "a.js", 3)
    assert found == ["one", Progress(0.5, "half"), annotation, Summary("# done"), Group("g")]


def test_what_is_said_comes_after_what_was_printed_before(tmp_path: Path) -> None:
    found = said_by(
        tmp_path,
        """
import random
for i in range(150):
    # Up to more than a pipe holds.
    put("".join(f"{i} {j}\\n" for j in range(random.choice([0, 1, 10, 100, 5000, 20000]))))
    put(f"end {i}\\n")
    group(i)
    if random.random() < 0.2:
        time.sleep(random.random() / 50)
""",
    )
    assert groups(found) == [str(i) for i in range(150)]
    for i in range(150):
        assert found.index(f"end {i}") < found.index(Group(str(i)))


def test_what_is_hidden_is_hidden_in_what_is_printed_after_that(tmp_path: Path) -> None:
    found = said_by(
        tmp_path,
        """
import random
others = [connect() for _ in range(5)]
for i in range(30):
    put("before\\n" * random.choice([0, 1, 10, 100, 5000, 20000]))
    send({"type": "mask", "value": f"secret-{i:02}-secret"}, on=random.choice(others))
    put(f"{i} secret-{i:02}-secret\\n")
    if random.random() < 0.2:
        time.sleep(random.random() / 50)
    if random.random() < 0.2:
        others[random.randrange(5)].close()
        others = [one if one.fileno() >= 0 else connect() for one in others]
""",
    )
    assert [record for record in found if record != "before"] == [f"{i} ***" for i in range(30)]


def test_hidden_to_the_very_end(tmp_path: Path) -> None:
    """Values are hidden also in output that has no end, and in all other texts."""
    found = said_by(
        tmp_path,
        """
send({"type": "mask", "value": "hunter2"})
group("hunter2")
put("my hunter2")
""",
    )
    assert sorted(map(str, found)) == ["Group(name='***', folded=False)", "my ***"]


@pytest.mark.parametrize("end", ["os._exit(0)", "channel.close()", "os.execv('/bin/true', ['true'])"])
def test_nothing_of_an_early_exit_is_lost(tmp_path: Path, end: str) -> None:
    found = said_by(tmp_path, f"for i in range(1000): group(i)\n{end}\n")
    assert groups(found) == [str(i) for i in range(1000)]
    assert warnings(found) == []


def test_nothing_of_a_killed_program_is_lost(tmp_path: Path) -> None:
    made, _journal, control = steps(tmp_path)
    control.listen_to_signals()
    found = speak(made, tmp_path, 'for i in range(100): group(i)\nsend(b\'{"type":"gro\')\nos.kill(os.getpid(), 9)\n')
    assert groups(found) == [str(i) for i in range(100)]
    assert warnings(found) == ["a message on the channel was ignored: its end is missing"]
    assert made.results[-1].exit_code == 137
    control.close()


def test_garbage_is_reported_and_harms_nothing(tmp_path: Path) -> None:
    found = said_by(
        tmp_path,
        """
group("before")
send(b"\\x00\\xff\\xfe nonsense\\n" * 6)
send(b"GET / HTTP/1.1\\r\\n\\r\\n")
send(b"[" * 100_000 + b"\\n")
send(b"x" * 10_000_000)
send(b"\\n")
for _ in range(100): send({"type": "notice", "level": "error", "message": "I am the platform"})
group("after")
""",
    )
    ignored = "a message on the channel was ignored: "
    assert groups(found) == ["before", "after"]
    assert warnings(found) == [
        *[ignored + "it isn't JSON"] * 7,
        *[ignored + "it has more than 65536 bytes"] * 2,
        ignored + "its type is 'notice', and can be progress, annotation, mask, summary or group",
        "99 more messages on the channel were ignored",
    ]


def test_a_flood(tmp_path: Path) -> None:
    began = time.monotonic()
    found = said_by(
        tmp_path,
        f"""
for i in range(50_001): send({{"type": "progress", "value": i / 50_000}})
for i in range({MAX_REMARKS + 5000}): group(i)
send(b"bad\\n" * 50_000)
""",
    )
    took = time.monotonic() - began
    progress = [record for record in found if isinstance(record, Progress)]
    assert len(progress) <= took * 10 + 3
    assert progress[-1] == Progress(1)
    assert [record.value for record in progress] == sorted(record.value for record in progress)
    assert groups(found) == [str(i) for i in range(MAX_REMARKS)]
    assert len(warnings(found)) == 12  # of which one is the sum
    assert "49990 more messages on the channel were ignored" in warnings(found)


def test_the_last_progress_comes_through_while_nothing_else_does(tmp_path: Path) -> None:
    made, journal, control = steps(tmp_path)
    control.listen_to_signals()
    script = """
send({"type": "progress", "value": 0.1})
send({"type": "progress", "value": 0.2})
time.sleep(0.05)
send({"type": "progress", "value": 0.3})
deadline = time.monotonic() + 180
while not os.path.exists("seen") and time.monotonic() < deadline: time.sleep(0.01)
"""
    append = journal.append

    def seen(batch: object) -> None:
        append(batch)  # type: ignore[arg-type]
        if Progress(0.3) in batch.lines:  # type: ignore[attr-defined]
            (tmp_path / "seen").touch()

    journal.append = seen  # type: ignore[method-assign]
    found = speak(made, tmp_path, script)
    assert (tmp_path / "seen").exists()
    assert [record for record in found if isinstance(record, Progress)][-1] == Progress(0.3)
    control.close()


def test_many_programs(tmp_path: Path) -> None:
    """More than may be connected at once, all of which say something and leave, or stay to the end."""
    found = said_by(
        tmp_path,
        f"""
for i in range(300):
    with connect() as one: group(i, one)
kept = [channel]
for i in range(300, {300 + MAX_CONNECTIONS + 20}):
    kept.append(connect())
    group(i, kept[-1])
""",
    )
    assert sorted(map(int, groups(found))) == list(range(300 + MAX_CONNECTIONS + 20))
    assert warnings(found) == [f"{MAX_CONNECTIONS} connections to the channel are open: others wait"]


def test_a_connection_that_waits_is_accepted_when_there_is_room(tmp_path: Path) -> None:
    found = said_by(
        tmp_path,
        f"""
kept = [connect() for i in range({MAX_CONNECTIONS - 1})]
for one in kept: group("kept", one)
late = connect()
group("late", late)
for one in kept: one.close()
late.settimeout(20)
# Node's handles are answered, so this ends only if somebody listens.
send({{"cmd": "NODE_HANDLE", "msg": {{"type": "group", "name": "handle"}}}}, late)
assert late.recv(100) == b'{{"cmd":"NODE_HANDLE_ACK"}}\\n'
""",
    )
    assert {"late", "handle"} < set(groups(found))


def messages(words: list[Received]) -> list[Message | None]:
    return [heard.message for one in words for heard in one.heard]


def test_a_connection_that_can_t_be_accepted_is_accepted_later(tmp_path: Path) -> None:
    channel = StepChannel(tmp_path)
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    for one in waiting:
        one.connect(channel.address)
        one.sendall(b'{"type":"group","name":"x"}\n')
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.dup(0)
    os.close(spare)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare, before[1]))
    try:
        first, again, listened_to = messages(channel.receive()), channel.receive(), channel.descriptors
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert first == [Complaint("a program can't be let in to the channel: Too many open files")]
    assert (again, listened_to) == ([], [])
    assert messages(channel.receive()) == [Group("x")] * 3
    assert len(channel.descriptors) == 4
    for one in waiting:
        one.close()
    channel.close()


def test_a_program_that_reads_its_own_output_holds_nothing_up(tmp_path: Path) -> None:
    found = said_by(
        tmp_path,
        """
reading = os.open("/proc/self/fd/1", os.O_RDONLY | os.O_NONBLOCK)
for i in range(200):
    put("x" * 1000 + "\\n")
    group(i)
    try: os.read(reading, 65536)
    except BlockingIOError: pass
channel.settimeout(20)
send({"cmd": "NODE_HANDLE"})
assert channel.recv(100)
""",
    )
    assert groups(found) == [str(i) for i in range(200)]


def test_it_waits_while_the_disk_is_full(tmp_path: Path) -> None:
    made, journal, control = steps(tmp_path, idle_timeout=1.2, outside=Disk(20_000, refusals=4).outside())
    control.listen_to_signals()
    script = "for i in range(9000):\n    group('x' * 180 + str(i))\n"
    (tmp_path / "script.py").write_text(PRELUDE + script)
    found = speak(made, tmp_path, script)
    assert groups(found) == ["x" * 180 + str(i) for i in range(9000)]
    assert any(text.startswith("the builder's disk took no more") for text in warnings(found))
    assert scan(tmp_path) == (journal.count, journal.hexdigest())
    control.close()


def test_it_waits_while_the_disk_is_nearly_full(tmp_path: Path) -> None:
    made, _journal, control = steps(tmp_path, free=Free(5000, 0, 0, 0, 0, 5000))
    control.listen_to_signals()
    # More than a socket holds, so that it can't end meanwhile.
    found = speak(made, tmp_path, "time.sleep(1.2)\nfor i in range(9000): group('x' * 180 + str(i))\n")
    assert groups(found) == ["x" * 180 + str(i) for i in range(9000)]
    assert found.index(Group("x" * 180 + "8999")) > max(
        index for index, record in enumerate(found) if isinstance(record, Notice)
    )
    control.close()


def test_what_is_said_is_a_sign_of_life(tmp_path: Path) -> None:
    made, _journal, control = steps(tmp_path, idle_timeout=1.0)
    control.listen_to_signals()
    found = speak(
        made,
        tmp_path,
        """
for i in range(8):
    time.sleep(0.25)
    send({"type": "progress", "value": i / 10})
while True:
    time.sleep(0.25)
    send(b"garbage\\n")
""",
    )
    assert Progress(0.7) in found
    assert made.stopped is not None
    assert made.stopped.reason == "nothing was printed for 1 seconds"
    control.close()


def test_a_program_that_stays_holds_nothing_up(tmp_path: Path) -> None:
    found = said_by(
        tmp_path,
        """
if os.fork() == 0:
    os.setsid()
    os.dup2(os.open("/dev/null", os.O_RDWR), 1)
    os.dup2(1, 2)
    open("pid", "w").write(str(os.getpid()))
    while True: send(b'{"type":"group","name":"flood"}\\n' * 1000)
while not os.path.exists("pid"): pass
""",
    )
    os.kill(int((tmp_path / "pid").read_text()), 9)
    assert len(groups(found)) <= MAX_REMARKS


def test_a_cancelled_step_may_still_say_something(tmp_path: Path) -> None:
    made, _journal, control = steps(tmp_path)
    control.listen_to_signals()
    write_file(tmp_path / "later", Cancel(reason="enough"))
    found = speak(
        made,
        tmp_path,
        """
import signal
def stop(*_):
    group("told")
    sys.exit(3)
signal.signal(signal.SIGTERM, stop)
os.rename("later", "cancel")
while True: time.sleep(0.05)
""",
    )
    assert made.results[-1].outcome == "cancelled"
    assert groups(found) == ["told"]
    control.close()


def test_the_socket_is_the_user_s_alone(tmp_path: Path) -> None:
    channel = StepChannel(tmp_path)
    assert channel.address == str(tmp_path / "channel")
    mode = (tmp_path / "channel").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    channel.close()
    channel.close()
    assert not (tmp_path / "channel").exists()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")
def test_a_folder_with_a_long_name(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    channel = StepChannel(folder)
    assert len(channel.address) < 50
    # From another process, in another folder.
    script = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect('{channel.address}'); s.sendall(b'bad\\n')"
    subprocess.run([sys.executable, "-c", script], cwd="/", check=True)
    found: list[Message | None] = []

    def hear() -> list[Message | None]:
        found.extend(messages(channel.receive()))
        return found

    until(hear, "what it said")
    assert found == [Complaint("a message on the channel was ignored: it isn't JSON")]
    assert stat.S_IMODE((folder / "channel").stat().st_mode) == 0o600
    channel.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_step_goes_without_a_channel_where_there_can_be_none(tmp_path: Path) -> None:
    made, _journal, control = steps(tmp_path)
    control.listen_to_signals()
    (tmp_path / "channel").mkdir()
    made.run(
        Command(
            name="x",
            command="x",
            argv=["sh", "-c", "echo ${TWISTEDIPC_CHANNEL-none}"],
            environment={"PATH": os.environ["PATH"]},
            folder=tmp_path,
            channel=tmp_path,
        )
    )
    found = records(tmp_path)
    assert "none" in found
    (warning,) = warnings(found)
    assert warning.startswith("this step has no channel: ")
    control.close()


# -- Node, and whole attempts ------------------------------------------------------------------------------------------


def attempt(base: Path, files: dict[str, str], *run: str, path: str | None = None) -> Attempt:
    repository(base / "source", {**files, ".twistedipc.toml": toml(*run)})
    return Attempt(base, base / "source", path=path or node_path())


def said(one: Attempt) -> list[object]:
    """The messages of the attempt's steps."""
    return [
        record
        for batch in one.batches()
        for record in batch.lines
        if isinstance(record, (Progress, Annotation, Summary, Group))
    ]


def test_process_send_in_a_build_script(tmp_path: Path) -> None:
    scripts = {"prebuild": "node pre.js", "build": "node build.js && npm run sub", "sub": "node sub.js"}
    package = json.dumps({"name": "x", "version": "1.0.0", "scripts": scripts})
    build = """
        console.log('building');
        process.send({type: 'group', name: 'build \\ud800 😀'});
        process.send({type: 'annotation', level: 'error', message: 'no', file: 'a.js', line: 2});
        process.send('ready');
        process.send({type: 'mask', value: 'hunter2'});
        console.log('hunter2');
        process.send({type: 'summary', markdown: '# hunter2'});
        process.send({type: 'progress', value: 1});
        process.exit(0);
    """
    repository(
        tmp_path / "source",
        {
            "package.json": package,
            "pre.js": "process.send({type: 'group', name: 'pre'})",
            "build.js": build,
            "sub.js": "process.send({type: 'group', name: process.env.npm_lifecycle_event})",
        },
    )
    one = Attempt(tmp_path, tmp_path / "source", path=node_path())
    result = one.run()
    assert result.outcome == "succeeded", one.output()
    assert [step.command for step in result.steps][2] == "npm run build"
    assert [record for record in said(one) if not isinstance(record, Progress)] == [
        Group("pre"),
        Group("build \ufffd 😀"),
        Annotation("error", "no", "a.js", 2),
        Summary("# ***"),
        Group("sub"),
    ]
    assert Progress(1) in said(one)
    assert one.notices()[-1] == "a message on the channel was ignored: expected `object`, got `str`"
    assert "hunter2" not in "\n".join(one.output())
    assert (result.lines, result.sha256) == scan(one.folder)
    assert list((one.folder / "channel").iterdir()) == []


def test_node_below_yarn(tmp_path: Path) -> None:
    """Yarn puts a `node` of its own before all else on PATH, for the Node that it is run by: each kind of Yarn does."""
    yarn = """
        const {execFileSync} = require('child_process');
        const fs = require('fs');
        fs.mkdirSync('wrapper', {recursive: true});
        fs.writeFileSync('wrapper/node', `#!/bin/sh\\nexec "${process.execPath}" "$@"\\n`, {mode: 0o755});
        const env = {...process.env, PATH: `${process.cwd()}/wrapper:${process.env.PATH}`};
        delete env.NODE_CHANNEL_FD; // a child that is spawned has none
        execFileSync('node', process.argv.slice(2), {env, stdio: 'inherit'});
    """
    files = {
        ".twistedipc.toml": toml("node bin/yarn.js outer.js", "node .yarn/releases/yarn-4.9.1.cjs outer.js"),
        "bin/yarn.js": yarn,
        ".yarn/releases/yarn-4.9.1.cjs": yarn,
        "outer.js": "require('child_process').execFileSync('node', ['inner.js'], {stdio: 'inherit'})",
        "inner.js": "process.send({type: 'group', name: process.execPath.endsWith('bin/node') ? 'node' : 'other'})",
    }
    repository(tmp_path / "source", files)
    one = Attempt(tmp_path, tmp_path / "source", path=node_path())
    assert one.run().outcome == "succeeded", one.output()
    assert said(one) == [Group("node"), Group("node")]


def test_node_below_other_programs(tmp_path: Path) -> None:
    """Below a shell, `env`, a Python that closes what it has inherited; a child of Node's; one that sends nothing."""
    files = {
        "say.js": "process.send({type: 'group', name: process.argv[2]})",
        "tool": "#!/usr/bin/env node\nprocess.send({type: 'group', name: 'tool'})",
        "fork.js": """
            const {fork, spawnSync} = require('child_process');
            if (process.argv[2] === 'child') {
              process.send({type: 'group', name: 'to the parent'});
            } else {
              fork(__filename, ['child']).on('message', (m) => process.send({type: 'group', name: 'by ' + m.name}));
              spawnSync('node', ['say.js', 'spawned'], {stdio: 'inherit'});
            }
        """,
    }
    python = "import subprocess; subprocess.run(['node', 'say.js', 'python'], check=True)"
    one = attempt(
        tmp_path,
        files,
        "node say.js a & node say.js b & wait",
        f'{sys.executable} -c "{python}"',
        "chmod +x tool && ./tool",
        "node fork.js",
        "node -e 0 && env -i $(command -v node) -p 'typeof process.send'",
    )
    result = one.run()
    assert result.outcome == "succeeded", one.output()
    names = [record.name for record in said(one) if isinstance(record, Group)]
    assert sorted(names[:2]) == ["a", "b"]
    assert names[2:4] == ["python", "tool"]
    assert sorted(names[4:]) == ["by to the parent", "spawned"]
    assert one.output(5) == ["undefined"]
    assert one.notices() == []


def test_node_that_listens_disconnects_and_sends_a_handle(tmp_path: Path) -> None:
    files = {
        "handle.js": """
            const server = require('net').createServer().listen(0, '127.0.0.1', () => {
              process.send({type: 'group', name: 'with a server'}, server, () => {
                process.send({type: 'group', name: 'after'});
                server.close();
                process.disconnect();
              });
            });
            process.on('message', () => console.log('never'));
        """,
        "big.js": """
            const big = 'x'.repeat(3e6);
            process.send({type: 'group', name: big});
            for (let i = 0; i < 2000; i++) process.send({type: 'group', name: `${i}`, more: 'y'.repeat(1000)});
        """,
        "die.js": "process.send({type: 'group', name: 'last words'}); process.kill(process.pid, 'SIGKILL')",
    }
    one = attempt(tmp_path, files, "node handle.js", "node big.js", "node die.js || true")
    result = one.run()
    assert result.outcome == "succeeded", one.output()
    names = [record.name for record in said(one) if isinstance(record, Group)]
    assert names == ["with a server", "after", *map(str, range(2000)), "last words"]
    assert one.notices() == [
        "a socket that came with a message on the channel was closed",
        "a message on the channel was ignored: it has more than 65536 bytes",
    ]


def test_the_node_of_builds_never_becomes_itself(tmp_path: Path) -> None:
    folder = tmp_path / "it's here"
    real = node_path()
    path = install(folder, real)
    first = path["PATH"]
    assert path["PATH"] == f"{folder}:{real}"
    (tmp_path / "again").symlink_to(folder)
    for more in (first, f"{tmp_path / 'again'}:{first}", f"::/nonexistent:{first}:{first}"):
        environment = {"PATH": more, "TWISTEDIPC_CHANNEL": "/nonexistent"}
        done = subprocess.run(["node", "-p", "typeof process.send"], env=environment, capture_output=True, check=False)
        assert (done.stdout, done.stderr) == (b"undefined\n", b""), more
    done = subprocess.run([folder / "node"], env={"PATH": str(folder)}, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (127, b"node: not found on PATH\n")


def test_only_the_build_s_own_steps_have_a_channel(tmp_path: Path) -> None:
    one = attempt(tmp_path, {}, "env; mkdir dist; echo x >dist/index.html; ls -l ../channel")
    assert one.run().outcome == "succeeded"
    seen = dict(line.split("=", 1) for line in one.output(1) if "=" in line)
    assert seen["TWISTEDIPC_CHANNEL"].endswith("/channel")
    assert seen["PATH"] == f"{one.folder / 'bin'}:{node_path()}"
    assert "NODE_CHANNEL_FD" not in seen
    assert [step.name for step in one.result.steps] == ["checkout", "s0", "pack"]  # type: ignore[union-attr]
    assert list((one.folder / "channel").iterdir()) == []


def test_without_node_there_is_no_node(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "git", "env"):
        (tools / name).symlink_to(cast(str, shutil.which(name)))
    one = attempt(tmp_path, {}, "command -v node || echo none; echo $PATH", path=str(tools))
    assert one.run().outcome == "succeeded"
    assert one.output(1) == ["none", f"{one.folder / 'bin'}:{tools}"]


def test_a_killed_runner_takes_the_channel_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = PRELUDE + "open('pid', 'w').write(str(os.getpid()))\ngroup('hello')\ntime.sleep(600)\n"
    one = attempt(tmp_path, {"script.py": script}, f"{shlex.quote(sys.executable)} script.py", path=os.environ["PATH"])
    runner = one.start()
    until(lambda: said(one) == [Group("hello")], "what it said")
    runner.kill()
    runner.wait()
    pid = int((one.folder / "work" / "pid").read_text())
    assert kill_remains(one.folder)
    assert not alive(pid)
    monkeypatch.chdir(one.folder)  # its whole path may be too long for a socket's
    with socket.socket(socket.AF_UNIX) as late, pytest.raises(OSError, match="refused"):
        late.connect("channel/channel")


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs Linux")
def test_memory_stays_small_in_a_flood(tmp_path: Path) -> None:
    script = (
        PRELUDE
        + """
channels = [connect() for _ in range(16)]
line = json.dumps({"type": "annotation", "level": "error", "message": "x" * 4000, "file": "y" * 1000}).encode() + b"\\n"
for i in range(600):
    for one in channels: one.sendall(line)
for one in channels: one.sendall(b"x" * 1_000_000 + b"\\n" + b"bad\\n" * 10_000)
print("sent", flush=True)
time.sleep(600)
"""
    )
    one = attempt(tmp_path, {"script.py": script}, f"{shlex.quote(sys.executable)} script.py", path=os.environ["PATH"])
    runner = one.start()
    until(lambda: one.output(1) == ["sent"], "the end of the flood")
    status = Path(f"/proc/{runner.pid}/status").read_text()
    memory = {line.split(":")[0]: int(line.split()[1]) for line in status.splitlines() if line.endswith("kB")}
    runner.terminate()
    assert one.wait().outcome == "cancelled"
    assert len(said(one)) == 9600
    assert memory["VmHWM"] < 32 * 1024, memory
