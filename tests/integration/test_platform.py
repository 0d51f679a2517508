"""One build goes all the way, on real services: checkout, steps, live log, release; and through kills of each."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import urllib.error
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.attempt_folder import alive
from tests.conftest import NOT_ON_THIS_MACHINE
from tests.integration.platform import Platform, Problem, git, wait_for
from tests.node import need_node, node_path
from tests.ports import free_port
from twistedipc.attempts.cgroup import NoCgroup, find_parents, group_of, processes_in
from twistedipc.builds.logs import LogDigest, lines_decoder

GREETING = {
    ".twistedipc.toml": """
        [build]
        steps = [
          {name = "greet", run = "echo hello; echo world >&2"},
          {name = "write", run = "mkdir -p dist && echo \\"<h1>$GREETING</h1>\\" > dist/index.html"},
        ]
        output = "dist"
        [build.environment]
        GREETING = "hi"
    """
}


def counting(number: int, pause: float) -> dict[str, str]:
    """A project whose one step prints numbered lines, with pauses."""
    script = f"i=1; while [ $i -le {number} ]; do echo line $i; i=$((i+1)); sleep {pause}; done"
    return {".twistedipc.toml": f"[build]\nsteps = [{{name = 'count', run = '{script}'}}]\n"}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that the tests of this module share."""
    with Platform(tmp_path_factory.mktemp("platform")) as platform:
        yield platform


@pytest.fixture
def own_platform(tmp_path: Path) -> Iterator[Platform]:
    """A platform for one test, which may kill what it likes."""
    with Platform(tmp_path) as platform:
        yield platform


@pytest.fixture
def speaking(tmp_path: Path) -> Iterator[Platform]:
    """The same, whose builds find a Node."""
    with Platform(tmp_path, path=node_path()) as platform:
        yield platform


def messages(platform: Platform, build: int, after: int = 0) -> list[dict[str, Any]]:
    """All messages of a log that has ended."""
    stream = platform.text(f"/api/v1/builds/{build}/log?format=json&follow=1&after={after}")
    return [json.loads(line) for line in stream.splitlines()]


def counted(platform: Platform, build: int) -> list[str]:
    """The lines that a counting step has printed, as a viewer gets them; the log is verified."""
    *batches, end = messages(platform, build)
    digest = LogDigest()
    lines: list[str] = []
    for batch in batches:
        assert batch["first"] == digest.count + 1
        digest.add(lines_decoder.decode(json.dumps(batch)))
        lines += [line for line in batch["lines"] if isinstance(line, str) and line.startswith("line ")]
    assert (end["lines"], end["sha256"], end["complete"]) == (digest.count, digest.hexdigest(), True)
    return lines


def test_a_project_without_node_is_built_and_released(platform: Platform) -> None:
    """Plain commands: both streams merged, the environment of the project, the release, the steps."""
    repository = platform.repository(GREETING)
    platform.add_project("plain", repository)
    found = platform.succeed(platform.build("plain"))
    assert platform.released("plain") == "<h1>hi</h1>\n"
    attempt = found["attempts"][0]
    assert [step["name"] for step in attempt["steps"]] == ["checkout", "greet", "write", "pack"]
    assert {step["exit_code"] for step in attempt["steps"]} == {0}
    assert len(attempt["commit"]) == 40
    log = platform.log(found["id"])
    assert "hello\nworld\n" in log


