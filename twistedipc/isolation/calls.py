"""Calls of the system for which Python has no function. Used by ``landlock``, ``seccomp`` and ``warden``."""

from __future__ import annotations

import ctypes
import os

LIBC = ctypes.CDLL(None, use_errno=True)

_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 24, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION = 0x20080522
_CAPABILITIES = 64


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def system_call(name: str, number: int, *arguments: object) -> int:
    """Make a system call, and return what it returns. Raises OSError, with ``name`` in its text."""
    result = int(LIBC.syscall(number, *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return result


def forbid_new_privileges() -> None:
    """Let no program that this process starts give it more rights: not one that is setuid, either. Raises OSError."""
    if LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs can't be set")


def drop_capabilities() -> None:
    """Give up all capabilities of this process, for ever once `forbid_new_privileges` was called. Raises OSError."""
    for number in range(_CAPABILITIES):
        # Refused to a process that has none of its own, which can't regain any then either.
        LIBC.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header, none = _Header(_CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    if LIBC.capset(ctypes.byref(header), ctypes.byref(none)):
        raise OSError(ctypes.get_errno(), "the capabilities can't be given up")
