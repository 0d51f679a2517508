"""`twistedipc.ipc.places.inherited`: links at descriptors that this process was given, connected or listening."""

from __future__ import annotations

import os
import resource
import socket
import stat
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import msgspec
import trustme
from twisted.internet import reactor as global_reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from twistedipc.ipc import (
    BadEndpoint,
    Interface,
    LinkReactor,
    Listening,
    Message,
    NotConnected,
    Peer,
    Remote,
    Request,
    Service,
    TLSFiles,
    dial,
    dial_links,
    handles,
    listen,
)
from twistedipc.ipc.places.endpoints import Address
from twistedipc.ipc.places.inherited import InheritedPlace, inherited_connection

reactor = cast(LinkReactor, global_reactor)

KEY = b"0123456789abcdef"


class Text(msgspec.Struct):
    text: str


class Echo(Request[Text]):
    text: str


class Note(Message):
    text: str


ECHO = Interface("echo", Echo, Note)


class Echoing(Service):
    interface = ECHO

    @handles(Echo)
    def echo(self, request: Echo, peer: Peer) -> Text:
        return Text(request.text)

    @handles(Note)
    def note(self, message: Note, peer: Peer) -> None: ...


async def until(condition: Callable[[], object]) -> None:
    """Let the reactor turn until the condition holds; the test's own time limit ends it if it never does."""
    while not condition():
        await deferLater(reactor, 0.002)


def number_of(end: socket.socket) -> int:
    """Return the descriptor as a parent would hand it over: no object owns it."""
    end.set_inheritable(True)
    return end.detach()


def is_passed_on(number: int) -> bool:
    """Whether a child would have it."""
    try:
        return os.get_inheritable(number)
    except OSError:
        return False


class InheritedTestCase(TestCase):
    timeout = 180

    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory(prefix="fd-")
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    async def listening(self, endpoint: str, **more: Any) -> Listening:
        listening = await listen(reactor, endpoint, Echoing(), **more)
        self.addCleanup(listening.close)
        return listening

    def dialling(self, endpoint: str, **more: Any) -> Remote:
        remote = dial(reactor, endpoint, ECHO, **more)
        self.addCleanup(remote.close)
        return remote

    async def converse(self, remote: Remote) -> None:
        assert await remote.call(Echo("ü" * 100_000), 20) == Text("ü" * 100_000)


