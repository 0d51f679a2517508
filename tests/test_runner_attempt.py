"""Whole attempts in real runner processes: outcomes, trees of processes, deadlines, the lock."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import msgspec
import pytest

from tests.attempt_folder import Attempt, alive, git, repository, scan, toml, until
from twistedipc.attempts.journal import JournalReader, repair
from twistedipc.attempts.liveness import lock_held, lock_owner, take_lock
from twistedipc.attempts.processes import kill_remains
from twistedipc.builds.attempt import Cancel, Publish
from twistedipc.builds.logs import Annotation, Group, Lines, StepEnded, StepStarted
from twistedipc.builds.settings import BuildSettings
from twistedipc.disk.files import write_file
from twistedipc.runner.course import MAX_SAID_NO_ROOM

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has child subreapers and /proc")


def attempt(base: Path, *steps: str, more: str = "", **options: object) -> Attempt:
    source = base / "source"
    repository(source, {".twistedipc.toml": toml(*steps, more=more)})
    return Attempt(base, source, **options)  # type: ignore[arg-type]


def pid_in(path: Path) -> int:
    until(lambda: path.exists() and path.read_text().endswith("\n"), f"{path.name} has a process id")
    return int(path.read_text())


def test_succeeds(tmp_path: Path) -> None:
    one = attempt(tmp_path, "echo hello; echo error >&2", "mkdir dist; echo hi >dist/index.html")
    result = one.run()
    assert result.outcome == "succeeded"
    assert result.reason == ""
    assert [step.name for step in result.steps] == ["checkout", "s0", "s1", "pack"]
    assert [step.exit_code for step in result.steps] == [0, 0, 0, 0]
    assert (result.lines, result.sha256) == scan(one.folder)
    assert result.commit == git(tmp_path / "source", "rev-parse", "HEAD")
    assert (result.subject, result.author, result.author_email) == ("first commit", "Ada", "ada@example.org")
    assert one.output(1) == ["hello", "error"]
    assert result.artifact is not None
    assert result.artifact.files == 1
    assert result.artifact.size == (one.folder / "archive.tar.gz").stat().st_size
    events = one.events()
    assert events[0] == StepStarted(0, "checkout", "")
    assert [event.index for event in events if isinstance(event, StepStarted)] == [0, 1, 2, 3]
    assert [event.index for event in events if isinstance(event, StepEnded)] == [0, 1, 2, 3]
    assert not lock_held(one.folder)


@linux
def test_a_folder_with_a_colon_in_its_path(tmp_path: Path) -> None:
    """PATH can't name it: neither what npm had installed nor the platform's `node` was found by the build."""
    source = tmp_path / "source"
    package = {"name": "x", "scripts": {"dep": "dep"}, "dependencies": {"dep": "file:./lib"}}
    node = "node -p 'typeof process.send'"
    repository(
        source,
        {
            "package.json": json.dumps(package),
            "lib/package.json": json.dumps({"name": "dep", "version": "1.0.0", "bin": "dep.js"}),
            "lib/dep.js": "#!/usr/bin/env node\nconsole.log('dep works')\n",
            ".twistedipc.toml": f'[build]\nsteps = ["npm install --offline", "npm run dep", "{node}"]\n',
        },
    )
    one = Attempt(tmp_path / "a:b", source)
    assert one.run().outcome == "succeeded", one.output(1) + one.output(2)
    assert "dep works" in one.output(2)
    assert one.output(3) == ["function"]


def test_without_output_nothing_is_packed(tmp_path: Path) -> None:
    result = attempt(tmp_path, "true").run()
    assert result.outcome == "succeeded"
    assert result.artifact is None
    assert [step.name for step in result.steps] == ["checkout", "s0"]


def test_a_release_needs_an_output(tmp_path: Path) -> None:
    result = attempt(tmp_path, "true", publish=Publish(static=True)).run()
    assert result.outcome == "failed"
    assert result.reason.startswith("There is no site to release. The build made none of dist, build, out, ")


def test_what_a_project_releases_must_be_a_site_even_if_this_build_is_not_released(tmp_path: Path) -> None:
    """`build --no-publish` succeeded where the same build would have put a 404 in the place of the site."""
    result = attempt(tmp_path, "mkdir -p dist/shop && echo hi >dist/shop/index.html", site=True).run()
    assert result.outcome == "failed"
    assert 'dist/shop has an index.html: set output = "dist/shop"' in result.reason


def test_plain_html_is_released_without_any_step(tmp_path: Path) -> None:
    repository(tmp_path / "source", {"index.html": "hello", ".env": "x"})
    result = Attempt(tmp_path, tmp_path / "source", publish=Publish(static=True)).run()
    assert (result.outcome, [step.name for step in result.steps]) == ("succeeded", ["checkout", "pack"])
    assert result.artifact is not None
    assert result.artifact.files == 1


def test_another_manager_s_lock_file_ends_the_build_before_any_step(tmp_path: Path) -> None:
    package = '{"packageManager": "npm@10.8.2"}'
    repository(tmp_path / "source", {"package.json": package, "pnpm-lock.yaml": ""})
    result = Attempt(tmp_path, tmp_path / "source", publish=Publish(static=True)).run()
    assert (result.outcome, [step.name for step in result.steps]) == ("failed", ["checkout"])
    assert result.reason.startswith("packageManager names npm, but pnpm-lock.yaml is a lock file of pnpm")


@pytest.mark.parametrize(
    ("step", "code"), [("exit 3", 3), ("kill -SEGV $$", 139), ("no-such-command-here", 127), ("./not-executable", 126)]
)
def test_first_failing_step_ends_it(tmp_path: Path, step: str, code: int) -> None:
    one = attempt(tmp_path, "touch not-executable; " + step, "echo never")
    result = one.run()
    assert result.outcome == "failed"
    assert result.reason.partition(":")[0] == f"step s0 ended with exit code {code}"
    assert result.steps[-1].exit_code == code
    assert one.output(2) == []


def test_a_failure_that_is_known_is_explained(tmp_path: Path) -> None:
    """Cause and cure are in the reason, and in the log as an annotation; what is hidden there is hidden in both."""
    missing = "Cannot find module \\'left-pad-s3cret\\'"
    say = "twistedipc-say mask left-pad-s3cret"
    one = attempt(tmp_path, "echo npm error code E401", f"{say}; echo 'npm error code E401'; echo {missing}; exit 2")
    result = one.run()
    assert result.reason.startswith("step s1 ended with exit code 2: a registry wants credentials, ")
    assert "token" in result.reason
    marked = one.annotations()
    assert [event.level for event in marked] == ["error"]
    assert marked[0].message.startswith("A registry wants credentials, ")
    one = attempt(tmp_path / "2", f"{say}; echo {missing}; exit 2")
    reason = one.run().reason
    assert reason.startswith("step s0 ended with exit code 2: a package isn't installed: ***")
    assert "s3cret" not in (one.folder / "result.json").read_text()


#: Prints a group, an error of the sources by its full path, and a value that is to be hidden, in pieces.
TOOL = r"""
import os, sys, time
print("::group::build", flush=True)
print(f"{os.path.realpath('src/a.ts')}(3,5): error TS1: no", flush=True)
for piece in ("::add-ma", "sk::hunt", "er22", chr(10), "hunter22" + chr(10)):
    os.write(1, piece.encode())
    time.sleep(0.7 if piece == "er22" else 0.02)  # a line without an end is shown after half a second
