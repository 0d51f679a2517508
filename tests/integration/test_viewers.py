"""
Viewers that aren't ours: Node's ``ws`` and Python's ``websockets`` read a live log by docs/protocol.md, break off,
resume by ``after``, and get each record once. And what the WebSockets refuse.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.integration.node import node_environment, npm
from tests.integration.platform import BARE, DEADLINE, Platform, wait_for
from tests.integration.test_platform import counting
from tests.node import need_node

#: A project that prints numbered lines as fast as it can, so that they come in long messages.
AT_ONCE = {".twistedipc.toml": "[build]\nsteps = [{name = 'count', run = 'seq -f \"line %.0f\" 1 5000'}]\n"}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that the tests of this module share."""
    with Platform(tmp_path_factory.mktemp("viewers"), slots=4, isolation=BARE) as platform:
        platform.add_project("count", platform.repository(counting(100, 0.02)), publish={})
        platform.add_project("fast", platform.repository(AT_ONCE), publish={})
        platform.add_project("long", platform.repository(counting(1000, 0.05)), publish={})
        platform.add_project("other", platform.repository(counting(1, 0)), publish={})
        yield platform


def socket(platform: Platform, path: str, token: str | None = None, **more: Any) -> ClientConnection:
    """A WebSocket."""
    token = platform.token if token is None else token
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection: ClientConnection = connect(
        f"ws://127.0.0.1:{platform.port}{path}",
        additional_headers={**headers, **more.pop("headers", {})},
        open_timeout=DEADLINE,
        **more,
    )
    return connection


def receive(viewer: ClientConnection) -> dict[str, Any]:
    """The next message."""
    message: dict[str, Any] = json.loads(viewer.recv(DEADLINE))
    return message


def read_to_close(viewer: ClientConnection) -> int | None:
    """Read whatever comes until the server closes; the close code."""
    with contextlib.suppress(ConnectionClosed):
        for _ in range(1_000_000):
            viewer.recv(DEADLINE)
    return viewer.close_code


def flood(viewer: ClientConnection, message: str) -> None:
    """Send the same message until the server closes."""
    for _ in range(1_000_000):
        viewer.send(message)


class Seen:
    """What a viewer has seen of a log, over all its connections."""

    def __init__(self) -> None:
        self.count = 0
        self.lines: list[str] = []
        self.end: dict[str, Any] | None = None
        self._digest = hashlib.sha256()

    def take(self, message: dict[str, Any]) -> None:
        """One message. Records come in order and without holes, or this fails."""
        if message["type"] == "lines":
            assert message["first"] == self.count + 1
            for record in message["lines"]:
                text = (
                    record if isinstance(record, str) else json.dumps(record, separators=(",", ":"), ensure_ascii=False)
                )
                self._digest.update(text.encode() + b"\n")
                self.count += 1
                if isinstance(record, str):
                    self.lines.append(record)
        elif message["type"] == "end":
            self.end = message

    def verify(self) -> None:
        """The log is complete, by the viewer's own count and digest."""
        assert self.end is not None
        assert (self.end["lines"], self.end["sha256"]) == (self.count, self._digest.hexdigest())
        assert self.end["complete"]


def test_a_viewer_in_python_breaks_off_and_resumes(platform: Platform) -> None:
    """Every few messages a new connection; each record once."""
    build = platform.build("count")
    seen = Seen()
    connections = 0
    while seen.end is None:
        connections += 1
        with socket(platform, f"/api/v1/builds/{build}/log/stream?after={seen.count}") as viewer:
            assert receive(viewer)["type"] == "state"
            for _ in range(7):
                message = receive(viewer)
                seen.take(message)
                if message["type"] == "end":
                    with pytest.raises(ConnectionClosed):
                        viewer.recv(DEADLINE)
                    assert viewer.close_code == 1000
                    break
    seen.verify()
    assert connections > 3
    assert [line for line in seen.lines if line.startswith("line ")] == [f"line {n}" for n in range(1, 101)]


def test_a_viewer_takes_deflated_messages(platform: Platform) -> None:
    """Each connection reads one message of lines, which are many."""
    build = platform.build("fast")
    seen = Seen()
    while seen.end is None:
        path = f"/api/v1/builds/{build}/log/stream?compress=1&after={seen.count}"
        with socket(platform, path, max_size=None) as viewer:
            assert viewer.protocol.extensions
            assert receive(viewer)["type"] == "state"
            seen.take(receive(viewer))
    seen.verify()
    assert [line for line in seen.lines if line.startswith("line ")] == [f"line {n}" for n in range(1, 5001)]


