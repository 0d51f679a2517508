"""A step's reach as bubblewrap's arguments, and real sandboxes in which nothing else is found."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given as generated
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.attempt_folder import alive, until
from twistedipc.attempts import processes
from twistedipc.attempts.processes import Child, Launch, exit_code
from twistedipc.builds.isolation import Isolation
from twistedipc.isolation.bubblewrap import command, given
from twistedipc.isolation.launching import launched
from twistedipc.isolation.reach import Reach, UnsafeReach
from twistedipc.isolation.steps import CHANNEL_INSIDE, Ground
from twistedipc.isolation.system import system
from twistedipc.runner.channel import StepChannel

# -- the arguments ----------------------------------------------------------------------------------------------------


def words(reach: Reach, environment: dict[str, str] | None = None, folder: str = "/work") -> list[str]:
    return given(reach, environment or {}, folder)[0].decode().split("\0")[:-1]


def pairs(found: list[str], option: str) -> list[str]:
    """What follows this option, each time."""
    return [found[place + 1] for place, word in enumerate(found) if word == option]


def test_nothing_that_bubblewrap_is_told_is_on_its_command_line() -> None:
    assert command("/usr/bin/bwrap", ["sh", "-c", "true"]) == [
        "/usr/bin/bwrap",
        "--args",
        "3",
        "--",
        "sh",
        "-c",
        "true",
    ]
    launch = launched(
        Isolation(kind="bubblewrap", program="/usr/bin/bwrap"), ["env"], {"TOKEN": "s3cret"}, "/work", Reach()
    )
    assert launch.environment == {}
    assert "s3cret" not in " ".join(launch.argv)
    assert b"--setenv\0TOKEN\0s3cret\0" in launch.given[0]


def test_without_isolation_a_command_is_started_as_it_is() -> None:
    launch = launched(Isolation(), ["env"], {"A": "b"}, "/work", Reach())
    assert launch == Launch(argv=["env"], environment={"A": "b"}, folder="/work")


def test_every_namespace_is_its_own_and_nothing_is_allowed() -> None:
    found = words(Reach())
    for kind in ("user", "pid", "ipc", "uts", "net"):
        assert f"--unshare-{kind}" in found
    assert {"--disable-userns", "--die-with-parent", "--new-session"} <= set(found)
    assert pairs(found, "--cap-drop") == ["ALL"]
    assert "--unshare-net" not in words(Reach(network="joined"))


def test_what_lies_in_something_comes_after_it() -> None:
    found = words(
        Reach(
            readable=["/opt/data/attempts/1/bin", "/opt"],
            writable=["/opt/data/attempts/1/work"],
            hidden=["/opt/data", "/srv/unseen"],
            hidden_files=["/opt/builder.toml"],
        )
    )
    text = " ".join(found)
    order = [
        "--ro-bind-try /opt /opt",
        "--ro-bind /dev/null /opt/builder.toml",
        "--tmpfs /opt/data",
        "--ro-bind-try /opt/data/attempts/1/bin /opt/data/attempts/1/bin",
        "--bind /opt/data/attempts/1/work /opt/data/attempts/1/work",
        "--remount-ro /opt/data --remount-ro /",
    ]
    assert [text.index(each) for each in order] == sorted(text.index(each) for each in order)
    assert "/srv/unseen" not in text, "nothing shows it"


def test_nothing_is_put_where_a_step_can_write() -> None:
    """A link that the step makes there would lead bubblewrap to another place of the machine."""
    for reach in (
        Reach(writable=["/a/copy", "/a/copy/inner"]),
        Reach(writable=["/a/copy"], readable=["/a/copy/x/y"]),
        Reach(writable=["/a"], hidden=["/a/b"]),
    ):
        with pytest.raises(UnsafeReach):
            words(reach)


@pytest.mark.parametrize(
    ("reach", "environment", "folder"),
    [
        (Reach(), {"A": "b\0--bind\0/\0/host"}, "/work"),
        (Reach(), {"A\0--bind\0/\0/host": "b"}, "/work"),
        (Reach(), {}, "/work\0--bind\0/\0/host"),
        (Reach(readable=["/a\0--bind\0/\0/host"]), {}, "/work"),
    ],
)
def test_no_word_becomes_several(reach: Reach, environment: dict[str, str], folder: str) -> None:
    with pytest.raises(UnsafeReach, match="NUL"):
        words(reach, environment, folder)


PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


@generated(
    readable=st.lists(PATHS, max_size=4), hidden=st.lists(PATHS, max_size=4), writable=st.lists(PATHS, max_size=3)
)
def test_the_innermost_word_counts(readable: list[str], hidden: list[str], writable: list[str]) -> None:
    reach = Reach(readable=readable, hidden=hidden, writable=writable)
    try:
        found = words(reach)
    except UnsafeReach:
        return
    put = [
        (word, found[place + 1]) for place, word in enumerate(found) if word in ("--ro-bind-try", "--bind", "--tmpfs")
    ]
    seen: list[str] = []
    for _word, path in put:
        assert not [each for each in seen if each.startswith(path + "/")], "what is put over it would be lost"
        seen.append(path)
    assert {path for word, path in put if word == "--bind"} == set(writable)


# -- real ones ----------------------------------------------------------------------------------------------------

BWRAP = shutil.which("bwrap") or ""


def usable() -> bool:
    done = subprocess.run(
        [BWRAP or "false", "--unshare-all", "--ro-bind", "/", "/", "true"], capture_output=True, check=False
    )
    return done.returncode == 0


needs_bubblewrap = pytest.mark.skipif(not usable(), reason="bubblewrap doesn't run here")


class Sandbox:
    """A builder's data folder with an attempt, and its build's sandbox."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.attempt = self.data / "attempts" / "1-1-0123456789abcdef"
        for name in ("work", "home", "tmp", "caches", "bin", "out", "channel"):
            (self.attempt / name).mkdir(parents=True)
        (self.attempt / "spec.json").write_text("the spec\n")
        other = self.data / "attempts" / "2-1-0123456789abcdef"
        other.mkdir()
        (other / "spec.json").write_text("another's")
        (folder / "link.key").write_text("the key of the link")
        home = str(self.attempt / "home")
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": home, "TMPDIR": str(self.attempt / "tmp")}
        self.ground = Ground(
            system=system("/usr/bin:/bin", {}, home=home),
            attempt=str(self.attempt),
            hidden=[str(self.data)],
            hidden_files=[str(folder / "link.key")],
        )
        self.isolation = Isolation(kind="bubblewrap", program=BWRAP)
        self.output = self.attempt / "output"

    def start(self, argv: Sequence[str], reach: Reach | None = None, **environment: str) -> Child:
        reach = reach or self.ground.build([])
        launch = launched(self.isolation, argv, self.environment | environment, str(self.attempt / "work"), reach)
        with self.output.open("wb") as output:
            return processes.spawn(launch, output=output.fileno())

    def end(self, child: Child) -> int:
        code = exit_code(os.waitpid(child.pid, 0)[1])
        processes.bury(child, 10.0)
        return code

    def run(self, script: str, reach: Reach | None = None, **environment: str) -> str:
        """What a script prints that succeeds."""
        code = self.end(self.start(["sh", "-c", script], reach, **environment))
        said = self.output.read_text()
        assert code == 0, said
        return said


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