"""


def test_what_tools_print_is_understood(tmp_path: Path) -> None:
    source = tmp_path / "source"
    repository(source, {"tool.py": TOOL, ".twistedipc.toml": toml(f"{sys.executable} tool.py")})
    one = Attempt(tmp_path, source)
    assert one.run().outcome == "succeeded"
    assert one.annotations() == [Annotation("error", "TS1: no", "src/a.ts", 3, 5, repeats=True)]
    records = [record for batch in one.batches() for record in batch.lines]
    assert records[records.index(Group("build")) + 1] == one.output(1)[0]
    assert one.output(1)[0].endswith("/src/a.ts(3,5): error TS1: no")
    assert one.output(1)[1:] == ["***"]


@pytest.mark.parametrize("where", ["repository", "project"])
def test_what_tools_print_stays_text_where_nothing_is_to_be_made_of_it(tmp_path: Path, where: str) -> None:
    lines = ["::group::build", "a.ts(3,5): error TS1: no", "::add-mask::build"]
    step = "; ".join(f"echo '{line}'" for line in lines)
    more = "annotate = false\n" if where == "repository" else ""
    one = attempt(tmp_path, step, more=more, settings=BuildSettings(annotate=where == "repository"))
    assert one.run().outcome == "succeeded"
    assert one.output(1) == lines
    assert one.annotations() == []


def test_a_failed_checkout_is_explained(tmp_path: Path) -> None:
    one = attempt(tmp_path, "true")
    spec = msgspec.structs.replace(one.spec, repository="http://127.0.0.1:9/team/shop.git")
    write_file(one.folder / "spec.json", spec)
    result = one.run()
    assert result.outcome == "failed"
    assert (
        "http://127.0.0.1:9/team/shop.git can't be fetched: the host of a repository can't be reached" in result.reason
    )


def test_what_a_tool_left_out_is_a_warning(tmp_path: Path) -> None:
    one = attempt(tmp_path, "printf '%s\\n' 'Ignored build scripts: esbuild@0.21.5.'", "true")
    assert one.run().outcome == "succeeded"
    marked = one.annotations()
    assert [(event.level, "esbuild@0.21.5" in event.message) for event in marked] == [("warning", True)]


def test_what_was_recognised_is_in_the_log_and_in_the_result(tmp_path: Path) -> None:
    files = {"package.json": "{}", ".nvmrc": "*x", ".twistedipc.toml": "[build]\nsteps = ['true']\nnode = '>=1'"}
    repository(tmp_path / "source", files)
    one = Attempt(tmp_path, tmp_path / "source")
    result = one.run()
    assert result.outcome == "succeeded", result.reason
    node = next(finding for finding in result.recognised if finding.what == "node")
    assert (node.value, node.file, node.why) == (">=1", ".twistedipc.toml", "build.node")
    assert "node: >=1 (.twistedipc.toml: build.node)" in one.notices()


def test_nothing_to_build(tmp_path: Path) -> None:
    repository(tmp_path / "source", {"readme": "nothing"})
    one = Attempt(tmp_path, tmp_path / "source")
    result = one.run()
    assert result.outcome == "failed"
    assert "there is nothing to build" in result.reason
    assert one.notices() == [result.reason]


@pytest.mark.parametrize("link", ["/dev/zero", "/proc/self/environ", "/"])
def test_a_plan_file_may_be_anything(tmp_path: Path, link: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / ".twistedipc.toml").symlink_to(link)
    repository(source, {"x": ""})
    result = Attempt(tmp_path, source).run()
    assert result.outcome == "failed"
    assert result.reason == ".twistedipc.toml is a link that leaves the repository"


def test_environment_is_built_from_nothing(tmp_path: Path) -> None:
    one = attempt(
        tmp_path,
        "env",
        more="[build.environment]\nA = 'toml'\nB = 'toml'",
        environment={"A": "operator", "C": "operator", "D": "operator"},
        # The platform's own steps don't get the project's: git would refuse to work with this.
        variables={"A": "project", "C": "project", "GIT_CONFIG_COUNT": "none"},
        parameters={"B": "parameter"},
    )
    assert one.run().outcome == "succeeded"
    seen = dict(line.split("=", 1) for line in one.output(1))
    assert [seen[name] for name in "ABCD"] == ["toml", "parameter", "project", "operator"]
    assert seen["HOME"] == str(one.folder / "home")
    assert seen["TWISTEDIPC_ATTEMPT"] == "1-1"
    assert seen["TWISTEDIPC_COMMIT"] == git(tmp_path / "source", "rev-parse", "HEAD")
    assert "SECRET_OF_THE_BUILDER" not in seen
    assert "NODE_AUTH_TOKEN" not in seen
    assert not [name for name in seen if name.startswith("PYTHON")]


def test_descriptors_and_signals_of_a_step_are_clean(tmp_path: Path) -> None:
    one = attempt(
        tmp_path,
        "ls /proc/self/fd | wc -l; readlink /proc/self/fd/0; grep SigIgn /proc/self/status; umask; ulimit -c >&2",
    )
    assert one.run().outcome == "succeeded"
    descriptors, stdin, ignored, mask, *_ = one.output(1)
    assert int(descriptors) == 4  # the fourth is the folder that ls reads
    assert stdin == "/dev/null"
    # Signals 32 and 33 are the C library's own: no program can set them, and our parent may ignore them.
    assert int(ignored.split()[1], 16) & ~(0b11 << 31) == 0
    assert mask == "0022"


def test_cancel_by_the_bell(tmp_path: Path) -> None:
    one = attempt(tmp_path, "echo $$ >pid; sleep 600 & sleep 600", "echo never")
    one.start()
    pid = pid_in(one.folder / "work" / "pid")
    write_file(one.folder / "cancel", Cancel(reason="not needed", requested_by="ada"))
    one.ring()
    result = one.wait()
    assert (result.outcome, result.reason) == ("cancelled", "not needed")
    assert not alive(pid)
    assert result.steps[-1].outcome == "cancelled"
    assert result.steps[-1].exit_code == 143
    assert "cancelled: not needed" in one.notices()


def test_cancel_without_a_bell(tmp_path: Path) -> None:
    one = attempt(tmp_path, "echo $$ >pid; exec sleep 600")
    one.start()
    pid_in(one.folder / "work" / "pid")
    write_file(one.folder / "cancel", Cancel(reason="unheard"))
    assert one.wait().outcome == "cancelled"


def test_cancel_before_the_start(tmp_path: Path) -> None:
    one = attempt(tmp_path, "true")
    write_file(one.folder / "cancel", Cancel(reason="too late"))
    result = one.run()
    assert result.outcome == "cancelled"
    assert [(step.name, step.exit_code) for step in result.steps] == [("checkout", None)]
    assert list((one.folder / "work").iterdir()) == []


def test_sigterm_is_a_cancel(tmp_path: Path) -> None:
    one = attempt(tmp_path, "echo $$ >pid; exec sleep 600")
    process = one.start()
    pid = pid_in(one.folder / "work" / "pid")
    process.send_signal(signal.SIGHUP)
    process.terminate()
    result = one.wait()
    assert (result.outcome, result.reason) == ("cancelled", "the runner was told to stop")
    assert not alive(pid)


def test_sigterm_ignored_is_followed_by_sigkill(tmp_path: Path) -> None:
    one = attempt(tmp_path, "trap 'echo I stay' TERM; echo $$ >pid; while :; do sleep 0.05; done", grace=0.4)
    one.start()
    pid = pid_in(one.folder / "work" / "pid")
    write_file(one.folder / "cancel", Cancel(reason="enough"))
    one.ring()
    result = one.wait()
    assert result.outcome == "cancelled"
    assert result.steps[-1].exit_code == 137
    assert "I stay" in one.output()
    assert not alive(pid)


def test_takes_too_long(tmp_path: Path) -> None:
    one = attempt(tmp_path, "while :; do echo busy; sleep 0.05; done", more="timeout = 1")
    result = one.run()
    assert (result.outcome, result.reason) == ("timed_out", "it took longer than 1 seconds")


def test_a_project_can_t_raise_its_time(tmp_path: Path) -> None:
    result = attempt(tmp_path, "exec sleep 60", more="timeout = 1000", timeout=1.5).run()
    assert (result.outcome, result.reason) == ("timed_out", "it took longer than 1.5 seconds")


def test_silent_for_too_long(tmp_path: Path) -> None:
    one = attempt(tmp_path, "echo one; sleep 0.5; echo two; exec sleep 60", more="idle_timeout = 2.5")
    result = one.run()
    assert (result.outcome, result.reason) == ("timed_out", "nothing was printed for 2.5 seconds")
    assert one.output(1) == ["one", "two"]


def test_closes_its_output_and_runs_on(tmp_path: Path) -> None:
    one = attempt(tmp_path, "echo first; exec >&- 2>&-; sleep 1; touch done", "test -e done && echo yes")
    assert one.run().outcome == "succeeded"
    assert one.output(2) == ["yes"]


@linux
def test_a_daemon_that_holds_the_pipe(tmp_path: Path) -> None:
    one = attempt(
        tmp_path, "(setsid sh -c 'echo $$ >pid; exec sleep 600' &) ; until test -s pid; do :; done; echo done"
    )
    result = one.run()
    assert result.outcome == "succeeded"
    assert result.steps[1].ended - result.steps[1].started < 5000
    assert "something that this step had left running was stopped" in one.notices()
    assert "processes that the build had left running were stopped: 1" in one.notices()
    assert not alive(int((one.folder / "work" / "pid").read_text()))


def test_a_background_process_of_the_group(tmp_path: Path) -> None:
    one = attempt(tmp_path, "sleep 600 >/dev/null 2>&1 & echo $! >pid")
    assert one.run().outcome == "succeeded"
    assert one.notices() == ["something that this step had left running was stopped"]
    assert not alive(int((one.folder / "work" / "pid").read_text()))


@linux
def test_a_tree_of_runaways(tmp_path: Path) -> None:
    family = "setsid sh -c 'setsid sleep 600 & setsid sleep 600 & echo $! >>pids; wait' &"
    script = f"for i in 1 2 3 4 5; do {family} done; sleep 1"
    one = attempt(tmp_path, script)
    assert one.run().outcome == "succeeded"
    pids = [int(line) for line in (one.folder / "work" / "pids").read_text().split()]
    assert len(pids) == 5
    assert not any(map(alive, pids))


def test_a_long_line(tmp_path: Path) -> None:
    one = attempt(tmp_path, "head -c 3000000 /dev/zero | tr '\\\\0' x", "echo after")
    assert one.run().outcome == "succeeded"
    lines = one.output(1)
    assert sum(map(len, lines)) == 3_000_000
    assert max(map(len, lines)) == 16 * 1024
    assert one.output(2) == ["after"]


def test_a_prompt_is_shown_while_it_waits(tmp_path: Path) -> None:
    one = attempt(tmp_path, "printf 'Continue? '; until test -e go; do sleep 0.05; done; echo yes")
    one.start()
    until(lambda: "Continue? " in one.output(1), "the prompt is in the log")
    (one.folder / "work" / "go").touch()
    one.wait()
    assert one.output(1) == ["Continue? ", "yes"]
    assert [batch.more for batch in one.batches() if "Continue? " in batch.lines] == [[0]]


def test_many_lines_in_order(tmp_path: Path) -> None:
    one = attempt(tmp_path, "seq 200000")
    result = one.run()
    assert result.outcome == "succeeded"
    assert one.output(1) == [str(n) for n in range(1, 200_001)]
    assert (result.lines, result.sha256) == scan(one.folder)


@linux
def test_memory_stays_small(tmp_path: Path) -> None:
    one = attempt(tmp_path, "echo one; until test -e go; do sleep 0.05; done; seq 1000000; exec sleep 600")
    process = one.start()

    def memory() -> dict[str, int]:
        status = Path(f"/proc/{process.pid}/status").read_text()
        return {line.split(":")[0]: int(line.split()[1]) for line in status.splitlines() if line.endswith("kB")}

    reader = JournalReader(one.folder)

    def last_line() -> object:
        read = reader.read()
        last = read[-1][0] if read else None
        return last.lines[-1] if isinstance(last, Lines) else None

    until(lambda: last_line() == "one", "the step has begun")
    before = memory()
    (one.folder / "work" / "go").touch()
    until(lambda: last_line() == "1000000", "the output is read")
    after = memory()
    reader.close()
    modules = Path(f"/proc/{process.pid}/maps").read_text()
    process.terminate()
    one.wait()
    # Python and libraries are 20 MiB of it. At the highest it had 21,324 to 21,504 KiB in eight runs, and 21,200 to
    # 21,472 in four before the runner understood what tools print.
    assert before["VmRSS"] < 21 * 1024, before
    assert after["VmHWM"] < 22 * 1024, after
    # What it works with is allocated when there is work; an object kept for each line would be 50 MiB.
    assert after["VmRSS"] - before["VmRSS"] < 2048, (before, after)
    assert "libcrypto" not in modules


def test_the_lock_is_inherited_and_not_passed_on(tmp_path: Path) -> None:
    one = attempt(tmp_path, "until test -e go; do sleep 0.05; done; (setsid sleep 3 >/dev/null 2>&1 &)")
    lock = take_lock(one.folder)
    assert lock is not None
    process = one.start(pass_fds=(lock,))
    os.close(lock)
    assert lock_held(one.folder)
    assert take_lock(one.folder) is None
    until((one.folder / "work" / ".git").exists, "the checkout")
    assert lock_owner(one.folder) == process.pid
    (one.folder / "work" / "go").touch()
    assert one.wait().outcome == "succeeded"
    assert not lock_held(one.folder)


def test_two_runners_never_share_a_folder(tmp_path: Path) -> None:
    one = attempt(tmp_path, "true")
    lock = take_lock(one.folder)
    assert lock is not None
    assert one.start().wait(180) == 3
    assert one.result is None
    os.close(lock)
    other = os.open(one.folder / "spec.json", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    assert one.start(pass_fds=(other,)).wait(180) == 3  # a lock, but not this folder's
    os.close(other)
    (one.folder / "runner.err").unlink()
    assert one.run().outcome == "succeeded"
    before = (one.folder / "result.json").read_bytes()
    assert one.start().wait(180) == 3  # it ran already
    assert (one.folder / "result.json").read_bytes() == before


def test_not_an_attempt(tmp_path: Path) -> None:
    one = attempt(tmp_path, "true")
    (one.folder / "spec.json").write_text("{}")
    assert one.start().wait(180) == 2
    (one.folder / "spec.json").unlink()
    assert one.start().wait(180) == 2
    assert "has no spec.json" in (one.folder / "runner.err").read_text()


SAY = """
import json, os, socket
with socket.socket(socket.AF_UNIX) as channel:
    channel.connect(os.environ["TWISTEDIPC_CHANNEL"])
    channel.sendall(json.dumps({"type": "mask", "value": "q7Rk-41xZ&9"}).encode() + b"\\n")
