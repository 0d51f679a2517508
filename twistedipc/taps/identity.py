"""
Who an apiserver is among those that share a PostgreSQL: a name, and what its folders are told by. Used by
``apiserver``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from pathlib import Path

from twistedipc.storage.apiservers import Identity
from twistedipc.taps.config import ApiserverConfig, ConfigError

#: In the data folder, and in the one of the files that apiservers share.
_FOLDER, _FILES = "apiserver.id", "files.id"


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
        made = folder / f"{name}.{os.getpid()}"
        made.touch(0o600)
        made.write_text(secrets.token_hex(16) + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(made, path)
        made.unlink()
        return path.read_text().strip()
    except OSError as error:
        raise ConfigError(f"{path} can't be made or read: {error.strerror}") from error
