"""Certificates from files: which one a client gets, by OpenSSL's own handshake, and what happens when they change."""

from __future__ import annotations

import datetime
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from OpenSSL import SSL
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.protocols.tls import TLSMemoryBIOFactory

from tests.site_client import SiteClient, Transport
from twistedipc.taps.certificates import INTERVAL, BadCertificate, Certificates, Pair, read_certificate
from twistedipc.web.http.channel import REQUEST_SECONDS

_CA = trustme.CA()


def issue(pair: Pair, *names: str, days: int = 90) -> None:
    """Write a new certificate for these names, as an ACME client does: each file in one step."""
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    made = _CA.issue_cert(*names, not_after=ends)
    write(pair.chain, b"".join(blob.bytes() for blob in made.cert_chain_pems) + _CA.cert_pem.bytes())
    write(pair.key, made.private_key_pem.bytes())


def write(path: Path, content: bytes) -> None:
    path.with_suffix(".new").write_bytes(content)
    os.replace(path.with_suffix(".new"), path)


def shown(certificates: Certificates, name: str, *, protocols: list[bytes] | None = None, tls: int = 0) -> Any:
    """The connection of a client that asks for this name, after its handshake with a server of these certificates."""
    server = TLSMemoryBIOFactory(certificates, False, Factory.forProtocol(Protocol)).buildProtocol(None)
    transport = StringTransport()
    assert server is not None
    server.makeConnection(transport)
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if tls:
        context.set_min_proto_version(tls)
        context.set_max_proto_version(tls)
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
    if protocols:
        context.set_alpn_protos(protocols)
    client = SSL.Connection(context, None)
    if name:
        client.set_tlsext_host_name(name.encode())
    client.set_connect_state()
    for _ in range(10):
        try:
            client.do_handshake()
            return client
        except SSL.WantReadError:
            server.dataReceived(client.bio_read(1 << 16))
            answer = transport.value()
            transport.clear()
            if answer:
                client.bio_write(answer)
    raise AssertionError("the handshake doesn't end")


def names_of(client: Any) -> list[str]:
    found = client.get_peer_certificate(as_cryptography=True).extensions
    return list(found.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName))


def at_once(function: Callable[..., Any], /, *args: object) -> Deferred[Any]:
    return succeed(function(*args))


class Files:
    """Certificates in a folder, and the service that has them."""

    def __init__(self, folder: Path, **names: tuple[str, ...]) -> None:
        self.clock = Clock()
        self.days = 0  # from today
        self.pairs = {name: Pair(folder / f"{name}.pem", folder / f"{name}.key") for name in names}
        for name, hosts in names.items():
            issue(self.pairs[name], *hosts)

    def start(self) -> Certificates:
        """The service, begun."""
        self.certificates = Certificates(self.clock, at_once, list(self.pairs.values()), self.now)
        self.certificates.startService()
        return self.certificates

    def now(self) -> int:
        """The time of the service."""
        at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=self.days)
        return int(at.timestamp() * 1000)

    def look(self) -> list[str]:
        """The next look, and what was said of it."""
        with capturedLogs() as captured:
            self.clock.advance(INTERVAL)
        return [str(formatEvent(event)) for event in captured if event["log_namespace"].startswith("twistedipc")]