"""


def test_what_is_hidden_is_hidden_in_all_that_leaves_the_runner(tmp_path: Path) -> None:
    """The log said ``***``, and the reason of the build, in lists and notifications too, the value."""
    value = "q7Rk-41xZ&9"
    repository(
        tmp_path / "source",
        {
            "say.py": SAY,
            ".twistedipc.toml": toml(
                f"{sys.executable} say.py", f"mkdir dist; echo hi > dist/index.html; ln -s /no 'dist/{value}'"
            ),
        },
        message=f"use {value}",
    )
    one = Attempt(tmp_path, tmp_path / "source", publish=Publish(static=True))
    result = one.run()
    assert result.outcome == "failed"
    assert "***" in result.reason
    assert result.subject == "use ***"
    command = "mkdir dist; echo hi > dist/index.html; ln -s /no 'dist/***'"
    assert result.steps[2].command == command
    for name in ("result.json", "runner.err"):
        assert value not in (one.folder / name).read_text()
    told = [record for batch in one.batches() for record in batch.lines][-6:]
    assert value not in str(told)
    assert StepStarted(2, "s1", command) in [record for batch in one.batches() for record in batch.lines]


@pytest.mark.parametrize(
    ("name", "static"),
    [
        ("assets/{value}/index.js", True),
        ("{value}.js", False),  # packed too, since somebody may want to look at it
        ("q7Rk-41xZ%269.css", True),
        ("cTdSay00MXhaJjk.png", True),
        ("x/7137526B2D3431785A2639", True),
        ("q7Rk-4/1xZ&9.js", None),  # with something in between it is another value
    ],
)
def test_what_is_hidden_is_in_no_name_of_what_is_released(tmp_path: Path, name: str, static: bool | None) -> None:
    """The file was at a public address with the value in it, and the apiserver's sentences quoted the name."""
    value = "q7Rk-41xZ&9"
    path = "work/dist/" + name.format(value=value)
    repository(
        tmp_path / "source",
        {
            "say.py": SAY,
            "make.py": f"import pathlib\nfile = pathlib.Path({path!r}[5:])\nfile.parent.mkdir(parents=True)\n"
            "file.write_text('x')\npathlib.Path('dist/index.html').write_text('hi')\n",
            ".twistedipc.toml": toml(f"{sys.executable} say.py", f"{sys.executable} make.py"),
        },
    )
    one = Attempt(tmp_path, tmp_path / "source", publish=Publish(static=static is not False))
    result = one.run()
    if static is None:
        assert result.outcome == "succeeded", result.reason
        assert result.artifact is not None
        return
    assert result.outcome == "failed"
    assert result.reason.startswith("a file of the site has a value in its name that the build hides")
    assert "***" in result.reason
    assert result.reason in one.notices()
    assert result.artifact is None
    assert not (one.folder / "archive.tar.gz").exists()
    assert value not in (one.folder / "result.json").read_text()


