"""Where services listen: how many connections may wait to be accepted, and at sockets that were handed over."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger, capturedLogs, formatEvent
from twisted.protocols.tls import TLSMemoryBIOFactory

from tests.test_certificates import Files
from twistedipc.taps.common import BACKLOG, for_a_crowd, listen_at, server_endpoint, start_or_exit


@pytest.mark.parametrize(
    ("endpoint", "backlog", "interface"),
    [
        ("tcp:8080", BACKLOG, ""),
        ("tcp:8080:interface=127.0.0.1", BACKLOG, "127.0.0.1"),
        ("tcp:port=8080:interface=127.0.0.1", BACKLOG, "127.0.0.1"),
        (r"tcp:8080:interface=\:\:1", BACKLOG, "::1"),
        ("tcp:8080:backlog=7:interface=127.0.0.1", 7, "127.0.0.1"),
        ("tcp:8080:127.0.0.1:7", 7, "127.0.0.1"),
    ],
)
def test_a_crowd_may_wait_unless_the_operator_says_otherwise(endpoint: str, backlog: int, interface: str) -> None:
    reactor = MemoryReactorClock()
    serverFromString(reactor, for_a_crowd(endpoint)).listen(Factory())
    ((port, _, waiting, where),) = reactor.tcpServers
    assert (port, waiting, where) == (8080, backlog, interface)


@pytest.mark.parametrize(
    ("endpoint", "port", "interface"),
    [("tls:443", 443, ""), ("tls:8443:interface=127.0.0.1", 8443, "127.0.0.1"), ("tls:port=8443", 8443, "")],
)
def test_a_port_with_certificates_is_one_of_tcp_with_tls_on_it(
    tmp_path: Path, endpoint: str, port: int, interface: str
) -> None:
    reactor: Any = MemoryReactorClock()
    certificates = Files(tmp_path, one=("a.example",)).start()
    server_endpoint(reactor, endpoint, certificates).listen(Factory())
    ((number, factory, waiting, where),) = reactor.tcpServers
    assert (number, waiting, where) == (port, BACKLOG, interface)
    assert isinstance(factory, TLSMemoryBIOFactory)


@pytest.mark.parametrize("endpoint", ["unix:api.sock", "systemd:domain=INET:index=0", "tcp:8080:127.0.0.1"])
def test_what_can_not_be_told_is_left_as_it_is(endpoint: str) -> None:
    assert for_a_crowd(endpoint) == endpoint


_FIRST, _SECOND, _LAN = (f"tcp:8081:interface={host}" for host in ("127.0.0.1", "127.0.0.2", "10.1.2.3"))


@pytest.mark.parametrize("code", [errno.EADDRNOTAVAIL, errno.EADDRINUSE])
@pytest.mark.parametrize("endpoints", [[_FIRST, _SECOND], [_SECOND], [_FIRST, _LAN]])
def test_a_machine_without_a_second_loopback_address_serves_at_the_first(endpoints: list[str], code: int) -> None:
    """macOS has no 127.0.0.2 by itself: the service must start all the same. All else that can't be is an error."""

    class Machine(MemoryReactorClock):
        def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
            if interface != "127.0.0.1":
                raise CannotListenError(interface, port, OSError(code, "no"))
            return super().listenTCP(port, factory, backlog, interface)

    ports: list[Any] = []
    results: list[Any] = []
    reactor: Any = Machine()
    with capturedLogs() as captured:
        Deferred.fromCoroutine(listen_at(reactor, endpoints, Factory(), ports, Logger())).addBoth(results.append)
    said = [formatEvent(event) for event in captured if event["log_namespace"] == __name__]
    if code == errno.EADDRNOTAVAIL and endpoints == [_FIRST, _SECOND]:
        assert results == [None]
        assert said == ["this machine has no 127.0.0.2: tcp:8081:interface=127.0.0.2 is left out"]
        assert len(ports) == 1
    else:
        assert results[0].check(CannotListenError)
        assert said == []


#: Does what systemd does: the socket becomes descriptor 3 of a program, whose environment says so.
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": sys.argv[2], "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[3], sys.argv[3:])
"""


@pytest.mark.parametrize(("endpoint", "name"), [("systemd:", "builder.socket"), ("systemd:link", "link")])
def test_a_link_is_listened_for_at_what_systemd_hands_over(tmp_path: Path, endpoint: str, name: str) -> None:
    """A real twistd listens. The socket is a UNIX socket, so that it needs no key."""
    (tmp_path / "builder.toml").write_text(f"data = 'data'\nname = 'b'\nlink.listen = ['{endpoint}']\n")
    path = tmp_path / "link.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        command = [sys.executable, "-P", "-c", "from twisted.scripts.twistd import run; run()"]
        arguments = ["-n", "--pidfile=", "buildipc", "--config", str(tmp_path / "builder.toml")]
        with subprocess.Popen(
            [sys.executable, "-c", HAND_OVER, str(listening.fileno()), name, *command, *arguments],
            cwd=tmp_path,
            pass_fds=[listening.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as service:
            try:
                with socket.socket(socket.AF_UNIX) as apiserver:
                    apiserver.settimeout(30)
                    apiserver.connect(str(path))
                    assert apiserver.recv(4096).startswith(b'{"type":"challenge"')
            finally:
                service.terminate()
                output = service.communicate(timeout=180)[0].decode()
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            CannotListenError("127.0.0.1", 8080, OSError(errno.EADDRINUSE, "Address already in use")),
            "twistd apiserver can't start: another program listens at 127.0.0.1:8080 already. Stop it, or change this "
            "`listen` in the configuration",
        ),
        (
            CannotListenError("::1", 8080, OSError(errno.EADDRINUSE, "Address already in use")),
            "twistd apiserver can't start: another program listens at [::1]:8080 already. Stop it, or change this "
            "`listen` in the configuration",
        ),
        (
            CannotListenError("", 8080, OSError(errno.EADDRINUSE, "Address already in use")),
            "twistd apiserver can't start: another program listens at port 8080 already. Stop it, or change this "
            "`listen` in the configuration",
        ),
        (
            CannotListenError(None, b"/run/api.sock", OSError(errno.EADDRINUSE, "Address already in use")),
            "twistd apiserver can't start: /run/api.sock is there already. Stop the program that listens at it, or "
            "delete the file if there is none",
        ),
        (
            CannotListenError("10.9.9.9", 80, OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")),
            "twistd apiserver can't start: Couldn't listen on 10.9.9.9:80: "
            f"[Errno {errno.EADDRNOTAVAIL}] Cannot assign requested address.",
        ),
    ],
)
def test_who_can_not_listen_says_what_to_do(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reactor: Any = MemoryReactorClock()
    monkeypatch.setattr(reactor, "stop", lambda: None)
    starting: Deferred[None] = Deferred()
    start_or_exit(reactor, starting, Logger(), "twistd apiserver")
    starting.errback(error)
    assert capsys.readouterr().err == f"{said}\n"
