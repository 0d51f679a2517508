"""
Which system calls a step may make where Landlock confines it: a program of the kernel's own language, classic BPF. The
program is made here from tables (no I/O); `install` holds this process to it.

Landlock knows files, TCP ports and signals. The program refuses what it doesn't know: other processes' memory, mounts,
namespaces, keys, datagrams, memory that is shared by number. A few calls depend on what a pointer points to, which a
program can't look at: those are put to the step's `warden`.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from twistedipc.isolation.bpf import (
    ALLOW,
    AND,
    ARGUMENTS,
    ASK,
    AT_LEAST,
    EQUAL,
    ERROR,
    JUMP,
    KILL,
    LOAD,
    NUMBER,
    NUMBERING,
    RETURN,
    Instruction,
    packed,
)
from twistedipc.isolation.calls import forbid_new_privileges, system_call

REFUSE = ERROR | errno.EPERM
ABSENT = ERROR | errno.ENOSYS  # as by a kernel that doesn't have it: libraries have another way then
UNSUPPORTED = ERROR | errno.EOPNOTSUPP

#: Calls from this number on are newer than this table: nobody has looked at what they do.
UNKNOWN = 463

_NEW_LISTENER, _WAIT_KILLABLE = 1 << 3, 1 << 5
_SET_FILTER = 1


class Machine(NamedTuple):
    """A kind of processor."""

    audit: int  # its number in `seccomp_data`
    column: int  # its numbers of calls in `_NUMBERS`
    seccomp: int  # the number of seccomp(2)


MACHINES: Mapping[str, Machine] = {
    "x86_64": Machine(0xC000003E, 0, 317),
    "aarch64": Machine(0xC00000B7, 1, 277),
}

#: The calls of which something is said here, and their numbers on each machine; None: it has no such call.
_NUMBERS: Mapping[str, tuple[int | None, int | None]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chmod": (90, None),
    "chown": (92, None),
    "chroot": (161, 51),
    "clock_settime": (227, 112),
    "clone": (56, 220),
    "clone3": (435, 435),
    "connect": (42, 203),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "finit_module": (313, 273),
    "fremovexattr": (199, 16),
    "fsconfig": (431, 431),
    "fsetxattr": (190, 7),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "futimesat": (261, None),
    "init_module": (175, 105),
    "inotify_add_watch": (254, 27),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioctl": (16, 29),
    "ioperm": (173, None),
    "iopl": (172, None),
    "ioprio_set": (251, 30),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lchown": (94, None),
    "listen": (50, 201),
    "lremovexattr": (198, 15),
    "lsetxattr": (189, 6),
    "migrate_pages": (256, 238),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "msgctl": (71, 187),
    "msgget": (68, 186),
    "msgrcv": (70, 188),
    "msgsnd": (69, 189),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "prlimit64": (302, 261),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "removexattr": (197, 14),
    "request_key": (249, 218),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "semctl": (66, 191),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "sendmmsg": (307, 269),
    "sendmsg": (46, 211),
    "sendto": (44, 206),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "setpriority": (141, 140),
    "settimeofday": (164, 170),
    "setxattr": (188, 5),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmget": (29, 194),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "utime": (132, None),
    "utimensat": (280, 88),
    "utimes": (235, None),
    "vhangup": (153, 58),
}

#: Calls that no step may make, and why.
_REFUSED: Sequence[str] = (
    # other processes, their memory and their files
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd"),
    *("migrate_pages", "move_pages"),
    # mounts, other roots, files without a path
    *("mount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick"),
    *("mount_setattr", "open_by_handle_at", "quotactl", "quotactl_fd", "swapon", "swapoff", "acct"),
    "setns",
    # keys, which belong to a user
    *("add_key", "keyctl", "request_key"),
    # parts of the kernel that have had many faults, and that no build needs
    *("bpf", "perf_event_open", "userfaultfd"),
    # the machine itself
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "syslog", "iopl"),
    *("ioperm", "modify_ldt", "vhangup", "settimeofday", "clock_settime", "sethostname", "setdomainname"),
    # memory and queues that are shared by all processes that know their number or name: there is no namespace for them
    *("shmget", "shmat", "shmctl", "msgget", "msgsnd", "msgrcv", "msgctl", "semget", "semop", "semtimedop", "semctl"),
    *("mq_open", "mq_unlink"),
    # what happens in other folders: Landlock doesn't refuse to watch them
    *("fanotify_init", "inotify_add_watch"),
    # the owner of a file: Landlock doesn't refuse to change it
    *("chown", "fchown", "lchown", "fchownat"),
)

#: Calls without which libraries have another way, that is looked at.
_ABSENT: Sequence[str] = (
    "clone3",  # its flags are behind a pointer
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),  # would make calls past this program
    *("fchmodat2", "utime", "utimes", "futimesat"),
)

#: Attributes of files, which Landlock doesn't refuse to set: as on a file system that has none.
_UNSUPPORTED: Sequence[str] = (*("setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"),)

#: Calls that the warden answers: sockets, and what Landlock doesn't refuse to change of a file.
_ASKED: Sequence[str] = ("connect", "listen", "chmod", "fchmod", "fchmodat")


class Check(NamedTuple):
    """A look at the lower half of an argument: with ``mask``, it is one of ``values``."""

    argument: int
    values: Sequence[int]
    mask: int = 0xFFFFFFFF
    upper: bool = False  # it is a look at the upper half


class Rule(NamedTuple):
    """What becomes of a call that passes all checks of one of the ``alternatives``, and of any other."""

    alternatives: Sequence[Sequence[Check]]
    then: int
    otherwise: int


_TYPE = 0xF  # of a socket, without its flags
_TCP = 6
#: The flags of clone(2) and unshare(2) that make a namespace.
NAMESPACES = 0x7E020080
_FAST_OPEN = 0x20000000  # of send(2): connects too, which Landlock doesn't see
#: What no step may tell the kernel by ioctl(2): push characters into a terminal, or into the console; and set what
#: Landlock doesn't refuse to set for a file that can be read: its flags, its project, a key, that it never changes
#: (fs-verity).
_NOT_TOLD = (0x5412, 0x541C, 0x40086602, 0x40046602, 0x401C5820, 0x40806685, 0x800C6613, 0xC0506617)
_OWN_PROCESS = Rule([[Check(0, [0])]], ALLOW, REFUSE)
_STREAMS = (int(socket.SOCK_STREAM), int(socket.SOCK_SEQPACKET))

#: Calls that depend on their arguments.
_BY_ARGUMENTS: Mapping[str, Rule] = {
    "clone": Rule([[Check(0, [0], NAMESPACES & ~0xFF)]], ALLOW, REFUSE),  # the last byte is a signal there
    "unshare": Rule([[Check(0, [0], NAMESPACES)]], ALLOW, REFUSE),
    "ioctl": Rule([[Check(1, _NOT_TOLD)]], REFUSE, ALLOW),
    # 32-bit addresses and no other layout of memory; "what is it now?"
    "personality": Rule([[Check(0, [0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF])]], ALLOW, REFUSE),
    # Another process of the user could be ended by a limit of processor time, or held up.
    "prlimit64": _OWN_PROCESS,
    "sched_setaffinity": _OWN_PROCESS,
    "sched_setattr": _OWN_PROCESS,
    "sched_setparam": _OWN_PROCESS,
    "sched_setscheduler": _OWN_PROCESS,
    "setpriority": Rule([[Check(0, [0]), Check(1, [0])]], ALLOW, REFUSE),
    "ioprio_set": Rule([[Check(0, [1]), Check(1, [0])]], ALLOW, REFUSE),
    # Datagrams have no connection that could be looked at; Landlock knows TCP alone.
    "socket": Rule(
        [
            [Check(0, [int(socket.AF_UNIX)]), Check(1, _STREAMS, _TYPE), Check(2, [0])],
            [
                Check(0, [int(socket.AF_INET), int(socket.AF_INET6)]),
                Check(1, [int(socket.SOCK_STREAM)], _TYPE),
                Check(2, [0, _TCP]),
            ],
        ],
        ASK,
        REFUSE,
    ),
    "socketpair": Rule([[Check(0, [int(socket.AF_UNIX)]), Check(1, _STREAMS, _TYPE)]], ALLOW, REFUSE),
    "sendto": Rule([[Check(3, [0], _FAST_OPEN)]], ALLOW, REFUSE),
    "sendmsg": Rule([[Check(2, [0], _FAST_OPEN)]], ALLOW, REFUSE),
    "sendmmsg": Rule([[Check(3, [0], _FAST_OPEN)]], ALLOW, REFUSE),
    # Without a path it is for a file that the step has open.
    "utimensat": Rule([[Check(1, [0]), Check(1, [0], upper=True)]], ALLOW, ASK),
}


def machine() -> Machine | None:
    """Return this machine's kind; None if there is no table for it."""
    return MACHINES.get(platform.machine())


