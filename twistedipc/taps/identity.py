"""
Who an apiserver is among those that share a PostgreSQL: a name, and what its folders are told by. Used by
``apiserver``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
from pathlib import Path

from twistedipc.storage.apiservers import Identity
from twistedipc.taps.config import ApiserverConfig, ConfigError

#: In the data folder, and in the one of the files that apiservers share.
_FOLDER, _FILES = "apiserver.id", "files.id"

#: What file systems without hard links answer.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def identity_of(config: ApiserverConfig) -> Identity | None:
    """Return what an apiserver says of itself; None: its database has no other. Raises `ConfigError`."""
    if config.database_url.get_backend_name() == "sqlite":
        return None
    folder = _mark(config.data, _FOLDER)
    name = config.cluster.name or f"apiserver-{folder[:8]}"
    return Identity(
        name=name,
        folder=folder,
        files=_mark(config.files, _FILES),
        url=config.api_url,
        host=socket.gethostname(),
        pid=os.getpid(),
        # Builders take two of one name for the same, so each of several has its own.
        link=config.link.name or name,
    )


def _mark(folder: Path, name: str) -> str:
    """Return what a folder is told by, made when it is asked for first: also by two programs at once."""
    path = folder / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _make(path, secrets.token_hex(16) + "\n")
        mark = path.read_text().strip()
    except OSError as error:
        raise ConfigError(f"{path} can't be made or read: {error.strerror}") from error
    if not mark:
        raise ConfigError(f"{path} is empty: a start was broken off there. Delete it, and start again")
    return mark


def _make(path: Path, content: str) -> None:
    """Make a file that is there with all its content at once, unless it is there."""
    # Not by the process's number: in containers that share a folder it is mostly the same.
    made = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    made.touch(0o600)
    try:
        made.write_text(content)
        os.link(made, path)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with contextlib.suppress(FileExistsError), path.open("x") as file:
            file.write(content)
    finally:
        made.unlink()