def test_logs_are_searched_while_they_grow_and_when_they_have_ended(platform: Platform) -> None:
    """By the command: a word that is coloured in its middle, in a live log, and then in all logs of the project."""
    go_on = platform.shared / "search-goes-on"
    script = r"""printf '\033[31mer\033[1mror\033[0m: no module\n'; echo fine
while [ ! -e $GO_ON ]; do sleep 0.02; done; echo an Er''ror a''gain"""
    settings = f"[build]\nsteps = [{{name = 'speak', run = {json.dumps(script)}}}]\n"
    platform.add_project("searched", platform.repository({".twistedipc.toml": settings}), publish={})
    build = platform.build("searched", parameters={"GO_ON": str(go_on)})
    found = wait_for(
        "the first lines", lambda: platform.command("logs", str(build), "--grep", "error: no", "--no-color").stdout
    )
    assert found.partition(":")[2] == "error: no module\n"
    assert platform.command("logs", str(build), "--grep", "again").returncode == 1
    go_on.touch()
    platform.succeed(build)
    done = platform.command("logs", "--project", "searched", "--grep", "^(an )?error", "-E", "-i")
    lines = [line.split(":", 2) for line in done.stdout.splitlines()]
    assert [(line[0], line[2]) for line in lines] == [
        (f"{build}-1", "error: no module"),
        (f"{build}-1", "an Error again"),
    ], done
    assert platform.command("logs", str(build), "--grep", "ERROR", "--count", "-i").stdout == "2\n"


@pytest.mark.long
def test_rolling_back_and_forth(platform: Platform) -> None:
    """The same switch, by the API and by the command."""
    repository = platform.repository(GREETING)
    platform.add_project("rolls", repository)
    platform.succeed(platform.build("rolls"))
    platform.commit(repository, {".twistedipc.toml": GREETING[".twistedipc.toml"].replace('"hi"', '"ho"')})
    platform.succeed(platform.build("rolls"))
    assert platform.released("rolls") == "<h1>ho</h1>\n"
    first, second = sorted(platform.api("GET", "/api/v1/projects/rolls/releases")["releases"], key=lambda r: r["id"])
    assert (first["state"], second["state"]) == ("superseded", "live")
    platform.api("POST", f"/api/v1/projects/rolls/releases/{first['id']}/activate")
    assert platform.released("rolls") == "<h1>hi</h1>\n"
    states = {r["id"]: r["state"] for r in platform.api("GET", "/api/v1/projects/rolls/releases")["releases"]}
    assert states == {first["id"]: "live", second["id"]: "rolled_back"}
    done = platform.command("rollback", "rolls", str(second["id"]))
    assert done.returncode == 0, done.stderr
    assert platform.released("rolls") == "<h1>ho</h1>\n"
    # Somebody has gone back: what is built from now on waits until they say that it may go live.
    platform.commit(repository, {".twistedipc.toml": GREETING[".twistedipc.toml"].replace('"hi"', '"hey"')})
    found = platform.succeed(platform.build("rolls"))
    assert "it waits" in found["reason"]
    assert platform.released("rolls") == "<h1>ho</h1>\n"
    listed = platform.command("releases", "rolls")
    assert "no release of rolls goes live by itself since admin rolled it back" in listed.stderr
    done = platform.command("release", "resume", "rolls")
    assert "the newest that waited, is live now" in done.stderr
    assert platform.released("rolls") == "<h1>hey</h1>\n"
    # Without a number: to the one before.
    done = platform.command("rollback", "rolls")
    assert "twistedipc release resume rolls" in done.stderr
    assert platform.released("rolls") == "<h1>ho</h1>\n"


