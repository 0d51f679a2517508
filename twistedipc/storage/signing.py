"""
The key by which an apiserver signs what it says of builds (Ed25519). ``storage`` layer; used by ``server``, and by the
command, which checks signatures.

The private half is in a file beside ``secret.key`` (mode 0600), the public one in another beside that.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from twistedipc.disk.files import sync_folder


class KeyUnusable(Exception):
    """A file holds no usable key. ``str()`` of it says which, and what to do."""


class PublicKey:
    """The public half. ``keyid``: the SHA-256 of its DER form, in hexadecimal digits."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        self.pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        self.keyid = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()

    @classmethod
    def read(cls, pem: bytes) -> PublicKey:
        """Read a key in PEM. Raises `KeyUnusable`."""
        try:
            key = load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyUnusable("there is no public key in PEM in it") from error
        if not isinstance(key, Ed25519PublicKey):
            raise KeyUnusable("the key in it isn't one for Ed25519")
        return cls(key)

    def has_signed(self, data: bytes, signature: bytes) -> bool:
        """Return whether this is the key's signature of these bytes."""
        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """
    The key in ``path``, which is made if it isn't there; the public half is written beside it, as ``NAME.pub``. Raises
    `KeyUnusable`.
    """

    def __init__(self, path: Path) -> None:
        self._key = _key(path)
        self.public = PublicKey(self._key.public_key())
        shown = path.with_suffix(".pub")
        if not shown.exists() or shown.read_text() != self.public.pem:
            _write(shown, self.public.pem.encode(), 0o644)

    def sign(self, data: bytes) -> bytes:
        """Return the signature of these bytes."""
        return self._key.sign(data)


def load_or_make(path: Path, make: Callable[[], Ed25519PrivateKey | RSAPrivateKey]) -> PrivateKeyTypes:
    """Return the private key in a file, which is made if it isn't there. Raises `KeyUnusable`, or OSError."""
    if not path.exists():
        _write(path, make().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    if path.stat().st_mode & 0o077:
        raise KeyUnusable(f"{path} can be read by others: chmod 600 {path}")
    try:
        return load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyUnusable(f"{path} doesn't hold a private key in PEM") from error


def _key(path: Path) -> Ed25519PrivateKey:
    key = load_or_make(path, Ed25519PrivateKey.generate)
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnusable(f"the key in {path} isn't one for Ed25519")
    return key


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    sync_folder(path.parent)
