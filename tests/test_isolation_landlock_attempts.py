"""Whole attempts whose steps Landlock confines, and the builder's choice of it where user namespaces are denied."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.attempt_folder import Attempt, repository, toml, until
from tests.test_isolation_bubblewrap import running
from tests.test_isolation_landlock import LANDLOCK, needs_landlock
from tests.test_isolation_network import own_address, serving
from tests.test_isolation_networks import connect
from twistedipc.builds.attempt import Cancel, ResourceLimits
from twistedipc.builds.egress import Network
from twistedipc.builds.isolation import Isolation
from twistedipc.builds.settings import BuildSettings
from twistedipc.disk.files import write_file
from twistedipc.isolation.probe import Wanted, find_isolation

pytestmark = needs_landlock

PATH = "/usr/local/bin:/usr/bin:/bin"


def attempt(base: Path, *steps: str, more: str = "", files: dict[str, str] | None = None, **changes: object) -> Attempt:
    (base / "data" / "mirrors").mkdir(parents=True, exist_ok=True)
    repository(base / "source", {".twistedipc.toml": toml(*steps, more=more), **(files or {})})
    isolation = msgspec.structs.replace(LANDLOCK, engine="loopback", hidden=[str(base / "data")])
    return Attempt(base / "data", base / "source", path=PATH, isolation=isolation, **changes)  # type: ignore[arg-type]


def test_a_site_is_built_and_packed(tmp_path: Path) -> None:
    """With a message on the channel, and what a step leaves for the next."""
    name = f"67{os.getpid()}"
    script = (
        "mkdir dist && echo '<p>hello</p>' > dist/index.html && git log --format=%s && git status --short; "
        f"echo y > $HOME/y; setsid sleep {name} & twistedipc-say annotation warning 'look here'"
    )
    one = attempt(tmp_path, script, "cat ~/y; ls -A ..; cat ../spec.json", more="output = 'dist'", site=True)
    result = one.run()
    assert result.outcome == "failed", "the second step fails by its last command"
    assert "first commit" in one.output(1)
    assert [each.message for each in one.annotations()] == ["look here"]
    assert one.output(2)[0] == "y"
    assert all("Permission denied" in line for line in one.output(2)[1:])
    assert not running(name)
    assert any("a program that asks no proxy reaches nothing" in each for each in one.notices())

    borrowed = "read mirror < .git/objects/info/alternates; git cat-file -t HEAD; touch $mirror/x || echo refused"
    two = attempt(tmp_path, script, borrowed, more="output = 'dist'", site=True, name="2-1")
    result = two.run()
    assert result.outcome == "succeeded", (result.reason, two.output())
    assert result.artifact is not None
    assert (two.folder / "archive.tar.gz").stat().st_size == result.artifact.size
    assert result.subject == "first commit"
    assert (two.output(2)[0], two.output(2)[-1]) == ("commit", "refused"), "it takes from the mirror"


@pytest.mark.skipif(shutil.which("node", path=PATH) is None, reason="there is no node")
def test_a_node_program_says_something_on_its_channel(tmp_path: Path) -> None:
    script = "process.send({type: 'annotation', level: 'error', message: 'from node'}, () => process.disconnect())"
    one = attempt(tmp_path, f'node -e "{script}"')
    result = one.run()
    assert result.outcome == "succeeded", (result.reason, one.output())
    assert [each.message for each in one.annotations()] == ["from node"]


ASK = """
import base64, os, socket, sys, urllib.parse
proxy = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
shown = base64.b64encode(f"{proxy.username}:{proxy.password}".encode())
def ask(place, *headers):
    with socket.create_connection((proxy.hostname, proxy.port), timeout=10) as made:
        made.sendall(b"".join([b"CONNECT " + place.encode() + b" HTTP/1.1\\r\\n", *headers, b"\\r\\n"]))
        head = made.recv(4096).decode()
        if " 200 " not in head:
            return head.split()[1] + " " + head.splitlines()[-1]
        made.sendall(b"x"); made.shutdown(1)
        return made.recv(99).decode()
for place in sys.argv[1:]:
    print(ask(place, b"Proxy-Authorization: Basic " + shown + b"\\r\\n"))
