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

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from twistedipc.disk.files import sync_folder


class SecretUnreadable(Exception):
    """The key file is not usable, or it isn't the one that a secret was sealed with."""


class SecretBox:
    """
    Seals and opens with the keys in ``path``. The first of them seals; the others are there while the key is being
    replaced (``resealing``), and open. The file is made (mode 0600) of 32 bytes from ``random`` if it isn't there, and
    read again when it has changed: so a running apiserver takes part when another process replaces the key.
    """

    def __init__(self, path: Path, random: Callable[[int], bytes] = os.urandom) -> None:
        self._path = path
        self._random = random
        self._read: tuple[int, int, int] | None = None  # what the file was when it was read
        self._keys: list[bytes] = []
        self._look()

    def seal(self, value: str) -> bytes:
        """Return the value encrypted, for the ledger. Raise `SecretUnreadable` if there is no usable key."""
        # Fernet takes its nonce from the system, not from ``random``: only its private functions would take another,
        # nothing decides by it, and one that came twice would show which secrets begin alike.
        return self._look().encrypt(value.encode())

    def open(self, sealed: bytes) -> str:
        """Return what `seal` was given. Raise `SecretUnreadable` if that can't be done."""
        try:
            return self._look().decrypt(sealed).decode()
        except InvalidToken as error:
            raise SecretUnreadable(f"{self._path} is not the key that this secret was sealed with") from error

    def sealed_anew(self, sealed: bytes) -> bytes | None:
        """
        Return the same secret under the first key; None if it is that already. Raise `SecretUnreadable` if it can't be
        opened.
        """
        keys = self._look()
        try:
            Fernet(self._keys[0]).decrypt(sealed)
        except InvalidToken:
            try:
                return keys.rotate(sealed)
            except InvalidToken as error:
                raise SecretUnreadable(f"{self._path} is not the key that this secret was sealed with") from error
        return None

    def name_for(self, purpose: str) -> str:
        """16 hexadecimal digits that only this installation has, and always the same; they tell nothing of the key."""
        self._look()
        key = base64.urlsafe_b64decode(self._keys[0])
        return hmac.digest(key, f"twistedipc name: {purpose}".encode(), "sha256").hex()[:16]

    def key_for(self, purpose: str) -> bytes:
        """Return 32 bytes that only this installation has, and which tell nothing of its key; others once it is new."""
        self._look()
        key = base64.urlsafe_b64decode(self._keys[0])
        return hmac.digest(key, f"twistedipc key: {purpose}".encode(), "sha256")

    # -- replacing the key

    @property
    def is_being_replaced(self) -> bool:
        """Whether there is an old key beside the one that seals."""
        self._look()
        return len(self._keys) > 1

    def begin_replacing(self) -> bool:
        """Put a new key before the one that there is. Return False if that was done before, and not ended."""
        self._look()
        if len(self._keys) > 1:
            return False
        self._write([base64.urlsafe_b64encode(self._random(32)), *self._keys])
        return True

    def end_replacing(self) -> None:
        """Erase all keys but the first."""
        self._look()
        if len(self._keys) > 1:
            self._write(self._keys[:1])

    def _look(self) -> MultiFernet:
        try:
            status = os.stat(self._path)
            now = (status.st_ino, status.st_mtime_ns, status.st_size)
        except FileNotFoundError:
            now = None
        if now is None or now != self._read:
            self._keys = _keys(self._path, self._random)
            self._read = now
        return MultiFernet([Fernet(key) for key in self._keys])

    def _write(self, keys: list[bytes]) -> None:
        temporary = _draft(self._path, keys)
        os.replace(temporary, self._path)
        sync_folder(self._path.parent)
        self._read = None


def make_deploy_key(comment: str) -> tuple[str, str]:
    """Make an ed25519 key for ssh. Return its private half, in OpenSSH's form, and its public one, one line."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return private.decode(), f"{public.decode()} {comment}"


def _keys(path: Path, random: Callable[[int], bytes]) -> list[bytes]:
    while True:
        try:
            keys = path.read_bytes().split()
        except FileNotFoundError:
            _make_key(path, random)
            continue
        if path.stat().st_mode & 0o077:
            raise SecretUnreadable(f"{path} can be read by others: chmod 600 {path}")
        try:
            MultiFernet([Fernet(key) for key in keys])
        except ValueError as error:
            raise SecretUnreadable(f"{path} doesn't hold a key (32 bytes as URL-safe base64)") from error
        return keys


def _make_key(path: Path, random: Callable[[int], bytes]) -> None:
    """Make the key file, whole or not at all; should another process have made it meanwhile, its key stays."""
    temporary = _draft(path, [base64.urlsafe_b64encode(random(32))])
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        os.unlink(temporary)
    sync_folder(path.parent)


def _draft(path: Path, keys: list[bytes]) -> Path:
    """Write the keys, one a line, to a file beside ``path``, and return that."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, b"\n".join(keys) + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return temporary