def test_what_is_hidden_is_hidden_in_a_runner_s_last_words(tmp_path: Path) -> None:
    """The builder makes the reason of a lost attempt of these."""
    value = "q7Rk-41xZ&9"
    one = Attempt(tmp_path, tmp_path / "source")
    repository(
        tmp_path / "source",
        {"say.py": SAY, ".twistedipc.toml": toml(f"{sys.executable} say.py", "true")},
    )
    breaks = (
        "import sys; from twistedipc.runner import __main__ as main, course; from pathlib import Path\n"
        "def broken(self, name, **more):\n"
        "    step(self, name, **more)\n"
        f"    if name == 's0': raise ValueError('{value} is no path')\n"
        "step, course.Course._step = course.Course._step, broken\n"
        "sys.exit(main.main(sys.argv[1:]))"
    )
    assert one.start(command=(sys.executable, "-c", breaks)).wait(40) == 1
    said = (one.folder / "runner.err").read_text()
    assert said.splitlines()[-1] == "ValueError: *** is no path"
    assert value not in said


@linux
def test_a_killed_runner(tmp_path: Path) -> None:
    one = attempt(tmp_path, "(setsid sh -c 'echo $$ >pid2; exec sleep 600' &); echo $$ >pid; seq 1000; exec sleep 600")
    process = one.start()
    pids = [pid_in(one.folder / "work" / name) for name in ("pid", "pid2")]
    until(lambda: "1000" in one.output(), "its output")
    process.kill()
    process.wait()
    assert not lock_held(one.folder)
    assert one.result is None
    assert kill_remains(one.folder)
    assert not any(map(alive, pids))
    assert repair(one.folder).cut == 0
    assert one.output(1)[:1000] == [str(n) for n in range(1, 1001)]


