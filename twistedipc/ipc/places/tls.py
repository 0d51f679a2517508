"""
TLS: certificates out of files, and what connections that use it say when they are lost. Imported when a ``tls:``
endpoint is used, since it brings OpenSSL. Used by ``endpoints`` and ``inherited``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from OpenSSL import SSL, crypto
from service_identity import VerificationError
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    KeyPair,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOFactory

from twistedipc.ipc.places.endpoints import LinkReactor, TLSFiles
from twistedipc.ipc.wire.errors import BadEndpoint

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def client_over(
    plain: IStreamClientEndpoint, host: str, files: TLSFiles, reactor: LinkReactor
) -> IStreamClientEndpoint:
    """Return the endpoint that speaks TLS with ``host``, over the connection of ``plain``."""
    certificate, chain = _own_certificate(files)
    options = optionsForClientTLS(
        host,
        trustRoot=_trust(files),
        clientCertificate=certificate,
        extraCertificateOptions={"extraCertChain": chain} if chain else None,
    )
    return wrapClientTLS(options, plain, reactor)


def server_options(files: TLSFiles) -> CertificateOptions:
    """Return the options of a TLS server. Raise `BadEndpoint` if there is no certificate."""
    certificate, chain = _own_certificate(files)
    if certificate is None:
        raise BadEndpoint("to listen at tls:, a certificate and its key are needed")
    return CertificateOptions(
        privateKey=certificate.privateKey.original,
        certificate=certificate.original,
        extraCertChain=chain or None,
        # Given a root of trust, it also requires that clients have a certificate, which the `ssl:` string can't.
        trustRoot=_trust(files),
    )


def server_factory(files: TLSFiles, reactor: LinkReactor) -> Callable[[IProtocolFactory], IProtocolFactory]:
    """Return what wraps the factory of a server's connections in TLS. Raise `BadEndpoint` as `server_options` does."""
    options = server_options(files)
    return lambda factory: cast(IProtocolFactory, TLSMemoryBIOFactory(options, False, cast(Any, factory), reactor))


def words_of(error: BaseException) -> str | None:
    """Say what an error of TLS's means, for people; None: it is no such error."""
    match error:
        case SSL.Error(args=([(*_, reason), *_],)):
            return f"TLS: {reason}"
        case VerificationError():
            return "TLS: the peer's certificate is for another host than the one that was dialled"
        case _:
            return None


def is_refusal(error: BaseException) -> bool:
    """Whether an error means that one side doesn't accept the other's certificate, or doesn't speak TLS."""
    match error:
        case SSL.Error(args=([(*_, reason), *_],)):
            return any(word in str(reason).lower() for word in ("certificate", "unknown ca", "wrong version", "alert"))
        case _:
            return isinstance(error, VerificationError)


def _certificates(path: str | Path) -> list[Certificate]:
    try:
        blocks = _PEM.findall(Path(path).read_bytes())
        certificates = [Certificate.loadPEM(block) for block in blocks]
    except OSError as error:
        raise BadEndpoint(f"the certificate file {path} can't be read: {error.strerror}") from None
    except crypto.Error:
        certificates = []
    if not certificates:
        raise BadEndpoint(f"the certificate file {path} doesn't hold a certificate in PEM")
    return certificates


def _trust(files: TLSFiles) -> Any:
    return None if files.authority is None else trustRootFromCertificates(_certificates(files.authority))


def _own_certificate(files: TLSFiles) -> tuple[PrivateCertificate | None, list[crypto.X509]]:
    """This side's certificate with its key, if it has one, and the chain above it."""
    if files.certificate is None and files.key is None:
        return None, []
    if files.certificate is None or files.key is None:
        raise BadEndpoint("a certificate and its key are given together")
    first, *chain = _certificates(files.certificate)
    try:
        pair = KeyPair.load(Path(files.key).read_bytes(), crypto.FILETYPE_PEM)
    except OSError as error:
        raise BadEndpoint(f"the key file {files.key} can't be read: {error.strerror}") from None
    except crypto.Error:
        raise BadEndpoint(f"the key file {files.key} doesn't hold a private key in PEM") from None
    return PrivateCertificate.fromCertificateAndKeyPair(first, pair), [link.original for link in chain]