@needs_bubblewrap
def test_a_step_sees_its_own_and_the_system(sandbox: Sandbox) -> None:
    said = sandbox.run("pwd; echo written > file; id -u; id -un; ls ..; ls ../..; git --version >&2; echo $0 $HOME")
    attempt = sandbox.attempt
    assert said.splitlines()[1:3] == ["1000", "build"]
    assert said.splitlines()[0] == str(attempt / "work")
    assert said.splitlines()[3:] == ["bin", "caches", "home", "tmp", "work", attempt.name, *said.splitlines()[9:]]
    assert (attempt / "work" / "file").read_text() == "written\n"


@needs_bubblewrap
@pytest.mark.parametrize("place", ["spec.json", "out", "../2-1-0123456789abcdef", "../../../link.key", "/var/lib"])
def test_what_isnt_its_own_isnt_there(sandbox: Sandbox, place: str) -> None:
    path = (sandbox.attempt / place).resolve()
    assert sandbox.run(f"test ! -e {path} && echo absent") == "absent\n"


@needs_bubblewrap
def test_what_lies_in_something_readable_can_be_hidden(tmp_path: Path) -> None:
    """Such as data and key of a builder that lies in /opt."""
    sandbox = Sandbox(tmp_path)
    reach = sandbox.ground.build([])
    wide = replace(reach, readable=[*reach.readable, str(tmp_path)])
    said = sandbox.run(
        f"find {tmp_path} -type f; cat {tmp_path}/link.key || true; touch {tmp_path}/data/x || true", wide
    )
    assert "the key" not in said
    assert "spec.json" not in said
    assert not (sandbox.data / "x").exists()


