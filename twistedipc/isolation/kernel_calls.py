"""
The calls of the kernel that no step may make, as a program of seccomp's (classic BPF). Pure; used by ``bubblewrap``.

Namespaces leave something of the machine: keys belong to a user, whatever namespace that is in, and some families of
sockets lead to the host of a virtual machine past all network namespaces. What else is refused has had many faults,
and no build needs it. Programs are told what a kernel without it would tell them, so they have another way.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from twistedipc.isolation.bpf import (
    ALLOW,
    ARGUMENTS,
    AT_LEAST,
    EQUAL,
    ERROR,
    LOAD,
    NUMBER,
    NUMBERING,
    RETURN,
    Instruction,
    packed,
)

#: What is refused. The rings would also make calls past this program.
REFUSED = (
    *("add_key", "request_key", "keyctl"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("bpf", "perf_event_open", "userfaultfd"),
)

#: The families of sockets that a step may have (socket(2)): UNIX, IPv4, IPv6, netlink. Namespaces hold these.
FAMILIES = (1, 2, 10, 16)

_ABSENT, _NO_FAMILY = ERROR | errno.ENOSYS, ERROR | errno.EAFNOSUPPORT


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
    made = [Instruction(LOAD, NUMBERING)]
    for numbering in numberings:
        body = list(_of(numbering))
        made += [Instruction(EQUAL, numbering.audit, false=len(body)), *body]
    return packed([*made, Instruction(RETURN, _ABSENT)])


def _of(numbering: Numbering) -> Iterator[Instruction]:
    """Yield the instructions for the calls of one kind of program; the last one returns."""
    yield Instruction(LOAD, NUMBER)
    if numbering.most:
        yield from (Instruction(AT_LEAST, numbering.most, false=1), Instruction(RETURN, _ABSENT))
    for number in (*numbering.refused, *numbering.more):
        yield from (Instruction(EQUAL, number, false=1), Instruction(RETURN, _ABSENT))
    yield from (Instruction(EQUAL, numbering.socket, true=1), Instruction(RETURN, ALLOW))
    yield Instruction(LOAD, ARGUMENTS)
    for family in FAMILIES:
        yield from (Instruction(EQUAL, family, false=1), Instruction(RETURN, ALLOW))
    yield Instruction(RETURN, _NO_FAMILY)