@pytest.mark.long
def test_an_older_commit_never_replaces_a_newer_one(platform: Platform) -> None:
    """
    A slow build of an old commit ended after a fast one of the new commit, and its site was live from then on; so did a
    build of another branch, and an old build that was tried again.
    """
    gate = platform.shared / "gate"
    page = "mkdir -p dist && git log -1 --format=%s > dist/index.html"
    slow = f'[build]\nsteps = ["{page}", "while [ ! -e {gate} ]; do sleep 0.05; done"]\noutput = "dist"\n'
    repository = platform.repository({".twistedipc.toml": slow})
    platform.commit(repository, {}, "old")
    # Not HEAD: that is whatever branch this working copy has checked out.
    platform.add_project("order", repository, default_ref="main")
    old = platform.build("order")
    platform.wait(old, {"running"})
    wait_for(
        "the old commit is checked out", lambda: f"Commit {git(repository, 'rev-parse', 'HEAD')}" in platform.log(old)
    )
    platform.commit(repository, {".twistedipc.toml": slow.replace(str(gate), "/")}, "new")
    platform.succeed(platform.build("order", ref="refs/heads/main"))
    assert platform.released("order") == "new\n"
    gate.touch()
    found = platform.succeed(old)
    assert "is newer" in found["reason"]
    assert found["attempts"][0]["release_state"] == "superseded"
    assert platform.released("order") == "new\n"
    platform.api("POST", f"/api/v1/builds/{old}/retry")
    found = platform.succeed(old)
    assert "is newer" in found["reason"]
    assert (found["attempt"], found["attempts"][1]["release_state"]) == (2, "superseded")
    assert platform.released("order") == "new\n"
    git(repository, "checkout", "-q", "-b", "feature/login")
    platform.commit(repository, {}, "login")
    found = platform.succeed(platform.build("order", ref="feature/login"))
    assert "it is a preview: it is of feature/login" in found["reason"]
    assert platform.released("order") == "new\n"
    platform.api("PATCH", "/api/v1/projects/order", {"protected": ["main", "feature/*"]})
    platform.succeed(platform.build("order", ref="feature/login", live=True))
    assert platform.released("order") == "login\n"
    # A force push back to an older commit is meant: the ref leads there now.
    git(repository, "checkout", "-q", "main")
    git(repository, "reset", "-q", "--hard", "HEAD~1")
    platform.succeed(platform.build("order"))
    assert platform.released("order") == "old\n"


def test_a_build_that_fails_says_where(platform: Platform) -> None:
    """The step, its exit code, and nothing released."""
    repository = platform.repository({".twistedipc.toml": '[build]\nsteps = ["echo before", "exit 7", "echo after"]\n'})
    platform.add_project("fails", repository)
    build = platform.build("fails")
    found = platform.wait(build)
    assert found["state"] == "failed"
    assert "exit code 7" in found["reason"]
    log = platform.log(build)
    assert "before\n" in log
    assert "\nafter\n" not in log
    with pytest.raises(urllib.error.HTTPError):
        platform.released("fails")
    retried = platform.api("POST", f"/api/v1/builds/{build}/retry")
    assert retried["attempt"] == 2
    assert platform.wait(build)["attempts"][1]["commit"] == found["attempts"][0]["commit"]


def test_a_ref_or_a_repository_that_is_not_there(platform: Platform) -> None:
    """Both are said in the log, in words."""
    repository = platform.repository(GREETING)
    platform.add_project("refs", repository)
    build = platform.build("refs", ref="no-such-branch")
    assert platform.wait(build)["state"] == "failed"
    assert "no-such-branch" in platform.log(build)
    platform.add_project("nowhere", platform.folder / "nowhere")
    assert platform.wait(platform.build("nowhere"))["state"] == "failed"


def daemons(name: str) -> list[str]:
    """The processes of this machine with a name in their command, but for shells whose daemons they are."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes().startswith(b'sh\0-c\0trap "" TERM') and name.encode() in path.read_bytes():
                found.append(path.parent.name)
    return found


def test_a_build_is_cancelled_with_all_its_processes(platform: Platform) -> None:
    """Also a process that ignores SIGTERM, and its daemon in a session of its own."""
    name = f"daemon-of-{os.getpid()}"  # a build doesn't know its processes' ids on the machine
    step = (
        f"""trap '' TERM; setsid sh -c 'trap "" TERM; while :; do sleep 1; done; : {name}' & """
        "echo ready; while :; do sleep 1; done"
    )
    repository = platform.repository({".twistedipc.toml": f"[build]\nsteps = [{json.dumps(step)}]\n"})
    platform.add_project("stubborn", repository)
    build = platform.build("stubborn")
    wait_for("the build is ready", lambda: "ready" in platform.log(build) and daemons(name))
    assert platform.command("cancel", str(build)).returncode == 0
    assert platform.wait(build)["state"] == "cancelled"
    assert not daemons(name)
    with pytest.raises(Problem) as caught:
        platform.api("POST", f"/api/v1/builds/{build}/cancel")
    assert caught.value.status == 409


def test_a_build_without_output_times_out(platform: Platform) -> None:
    """The project's own limit, which may only be lower."""
    repository = platform.repository({".twistedipc.toml": '[build]\nsteps = ["sleep 60"]\nidle_timeout = 1\n'})
    platform.add_project("silent", repository)
    found = platform.wait(platform.build("silent"))
    assert found["state"] == "timed_out"
    assert "nothing was printed" in found["reason"]


