"""
The certificates of endpoints ``tls:PORT``, from files (``[[certificates]]``), which are read again when they change.
Used by ``apiserver``, by ``common`` where it listens, and by the command `doctor`.

Which certificate a connection gets is decided by the name that the client asks for (SNI, RFC 6066, section 3) and the
names in the certificates: the very name first, then one with ``*`` in the place of its first part, then the first
certificate of all. A client that asks for no name gets the first. One that isn't good now is passed over, if there is
another one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IOpenSSLServerConnectionCreator, IReactorTime
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from twistedipc.server.boundaries import InThread

#: Seconds between two looks at the files.
INTERVAL = 10.0

#: The most bytes of a file. A chain has some ten thousand.
MOST = 1 << 20


#: Which context a client gets that asks for a name; None: that of the connection.
Chosen = Callable[[bytes | None], SSL.Context | None]


class BadCertificate(Exception):
    """Two files are no certificate with its key; ``str()`` of it is a sentence that names the file."""


@dataclass(frozen=True)
class Pair:
    """The files of a certificate, in PEM: its chain, the certificate itself first, and its key."""

    chain: Path
    key: Path


@dataclass(frozen=True)
class Certificate:
    """
    A certificate that can be used. ``names``: those of hosts, in small letters, also ``*.example.org``; ``context``:
    what OpenSSL makes connections of with it.
    """

    pair: Pair
    names: tuple[str, ...]
    begins: datetime
    ends: datetime
    context: SSL.Context

    def covers(self, name: str) -> bool:
        """Return whether it is for this host."""
        return name in self.names or _with_star(name) in self.names


def read_certificate(pair: Pair, chosen: Chosen = lambda name: None) -> Certificate:
    """
    Read a certificate. Blocks. Raises `BadCertificate`.

    :param chosen: called with the name that a client asks for; returns the context that it gets in place of this one
    """
    try:
        chain = x509.load_pem_x509_certificates(_content(pair.chain))
        found = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        of_chain = chain[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except x509.ExtensionNotFound:
        raise BadCertificate(f"the certificate in {pair.chain} names no host") from None
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise BadCertificate(f"{pair.chain} holds no certificate in PEM that can be read: {error}") from error
    try:
        key = load_pem_private_key(_content(pair.key), None)
        if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey):
            raise BadCertificate(f"the key in {pair.key} is of a kind that no TLS server uses")
        known = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadCertificate(f"{pair.key} holds no private key in PEM without a password: {error}") from error
    if known != of_chain:
        raise BadCertificate(f"the key in {pair.key} isn't that of the first certificate in {pair.chain}")
    try:
        context = _context(chain, crypto.PKey.from_cryptography_key(key), chosen)
    except SSL.Error as error:  # a key that is too short, for one
        raise BadCertificate(f"OpenSSL doesn't take the certificate in {pair.chain}: {error}") from error
    return Certificate(
        pair=pair,
        names=tuple(name.lower() for name in found.get_values_for_type(x509.DNSName)),
        begins=chain[0].not_valid_before_utc,
        ends=chain[0].not_valid_after_utc,
        context=context,
    )


class Choice:
    """
    Which of these certificates a name gets. ``certificates``: in the order of precedence, one at least; ``now``:
    milliseconds since the epoch.
    """

    def __init__(self, certificates: Sequence[Certificate], now: Callable[[], int]) -> None:
        self._certificates = certificates
        self._now = now
        self._by_name: dict[str, list[Certificate]] = {}
        for certificate in certificates:
            for name in certificate.names:
                self._by_name.setdefault(name, []).append(certificate)

    def certificate(self, name: str) -> Certificate | None:
        """Return the certificate for a name; None: none is for it."""
        found = [*self._by_name.get(name, ()), *self._by_name.get(_with_star(name), ())]
        return self._first_good(found) if found else None

    def context(self, name: str) -> SSL.Context:
        """Return the context of the certificate for a name, or of the first one."""
        return (self.certificate(name) or self._first_good(self._certificates)).context

    def _first_good(self, certificates: Sequence[Certificate]) -> Certificate:
        now = datetime.fromtimestamp(self._now() / 1000, UTC)
        return next((each for each in certificates if each.begins <= now < each.ends), certificates[0])


@implementer(IOpenSSLServerConnectionCreator)
class Certificates(Service):
    """
    The certificates of these files. Raises `BadCertificate` if none of them can be used; those that can't are said in
    the log. As a service it looks at the files now and then, and takes what has changed. What is broken leaves what was
    there before in use. ``now``: milliseconds since the epoch.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, in_thread: InThread, pairs: Sequence[Pair], now: Callable[[], int]) -> None:
        self._clock = clock
        self._now = now
        self._in_thread = in_thread
        self._timer: IDelayedCall | None = None
        self._looking: Deferred[None] | None = None
        self._files = [_Files(pair, self._chosen) for pair in pairs]
        problems = [problem for files in self._files if (problem := files.look()) is not None]
        if not any(files.certificate for files in self._files):
            raise problems[0] if problems else BadCertificate("there is none")
        for problem in problems:
            self._log.error("{problem}: it isn't used until it can be", problem=str(problem))
        self._choose()

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Twisted calls this with each connection: see `IOpenSSLServerConnectionCreator`."""
        return SSL.Connection(self._choice.context(""), None)

    def ends(self, name: str) -> datetime | None:
        """Return until when the certificate for this host is good; None: there is none."""
        found = self._choice.certificate(name)
        return None if found is None else found.ends

    def startService(self) -> None:
        """Begin to look at the files."""
        super().startService()
        self._timer = self._clock.callLater(INTERVAL, self.look)

    def stopService(self) -> Deferred[None] | None:
        """Stop looking."""
        super().stopService()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return self._looking

    def look(self) -> None:
        """Look at the files now, unless that is being done."""
        if not self.running or self._looking is not None:
            return
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._looking = Deferred.fromCoroutine(self._look())
        self._looking.addErrback(lambda failure: self._log.failure("certificates can't be looked at", failure))
        self._looking.addBoth(self._looked)

    def _looked(self, result: object) -> None:
        self._looking = None
        if self.running:
            self._timer = self._clock.callLater(INTERVAL, self.look)

    async def _look(self) -> None:
        before = [files.certificate for files in self._files]
        for files in self._files:
            problem = await self._in_thread(files.look)
            if problem is not None:
                kept = files.certificate
                use = "" if kept is None else f"; the one before stays in use, which is good until {kept.ends:%Y-%m-%d}"
                self._log.error("{problem}{use}", problem=str(problem), use=use)
        changed = [files.certificate for files in self._files]
        if changed == before:
            return
        self._choose()
        for certificate in [each for each in changed if each is not None and each not in before]:
            self._log.info(
                "{chain} was read again: it is for {names}, and good until {ends}",
                chain=str(certificate.pair.chain),
                names=", ".join(certificate.names),
                ends=f"{certificate.ends:%Y-%m-%d}",
            )

    def _choose(self) -> None:
        usable = [files.certificate for files in self._files if files.certificate is not None]
        self._choice = Choice(usable, self._now)

    def _chosen(self, name: bytes | None) -> SSL.Context | None:
        # OpenSSL calls this in the middle of a handshake.
        return None if not name else self._choice.context(name.decode("ascii", "replace").lower().removesuffix("."))


class _Files:
    """
    The files of one certificate, and what was last read of them. Two files are not written at once, so what is wrong is
    wrong if it still is with the next look.
    """

    def __init__(self, pair: Pair, chosen: Chosen) -> None:
        self._pair = pair
        self._chosen = chosen
        self.certificate: Certificate | None = None
        self._seen: object = None  # the files' state that was dealt with
        self._doubtful: object = None

    def look(self) -> BadCertificate | None:
        """Read them if they have changed; return what is wrong with them now, once. Blocks."""
        state = (_state(self._pair.chain), _state(self._pair.key))
        if state == self._seen:
            return None
        try:
            self.certificate = read_certificate(self._pair, self._chosen)
        except Exception as error:
            # Whatever is odd about one file, those behind it are looked at.
            problem = error if isinstance(error, BadCertificate) else BadCertificate(f"{self._pair.chain}: {error!r}")
            doubtful, self._doubtful = self._doubtful, state
            if self.certificate is not None and doubtful != state:
                return None
            self._seen = state
            return problem
        self._seen = state
        return None


def _state(path: Path) -> object:
    try:
        found = path.stat()
    except OSError as error:
        return error.errno
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST + 1)
    except OSError as error:
        raise BadCertificate(f"{path} can't be read: {error.strerror}") from error
    if len(content) > MOST:
        raise BadCertificate(f"{path} has more than {MOST} bytes")
    return content


def _context(chain: Sequence[x509.Certificate], key: crypto.PKey, chosen: Chosen) -> SSL.Context:
    leaf, *others = map(crypto.X509.from_cryptography, chain)
    return CertificateOptions(
        privateKey=key,
        certificate=leaf,
        extraCertChain=others or None,
        raiseMinimumTo=TLSVersion.TLSv1_2,
        acceptableProtocols=[b"http/1.1"],
        contextForServerName=chosen,
    ).getContext()


def _with_star(name: str) -> str:
    return f"*.{name.partition('.')[2]}"