def number(name: str, on: Machine) -> int | None:
    """Return the number of a call of the tables; None if this machine hasn't it."""
    return _NUMBERS[name][on.column]


def asked(on: Machine) -> dict[int, str]:
    """Return the calls that the warden answers, by their numbers."""
    names = [*_ASKED, *(name for name, rule in _BY_ARGUMENTS.items() if ASK in (rule.then, rule.otherwise))]
    return {found: name for name in names if (found := number(name, on)) is not None}


def program(on: Machine) -> list[Instruction]:
    """Return the program for a machine."""
    made = [
        Instruction(LOAD, NUMBERING),
        Instruction(EQUAL, on.audit, true=1),
        Instruction(RETURN, KILL),  # a program for another processor, whose numbers mean other calls
        Instruction(LOAD, NUMBER),
        # Also the numbers of x32, another way into the same kernel.
        Instruction(AT_LEAST, UNKNOWN, false=1),
        Instruction(RETURN, ABSENT),
    ]
    for names, verdict in ((_ASKED, ASK), (_REFUSED, REFUSE), (_ABSENT, ABSENT), (_UNSUPPORTED, UNSUPPORTED)):
        for name in names:
            made += _of_call(name, on, [Instruction(RETURN, verdict)])
    for name, rule in _BY_ARGUMENTS.items():
        made += _of_call(name, on, list(_of_rule(rule)))
    return [*made, Instruction(RETURN, ALLOW)]


