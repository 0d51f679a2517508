"""
Landlock: a process gives up rights, for itself and all that it starts. It needs no rights of its own for that, and it
works in a sandbox too. By the system's calls, since Python has none for it.

https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable, Mapping

from twistedipc.isolation.calls import LIBC, forbid_new_privileges, system_call

# They have the same numbers on all machines.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_GET_VERSION = 1
_PATH_BENEATH = 1

#: From this version on, all that changes a file can be refused, and files can be moved within what is allowed.
WRITING_VERSION = 3

#: From this version on (Linux 6.12), no signal reaches a process outside, and no UNIX socket without a file; TCP can be
#: refused since version 4, and what drivers are told since 5. Below it, a step could kill its runner, and the builder.
CONFINING_VERSION = 6

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEVICE = 1 << 14, 1 << 15
#: Remove a folder, remove a file, make each kind of file, move to another folder.
_FOLDERS = sum(1 << bit for bit in range(4, 14))
_MAKE_DEVICES = 1 << 6 | 1 << 11
_CHANGE = _WRITE_FILE | _TRUNCATE | _FOLDERS
_BIND_TCP, _CONNECT_TCP = 1, 2
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2

#: What a process may do with a file, or with all below a folder.
READ = _EXECUTE | _READ_FILE | _READ_DIR
WRITE = READ | _CHANGE & ~_MAKE_DEVICES
USE_DEVICE = _READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL_DEVICE

#: Those of them that a rule for a single file can have.
_OF_FILES = _EXECUTE | _READ_FILE | USE_DEVICE


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def version() -> int:
    """Return the version of Landlock that the kernel has; 0 if it has none, or it is off."""
    return max(0, int(LIBC.syscall(_CREATE_RULESET, None, 0, _GET_VERSION)))


def writing_below(folders: Iterable[str], *, devices: bool = True) -> int | None:
    """
    Return a descriptor of a rule that forbids to write anywhere but below these folders, for `restrict`; None if the
    kernel can't hold anything to it. Raises OSError if one of the folders isn't there.

    :param devices: what is in ``/dev`` can be written to, such as ``/dev/null``
    """
    if version() < WRITING_VERSION:
        return None
    allowed = dict.fromkeys(folders, _CHANGE)
    return _ruleset(_Ruleset(files=_CHANGE), {**allowed, **({"/dev": _WRITE_FILE | _TRUNCATE} if devices else {})})


def confining(allowed: Mapping[str, int]) -> int:
    """
    Return a descriptor of a rule for `restrict`: nothing can be done with files but what is ``allowed`` (a path and
    what can be done there: `READ`, `WRITE`, `USE_DEVICE`), no TCP port be bound or connected to, and no process outside
    be sent a signal, or be connected to by a UNIX socket without a file. Raises OSError.
    """
    everything = READ | _CHANGE | _IOCTL_DEVICE
    wanted = _Ruleset(files=everything, network=_BIND_TCP | _CONNECT_TCP, scoped=_ABSTRACT_SOCKETS | _SIGNALS)
    return _ruleset(wanted, allowed)


def restrict(rule: int) -> None:
    """Hold this process, and all that it starts from now on, to a rule. Raises OSError."""
    forbid_new_privileges()
    system_call("landlock_restrict_self", _RESTRICT_SELF, rule, 0)


def _ruleset(wanted: _Ruleset, allowed: Mapping[str, int]) -> int:
    ruleset = system_call("landlock_create_ruleset", _CREATE_RULESET, ctypes.byref(wanted), ctypes.sizeof(wanted), 0)
    try:
        for path, access in allowed.items():
            _allow(ruleset, path, access)
    except BaseException:
        os.close(ruleset)
        raise
    return ruleset


def _allow(ruleset: int, path: str, access: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= _OF_FILES
        beneath = _Beneath(access, descriptor)
        system_call(f"landlock_add_rule {path}", _ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(beneath), 0)
    finally:
        os.close(descriptor)