class ConnectionTests(InheritedTestCase):
    """One end of a connection at each side."""

    async def test_by_number(self) -> None:
        ours, theirs = map(number_of, socket.socketpair())
        listening = await self.listening(f"fd:{theirs}")
        remote = self.dialling(f"fd:{ours}")
        await self.converse(remote)
        # Nothing that a child could inherit is left.
        assert not is_passed_on(ours)
        assert not is_passed_on(theirs)
        await remote.close()
        assert await remote.closed() == "it was closed here"
        assert await listening.closed() == "the peer said: the peer is stopping [closed]"
        with self.assertRaises(TypeError):
            _ = listening.port

    async def test_by_a_variable(self) -> None:
        ours, theirs = map(number_of, socket.socketpair())
        with patch.dict(os.environ, {"ECHO_FD": str(theirs), "OURS": str(ours)}):
            await self.listening("fd:$ECHO_FD")
            await self.converse(self.dialling("fd:$OURS"))
            assert "ECHO_FD" not in os.environ
            with self.assertRaisesRegex(BadEndpoint, "the environment has no ECHO_FD"):
                await self.listening("fd:$ECHO_FD")

    async def test_over_tcp(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            ours = socket.create_connection(server.getsockname())
            theirs, _ = server.accept()
        await self.listening(f"fd:{number_of(theirs)}")
        await self.converse(self.dialling(f"fd:{number_of(ours)}"))

    async def test_keys_count_if_there_are_any(self) -> None:
        ours, theirs = map(number_of, socket.socketpair())
        listening = await self.listening(f"fd:{theirs}", key=KEY)
        remote = self.dialling(f"fd:{ours}")
        assert "a key is required here [unauthorized]" in await remote.closed()
        assert "a key is required here [unauthorized]" in await listening.closed()

    async def test_there_is_no_other_link(self) -> None:
        pair = socket.socketpair()
        other = pair[0].dup()
        self.addCleanup(other.close)
        ours, theirs = map(number_of, pair)
        listening = await self.listening(f"fd:{theirs}")
        remote = self.dialling(f"fd:{ours}")
        await self.converse(remote)
        other.shutdown(socket.SHUT_RDWR)
        await listening.closed()
        reason = await remote.closed()
        for attempt in (lambda: remote.call(Echo("x"), 5), remote.linked):
            with self.assertRaisesRegex(NotConnected, reason):
                await cast(Any, attempt)()
        with self.assertRaisesRegex(NotConnected, reason):
            remote.send(Note("x"))

    async def test_what_cannot_be_used(self) -> None:
        file = os.open(os.devnull, os.O_RDONLY)
        self.addCleanup(os.close, file)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            for name, complaint in (
                ("987654", "can't be used"),
                (str(file), "isn't a socket"),
                (str(datagrams.fileno()), "neither a UNIX nor a TCP stream socket"),
            ):
                with self.assertRaisesRegex(BadEndpoint, complaint):
                    dial(reactor, f"fd:{name}", ECHO)
                with self.assertRaisesRegex(BadEndpoint, complaint):
                    await listen(reactor, f"fd:{name}", Echoing())
        for value, complaint in (("", "has no X"), ("x", "isn't a descriptor"), ("²", "isn't a descriptor")):
            with self.assertRaisesRegex(BadEndpoint, complaint):
                inherited_connection(reactor, Address("fd", name="$X"), environment={"X": value})
        with socket.create_server(("127.0.0.1", 0)) as server, self.assertRaisesRegex(BadEndpoint, "nobody to be"):
            dial(reactor, f"fd:{os.dup(server.fileno())}", ECHO)

    async def test_what_was_lost_before(self) -> None:
        for use in (lambda name: dial(reactor, name, ECHO), lambda name: listen(reactor, name, Echoing())):
            with socket.create_server(("127.0.0.1", 0)) as server:
                ours = socket.create_connection(server.getsockname())
                theirs, _ = server.accept()
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            theirs.close()  # with a reset
            with self.assertRaisesRegex(BadEndpoint, "can't be used"):
                used = cast(Any, use)(f"fd:{number_of(ours)}")
                await used

    def test_dial_links_is_for_links_that_come_back(self) -> None:
        with self.assertRaisesRegex(BadEndpoint, "can't be made again"):
            dial_links(reactor, "fd:3", cast(Any, type("Settings", (), {"has_key": False})), cast(Any, None))


class ListeningTests(InheritedTestCase):
    """A socket that listens, made by others."""

    def made(self, mode: int = 0o600) -> tuple[socket.socket, str]:
        path = str(self.folder / "echo.sock")
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        os.chmod(path, mode)
        server.listen()
        self.addCleanup(server.close)
        return server, path

    async def test_a_unix_socket(self) -> None:
        server, path = self.made()
        listening = await self.listening(f"fd:{os.dup(server.fileno())}")
        remotes = [self.dialling(f"unix:{path}") for _ in range(3)]
        for remote in remotes:
            await self.converse(remote)
        assert len(listening.peers) == 3
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600, "who may connect is not for us to say"
        for remote in remotes:
            await remote.close()
        assert not listening.closed().called, "others can still come"
        await listening.close()
        assert stat.S_ISSOCK(os.stat(path).st_mode), "it isn't ours to be removed"

    async def test_its_strangers_are_refused(self) -> None:
        server, path = self.made()
        await self.listening(f"fd:{os.dup(server.fileno())}", uids=frozenset({os.getuid() + 1}))
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(path)
            stranger.setblocking(False)
            said = b""

            def all_is_said() -> bool:
                nonlocal said
                try:
                    data = stranger.recv(4096)
                except BlockingIOError:
                    return False
                said += data
                return not data

            await until(all_is_said)
        assert b"isn't allowed at this socket" in said

    def systemd(self, *servers: socket.socket, names: str = "", pid: int | None = None) -> dict[str, str]:
        """Hand these over as systemd does; the environment."""
        first = max(map(int, os.listdir("/proc/self/fd"))) + 8  # what is open here is not to be overwritten
        for number, server in enumerate(servers, first):
            os.dup2(server.fileno(), number)
            self.addCleanup(os.close, number)
        self.patch(import_module("twistedipc.ipc.places.inherited"), "_SYSTEMD_FIRST", first)
        environment = {"LISTEN_PID": str(os.getpid() if pid is None else pid), "LISTEN_FDS": str(len(servers))}
        return environment | ({"LISTEN_FDNAMES": names} if names else {})

    async def test_systemds(self) -> None:
        server, path = self.made()
        with patch.dict(os.environ, self.systemd(server)):
            await self.listening("systemd:")
        await self.converse(self.dialling(f"unix:{path}"))

    async def test_systemds_by_name(self) -> None:
        server, _path = self.made()
        tcp = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(tcp.close)
        with patch.dict(os.environ, self.systemd(server, tcp, names="local:net")):
            listening = await self.listening("systemd:net", key=KEY)
            with self.assertRaisesRegex(BadEndpoint, "'other' is wanted, and systemd has handed 2 over: local, net"):
                await listen(reactor, "systemd:other", Echoing())
            with self.assertRaisesRegex(BadEndpoint, "one socket is wanted, and systemd has handed 2 over"):
                await listen(reactor, "systemd:", Echoing())
        assert listening.port == tcp.getsockname()[1]
        await self.converse(self.dialling(f"tcp:127.0.0.1:{listening.port}", key=KEY))

    async def test_systemds_connection(self) -> None:
        """With ``Accept=yes`` there is a process for each connection."""
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        with patch.dict(os.environ, self.systemd(theirs, names="connection")):
            listening = await self.listening("systemd:")
        theirs.close()
        remote = self.dialling(f"fd:{number_of(ours)}")
        await self.converse(remote)
        await remote.close()
        await listening.closed()

    async def test_what_is_for_another_process(self) -> None:
        server, _ = self.made()
        for environment in ({}, self.systemd(server, pid=1), {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"}):
            with self.assertRaisesRegex(BadEndpoint, "handed no socket over to this process"):
                InheritedPlace(reactor, Address("systemd"), has_key=False, tls=None, environment=environment)

    async def test_beyond_this_machine_there_is_tls(self) -> None:
        with socket.create_server(("0.0.0.0", 0)) as server:
            with self.assertRaisesRegex(BadEndpoint, "a key is required"):
                await listen(reactor, f"fd:{os.dup(server.fileno())}", Echoing())
            with self.assertRaisesRegex(BadEndpoint, "beyond this machine"):
                await listen(reactor, f"fd:{os.dup(server.fileno())}", Echoing(), key=KEY)
            authority = trustme.CA()
            issued = authority.issue_cert("localhost")
            files = TLSFiles(*(self.folder / name for name in ("cert.pem", "key.pem", "ca.pem")))
            assert files.certificate is not None
            assert files.key is not None
            assert files.authority is not None
            issued.cert_chain_pems[0].write_to_path(files.certificate)
            issued.private_key_pem.write_to_path(files.key)
            authority.cert_pem.write_to_path(files.authority)
            listening = await self.listening(f"fd:{os.dup(server.fileno())}", key=KEY, tls=files)
            await self.converse(self.dialling(f"tls:localhost:{listening.port}", key=KEY, tls=files))

    async def test_no_descriptor_for_one_more(self) -> None:
        """It waits, without spinning, and accepts again when there is one."""
        server, path = self.made()
        await deferLater(reactor, 0)  # the reactor has its own descriptors
        before = set(cast(Any, reactor).getReaders())
        await self.listening(f"fd:{os.dup(server.fileno())}")
        (port,) = set(cast(Any, reactor).getReaders()) - before
        self.patch(import_module("twistedipc.ipc.places.inherited"), "_ACCEPT_AGAIN", 0.1)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.setblocking(False)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            client.connect(path)
            await until(lambda: port not in cast(Any, reactor).getReaders())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await self.converse(self.dialling(f"unix:{path}"))

    async def test_once(self) -> None:
        server, _ = self.made()
        listening = await self.listening(f"fd:{os.dup(server.fileno())}")
        assert listening._links is not None
        await listening.close()
        with self.assertRaisesRegex(BadEndpoint, "was used already"):
            listening._links.startService()
