"""
The builder in Node (``examples/builder_in_node``), which was written from docs/protocol.md alone, against a real
apiserver: what it builds is released and its log verified, whatever becomes of its links and of the apiserver.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.integration.platform import Platform, wait_for
from tests.ports import free_port

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "builder_in_node"

#: It says a number of lines, and goes on when a file is there.
BUILD = """
const fs = require("fs");
for (let n = 1; n <= 300; n++) console.log(`line ${n} größer ${"x".repeat(n % 90)}`);
console.log("a long one " + "y".repeat(40000));
console.log(`the token is ${process.env.SOME_TOKEN}`);
const go = process.env.GO;
const timer = setInterval(() => {
  console.log("waiting");
  if (go && !fs.existsSync(go)) return;
  clearInterval(timer);
  for (let n = 301; n <= 600; n++) console.log(`line ${n}`);
  fs.mkdirSync("dist/assets", { recursive: true });
  fs.writeFileSync("dist/index.html", `<h1>${process.env.TWISTEDIPC_COMMIT} ${process.env.GREETING}</h1>`);
  fs.writeFileSync("dist/assets/app.js", "1");
  fs.writeFileSync("dist/.hidden", "not released");
}, 20);
"""
SITE = {"package.json": '{"scripts": {"build": "node build.js"}}', "build.js": BUILD}


class Cuttable:
    """A TCP port before another one, whose connections can be cut."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the server is closed
            while True:
                here, _ = self._server.accept()
                try:
                    there = socket.create_connection(("127.0.0.1", self._to))
                except OSError:
                    here.close()
                    continue
                self._open += [here, there]
                for one, other in ((here, there), (there, here)):
                    threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _copy(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(700):  # so that frames come in pieces
                other.sendall(data)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Cut all connections that there are."""
        cut, self._open = self._open, []
        for each in cut:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Cut all, and take no more."""
        self._server.close()
        self.cut()


class NodeBuilder:
    """The example as a process."""

    def __init__(self, platform: Platform, *where: str) -> None:
        self.log = platform.folder / "node.log"
        words = ["--name", "other", "--data", str(platform.folder / "node-data"), "--slots", "2", *where]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(["node", str(EXAMPLE / "builder.mjs"), *words], stderr=log)

    def has_synced(self, count: int) -> bool:
        """True when it has synced so many times."""
        return self.log.read_text().count("synced") >= count

    def stop(self) -> None:
        """SIGTERM, and its end."""
        self._process.terminate()
        self._process.wait(30)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()


def is_linked(platform: Platform) -> bool:
    with contextlib.suppress(OSError):
        return bool(platform.api("GET", "/healthz")["builders"] == 1)
    return False


def answers(platform: Platform) -> bool:
    with contextlib.suppress(OSError):
        return platform.api("GET", "/healthz") is not None
    return False


def verified(platform: Platform, build: int) -> list[str]:
    """The lines of a log, each once, with the digest that its end says."""
    text = platform.text(f"/api/v1/builds/{build}/log?format=json&follow=1")
    messages = [json.loads(line) for line in text.splitlines()]
    digest, lines, count = hashlib.sha256(), [], 0
    for message in messages:
        if message["type"] != "lines":
            continue
        assert message["first"] == count + 1
        count += len(message["lines"])
        for record in message["lines"]:
            text = record if isinstance(record, str) else json.dumps(record, separators=(",", ":"), ensure_ascii=False)
            digest.update(f"{text}\n".encode())
            lines.append(text)
    end = messages[-1]
    assert (end["type"], end["lines"], end["sha256"], end["complete"]) == ("end", count, digest.hexdigest(), True)
    return lines


@pytest.fixture
def platform(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Platform]:
    """An apiserver with a project, and without a builder."""
    if shutil.which("node") is None:
        pytest.skip("there is no node")
    platform = Platform(tmp_path, apiserver_link=request.param)
    platform.apiserver.start()
    try:
        platform.token = platform.make_token("admin", "admin")
        wait_for("the apiserver answers", lambda: answers(platform))
        platform.add_project("shop", platform.repository(SITE), settings={"install": ""})
        yield platform
    finally:
        platform.apiserver.kill()


@pytest.mark.parametrize("platform", [{"dial": ["unix:node.sock"]}], indirect=True)
def test_it_listens_builds_and_releases(platform: Platform) -> None:
    builder = NodeBuilder(platform, "--listen", f"unix:{platform.folder / 'node.sock'}")
    try:
        wait_for("the Node builder is linked", lambda: is_linked(platform), 30)
        build = platform.build("shop", parameters={"GREETING": "hello", "SOME_TOKEN": "not-for-logs"})
        found = platform.wait(build)
        assert found["state"] == "succeeded", found
        lines = verified(platform, build)
        assert [line for line in lines if line.startswith("line ")][-1] == "line 600"
        assert "the token is ***" in lines
        assert "not-for-logs" not in "".join(lines)
        commit = found["attempts"][0]["commit"]
        assert platform.released("shop") == f"<h1>{commit} hello</h1>"
        assert [step["name"] for step in found["attempts"][0]["steps"]] == ["checkout", "build", "pack"]
        failed = platform.build("shop", ref="nowhere")
        assert "nowhere" not in platform.wait(failed)["state"]
        assert platform.wait(failed)["state"] == "failed"
    finally:
        builder.stop()


@pytest.mark.parametrize("platform", [{"listen": [f"tcp:{free_port()}:interface=127.0.0.1"]}], indirect=True)
@pytest.mark.long  # links are made again after up to 8 seconds
def test_links_are_cut_and_the_apiserver_is_killed(
    platform: Platform, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    line = platform.command("builder", "add", "other").stdout
    descriptor = os.open(tmp_path / "node.key", os.O_WRONLY | os.O_CREAT, 0o600)
    with open(descriptor, "w") as file:
        file.write(line.split()[1] + "\n")
    port: Any = request.node.callspec.params["platform"]["listen"][0].split(":")[1]
    between = Cuttable(int(port))
    where = ["--dial", f"tcp:127.0.0.1:{between.port}", "--key", str(tmp_path / "node.key")]
    builder = NodeBuilder(platform, *where)
    try:
        wait_for("the Node builder is linked", lambda: is_linked(platform), 30)
        go = tmp_path / "go"
        build = platform.build("shop", parameters={"GO": str(go)})
        platform.wait(build, {"running"})
        for count in range(2, 5):
            between.cut()
            wait_for("it is linked again", partial(builder.has_synced, count), 30)
        platform.apiserver.kill()
        go.touch()  # it ends while there is nobody to be told
        platform.apiserver.start()
        wait_for("the apiserver answers", lambda: answers(platform))
        found = platform.wait(build)
        assert found["state"] == "succeeded", found
        lines = verified(platform, build)
        assert [line for line in lines if line.startswith("line ")][-1] == "line 600"
        assert len([line for line in lines if line.startswith("line ")]) == 600
        # What it was building when it was ended itself is lost, and said to be; nothing hangs.
        go.unlink()
        second = platform.build("shop", parameters={"GO": str(go)})
        platform.wait(second, {"running"})
        builder.kill()
        builder = NodeBuilder(platform, *where)
        assert platform.wait(second)["state"] in ("lost", "failed")
    finally:
        builder.stop()
        between.close()
