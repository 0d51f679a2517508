"""
``python -m twistedipc.runner FOLDER [LOCKFD]``: the runner's process, spawned by ``builder``.

FOLDER is the attempt's folder, LOCKFD the number of the inherited descriptor that holds its lock. Exits with 0 when
result.json is there, 2 for a folder that isn't an attempt's, 3 if another runner has it or had it, 4 if it was told to
stop while the disk took no result.
"""

from __future__ import annotations

import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from twistedipc.attempts import processes
from twistedipc.attempts.journal import JournalExists
from twistedipc.attempts.liveness import adopt_lock, own_lock, take_lock
from twistedipc.attempts.processes import become_reaper
from twistedipc.attempts.room import free_bytes
from twistedipc.builds.attempt import Spec
from twistedipc.disk.files import PASSING_ERRORS, read_file
from twistedipc.isolation.limits.guard import guard_of
from twistedipc.runner.channel import StepChannel
from twistedipc.runner.control import Control, Ringer
from twistedipc.runner.course import Course
from twistedipc.runner.ports import Outside
from twistedipc.runner.stepclock import RETRY_EVERY
from twistedipc.runner.steps import NoRoom

_T = TypeVar("_T")

BAD_FOLDER, NOT_MINE, NO_ROOM = 2, 3, 4


def _poll(descriptors: Sequence[int], seconds: float) -> dict[int, int]:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return dict(poll.poll(math.ceil(seconds * 1000)))


#: The real things.
OUTSIDE = Outside(
    now=lambda: time.time_ns() // 1_000_000,
    clock=time.monotonic,
    random=os.urandom,
    poll=_poll,
    channel=StepChannel,
    free=free_bytes,
    disk=os,
    processes=processes,
    guard=guard_of,
)


def _refuse(code: int, message: str) -> int:
    print(f"runner: {message}", file=sys.stderr)
    return code


def _with_room(deadline: float, make: Callable[..., _T], *arguments: object) -> _T:
    """
    Call ``make`` with these arguments, again and again until the disk has room for it: an attempt that was started
    runs, also on a full disk. Raises OSError once the attempt's time is up.
    """
    while True:
        try:
            return make(*arguments)
        except OSError as error:
            if error.errno not in PASSING_ERRORS or time.monotonic() >= deadline:
                raise
            time.sleep(RETRY_EVERY)


def _leave_the_parent() -> None:
    """Begin a session of its own, so that what ends the builder ends no build."""
    try:
        os.setsid()
    except PermissionError:
        pass  # it leads a session already
    os.umask(0o022)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    become_reaper()


def main(arguments: list[str]) -> int:
    """Run the attempt of this folder. Return the process's exit code."""
    if len(arguments) not in (1, 2) or not arguments[-1:] or (len(arguments) == 2 and not arguments[1].isdecimal()):
        return _refuse(BAD_FOLDER, "usage: python -m twistedipc.runner FOLDER [LOCKFD]")
    _leave_the_parent()
    folder = Path(arguments[0]).resolve()
    try:
        os.chdir(folder)  # the doorbell's address may be relative to it
        spec = read_file(folder / "spec.json", Spec)
    except (OSError, msgspec.DecodeError) as error:
        return _refuse(BAD_FOLDER, f"{folder}: {error}")
    if spec is None:
        return _refuse(BAD_FOLDER, f"{folder} has no spec.json")
    if len(arguments) == 2:
        lock: int | None = int(arguments[1])
        if not adopt_lock(folder, int(arguments[1])):
            lock = None
    else:
        lock = take_lock(folder)
    if lock is None:
        return _refuse(NOT_MINE, f"{folder} is another runner's")
    deadline = time.monotonic() + spec.timeout
    _with_room(deadline, own_lock, lock)
    if (folder / "result.json").exists():
        return _refuse(NOT_MINE, f"{folder} has a result already")
    control = _with_room(deadline, Control, folder)
    control.listen_to_signals()
    try:
        attempt = _with_room(deadline, Course, folder, spec, control, Ringer(spec.doorbell, folder).ring, OUTSIDE)
    except JournalExists as error:
        return _refuse(NOT_MINE, str(error))
    try:
        attempt.run()
    except NoRoom as error:
        return _refuse(NO_ROOM, str(error))
    except Exception:
        # The end of this becomes the reason of a lost attempt, and may quote what the build has asked to hide.
        import traceback  # not above: a runner that lives needs nothing of it

        sys.stderr.write(attempt.hide(traceback.format_exc()))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