print(ask(sys.argv[1]))
print(ask(sys.argv[1], b"Proxy-Authorization: Basic AAAA\\r\\n"))
print(os.environ["HTTPS_PROXY"])
"""


def test_a_step_reaches_by_the_gates_proxy_what_it_may_and_nothing_else(tmp_path: Path) -> None:
    own = own_address()
    with serving("0.0.0.0") as port, serving("127.0.0.1") as allowed:
        one = attempt(
            tmp_path,
            f"{sys.executable} -I -S ask.py 127.0.0.1:{allowed} 127.0.0.1:{port} {own}:{port} tracker.example.org:443",
            connect(("127.0.0.1", allowed), ("localhost", port), (own, port), ("example.org", 80)),
            files={"ask.py": ASK},
            network=Network(operators=[f"127.0.0.1:{allowed}"], ours=[("", port)]),
            settings=BuildSettings(network="registries"),
        )
        result = one.run()
    assert result.outcome == "succeeded", (result.reason, one.output())
    lines = one.output(1)
    assert lines[0] == "you said x"
    assert [line[:4] for line in lines[1:6]] == ["403 ", "403 ", "403 ", "407 ", "407 "]
    assert "the network refused tracker.example.org:443: it isn't one of the hosts" in lines[3]
    assert lines[6].startswith("http://build:***@127.0.0.1:"), "others of the machine can read a log"
    assert [line.split()[1] for line in one.output(2)[:3]] == ["PermissionError"] * 3
    assert one.output(2)[3].split()[1] == "gaierror"
    assert result.egress is not None
    assert [(each.host, each.port, bool(each.why)) for each in result.egress.contacts] == [
        ("127.0.0.1", allowed, False),
        ("127.0.0.1", port, True),
        (own, port, True),
        ("tracker.example.org", 443, True),
    ]


def test_a_step_without_a_network_has_no_port_at_all(tmp_path: Path) -> None:
    with serving("127.0.0.1") as allowed:
        one = attempt(
            tmp_path,
            "env | grep -i proxy || echo none",
            connect(("127.0.0.1", allowed)),
            network=Network(operators=[f"127.0.0.1:{allowed}"]),
            settings=BuildSettings(network="none"),
        )
        result = one.run()
    assert result.outcome == "succeeded", (result.reason, one.output())
    assert one.output(1) == ["none"]
    assert one.output(2)[0].endswith("PermissionError")


def test_a_cancelled_step_may_take_its_time(tmp_path: Path) -> None:
    one = attempt(tmp_path, "trap 'echo ending; exit 7' TERM; echo begun; while :; do sleep 0.02; done", "echo never")
    one.start()
    until(lambda: "begun" in one.output(), "it begins")
    write_file(one.folder / "cancel", Cancel(reason="enough"))
    one.ring()
    result = one.wait()
    assert (result.outcome, result.reason) == ("cancelled", "enough")
    assert result.steps[-1].exit_code == 7
    assert "ending" in one.output()


def test_a_step_that_ignores_its_end_is_killed_with_what_it_has_started(tmp_path: Path) -> None:
    name = f"78{os.getpid()}"
    one = attempt(tmp_path, f"trap '' TERM; setsid sleep {name} & echo begun; sleep {name}", grace=0.1)
    one.start()
    until(lambda: "begun" in one.output(), "it begins")
    write_file(one.folder / "cancel", Cancel(reason="enough"))
    one.ring()
    result = one.wait()
    assert (result.outcome, result.steps[-1].exit_code) == ("cancelled", 137)
    assert not running(name)


def test_a_limit_of_processes_is_held_by_looking(tmp_path: Path) -> None:
    name = f"79{os.getpid()}"
    script = f"for i in $(seq 60); do sleep {name} & done; wait"
    one = attempt(tmp_path, script, limits=ResourceLimits(processes=40))
    result = one.run()
    assert result.outcome == "failed"
    assert "processes and threads, the most that this builder allows" in result.reason
    assert not running(name)


# -- what a builder chooses ------------------------------------------------------------------------------------------

#: Denies user namespaces to all that it starts, as the operator of a machine or of a container may.
DENIED = [
    "unshare",
    "--user",
    "--map-root-user",
    "sh",
    "-c",
    'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"',
    "sh",
]


def can_be_denied() -> bool:
    return shutil.which("unshare") is not None and not subprocess.run([*DENIED, "true"], capture_output=True).returncode


def found_where_they_are_denied(kind: str = "auto") -> Isolation:
    wanted = Wanted(kind=kind, path=os.environ["PATH"], data="/nowhere", readable=["/srv"], hidden=["/nowhere"])
    done = subprocess.run(
        [*DENIED, sys.executable, "-I", "-m", "twistedipc.isolation"],
        input=msgspec.json.encode(wanted),
        capture_output=True,
        timeout=180,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=Isolation)


@pytest.mark.skipif(not can_be_denied(), reason="user namespaces can't be denied here")
def test_where_user_namespaces_are_denied_landlock_is_chosen(tmp_path: Path) -> None:
    found = found_where_they_are_denied()
    assert (found.kind, found.refused, found.engine) == ("landlock", "", "loopback"), found.refused
    assert found.said.startswith("Landlock ")
    assert "network by the gate's proxy alone" in found.said
    assert (found.readable, found.hidden) == (["/srv"], ["/nowhere"])
    one = attempt(tmp_path, "unshare -U true || echo denied; cat ../spec.json || echo refused", "true")
    write_file(one.folder / "spec.json", msgspec.structs.replace(one.spec, isolation=found))
    one.start(command=(*DENIED, sys.executable, "-m", "twistedipc.runner"))
    result = one.wait()
    assert result.outcome == "succeeded", (result.reason, one.output())
    assert {"denied", "refused"} <= set(one.output(1))
    refused = found_where_they_are_denied("bubblewrap")
    assert (refused.kind, "nothing isolates builds" in refused.refused) == ("none", True)


def test_it_can_be_asked_for_by_name() -> None:
    found = find_isolation(Wanted(kind="landlock", path=os.environ["PATH"], data="/nowhere"))
    assert (found.kind, found.engine, found.refused) == ("landlock", "loopback", "")