@pytest.mark.parametrize(
    ("project", "lines", "each", "compress"),
    [pytest.param("count", 100, 13, "0", marks=pytest.mark.long), ("fast", 5000, 700, "1")],
    ids=["plain", "deflated"],
)
def test_a_viewer_in_node_breaks_off_and_resumes(
    platform: Platform, tmp_path: Path, project: str, lines: int, each: int, compress: str
) -> None:
    """The same with the ws package."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "package.json").write_text('{"private": true}')
    npm(modules, "install", "ws@8")
    build = platform.build(project)
    done = subprocess.run(
        [str(need_node() / "node"), str(Path(__file__).with_name("viewer.mjs"))],
        env=node_environment(
            tmp_path,
            {
                "MODULES": str(modules),
                "URL_BASE": f"ws://127.0.0.1:{platform.port}",
                "TOKEN": platform.token,
                "BUILD": str(build),
                "BREAK": str(each),
                "COMPRESS": compress,
            },
        ),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["numbers"] == list(range(1, seen["end"]["lines"] + 1))
    assert seen["sha256"] == seen["end"]["sha256"]
    assert seen["connections"] > 5
    assert [line for line in seen["lines"] if line.startswith("line ")] == [f"line {n}" for n in range(1, lines + 1)]


def test_a_viewer_resumes_across_a_restart_of_the_apiserver(tmp_path: Path) -> None:
    """Killed or stopped, the apiserver comes back, and so does the viewer; each record once."""
    with Platform(tmp_path, isolation=BARE) as platform:
        platform.add_project("count", platform.repository(counting(120, 0.05)), publish={})
        build = platform.build("count")
        seen = Seen()
        ends = [platform.apiserver.kill, platform.apiserver.stop]
        while seen.end is None:
            with (
                contextlib.suppress(ConnectionClosed, OSError, InvalidStatus),
                socket(platform, f"/api/v1/builds/{build}/log/stream?after={seen.count}") as viewer,
            ):
                while seen.end is None:
                    seen.take(receive(viewer))
                    if ends and seen.count > 30 * (3 - len(ends)):
                        ends.pop()()
                        platform.apiserver.start()
            wait_for("the apiserver answers", platform.health)
        seen.verify()
        assert not ends


def test_many_subscriptions_on_one_socket(platform: Platform) -> None:
    """States of all builds and two logs, tagged with their builds; a refusal is an answer, not a close."""
    with socket(platform, "/api/v1/stream") as viewer:
        viewer.send(json.dumps({"type": "subscribe", "topic": "builds"}))
        assert receive(viewer) == {"type": "subscribed", "topic": "builds"}
        one, two = platform.build("count"), platform.build("other")
        for build in (one, two):
            viewer.send(json.dumps({"type": "subscribe", "topic": "log", "build": build, "after": 0}))
        viewer.send(json.dumps({"type": "subscribe", "topic": "log", "build": 999_999}))
        viewer.send("{")
        seen = {one: Seen(), two: Seen()}
        states: dict[int, list[str]] = {one: [], two: []}
        errors = []
        while any(each.end is None for each in seen.values()) or any("succeeded" not in s for s in states.values()):
            message = receive(viewer)
            match message["type"]:
                case "state":
                    # A state comes once more when more is known of it: what a running build has checked out.
                    if states[message["build"]][-1:] != [message["state"]]:
                        states[message["build"]].append(message["state"])
                case "error":
                    errors.append(message["code"])
                case "lines" | "end":
                    seen[message["build"]].take(message)
        for each in seen.values():
            each.verify()
        assert errors == ["not_found", "bad_message"]
        assert states[two] == ["queued", "offered", "accepted", "running", "succeeded"]


def test_a_subscription_taken_back_is_silent(platform: Platform) -> None:
    """After it, only what else was subscribed to comes."""
    build = platform.build("count")
    with socket(platform, "/api/v1/stream") as viewer:
        log = {"topic": "log", "build": build}
        viewer.send(json.dumps({"type": "subscribe", "after": 0, **log}))
        assert receive(viewer)["type"] == "subscribed"
        assert receive(viewer)["type"] == "lines"
        viewer.send(json.dumps({"type": "unsubscribe", **log}))
        viewer.send(json.dumps({"type": "subscribe", "topic": "builds", "project": "other"}))
        while receive(viewer)["type"] != "subscribed":
            pass
        other = platform.build("other")
        while (message := receive(viewer)).get("state") != "succeeded":
            assert message["type"] in ("state", "said")
            assert message["build"] == other


def test_there_is_a_bound_on_subscriptions(platform: Platform) -> None:
    """A hundred, then errors; a flood of messages closes the socket."""
    with socket(platform, "/api/v1/stream") as viewer:
        for number in range(120):
            viewer.send(json.dumps({"type": "subscribe", "topic": "builds", "project": f"p{number}"}))
        answers = [receive(viewer) for _ in range(120)]
        assert {answer.get("code") for answer in answers[100:]} == {"limit"}
    with socket(platform, "/api/v1/stream", max_queue=None) as viewer, pytest.raises(ConnectionClosed):
        flood(viewer, json.dumps({"type": "subscribe", "topic": "log", "build": 1}))
    assert platform.health() is not None


def test_who_may_connect(platform: Platform) -> None:
    """No token, a wrong one, one of another project, a foreign origin, a used ticket: refused before the upgrade."""
    build = platform.build("count")
    path = f"/api/v1/builds/{build}/log/stream?after=0"
    other = platform.make_token("other", "read", "--project", "other")
    for token, headers, status in (
        ("", {}, 401),
        ("tipc_wrong", {}, 401),
        (other, {}, 404),
        (platform.token, {"Origin": "https://evil.example"}, 403),
        (platform.token, {"Origin": "null"}, 403),
    ):
        with pytest.raises(InvalidStatus) as caught:
            socket(platform, path, token, headers=headers)
        assert caught.value.response.status_code == status, (token, headers)
    with pytest.raises(InvalidStatus) as caught:
        socket(platform, "/api/v1/builds/999999/log/stream", other)
    assert caught.value.response.status_code == 404
    ticket = platform.api("POST", "/api/v1/tickets")["ticket"]
    page = {"Origin": platform.url}
    # It reads on while it closes: a client that doesn't would wait for its own close timeout.
    with socket(platform, f"{path}&ticket={ticket}", "", headers=page, max_queue=None) as viewer:
        assert receive(viewer)["type"] == "state"
    with pytest.raises(InvalidStatus) as caught:
        socket(platform, f"{path}&ticket={ticket}", "", headers=page)
    assert caught.value.response.status_code == 401


def test_a_token_that_is_revoked_in_mid_stream(platform: Platform) -> None:
    """The viewer's socket is closed with a code of its own."""
    created = platform.api("POST", "/api/v1/tokens", {"name": "short", "scopes": ["read"]})
    build = platform.build("long")
    with socket(platform, f"/api/v1/builds/{build}/log/stream", created["token"]) as viewer:
        assert receive(viewer)["type"] == "state"
        platform.api("DELETE", f"/api/v1/tokens/{created['id']}")
        assert read_to_close(viewer) == 4401
    platform.api("POST", f"/api/v1/builds/{build}/cancel")