@pytest.mark.long
def test_two_builds_at_once_and_a_queue(platform: Platform) -> None:
    """Two slots: the third waits its turn, and all are built."""
    repository = platform.repository(counting(5, 0.1))
    platform.add_project("queue", repository, publish={})
    found = [platform.succeed(build) for build in [platform.build("queue") for _ in range(3)]]
    assert len({build["id"] for build in found}) == 3


def test_the_builds_environment_is_built_from_nothing(platform: Platform) -> None:
    """Nothing of the builder's own environment, HOME or folders shows."""
    repository = platform.repository({".twistedipc.toml": '[build]\nsteps = ["env", "ls -A $HOME"]\n'})
    platform.add_project("env", repository, publish={})
    build = platform.build("env", parameters={"COLOUR": "red"})
    platform.succeed(build)
    log = platform.log(build)
    assert "COLOUR=red\n" in log
    assert "CI=true\n" in log
    assert f"HOME={os.environ.get('HOME', '/nowhere')}\n" not in log
    assert "TWISTEDIPC_TOKEN" not in log


def test_the_builder_is_killed_and_its_builds_go_on(platform: Platform) -> None:
    """SIGKILL in the middle of a build: the same process of the build prints every line, once."""
    repository = platform.repository(counting(60, 0.05))
    platform.add_project("builder-dies", repository, publish={})
    build = platform.build("builder-dies")
    wait_for("some lines", lambda: "line 5\n" in platform.log(build))
    platform.builder.kill()
    wait_for("disconnected", lambda: platform.api("GET", f"/api/v1/builds/{build}")["state"] == "disconnected")
    platform.builder.start()
    found = platform.succeed(build)
    assert counted(platform, build) == [f"line {number}" for number in range(1, 61)]
    assert len(found["attempts"]) == 1


def test_the_apiserver_is_killed_and_nothing_is_lost(platform: Platform) -> None:
    """SIGKILL of the apiserver, then of both: every line, once; a 201 is a promise."""
    repository = platform.repository(counting(80, 0.05))
    platform.add_project("apiserver-dies", repository, publish={})
    build = platform.build("apiserver-dies")
    queued = [platform.build("apiserver-dies")]
    wait_for("some lines", lambda: "line 5\n" in platform.log(build))
    platform.apiserver.kill()
    platform.apiserver.start()
    wait_for("the apiserver answers", platform.health)
    wait_for("more lines", lambda: "line 20\n" in platform.log(build))
    platform.apiserver.kill()
    platform.builder.kill()
    platform.builder.start()
    platform.apiserver.start()
    wait_for("the apiserver answers", platform.health)
    for each in [build, *queued]:
        platform.succeed(each)
        assert counted(platform, each) == [f"line {number}" for number in range(1, 81)]


SPEAKING = """
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
for (let i = 1; i <= 80; i++) {
  console.log(`line ${i}`);
  process.send({type: "group", name: `group ${i}`});
  process.send({type: "progress", value: i / 80, label: "€"});
  await pause(50);
}
process.send({type: "annotation", level: "error", message: "no", file: "a.js", line: 1});
process.send({type: "summary", markdown: "# done"});
process.send("garbage");
"""

# As docs/protocol.md has it for JavaScript.
DIGEST = """
const hash = require("crypto").createHash("sha256");
for (const message of require("fs").readFileSync(0, "utf8").trim().split("\\n").map((line) => JSON.parse(line)))
  for (const record of message.lines)
    if (message.type === "lines") hash.update((typeof record === "string" ? record : JSON.stringify(record)) + "\\n");
console.log(hash.digest("hex"));
"""


