"""
Keys of a link: 32 random bytes in a file that only its owner can read. Used by the commands that set a
machine up, and by composition roots, which pass the key to `SessionSettings`.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path

from twistedipc.ipc.wire.errors import BadKey

KEY_BYTES = 32
_KEY_TEXT = re.compile(rb"[0-9a-fA-F]{64}\s*\Z")


def make_key() -> bytes:
    """Return a new key: 32 random bytes."""
    return secrets.token_bytes(KEY_BYTES)


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
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(key.hex().encode("ascii") + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return key


def read_key(path: str | Path) -> bytes:
    """
    Read the key in a file: 64 hexadecimal digits, as `write_key` writes them.

    :raises BadKey: others could read the file, or it doesn't hold a key
    :raises OSError: it can't be read
    """
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
        text = file.read(1024)
    if not _KEY_TEXT.match(text):
        raise BadKey(f"the key file {path} doesn't hold a key: 64 hexadecimal digits are expected")
    return bytes.fromhex(text.decode("ascii").strip())
