"""
An attempt's gate, as its runner sees it. The process is started with the first step that needs a network, and ends with
the runner.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

import twistedipc
from twistedipc.builds.egress import Contact, Egress
from twistedipc.isolation.network.engines import Engine

#: Seconds for an answer of the gate: it may have to start an engine.
DEADLINE = 20.0

_MAX_ANSWER = 4 << 20

_ROOT = str(Path(twistedipc.__file__).parent.parent)
_START = (
    "import runpy, sys; sys.path.append(sys.argv.pop(1)); "
    "runpy.run_module('twistedipc.isolation.network', run_name='__main__')"
)

#: Hosts that no proxy is asked for.
NO_PROXY = "localhost,127.0.0.1,::1"

#: The name beside the password that a proxy on the machine's loopback asks for.
USER = "build"

Kind = Literal["closed", "open"]


class NetworkFailed(Exception):
    """A step can't have its network. The text says why, for people."""


class Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """What one step may reach. `hosts.Policy` says the same in the gate."""

    open: bool = False
    allowed: Sequence[str] = ()
    operators: Sequence[str] = ()
    used: Sequence[str] | None = None
    elsewhere: bool = False


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """What a step's process needs to be in the network."""

    namespaces: Sequence[int]  # descriptors, to join in this order; `AttemptNetwork` keeps them open
    environment: dict[str, str]
    gate: int = 0  # where there are no namespaces: the port of the proxy, at this machine's loopback address


class _Answer(msgspec.Struct, frozen=True):
    failed: str = ""
    holder: int = 0
    proxy: int = 0
    refused: list[Contact] = []
    contacts: list[Contact] = []
    more: int = 0


class AttemptNetwork:
    """The network of one attempt."""

    def __init__(self, engine: Engine, program: str, ours: Sequence[tuple[str, int]], project: str = "") -> None:
        """
        :param program: the engine's path
        :param ours: see `builds.egress.Network`
        :param project: whose it is, for what is said to people
        """
        self._settings: dict[str, object] = {"engine": engine, "program": program, "ours": ours, "project": project}
        self._engine = engine
        #: what the proxy is shown where others of the machine could ask it too; "": nothing
        self.password = os.urandom(16).hex() if engine == "loopback" else ""
        self._gate: socket.socket | None = None
        self._joined: dict[Kind, Joined] = {}
        self._answered = b""
        #: the gate's process; 0: there is none
        self.process = 0

    def start(self) -> None:
        """Start the gate, without waiting for it. Raises `NetworkFailed`."""
        if self._gate is not None:
            return
        ours, theirs = socket.socketpair()
        argv = [sys.executable, "-I", "-S", "-X", "utf8", "-c", _START, _ROOT, self._engine]
        try:
            self.process = os.posix_spawn(
                sys.executable, argv, {}, file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)], setpgroup=0
            )
        except OSError as error:
            raise NetworkFailed(f"the process that watches over its network can't be started: {error}") from error
        finally:
            theirs.close()
        ours.settimeout(DEADLINE)
        self._gate = ours
        self._send({**self._settings, "credentials": f"{USER}:{self.password}" if self.password else ""})

    def join(self, step: str, allowed: Allowed) -> Joined:
        """Hold all that follows to what a step may reach, and return what it needs. Raises `NetworkFailed`."""
        self.start()
        self._ask({"do": "step", "step": step, **msgspec.to_builtins(allowed)})
        if self._engine == "loopback":
            return self._by_loopback()
        kind: Kind = "open" if allowed.open else "closed"
        answer = self._ask({"do": "namespace", "kind": kind})
        if kind not in self._joined:
            self._joined[kind] = self._enter(kind, answer)
        return self._joined[kind]

    def ended(self) -> list[Contact]:
        """A step has ended: return what it was refused. Raises `NetworkFailed`."""
        return self._ask({"do": "ended"}).refused

    def report(self) -> Egress:
        """Return the egress ledger."""
        if self._gate is None:
            return Egress()
        try:
            answer = self._ask({"do": "report"})
        except NetworkFailed:
            return Egress(lost=True)
        return Egress(contacts=answer.contacts, more=answer.more)

    def close(self) -> None:
        """End it."""
        for joined in self._joined.values():
            for descriptor in joined.namespaces:
                os.close(descriptor)
        self._joined.clear()
        if self._gate is not None:
            self._gate.close()

    def _by_loopback(self) -> Joined:
        """Return what a step needs that is in no network of its own: the proxy is all that it can connect to."""
        port = self._ask({"do": "loopback"}).proxy
        proxy = f"http://{USER}:{self.password}@127.0.0.1:{port}"
        # Hosts on the loopback that are allowed are asked for as all others are.
        environment = {**_proxied(proxy, ""), "NODE_USE_ENV_PROXY": "1"}
        return Joined(namespaces=(), environment=environment, gate=port)

    def _enter(self, kind: Kind, answer: _Answer) -> Joined:
        names = ["net"]
        namespaces: list[int] = []
        try:
            if os.stat(f"/proc/{answer.holder}/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino:
                names.insert(0, "user")  # first: it gives the right to join the other
            for name in names:
                namespaces.append(os.open(f"/proc/{answer.holder}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            for descriptor in namespaces:
                os.close(descriptor)
            raise NetworkFailed(f"its network can't be joined: {error}") from error
        proxy = f"http://127.0.0.1:{answer.proxy}"
        needs_proxy = kind == "closed" or self._engine == "gate"
        return Joined(
            namespaces=namespaces,
            environment=dict(_proxied(proxy, NO_PROXY)) if needs_proxy else {},
        )

    def _ask(self, question: dict[str, object]) -> _Answer:
        self._send(question)
        assert self._gate is not None
        try:
            while b"\n" not in self._answered:
                data = self._gate.recv(1 << 16)
                if not data or len(self._answered) > _MAX_ANSWER:
                    raise NetworkFailed("the process that watches over its network has ended")
                self._answered += data
        except OSError as error:
            raise NetworkFailed(f"the process that watches over its network doesn't answer: {error}") from error
        line, _, self._answered = self._answered.partition(b"\n")
        answer = msgspec.json.decode(line, type=_Answer)
        if answer.failed:
            raise NetworkFailed(f"its network can't be made: {answer.failed}")
        return answer

    def _send(self, question: dict[str, object]) -> None:
        assert self._gate is not None
        try:
            self._gate.sendall(msgspec.json.encode(question) + b"\n")
        except OSError as error:
            raise NetworkFailed(f"the process that watches over its network has ended: {error}") from error


def _proxied(proxy: str, directly: str) -> Mapping[str, str]:
    """Return the variables that name a proxy, and the hosts that aren't asked for by it."""
    return {
        **dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), proxy),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), directly),
    }
