"""
A host's messages: how soon a push's build has started, and whether a thousand pushes at once make a thousand builds.
The messages are GitHub's, signed, over real connections to real services.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import subprocess
import time
from collections import Counter
from functools import partial
from pathlib import Path

from bench.common.processes import Failed, spent
from bench.common.runs import Measured
from bench.recovery.crowd import States, in_reactor, run_reactor
from tests.hook_payloads import Message, github, github_push
from tests.integration.platform import DEADLINE, TERMINAL, Platform, git, wait_for

#: Figures that have bars too.
LOST = "lost"
DOUBLED = "doubled"

#: One client may have 512 connections at a time, so the messages come from so many of the loopback's addresses.
_SENDERS = 4

#: Every tenth message of a thousand is sent a second time, as a host does that waits too long for its answer.
_AGAIN = 10

_ZERO = "0" * 40


def started(folder: Path, count: int) -> Measured:
    """
    From the first byte of a push's message until the WebSocket says that its build runs, in milliseconds: 99 in 100.
    One push after another, each when the build before it has ended; the first one isn't counted.
    """
    run_reactor()
    with Platform(folder) as platform:
        repository = platform.repository({"index.html": "0"})
        platform.add_project("app", repository)
        secret = _secret(platform)
        states = States(platform.port, platform.token)
        in_reactor(states.connect)
        wait_for("the states are listened to", lambda: states.listening)
        took: list[float] = []
        used = {platform.apiserver: 0.0, platform.builder: 0.0}
        before = git(repository, "rev-parse", "HEAD")
        for number in range(count + 1):
            after = platform.commit(repository, {"index.html": str(number + 1)})
            message = github("push", github_push(before, after), f"{number}", secret)
            sent = {service: spent(service.pid) for service in used}
            began, (answer,) = asyncio.run(_tell(platform.port, [message]))
            build = int(str(answer["build"]))
            at: float = wait_for(f"build {build} runs", partial(states.when, build, "running", began))
            state = wait_for(f"build {build} has ended", partial(_ended, states, build))
            if state != "succeeded":
                raise Failed(f"build {build} has {state}: {platform.log(build)[-2000:]}")
            before = after
            if number:
                took.append((at - began) * 1000)
                for service in used:
                    used[service] += spent(service.pid) - sent[service]
        in_reactor(states.stop)
    took.sort()
    return Measured(
        took[math.ceil(0.99 * count) - 1],
        {
            "median": took[count // 2],
            "longest": took[-1],
            "of the apiserver's processor for each, ms": used[platform.apiserver] * 1000 / count,
            "of the builder's, ms": used[platform.builder] * 1000 / count,
        },
    )


def at_once(folder: Path, count: int) -> Measured:
    """
    So many pushes to as many branches, each on a connection of its own, all sent in one moment, and every tenth of
    them twice. Each must make one build. The seconds until all are answered.
    """
    with Platform(folder) as platform:
        repository = platform.repository({"index.html": "here"})
        platform.add_project("app", repository)
        secret, head = _secret(platform), git(repository, "rev-parse", "HEAD")
        branches = [f"feature-{number}" for number in range(count)]
        refs = "".join(f"create refs/heads/{branch} {head}\n" for branch in branches)
        subprocess.run(["git", "update-ref", "--stdin"], cwd=repository, input=refs, text=True, check=True)
        messages = [
            github("push", github_push(_ZERO, head, f"refs/heads/{branch}"), branch, secret) for branch in branches
        ]
        sent = spent(platform.apiserver.pid)
        began, answers = asyncio.run(_tell(platform.port, messages + messages[::_AGAIN]))
        seconds, used = time.monotonic() - began, spent(platform.apiserver.pid) - sent
        # Every build that there is, and not only those that the answers name.
        built = Counter(str(build["ref"]) for build in _builds(platform))
        told = {answer["build"] for answer in answers}
    if len(told) != count:
        raise Failed(f"the answers name {len(told)} builds, and not {count}")
    return Measured(
        seconds,
        {
            LOST: sum(not built[branch] for branch in branches),
            DOUBLED: sum(built.values()) - len(built),
            "of the apiserver's processor for each, ms": used * 1000 / len(answers),
        },
    )


def _ended(states: States, build: int) -> str:
    """The state in which a build has ended; "" if it hasn't."""
    state = states.states.get(build, "")
    return state if state in TERMINAL else ""


def _secret(platform: Platform) -> str:
    """Make the hook's secret."""
    made = platform.api("POST", "/api/v1/projects/app/hook/secret")
    return str(made["secret"])


def _builds(platform: Platform) -> list[dict[str, object]]:
    """All builds of the project."""
    found: list[dict[str, object]] = []
    before = ""
    while page := platform.api("GET", f"/api/v1/builds?project=app&limit=100{before}")["builds"]:
        found += page
        before = f"&before={page[-1]['id']}"
    return found


async def _tell(port: int, messages: list[Message]) -> tuple[float, list[dict[str, object]]]:
    """Send the messages in one moment, each on a connection of its own; when that was, and what is answered to each."""
    async with asyncio.timeout(DEADLINE):
        connections = await asyncio.gather(*(_connect(port, number) for number in range(len(messages))))
        began = time.monotonic()
        for (_, writer), (headers, body) in zip(connections, messages, strict=True):
            lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
            head = f"POST /hooks/app HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n"
            writer.write(f"{head}{''.join(lines)}Connection: close\r\n\r\n".encode() + body)
        answers = [_answer(data) for data in await asyncio.gather(*(reader.read() for reader, _ in connections))]
        for _, writer in connections:
            writer.close()
    return began, answers


async def _connect(port: int, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(f"127.0.0.{2 + number % _SENDERS}", 0))


def _answer(data: bytes) -> dict[str, object]:
    head, _, content = data.partition(b"\r\n\r\n")
    if re.match(rb"HTTP/1\.1 20[02] ", head) is None:
        raise Failed(f"a message was answered with {data[:500]!r}")
    answer: dict[str, object] = json.loads(content)
    return answer
