"""
Files that are there whole or not at all, and survive a power cut. Called by everything that keeps something on disk:
attempts, releases, artifacts, secrets.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from twistedipc.disk.calls import DiskCalls

#: Errors of a disk that may have room, or work again, a little later: a writer waits and tries again.
PASSING_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})

_encoder = msgspec.json.Encoder()

_T = TypeVar("_T")


def write_file(
    path: Path, value: msgspec.Struct | Sequence[msgspec.Struct], *, mode: int = 0o644, disk: DiskCalls = os
) -> None:
    """
    Write ``value`` as JSON to ``path``, whole or not at all, and durably (write, fsync, rename, fsync the folder).
    """
    write_beside(path, value, mode=mode, disk=disk)
    put_in_place(path, disk=disk)


def beside(path: Path) -> Path:
    """Return where `write_beside` writes what is to be in ``path``."""
    return path.with_name(f".{path.name}.new")


def write_beside(
    path: Path, value: msgspec.Struct | Sequence[msgspec.Struct], *, mode: int = 0o644, disk: DiskCalls = os
) -> None:
    """
    Write ``value`` as JSON, with its content durable, beside ``path``: what is there stays until `put_in_place`, which
    takes next to no time.
    """
    descriptor = disk.open(beside(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        data = memoryview(_encoder.encode(value))
        while data:
            data = data[disk.write(descriptor, data) :]
        disk.fsync(descriptor)
    finally:
        disk.close(descriptor)


def put_in_place(path: Path, *, disk: DiskCalls = os) -> None:
    """Replace ``path``, durably, by what `write_beside` has written."""
    disk.replace(beside(path), path)
    sync_folder(path.parent, disk=disk)


def sync_folder(path: Path, *, disk: DiskCalls = os) -> None:
    """Make the folder's entries durable."""
    descriptor = disk.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        disk.fsync(descriptor)
    finally:
        disk.close(descriptor)


def sync_file_system(path: Path) -> None:
    """
    Make all that was written to a folder's file system durable, in one call: for folders with so many files that a call
    for each would take minutes. Raises OSError.
    """
    import ctypes  # not above: a runner doesn't need it for this

    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "syncfs"):  # not Linux
            os.sync()
        elif libc.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def read_file(path: Path, kind: type[_T]) -> _T | None:
    """Return the value in ``path``; None if there is no such file. Raises `DecodeError` if it isn't a ``kind``."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(data, type=kind)
    except UnicodeDecodeError as error:  # msgspec lets it through as it is
        raise msgspec.DecodeError(str(error)) from error


def remove_tree(path: Path) -> None:
    """
    Remove a folder with what is in it, as far as that is possible: also where its maker has taken the right to do
    so away, and however deep it is. A link is left alone.
    """
    if not os.path.lexists(path):
        return
    import shutil  # not above: it is large, and a runner seldom removes a folder

    try:
        shutil.rmtree(path)
    except (OSError, RecursionError):
        if path.is_dir() and not path.is_symlink():
            _remove_flat(str(path))


def _remove_flat(top: str) -> None:
    """
    Remove a folder with what is in it, as far as that is possible. Each folder in it is moved to the top before it is
    emptied. So no path becomes too long, however deep the folders are, and no descriptor stays open.
    """
    pending = [top]
    while pending:
        folder = pending.pop()
        try:
            os.chmod(folder, 0o700)
            with os.scandir(folder) as scanned:
                entries = list(scanned)
        except OSError:
            continue
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    os.chmod(entry.path, 0o700)  # to move a folder one needs the right to write into it
                    moved = f"{top}/.{os.urandom(8).hex()}"
                    os.rename(entry.path, moved)
                    pending.append(moved)
                else:
                    os.unlink(entry.path)
            except OSError:
                continue
        if folder != top:
            _remove_folder(folder)
    _remove_folder(top)


def _remove_folder(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError:  # something in it can't be removed
        pass