@needs_bubblewrap
def test_only_what_is_named_can_be_written(sandbox: Sandbox) -> None:
    for place in (
        "/x",
        "/usr/x",
        "/etc/x",
        "/run/x",
        "/dev/x",
        str(sandbox.attempt / "bin/x"),
    ):
        assert sandbox.run(f"touch {place} 2>/dev/null || echo refused") == "refused\n", place
    for place in ("/tmp", "/var/tmp", "/dev/shm", *(str(sandbox.attempt / name) for name in ("home", "tmp", "caches"))):
        assert sandbox.run(f"touch {place}/x && echo written") == "written\n", place
    assert not Path("/tmp/x").exists()


@needs_bubblewrap
def test_no_environment_but_its_own_is_found(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_BUILDER", "hunter2")
    said = sandbox.run("cat /proc/[0-9]*/environ; cat /proc/[0-9]*/cmdline", TOKEN="mine")
    assert "hunter2" not in said
    assert "TOKEN=mine" in said
    assert "TOKEN" not in sandbox.run("cat /proc/1/environ", TOKEN="mine")


@needs_bubblewrap
def test_no_capability_and_no_new_namespace(sandbox: Sandbox) -> None:
    said = sandbox.run(
        "grep -E 'Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status; unshare -Ur true 2>&1 || echo refused"
    )
    lines = said.split()
    assert [value for value in lines if value.strip("0") == ""] == ["0" * 16] * 4
    assert "NoNewPrivs: 1" in " ".join(lines)
    assert "refused" in said


@needs_bubblewrap
def test_no_descriptor_is_left_over(sandbox: Sandbox) -> None:
    said = sandbox.run("ls /proc/self/fd")
    assert said.split() == ["0", "1", "2", "3"], "3 is the folder that ls reads"


@needs_bubblewrap
def test_no_other_process_is_seen(sandbox: Sandbox) -> None:
    numbers = [int(name) for name in sandbox.run("ls /proc").split() if name.isdecimal()]
    assert 0 < len(numbers) <= 4
    assert max(numbers) < 10


@needs_bubblewrap
def test_what_a_step_leaves_running_ends_with_it(sandbox: Sandbox) -> None:
    """Also what has left its session, its group and its environment."""
    name = f"33{os.getpid()}"  # told from all other processes by its arguments
    sandbox.run(
        f"setsid env -i sleep {name} </dev/null >/dev/null 2>&1 & sleep 0.05; pgrep -f 'sleep {name}' >/dev/null"
    )
    assert not running(name)


@needs_bubblewrap
def test_a_step_is_told_to_end_and_may_take_its_time(sandbox: Sandbox) -> None:
    child = sandbox.start(["sh", "-c", "trap 'echo ending; exit 7' TERM; echo begun; while :; do sleep 0.02; done"])
    until(lambda: "begun" in sandbox.output.read_text(), "it begins")
    processes.tell_to_end(child)
    assert sandbox.end(child) == 7
    assert sandbox.output.read_text().endswith("ending\n")


@needs_bubblewrap
def test_the_exit_codes_are_a_shells(sandbox: Sandbox) -> None:
    assert sandbox.end(sandbox.start(["sh", "-c", "exit 3"])) == 3
    assert sandbox.end(sandbox.start(["sh", "-c", "kill -9 $$"])) == 128 + signal.SIGKILL
    child = sandbox.start(["sh", "-c", "echo begun; exec sleep 60"])
    until(lambda: "begun" in sandbox.output.read_text(), "it begins")
    processes.tell_to_end(child)
    assert sandbox.end(child) == 128 + signal.SIGTERM


@needs_bubblewrap
def test_a_step_that_ignores_all_signals_is_killed(sandbox: Sandbox) -> None:
    name = f"44{os.getpid()}"
    child = sandbox.start(["sh", "-c", f"trap '' TERM; echo begun; sleep {name}"])
    until(lambda: "begun" in sandbox.output.read_text(), "it begins")
    processes.tell_to_end(child)
    processes.kill(child)
    assert sandbox.end(child) == 128 + signal.SIGKILL
    assert not running(name)


@needs_bubblewrap
def test_a_step_dies_with_the_process_that_started_it(sandbox: Sandbox) -> None:
    name = f"55{os.getpid()}"
    starter = os.fork()
    if not starter:
        sandbox.start(["sh", "-c", f"trap '' TERM; sleep {name}; true"])
        time.sleep(60)
        os._exit(0)
    until(lambda: running(name), "it begins")
    os.kill(starter, signal.SIGKILL)
    os.waitpid(starter, 0)
    until(lambda: not running(name), "it ends")


def running(name: str) -> bool:
    """Whether a `sleep` with this argument runs somewhere on the machine."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == f"sleep\0{name}\0".encode() and alive(int(path.parent.name)):
                return True
        except OSError:
            continue
    return False


@needs_bubblewrap
def test_without_a_network_there_is_only_its_own_loopback(sandbox: Sandbox) -> None:
    reach = sandbox.ground.pack([])
    said = sandbox.run("cat /proc/net/dev", reach)
    assert [line.split(":")[0].strip() for line in said.splitlines()[2:]] == ["lo"]


@needs_bubblewrap
def test_a_step_of_the_platforms_own_has_its_out_and_not_the_builds(sandbox: Sandbox) -> None:
    script = "touch out/found; touch work/x 2>/dev/null || echo refused; cat spec.json; ls"
    said = sandbox.run(f"cd ..; {script}", sandbox.ground.pack([]))
    assert said.split() == ["refused", "the", "spec", "out", "spec.json", "tmp", "work"]
    assert (sandbox.attempt / "out" / "found").exists()


@needs_bubblewrap
def test_the_platforms_python_runs_in_it(sandbox: Sandbox) -> None:
    script = f"{sys.executable} -I -c 'import twistedipc.runner.say, msgspec; print(1)'"
    assert sandbox.run(script) == "1\n"


@needs_bubblewrap
def test_a_socket_in_the_attempts_folder_is_found_under_a_short_name(sandbox: Sandbox) -> None:
    channel = StepChannel(sandbox.attempt / "channel")
    script = f"import socket; socket.socket(socket.AF_UNIX).connect('{CHANNEL_INSIDE}/channel'); print('connected')"
    try:
        assert sandbox.run(f'{sys.executable} -I -c "{script}"') == "connected\n"
    finally:
        channel.close()


@needs_bubblewrap
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="takes root, to be somebody else")
def test_an_ordinary_user_can_put_it_up_too() -> None:
    with tempfile.TemporaryDirectory() as name:
        sandbox = Sandbox(Path(name))
        for path in (Path(name), *Path(name).rglob("*")):
            os.chown(path, 65534, 65534)
        reach = sandbox.ground.build([])
        # This Python may lie where that user can't look.
        reach = replace(reach, readable=[path for path in reach.readable if not path.startswith("/root")])
        launch = launched(
            sandbox.isolation,
            ["sh", "-c", "id -u; touch made; grep CapEff /proc/self/status; ls /root 2>&1; kill -0 1"],
            sandbox.environment,
            str(sandbox.attempt / "work"),
            reach,
        )
        user = ["/usr/bin/setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        with sandbox.output.open("wb") as output:
            child = processes.spawn(replace(launch, argv=[*user, *launch.argv]), output=output.fileno())
        code = sandbox.end(child)
        said = sandbox.output.read_text()
        assert said.split()[:3] == ["1000", "CapEff:", "0" * 16], (code, said)
        assert (sandbox.attempt / "work" / "made").stat().st_uid == 65534