# -- which one a client gets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ("acme.example", "acme.example"),
        ("WWW.Acme.Example", "acme.example"),
        ("shop.pages.example", "*.pages.example"),
        ("blog.pages.example", "blog.pages.example"),
        ("a.shop.pages.example", "acme.example"),
        ("pages.example", "acme.example"),
        ("evil.example", "acme.example"),
        ("", "acme.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_a_client_gets_the_certificate_for_the_name_that_it_asks_for(tmp_path: Path, asked: str, got: str) -> None:
    files = Files(
        tmp_path,
        one=("acme.example", "www.acme.example"),
        two=("*.pages.example",),
        three=("blog.pages.example",),
        four=("xn--bcher-kva.example",),
    )
    assert names_of(shown(files.start(), asked))[0] == got


def test_hostile_names_get_the_first_one(tmp_path: Path) -> None:
    certificates = Files(tmp_path, one=("acme.example",), two=("*.b.example",)).start()
    for name in ("*", "*.", "..", ".", "a" * 255, "\xff\xfe", "*.a.b.example", "acme.example\\", "b.example", "::1"):
        assert names_of(shown(certificates, name)) == ["acme.example"], name


def test_what_is_spoken_is_http_by_tls_of_today(tmp_path: Path) -> None:
    certificates = Files(tmp_path, one=("acme.example",), two=("b.example",)).start()
    for name in ("acme.example", "b.example"):
        client = shown(certificates, name, protocols=[b"h2", b"http/1.1"])
        assert client.get_alpn_proto_negotiated() == b"http/1.1"
        assert client.get_protocol_version_name() == "TLSv1.3"
        assert len(client.get_peer_cert_chain()) == 2, "with what is between it and the authority"
        assert shown(certificates, name, tls=SSL.TLS1_2_VERSION).get_protocol_version_name() == "TLSv1.2"
        with pytest.raises(SSL.Error):
            shown(certificates, name, tls=SSL.TLS1_1_VERSION)


class Socket(Transport):
    """What TLS takes for a connection by TCP."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """There is nothing between the two ends."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing waits."""


def test_a_client_that_says_nothing_in_its_handshake_is_cut_off(tmp_path: Path) -> None:
    certificates = Files(tmp_path, one=("a.example",)).start()
    releases = SiteClient(tmp_path / "releases")
    server = TLSMemoryBIOFactory(certificates, False, releases.site).buildProtocol(None)
    transport = Socket()
    assert server is not None
    server.makeConnection(transport)
    server.dataReceived(b"\x16\x03\x01\x02")  # the beginning of one
    releases.clock.advance(REQUEST_SECONDS - 1)
    assert not transport.aborted
    releases.clock.advance(2)
    assert transport.aborted


def test_until_when_a_hosts_certificate_is_good_is_known(tmp_path: Path) -> None:
    files = Files(tmp_path, one=("acme.example",), two=("*.b.example",))
    issue(files.pairs["two"], "*.b.example", days=5)
    certificates = files.start()
    ends = certificates.ends("www.b.example")
    assert ends is not None
    assert 4 <= (ends - datetime.datetime.now(datetime.UTC)).days <= 5
    assert certificates.ends("acme.example") is not None
    issue(files.pairs["one"], "acme.example", "*.b.example", "x.b.example")
    files.look()
    assert certificates.ends("www.b.example") != ends, "of the first that is for it"
    assert certificates.ends("b.example") is None


def test_one_that_has_ended_is_passed_over_for_one_that_is_good(tmp_path: Path) -> None:
    hosts = ("a.example",)
    files = Files(tmp_path, one=hosts, two=hosts, three=("*.example",))
    issue(files.pairs["one"], "a.example", "one.example", days=5)
    issue(files.pairs["two"], "a.example", "two.example", days=50)
    certificates = files.start()
    for days, asked, got in (
        (0, "a.example", "one.example"),
        (0, "elsewhere.test", "one.example"),
        (6, "a.example", "two.example"),
        (6, "elsewhere.test", "two.example"),
        (6, "one.example", "*.example"),
        (51, "a.example", "*.example"),
        (100, "a.example", "one.example"),
    ):
        files.days = days
        assert got in names_of(shown(certificates, asked)), (days, asked)
    files.days = 6
    ends = certificates.ends("a.example")
    assert ends is not None
    assert (ends - datetime.datetime.now(datetime.UTC)).days > 40


# -- files that change -----------------------------------------------------------------------------------------------


def test_a_new_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    files = Files(tmp_path, one=("a.example",), two=("b.example",))
    certificates = files.start()
    before = shown(certificates, "b.example")
    assert files.look() == []
    issue(files.pairs["two"], "b.example", "c.example")
    assert names_of(shown(certificates, "c.example")) == ["a.example"]
    (said,) = files.look()
    assert "two.pem was read again: it is for b.example, c.example, and good until 20" in said
    assert names_of(shown(certificates, "c.example")) == ["b.example", "c.example"]
    assert names_of(before) == ["b.example"], "connections stay as they are"
    issue(files.pairs["one"], "new.example")
    files.look()
    assert names_of(shown(certificates, "")) == ["new.example"]
    certificates.stopService()
    assert files.clock.getDelayedCalls() == []


def test_a_broken_file_leaves_what_was_there_and_is_said_once(tmp_path: Path) -> None:
    files = Files(tmp_path, one=("a.example",))
    certificates = files.start()
    pair = files.pairs["one"]
    write(pair.chain, b"-----BEGIN CERTIFICATE-----\nnothing")
    assert files.look() == [], "it may be half written"
    (said,) = files.look()
    assert said.startswith(f"{pair.chain} holds no certificate in PEM that can be read")
    assert "; the one before stays in use, which is good until 20" in said
    assert [files.look() for _ in range(3)] == [[], [], []]
    assert names_of(shown(certificates, "a.example")) == ["a.example"]
    os.unlink(pair.chain)
    assert files.look() == []
    (said,) = files.look()
    assert said.startswith(f"{pair.chain} can't be read: No such file or directory; the one before")
    issue(pair, "b.example")
    files.look()
    assert names_of(shown(certificates, "a.example")) == ["b.example"]


def test_a_certificate_that_was_written_before_its_key_is_no_trouble(tmp_path: Path) -> None:
    files = Files(tmp_path, one=("a.example",))
    certificates = files.start()
    other = Pair(tmp_path / "other.pem", tmp_path / "other.key")
    issue(other, "b.example")
    write(files.pairs["one"].chain, other.chain.read_bytes())
    assert files.look() == []
    assert names_of(shown(certificates, "a.example")) == ["a.example"]
    write(files.pairs["one"].key, other.key.read_bytes())
    assert len(files.look()) == 1
    assert names_of(shown(certificates, "a.example")) == ["b.example"]


def test_it_starts_with_what_can_be_used(tmp_path: Path) -> None:
    files = Files(tmp_path, one=("a.example",), two=("b.example",))
    write(files.pairs["one"].key, b"")
    with capturedLogs() as captured:
        certificates = files.start()
    said = [str(formatEvent(event)) for event in captured]
    assert len(said) == 1
    assert "one.key holds no private key in PEM" in said[0]
    assert said[0].endswith(": it isn't used until it can be")
    assert names_of(shown(certificates, "a.example")) == ["b.example"]
    issue(files.pairs["one"], "a.example")
    files.look()
    assert names_of(shown(certificates, "a.example")) == ["a.example"]
    assert names_of(shown(certificates, "")) == ["a.example"], "the order is that of the configuration"


def test_behind_an_odd_file_the_others_are_looked_at(tmp_path: Path) -> None:
    """Its key is of no kind that is known, which is found late."""
    files = Files(tmp_path, one=("a.example",), two=("b.example",))
    certificates = files.start()
    write(files.pairs["one"].chain, _of_no_curve())
    files.look()
    issue(files.pairs["two"], "c.example")
    said = files.look()
    assert len(said) == 2
    assert "one.pem holds no certificate in PEM that can be read" in said[0]
    assert names_of(shown(certificates, "c.example")) == ["c.example"]
    (tmp_path / "again").mkdir()
    again = Files(tmp_path / "again", one=("a.example",), two=("b.example",))
    write(again.pairs["one"].chain, _of_no_curve())
    assert names_of(shown(again.start(), "a.example")) == ["b.example"]


def test_it_doesnt_start_without_any(tmp_path: Path) -> None:
    files = Files(tmp_path, one=("a.example",))
    os.unlink(files.pairs["one"].key)
    with pytest.raises(BadCertificate, match=r"one\.key can't be read"):
        files.start()


# -- files that are none ---------------------------------------------------------------------------------------------


def _pem(key: Any, password: bytes = b"") -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    made: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return made


def _signed(key: Any, *, names: bool = True) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, now, now + datetime.timedelta(days=9))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]), critical=True)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


