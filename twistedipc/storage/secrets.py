"""
How secrets' values are sealed before they go into the ledger: Fernet (AES-128-CBC and HMAC-SHA-256), with a key
that is in a file of its own. Used by ``server`` and ``web``; ``storage`` layer.

A copy of the database tells nothing without a copy of the key file.
"""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from twistedipc.disk.files import sync_folder


class SecretUnreadable(Exception):
    """The key file is not usable, or it isn't the one that a secret was sealed with."""


class SecretBox:
    """
    Seals and opens with the key in ``path``, which is made (mode 0600) of 32 bytes from ``random`` if it isn't there.
    """

    def __init__(self, path: Path, random: Callable[[int], bytes] = os.urandom) -> None:
        self._path = path
        key = _key(path, random)
        self._fernet = Fernet(key)
        self._key = base64.urlsafe_b64decode(key)

    def seal(self, value: str) -> bytes:
        """Return the value encrypted, for the ledger."""
        return self._fernet.encrypt(value.encode())

    def open(self, sealed: bytes) -> str:
        """Return what `seal` was given. Raise `SecretUnreadable` if that can't be done."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken as error:
            raise SecretUnreadable(f"{self._path} is not the key that this secret was sealed with") from error

    def name_for(self, purpose: str) -> str:
        """16 hexadecimal digits that only this installation has, and always the same; they tell nothing of the key."""
        return hmac.digest(self._key, f"twistedipc name: {purpose}".encode(), "sha256").hex()[:16]


def make_deploy_key(comment: str) -> tuple[str, str]:
    """Make an ed25519 key for ssh. Return its private half, in OpenSSH's form, and its public one, one line."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return private.decode(), f"{public.decode()} {comment}"


def _key(path: Path, random: Callable[[int], bytes]) -> bytes:
    while True:
        try:
            key = path.read_bytes().strip()
        except FileNotFoundError:
            _make_key(path, random)
            continue
        if path.stat().st_mode & 0o077:
            raise SecretUnreadable(f"{path} can be read by others: chmod 600 {path}")
        try:
            Fernet(key)
        except ValueError as error:
            raise SecretUnreadable(f"{path} doesn't hold a key (32 bytes as URL-safe base64)") from error
        return key


def _make_key(path: Path, random: Callable[[int], bytes]) -> None:
    """Make the key file, whole or not at all; should another process have made it meanwhile, its key stays."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, base64.urlsafe_b64encode(random(32)) + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        os.unlink(temporary)
    sync_folder(path.parent)