def _of_call(name: str, on: Machine, body: Sequence[Instruction]) -> list[Instruction]:
    """Return the instructions for one call, whose number is loaded; ``body`` returns."""
    found = number(name, on)
    return [] if found is None else [Instruction(EQUAL, found, false=len(body)), *body]


def _of_rule(rule: Rule) -> Iterator[Instruction]:
    for checks in rule.alternatives:
        left = [Instruction(RETURN, rule.then)]
        for check in reversed(checks):
            count = len(check.values)
            left = [
                Instruction(LOAD, ARGUMENTS + 8 * check.argument + 4 * check.upper),
                Instruction(AND, check.mask),
                *(Instruction(EQUAL, value, true=count - place) for place, value in enumerate(check.values)),
                Instruction(JUMP, len(left)),  # none of them: past the rest of this alternative
                *left,
            ]
        yield from left
    yield Instruction(RETURN, rule.otherwise)


def install(instructions: Sequence[Instruction], on: Machine) -> int:
    """
    Hold this process, and all that it starts from now on, to a program. Return the descriptor on which the warden gets
    the calls that it is asked about. Raises OSError.
    """
    forbid_new_privileges()
    code = ctypes.create_string_buffer(packed(instructions))
    given = ctypes.create_string_buffer(struct.pack("@HP", len(instructions), ctypes.addressof(code)))
    # A signal doesn't break into a call that the warden has taken: it would be made twice.
    flags = _NEW_LISTENER | _WAIT_KILLABLE
    return system_call("seccomp", on.seccomp, _SET_FILTER, flags, given)
