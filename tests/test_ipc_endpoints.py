"""`twistedipc.ipc.places.endpoints` and `twistedipc.ipc.places.keys`."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import trustme

from twistedipc.ipc.places.endpoints import Address, TLSFiles, parse_dialled, parse_listened, server_endpoint
from twistedipc.ipc.places.keys import make_key, read_key, write_key
from twistedipc.ipc.wire.errors import BadEndpoint, BadKey


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp:localhost:8700", Address("tcp", host="localhost", port=8700)),
        ("tcp:127.0.0.1:1", Address("tcp", host="127.0.0.1", port=1)),
        ("tcp:[::1]:8700", Address("tcp", host="::1", port=8700)),
        ("tls:builder-1.example:8700", Address("tls", host="builder-1.example", port=8700)),
        ("tls:[2001:db8::1]:8700", Address("tls", host="2001:db8::1", port=8700)),
        ("unix:/run/a:b=c.sock", Address("unix", path="/run/a:b=c.sock")),
        ("fd:3", Address("fd", name="3")),
        ("fd:$MY_FD", Address("fd", name="$MY_FD")),
        ("stdio:", Address("stdio")),
    ],
)
def test_dialled(text: str, address: Address) -> None:
    assert parse_dialled(text, has_key=True) == address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp:8700", Address("tcp", host="127.0.0.1", port=8700)),
        ("tcp:0:interface=127.0.0.2", Address("tcp", host="127.0.0.2", port=0)),
        ("tcp:8700:interface=[::1]", Address("tcp", host="::1", port=8700)),
        ("tls:8700", Address("tls", host="0.0.0.0", port=8700)),
        ("tls:8700:interface=[::]", Address("tls", host="::", port=8700)),
        ("unix:link.sock", Address("unix", path="link.sock", mode=0o600)),
        ("unix:link.sock:mode=0660", Address("unix", path="link.sock", mode=0o660)),
        ("fd:3", Address("fd", name="3")),
        ("stdio:", Address("stdio")),
        ("systemd:", Address("systemd")),
        ("systemd:builders.socket", Address("systemd", name="builders.socket")),
    ],
)
def test_listened(text: str, address: Address) -> None:
    assert parse_listened(text, has_key=True) == address


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "begins with tcp:, unix: or tls:"),
        ("http://x", "begins with tcp:, unix: or tls:"),
        ("ssl:x:1", "begins with tcp:, unix: or tls:"),
        ("tcp:8700", "tcp:HOST:PORT is expected"),
        ("tcp:localhost:1:2", "tcp:HOST:PORT is expected"),
        ("tcp:localhost:1:interface=127.0.0.1", "tcp:HOST:PORT is expected"),
        ("tcp:localhost:0", "is not a port"),
        ("tcp:localhost:65536", "is not a port"),
        ("tcp:localhost:x", "is not a port"),
        ("tcp::1", "is not a host"),
        ("tcp:a b:1", "is not a host"),
        ("tcp:example.org:8700", "use tls:"),
        ("tcp:192.0.2.1:8700", "use tls:"),
        ("unix:", "unix:PATH is expected"),
        ("unix:/" + "x" * 200, "at most 103 bytes"),
        ("unix:a\0b", "unix:PATH is expected"),
        ("fd:", r"fd:NUMBER or fd:\$VARIABLE is expected"),
        ("fd:-1", "fd:NUMBER"),
        ("fd:3x", "fd:NUMBER"),
        ("fd:$3", "fd:NUMBER"),
        ("stdio", "an endpoint begins with"),
        ("stdio:0", "stdio: is expected"),
        ("systemd:", "there to be listened at"),
    ],
)
def test_what_cant_be_dialled(text: str, complaint: str) -> None:
    with pytest.raises(BadEndpoint, match=complaint):
        parse_dialled(text, has_key=True)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("tcp:localhost:1", "tcp:PORT"),
        ("tcp:8700:interface=0.0.0.0", "use tls:"),
        ("tcp:8700:interface=eth0", "not an address"),
        ("tcp:8700:backlog=3", "tcp:PORT"),
        ("tls:-1", "is not a port"),
        ("unix:x:mode=9999", "octal"),
        ("systemd:a:b", "systemd:NAME is expected"),
        ("fd:x", "fd:NUMBER"),
    ],
)
def test_what_cant_be_listened_at(text: str, complaint: str) -> None:
    with pytest.raises(BadEndpoint, match=complaint):
        parse_listened(text, has_key=True)


@pytest.mark.parametrize("text", ["tcp:localhost:1", "tls:localhost:1"])
def test_a_key_is_required(text: str) -> None:
    with pytest.raises(BadEndpoint, match="a key is required"):
        parse_dialled(text, has_key=False)
    with pytest.raises(BadEndpoint, match="a key is required"):
        parse_listened(text.replace("localhost:", ""), has_key=False)


def test_certificates_that_cant_be(tmp_path: Path) -> None:
    from twisted.internet import reactor

    address = parse_listened("tls:0", has_key=True)
    (tmp_path / "junk.pem").write_text("junk")
    authority = trustme.CA()
    own = authority.issue_cert("localhost")
    own.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    for files, complaint in (
        (None, "a certificate and its key are needed"),
        (TLSFiles(certificate=tmp_path / "cert.pem"), "given together"),
        (TLSFiles(certificate=tmp_path / "no.pem", key=tmp_path / "key.pem"), r"no\.pem can't be read"),
        (TLSFiles(certificate=tmp_path / "cert.pem", key=tmp_path / "no.pem"), r"no\.pem can't be read"),
        (TLSFiles(certificate=tmp_path / "junk.pem", key=tmp_path / "key.pem"), "doesn't hold a certificate"),
        (TLSFiles(certificate=tmp_path / "cert.pem", key=tmp_path / "junk.pem"), "doesn't hold a private key"),
        (TLSFiles(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "junk.pem"), "doesn't hold a certificate"),
    ):
        with pytest.raises(BadEndpoint, match=complaint):
            server_endpoint(reactor, address, files)  # type: ignore[arg-type]  # a module, to mypy


def test_keys(tmp_path: Path) -> None:
    path = tmp_path / "link.key"
    key = write_key(path)
    assert len(key) == 32
    assert read_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert make_key() != make_key()
    with pytest.raises(FileExistsError):
        write_key(path)
    assert read_key(path) == key


def test_keys_that_cant_be(tmp_path: Path) -> None:
    path = tmp_path / "link.key"
    write_key(path)
    for mode in (0o640, 0o604, 0o620):
        path.chmod(mode)
        with pytest.raises(BadKey, match="chmod 600"):
            read_key(path)
    path.chmod(0o600)
    for text in ("", "00", "g" * 64, "0" * 65, "0" * 64 + "\nx"):
        path.write_text(text)
        with pytest.raises(BadKey, match="64 hexadecimal digits"):
            read_key(path)
    with pytest.raises(FileNotFoundError):
        read_key(tmp_path / "none")
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(BadKey, match="not a file"):
        read_key(tmp_path / "fifo")