@linux
def test_a_bystander_in_the_folder_lives(tmp_path: Path) -> None:
    one = attempt(tmp_path, "true")
    one.run()
    bystander = os.posix_spawn(
        "/bin/sh", ["sh", "-c", f"cd '{one.folder}/work' && exec sleep 60"], {"PATH": os.environ["PATH"]}
    )
    try:
        assert kill_remains(one.folder)
        assert alive(bystander)
    finally:
        os.kill(bystander, signal.SIGKILL)
        os.waitpid(bystander, 0)


@pytest.mark.parametrize(("failures", "outcome"), [(2, "succeeded"), (100, "failed")])
def test_a_disk_that_was_full_for_a_moment(tmp_path: Path, failures: int, outcome: str) -> None:
    """Only git has seen the full disk: there is room when the runner looks."""
    real = shutil.which("git")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "git").write_text(
        f"""#!/bin/sh
case "$*" in *" clone "*)
  echo x >> "$TMPDIR/count"
  if [ $(wc -l < "$TMPDIR/count") -le {failures} ]; then
    echo "error: unable to write symref for HEAD: No space left on device" >&2
    exit 128
  fi;;
esac
exec {real} "$@"
"""
    )
    (tools / "git").chmod(0o755)
    one = attempt(tmp_path, "echo built", path=f"{tools}:{os.environ['PATH']}")
    assert one.run().outcome == outcome
    count = one.folder / "tmp" / "count"
    assert len(count.read_text().split()) == min(failures, MAX_SAID_NO_ROOM) + 1