@pytest.mark.long
def test_what_a_build_says_comes_through_the_death_of_both(speaking: Platform) -> None:
    """The records of its channel are of the same log: each once, in order, in a digest that others find too."""
    platform = speaking
    files = {".twistedipc.toml": '[build]\nsteps = ["node say.mjs"]\n', "say.mjs": SPEAKING}
    platform.add_project("say", platform.repository(files), publish={})
    build = platform.build("say")
    wait_for("some lines", lambda: "line 5\n" in platform.log(build))
    platform.apiserver.kill()
    platform.builder.kill()
    platform.apiserver.start()
    platform.builder.start()
    wait_for("the apiserver answers", platform.health)
    platform.succeed(build)
    assert counted(platform, build) == [f"line {number}" for number in range(1, 81)]
    *batches, end = messages(platform, build)
    records = [record for batch in batches for record in batch["lines"]]
    groups = [record["name"] for record in records if not isinstance(record, str) and record["type"] == "group"]
    assert groups == [f"group {number}" for number in range(1, 81)]
    for number in range(1, 81):
        assert records.index(f"line {number}") < records.index({"type": "group", "name": f"group {number}"})
    assert records[-1]["type"] == "step_ended"
    assert {"type": "summary", "markdown": "# done"} in records
    assert {"type": "progress", "value": 1, "label": "€"} in records
    assert [record["message"] for record in records if not isinstance(record, str) and record["type"] == "notice"] == [
        "a message on the channel was ignored: expected `object`, got `str`"
    ]
    log = "\n".join(json.dumps(message) for message in batches)
    node = need_node() / "node"
    done = subprocess.run([node, "-e", DIGEST], input=log, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == end["sha256"]


@pytest.mark.long
def test_the_apiserver_starts_as_soon_as_its_database_is_unlocked(own_platform: Platform) -> None:
    """A start while another program holds the lock waits for the lock: no supervisor must start the apiserver again."""
    platform = own_platform
    repository = platform.repository(counting(3, 0))
    platform.add_project("count", repository, publish={})
    platform.apiserver.kill()
    (ledger,) = platform.folder.rglob("ledger.sqlite")
    with closing(sqlite3.connect(ledger, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        platform.apiserver.start()
        wait_for("it waits", lambda: "waiting for the database" in platform.apiserver.text())
        assert platform.apiserver.exited() is None
    wait_for("the apiserver answers", platform.health)
    platform.succeed(platform.build("count"))
    assert "Traceback" not in platform.apiserver.text()


def test_a_runner_is_killed_and_its_attempt_is_lost(own_platform: Platform) -> None:
    """The attempt is lost, said aloud, with a log that is complete as far as it goes; a retry is a new attempt."""
    platform = own_platform
    repository = platform.repository(counting(40, 0.1))
    platform.add_project("count", repository, publish={})
    build = platform.build("count")
    wait_for("some lines", lambda: "line 3\n" in platform.log(build))
    os.kill(runner_pid(platform), 9)
    found = platform.wait(build)
    assert found["state"] == "lost"
    assert "runner died" in found["reason"]
    assert found["attempts"][0]["complete"]
    seen = counted(platform, build)
    assert seen == [f"line {number}" for number in range(1, len(seen) + 1)]
    platform.api("POST", f"/api/v1/builds/{build}/retry")
    assert platform.succeed(build)["attempt"] == 2


def test_what_has_escaped_a_dead_runner_dies_by_its_control_group(tmp_path: Path) -> None:
    """
    Builder and runner are killed, and nothing tells whose the build's daemon is but its group. Only where builds aren't
    isolated: else nothing outlives a runner.
    """
    with Platform(tmp_path, isolation={"kind": "none"}) as platform:
        escapes(platform)


def escapes(platform: Platform) -> None:
    """Have a daemon escape; see that it is found."""
    try:
        parents = find_parents()
    except NoCgroup as error:
        pytest.skip(f"{NOT_ON_THIS_MACHINE}{error}")
    assert f"each build runs in control groups of its own in {', '.join(parents.all)}" in platform.builder.text()
    marker = platform.folder / "daemon.pid"
    daemon = f"env -i PATH=/usr/bin:/bin setsid sh -c 'cd /; echo $$ >{marker}; exec sleep 600'"
    step = f"({daemon} </dev/null >/dev/null 2>&1 &); exec sleep 600"
    platform.add_project(
        "escapes", platform.repository({".twistedipc.toml": f"[build]\nsteps = [{json.dumps(step)}]\n"})
    )
    build = platform.build("escapes")
    wait_for("the daemon runs", lambda: marker.exists() and marker.read_text().endswith("\n"))
    pid = int(marker.read_text())
    (folder,) = (platform.folder / "builder-data" / "attempts").iterdir()
    groups = [group_of(Path(parent), folder) for parent in parents.all]
    assert all(pid in processes_in(group) for group in groups)
    platform.builder.kill()
    os.kill(runner_pid(platform), 9)
    assert alive(pid)
    platform.builder.start()
    assert platform.wait(build)["state"] == "lost"
    assert not alive(pid)
    wait_for("the folder is removed", lambda: not folder.exists())
    assert not any(group.exists() for group in groups)


def runner_pid(platform: Platform) -> int:
    """The process id of the one runner."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if b"twistedipc.runner\0" in command and str(platform.folder).encode() in command:
            return int(entry.name)
    raise AssertionError("no runner")


def test_sigterm_stops_both_cleanly_and_builds_go_on(own_platform: Platform) -> None:
    """An upgrade of both interrupts no build."""
    platform = own_platform
    repository = platform.repository(counting(60, 0.05))
    platform.add_project("count", repository, publish={})
    build = platform.build("count")
    wait_for("some lines", lambda: "line 5\n" in platform.log(build))
    for service in (platform.builder, platform.apiserver):
        # twistd ends itself by the signal that it got, once it has stopped.
        assert service.stop() == -signal.SIGTERM
        assert "Traceback" not in service.text()
    platform.builder.start()
    platform.apiserver.start()
    wait_for("the apiserver answers", platform.health)
    platform.succeed(build)
    assert counted(platform, build) == [f"line {number}" for number in range(1, 61)]


@pytest.mark.long
def test_a_builder_that_waits_lets_its_builds_end_first(own_platform: Platform) -> None:
    """`twistd buildipc --wait`: SIGTERM, and it takes nothing new; it leaves when what it has is over."""
    platform = own_platform
    platform.builder.stop()
    platform.builder.start("--wait")
    platform.linked()
    platform.add_project("count", platform.repository(counting(40, 0.05)), publish={})
    build = platform.build("count")
    wait_for("some lines", lambda: "line 5\n" in platform.log(build))
    platform.builder.crashes = True
    os.kill(platform.builder.pid, signal.SIGTERM)
    later = platform.build("count")
    found = platform.succeed(build)
    assert wait_for("the builder has left", platform.builder.exited) == -signal.SIGTERM
    assert platform.api("GET", f"/api/v1/builds/{later}")["state"] == "queued"
    assert len(found["attempts"]) == 1
    platform.builder.start()
    platform.succeed(later)


@pytest.mark.long
def test_the_builder_dials_out_over_tls_with_certificates(tmp_path: Path) -> None:
    """The other way round, as for a builder behind a firewall: mutual TLS and the shared key."""
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name in ("apiserver", "builder"):
        certificate = authority.issue_cert("localhost", f"{name}@example.org")
        certificate.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        for index, blob in enumerate(certificate.cert_chain_pems):
            blob.write_to_path(tmp_path / f"{name}.pem", append=index > 0)
    port = free_port()
    key = tmp_path / "link.key"
    key.write_text("42" * 32 + "\n")
    key.chmod(0o600)

    def tls(name: str) -> dict[str, str]:
        return {"certificate": f"{name}.pem", "private_key": f"{name}.key", "authority": "ca.pem"}

    with Platform(
        tmp_path,
        apiserver_link={
            "listen": [f"tls:{port}:interface=127.0.0.1"],
            "key": "link.key",
            "tls": tls("apiserver"),
        },
        builder_link={"dial": [f"tls:localhost:{port}"], "key": "link.key", "tls": tls("builder")},
    ) as platform:
        platform.add_project("plain", platform.repository(GREETING))
        platform.succeed(platform.build("plain"))
