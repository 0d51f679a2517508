"""
The calls of the kernel that no step may make, as a program of seccomp's (classic BPF). Pure; used by ``bubblewrap``.

Namespaces leave something of the machine: keys belong to a user, whatever namespace that is in, and some families of
sockets lead to the host of a virtual machine past all network namespaces. What else is refused has had many faults,
and no build needs it. Programs are told what a kernel without it would tell them, so they have another way.

https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

#: What is refused. The rings would also make calls past this program.
REFUSED = (
    *("add_key", "request_key", "keyctl"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("bpf", "perf_event_open", "userfaultfd"),
)

#: The families of sockets that a step may have (socket(2)): UNIX, IPv4, IPv6, netlink. Namespaces hold these.
FAMILIES = (1, 2, 10, 16)

_ALLOW = 0x7FFF0000
_ERROR = 0x00050000
_ABSENT, _NO_FAMILY = _ERROR | errno.ENOSYS, _ERROR | errno.EAFNOSUPPORT

# Where the kernel's `seccomp_data` has the call's number, its numbering, and the lower half of the first argument: all
# of these processors have the lower half first.
_NUMBER, _NUMBERING, _ARGUMENT = 0, 4, 16

# Instructions: load a word, jump if equal, jump if at least, return.
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06


class Numbering(NamedTuple):
    """How calls are numbered for one kind of program."""

    audit: int  # the kernel's name for it
    socket: int
    refused: Sequence[int]  # `REFUSED`, in its order
    more: Sequence[int] = ()  # what is refused in this numbering alone
    most: int = 0  # numbers from this one on are refused; 0: none


_X86_64 = Numbering(0xC000003E, 41, (248, 249, 250, 425, 426, 427, 321, 298, 323), most=0x40000000)  # x32
# Its socketcall has the family behind a pointer, where no program of this kind sees it.
_I386 = Numbering(0x40000003, 359, (286, 287, 288, 425, 426, 427, 357, 336, 374), more=(102,))
_ARM = Numbering(0x40000028, 281, (309, 310, 311, 425, 426, 427, 386, 364, 388), more=(102,))
_COMMON = (217, 218, 219, 425, 426, 427, 280, 241, 282)

#: The kinds of programs that run on each kind of machine (uname(2)).
MACHINES: Mapping[str, Sequence[Numbering]] = {
    "x86_64": (_X86_64, _I386),
    "aarch64": (Numbering(0xC00000B7, 198, _COMMON), _ARM),
    "riscv64": (Numbering(0xC00000F3, 198, _COMMON),),
}


def program(machine: str) -> bytes:
    """Return the program for a kind of machine; b"" if there is none for it."""
    numberings = MACHINES.get(machine)
    if numberings is None:
        return b""
    made = [_instruction(_LOAD, _NUMBERING)]
    for numbering in numberings:
        body = list(_of(numbering))
        made += [_instruction(_EQUAL, numbering.audit, false=len(body)), *body]
    return b"".join([*made, _instruction(_RETURN, _ABSENT)])


def _of(numbering: Numbering) -> Iterator[bytes]:
    """Yield the instructions for the calls of one kind of program; the last one returns."""
    yield _instruction(_LOAD, _NUMBER)
    if numbering.most:
        yield from (_instruction(_AT_LEAST, numbering.most, false=1), _instruction(_RETURN, _ABSENT))
    for number in (*numbering.refused, *numbering.more):
        yield from (_instruction(_EQUAL, number, false=1), _instruction(_RETURN, _ABSENT))
    yield from (_instruction(_EQUAL, numbering.socket, true=1), _instruction(_RETURN, _ALLOW))
    yield _instruction(_LOAD, _ARGUMENT)
    for family in FAMILIES:
        yield from (_instruction(_EQUAL, family, false=1), _instruction(_RETURN, _ALLOW))
    yield _instruction(_RETURN, _NO_FAMILY)


def _instruction(code: int, value: int, *, true: int = 0, false: int = 0) -> bytes:
    """Return an instruction. ``true`` and ``false``: how many of those after it a comparison skips."""
    return struct.pack("=HBBI", code, true, false, value)
