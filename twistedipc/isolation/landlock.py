"""
Landlock: a process gives up the right to write anywhere but below some folders, for itself and all that it starts. It
needs no rights of its own, and works in a sandbox too. By the system's calls, since Python has none for it.

https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

# They have the same numbers on all machines.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_GET_VERSION = 1
_PATH_BENEATH = 1
_NO_NEW_PRIVILEGES = 38  # of prctl

#: From this version on, all that changes a file can be refused, and files can be moved within what is allowed.
VERSION = 3

_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
#: Remove a folder, remove a file, make each kind of file, move to another folder.
_FOLDERS = sum(1 << bit for bit in range(4, 14))
_ALL = _WRITE_FILE | _TRUNCATE | _FOLDERS

_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def writing_below(folders: Iterable[str], *, devices: bool = True) -> int | None:
    """
    Return a descriptor of a rule that forbids to write anywhere but below these folders, for `restrict`; None if the
    kernel can't hold anything to it. Raises OSError if one of the folders isn't there.

    :param devices: what is in ``/dev`` can be written to, such as ``/dev/null``
    """
    if _libc.syscall(_CREATE_RULESET, None, 0, _GET_VERSION) < VERSION:
        return None
    wanted = _Ruleset(_ALL)
    ruleset = int(_libc.syscall(_CREATE_RULESET, ctypes.byref(wanted), ctypes.sizeof(wanted), 0))
    if ruleset < 0:
        return None
    try:
        for folder in folders:
            _allow(ruleset, folder, _ALL)
        if devices:
            _allow(ruleset, "/dev", _WRITE_FILE | _TRUNCATE)
    except BaseException:
        os.close(ruleset)
        raise
    return ruleset


def restrict(rule: int) -> None:
    """Hold this process, and all that it starts from now on, to a rule. Raises OSError."""
    if _libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or _libc.syscall(_RESTRICT_SELF, rule, 0):
        raise OSError(ctypes.get_errno(), "landlock_restrict_self")


def _allow(ruleset: int, folder: str, access: int) -> None:
    descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        beneath = _Beneath(access, descriptor)
        if _libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(beneath), 0):
            raise OSError(ctypes.get_errno(), "landlock_add_rule", folder)
    finally:
        os.close(descriptor)
