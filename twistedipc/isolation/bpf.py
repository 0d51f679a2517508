"""
Programs that the kernel runs for each of a process's system calls (seccomp), in its classic BPF: the instructions, and
where they find what. Pure; used by ``kernel_calls`` and ``seccomp``.

https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

# Instructions: load a word, jump if it is equal, jump if it is at least, jump, keep some bits of it, return.
LOAD, EQUAL, AT_LEAST, JUMP, AND, RETURN = 0x20, 0x15, 0x35, 0x05, 0x54, 0x06

#: Where in `seccomp_data` the call's number, its numbering, and its arguments are, of eight bytes each: all processors
#: for which there are programs here have the lower half first.
NUMBER, NUMBERING, ARGUMENTS = 0, 4, 16

# What the kernel does with a call.
ALLOW = 0x7FFF0000
ASK = 0x7FC00000  # another process answers it
KILL = 0x80000000
ERROR = 0x00050000  # with the error's number


class Instruction(NamedTuple):
    """An instruction. ``true`` and ``false``: how many of those after it a comparison skips."""

    code: int
    value: int
    true: int = 0
    false: int = 0


def packed(instructions: Iterable[Instruction]) -> bytes:
    """Return a program as the kernel takes it."""
    return b"".join(struct.pack("=HBBI", code, true, false, value) for code, value, true, false in instructions)
