"""The program for the kernel's calls, run as the kernel runs it; the attacks run it in the kernel."""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from twistedipc.isolation.kernel_calls import FAMILIES, MACHINES, REFUSED, Numbering, program

ALLOWED, ABSENT, NO_FAMILY = 0x7FFF0000, 0x00050000 | errno.ENOSYS, 0x00050000 | errno.EAFNOSUPPORT
I386, UNHEARD_OF = 0x40000003, 0xDEADBEEF
NUMBERINGS = [(machine, numbering) for machine, found in MACHINES.items() for numbering in found]


def verdict(machine: str, audit: int, number: int, argument: int = 0) -> int:
    """What becomes of a call."""
    instructions = list(struct.iter_unpack("=HBBI", program(machine)))
    data = struct.pack("=IIQ6Q", number, audit, 0, argument, 0, 0, 0, 0, 0)
    place = loaded = 0
    while True:
        code, true, false, value = instructions[place]
        place += 1
        match code:
            case 0x20:
                (loaded,) = struct.unpack_from("=I", data, value)
            case 0x15:
                place += true if loaded == value else false
            case 0x35:
                place += true if loaded >= value else false
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"{code:#x} isn't an instruction of the program's")


@pytest.mark.parametrize(("machine", "numbering"), NUMBERINGS)
def test_what_is_named_is_refused_and_nothing_else(machine: str, numbering: Numbering) -> None:
    refused = {*numbering.refused, *numbering.more}
    assert len(numbering.refused) == len(REFUSED)
    for number in range(600):
        if number != numbering.socket:
            assert verdict(machine, numbering.audit, number) == (ABSENT if number in refused else ALLOWED), number


@pytest.mark.parametrize(("machine", "numbering"), NUMBERINGS)
def test_sockets_are_of_families_that_namespaces_hold(machine: str, numbering: Numbering) -> None:
    assert {int(socket.AF_UNIX), int(socket.AF_INET), int(socket.AF_INET6), int(socket.AF_NETLINK)} == set(FAMILIES)
    for family in range(64):
        found = verdict(machine, numbering.audit, numbering.socket, family)
        assert found == (ALLOWED if family in FAMILIES else NO_FAMILY)
    # The kernel takes the lower half for the family, whatever the upper one is.
    assert verdict(machine, numbering.audit, numbering.socket, (1 << 32) | int(socket.AF_VSOCK)) == NO_FAMILY


def test_there_is_no_other_way_into_the_kernel() -> None:
    x32 = 0x40000000
    for number in (0, 41, 250, 0xFFFFFFFF - x32):
        assert verdict("x86_64", MACHINES["x86_64"][0].audit, x32 + number) == ABSENT
    assert verdict("x86_64", I386, 102) == ABSENT, "socketcall has the family behind a pointer"
    for machine in MACHINES:
        assert verdict(machine, UNHEARD_OF, 0) == ABSENT


def test_a_machine_without_a_table_has_no_program() -> None:
    assert program("pdp11") == b""