def test_a_client_that_breaks_the_protocol(platform: Platform) -> None:
    """A message on a log's socket, one that is too long, binary, text that isn't UTF-8: closed by code."""
    build = platform.build("long")
    path = f"/api/v1/builds/{build}/log/stream"
    for path_, data, text, code in (
        (path, "hello", None, 1008),
        ("/api/v1/stream", "x" * 5000, None, 1009),
        ("/api/v1/stream", b"\x00", None, 1003),
        ("/api/v1/stream", b"\xff\xfe", True, 1007),
    ):
        with socket(platform, path_) as viewer:
            viewer.send(data, text=text)
            assert read_to_close(viewer) == code, data[:10]
    platform.api("POST", f"/api/v1/builds/{build}/cancel")
    assert platform.health() is not None


@pytest.mark.long
def test_a_viewer_that_never_reads_costs_nothing(platform: Platform, tmp_path: Path) -> None:
    """10 MB of log, one viewer that doesn't read: the apiserver stays small, and another viewer sees it all."""
    script = "i=0; while [ $i -lt 100 ]; do head -c 100000 /dev/zero | tr '\\\\0' x | fold -w 100; i=$((i+1)); done"
    repository = platform.repository({".twistedipc.toml": f"[build]\nsteps = ['''{script}''']\n"})
    platform.add_project("flood", repository, publish={})
    before = memory(platform)
    build = platform.build("flood")
    path = f"/api/v1/builds/{build}/log/stream"
    stuck = socket(platform, path, max_queue=1, close_timeout=0.1)  # a viewer that reads nothing reads no close either
    with stuck, socket(platform, path, max_size=None) as reading:
        seen = Seen()
        while seen.end is None:
            seen.take(receive(reading))
        seen.verify()
        assert seen.count > 99_000
        grown = memory(platform) - before
    assert grown < 32 << 20, f"{grown >> 20} MiB"


def memory(platform: Platform) -> int:
    """The apiserver's resident memory in bytes."""
    statm = Path(f"/proc/{platform.apiserver.pid}/statm").read_text().split()
    return int(statm[1]) * os.sysconf("SC_PAGE_SIZE")
