"""
Who is at the other end of a link: what is proven of it, and what is its own word. Pure; used by ``settings``, by the
connections, which find it out, and by what decides whom it takes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """
    The certificate that a peer has proven to have, at ``tls:``, and that an authority trusted here has issued.

    :param subject: as RFC 4514 writes it: ``CN=builder-1,O=Example``. It may be empty
    :param fingerprint: SHA-256 of the certificate (DER), as 64 lower-case hexadecimal digits
    """

    subject: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Origin:
    """What a connection's transport tells of the other end, without a word of its own. `PeerInfo` has the meanings."""

    address: str = ""
    uid: int | None = None
    gid: int | None = None
    pid: int | None = None
    certificate: PeerCertificate | None = None


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """
    Who is at the other end.

    Proven are ``key``, ``uid``, ``gid``, ``pid`` and ``certificate``, where there are any. A ``name`` is proven only if
    something proven is bound to it: a key (`NamedKey` with a ``name``), or by ``listen(accept=…)`` a user
    (`names_by_uid`) or a certificate (`names_by_certificate`). Otherwise each peer that may link can take each name.

    The kernel tells ``uid``, ``gid`` and ``pid`` of a UNIX socket: those of the process that called connect(), or
    listen(), or made the socket pair, at the time of that call. Another process may have the connection by now, and a
    ``pid`` may belong to another process after that one's end.
    """

    name: str  # the peer's own word, as it gave it to `dial` or `listen`
    role: str  # of an interface's two sides: "calculator-server", "calculator-client"; its own word, and the one wanted
    incarnation: str  # changes each time the peer's process starts; its own word
    version: int  # of the protocol
    address: str  # for people; not proven: "127.0.0.1:4711", "unix"
    key: str = ""  # the id of the named key by which it is proven; "" is the shared key, or none
    features: frozenset[str] = frozenset()  # what both ends can do beside the version: "interface"
    uid: int | None = None  # the user, at `unix:`; None elsewhere
    gid: int | None = None  # the user's group, at `unix:`
    pid: int | None = None  # the process, at `unix:`
    certificate: PeerCertificate | None = None  # at `tls:`; None for a dialler that wasn't asked for one


#: Decides whether a peer is taken: gives a reason to refuse it, or None; or something to await for that.
Accept = Callable[[PeerInfo], "str | Awaitable[str | None] | None"]


def names_by_uid(uids: Mapping[str, int]) -> Callable[[PeerInfo], str | None]:
    """
    Return an ``accept`` for `listen` at ``unix:`` that binds names to users. A name that isn't among ``uids`` is
    refused.

    :param uids: by a peer's name, the id of the user whose processes may bear it
    """

    def accept(peer: PeerInfo) -> str | None:
        if peer.uid is not None and uids.get(peer.name) == peer.uid:
            return None
        return f"the name {peer.name} isn't for the user with the id {peer.uid}"

    return accept


def names_by_certificate(fingerprints: Mapping[str, str]) -> Callable[[PeerInfo], str | None]:
    """
    Return an ``accept`` for `listen` at ``tls:`` (with an ``authority``) that binds names to certificates. A name that
    isn't among ``fingerprints`` is refused.

    :param fingerprints: by a peer's name, the SHA-256 of its certificate in hexadecimal, as
        ``openssl x509 -fingerprint -sha256`` prints it, with colons or without
    """
    known = {name: text.replace(":", "").lower() for name, text in fingerprints.items()}

    def accept(peer: PeerInfo) -> str | None:
        if peer.certificate is not None and known.get(peer.name) == peer.certificate.fingerprint:
            return None
        return f"the name {peer.name} isn't for this certificate"

    return accept
