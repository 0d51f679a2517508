"""
Keys of a link: 32 random bytes in a file that only its owner can read. Used by the commands that set a
machine up, and by composition roots, which pass the key to `SessionSettings`.

A shared key's file has one line of 64 hexadecimal digits. A named key's has its id and a colon before them.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path

from twistedipc.ipc.wire.errors import BadKey
from twistedipc.ipc.wire.keyring import NamedKey

KEY_BYTES = 32
_KEY_TEXT = re.compile(rb"[0-9a-fA-F]{64}\s*\Z")
_NAMED_KEY_TEXT = re.compile(rb"([A-Za-z0-9._-]{1,64}):([0-9a-fA-F]{64})\s*\Z")


def make_key() -> bytes:
    """Return a new key: 32 random bytes."""
    return secrets.token_bytes(KEY_BYTES)


def make_named_key(name: str = "", role: str = "", *, sole: bool = True) -> NamedKey:
    """Return a new key with a random id: 32 random bytes. The arguments are `NamedKey`'s."""
    return NamedKey(secrets.token_hex(6), make_key(), name, role, sole)


def make_nonce() -> str:
    """Return a new nonce for a handshake: 32 random bytes, in hexadecimal."""
    return secrets.token_hex(KEY_BYTES)


def write_key(path: str | Path) -> bytes:
    """
    Make a new key, and write it, in hexadecimal, to a new file with mode 0600.

    :raises FileExistsError: there is one: a key that is in use is never written over
    :raises OSError: it can't be written
    """
    key = make_key()
    _write(path, key.hex())
    return key


def write_named_key(path: str | Path, key: NamedKey) -> None:
    """
    Write a named key, its id and its secret, to a new file with mode 0600. Whom it is for isn't written.

    :raises FileExistsError: there is one: a key that is in use is never written over
    :raises OSError: it can't be written
    """
    _write(path, f"{key.id}:{key.secret.hex()}")


def read_key(path: str | Path) -> bytes:
    """
    Read the key in a file: 64 hexadecimal digits, as `write_key` writes them.

    :raises BadKey: others could read the file, or it doesn't hold a key
    :raises OSError: it can't be read
    """
    text = _read(path)
    if _NAMED_KEY_TEXT.match(text):
        raise BadKey(f"the key file {path} holds a named key, and a shared one is expected: 64 hexadecimal digits")
    if not _KEY_TEXT.match(text):
        raise BadKey(f"the key file {path} doesn't hold a key: 64 hexadecimal digits are expected")
    return bytes.fromhex(text.decode("ascii").strip())


def read_named_key(path: str | Path, name: str = "", role: str = "") -> NamedKey:
    """
    Read the named key in a file, as `write_named_key` writes it, and bind it to a peer.

    :param name: of the peer that the key is for; "" is any
    :param role: of that peer; "" is any
    :raises BadKey: others could read the file, or it doesn't hold a named key
    :raises OSError: it can't be read
    """
    found = _NAMED_KEY_TEXT.match(_read(path))
    if found is None:
        raise BadKey(f"the key file {path} doesn't hold a named key: an id, a colon and 64 hexadecimal digits")
    return NamedKey(found[1].decode("ascii"), bytes.fromhex(found[2].decode("ascii")), name, role)


def _write(path: str | Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(text.encode("ascii") + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _read(path: str | Path) -> bytes:
    # Opened first and looked at afterwards, so that what is checked is what is read; O_NONBLOCK for the case that it
    # is a FIFO.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadKey(f"the key file {path} is not a file")
        if status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise BadKey(f"the key file {path} can be used by others (its mode is {mode:04o}): run `chmod 600 {path}`")
        return file.read(1024)