def _of_no_curve() -> bytes:
    """A certificate whose key is on a curve that doesn't exist."""
    made = x509.load_pem_x509_certificate(_signed(_KEY)).public_bytes(Encoding.DER)
    changed = made.replace(bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d03010f"))
    assert changed != made
    return _in_pem(changed)


def _off_the_curve() -> bytes:
    """A certificate whose key is no point of its curve."""
    point = _KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    made = x509.load_pem_x509_certificate(_signed(_KEY)).public_bytes(Encoding.DER)
    assert point in made
    return _in_pem(made.replace(point, point[:-1] + bytes([point[-1] ^ 1])))


def _in_pem(der: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(der).encode()


_KEY, _SHORT = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 1024)


@pytest.mark.parametrize(
    ("chain", "key", "said"),
    [
        (b"", _pem(_KEY), r"pair\.pem holds no certificate in PEM"),
        (b"\xff\x00", _pem(_KEY), r"pair\.pem holds no certificate in PEM"),
        (_pem(_KEY), _pem(_KEY), r"pair\.pem holds no certificate in PEM"),
        (_of_no_curve(), _pem(_KEY), r"pair\.pem holds no certificate in PEM that can be read"),
        (_off_the_curve(), _pem(_KEY), r"pair\.pem holds no certificate in PEM that can be read"),
        (_signed(_KEY, names=False), _pem(_KEY), r"the certificate in .*pair\.pem names no host"),
        (_signed(_KEY), b"", r"pair\.key holds no private key in PEM without a password"),
        (_signed(_KEY), _signed(_KEY), r"pair\.key holds no private key in PEM without a password"),
        (_signed(_KEY), _pem(_KEY, b"secret"), r"pair\.key holds no private key in PEM without a password"),
        (_signed(_KEY), _pem(_SHORT), r"the key in .*pair\.key isn't that of the first certificate in .*pair\.pem"),
        (_signed(_KEY), _pem(x25519.X25519PrivateKey.generate()), r"pair\.key is of a kind that no TLS server uses"),
        (_signed(_SHORT), _pem(_SHORT), r"OpenSSL doesn't take the certificate in .*pair\.pem.*key too small"),
        (b"x" * ((1 << 20) + 1), _pem(_KEY), r"pair\.pem has more than 1048576 bytes"),
    ],
)
def test_what_is_no_certificate_is_said_with_its_file(tmp_path: Path, chain: bytes, key: bytes, said: str) -> None:
    pair = Pair(tmp_path / "pair.pem", tmp_path / "pair.key")
    pair.chain.write_bytes(chain)
    pair.key.write_bytes(key)
    with pytest.raises(BadCertificate, match=said) as caught:
        read_certificate(pair)
    assert b"PRIVATE" not in str(caught.value).encode()


def test_one_that_has_ended_is_shown_all_the_same(tmp_path: Path) -> None:
    """A browser says what is wrong with it; without any, it would only say that the connection was closed."""
    pair = Pair(tmp_path / "old.pem", tmp_path / "old.key")
    issue(pair, "a.example", days=-1)
    assert read_certificate(pair).names == ("a.example",)
