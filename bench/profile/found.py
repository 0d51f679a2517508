"""What a profile says: by whose code the time goes, and by which functions most."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import defaultdict
from pathlib import Path

from bench.common.processes import Failed
from bench.common.runs import Measured

ROOT = Path(__file__).resolve().parent.parent.parent

#: A function: its file, or nothing for those in C, and its name.
Function = tuple[str, str]

#: Of a thread: calls and seconds of each function.
Profile = dict[Function, tuple[float, float]]

#: What waits isn't work.
_WAITS = ("'poll' of 'select.", "'acquire' of '_thread.", "sleep", "waitpid", "'select'", "built-in method select.")

#: By the names of functions in C.
_IN_C = (
    ("sending", ("'send' of '_socket", "'sendmsg' of '_socket", "writev")),
    ("receiving", ("'recv' of '_socket", "'recv_into' of '_socket", "posix.read", "'read' of '_io")),
    ("files", ("posix.", "'write' of '_io", "'close' of '_io", "_io.open", "fcntl.")),
    ("msgspec", ("msgspec", "'encode' of 'msgspec", "'decode' of 'msgspec")),
    ("SQLite", ("sqlite3",)),
)

#: By folders of the files.
_FOLDERS = ("twistedipc", "twisted", "autobahn", "sqlalchemy")

_SHOWN = 12


def read(path: Path) -> dict[str, Profile]:
    """A file that `bench.profile.profiled` has written: threads' profiles."""
    threads: dict[str, Profile] = {}
    for thread, entries in json.loads(path.read_text()).items():
        threads[thread] = {}
        for file, name, calls, seconds in entries:
            before = threads[thread].get((file, name), (0, 0.0))
            threads[thread][file, name] = (before[0] + calls, before[1] + seconds)
    return threads


def between(early: Profile, late: Profile) -> Profile:
    """Return what a later profile of a thread has more than an earlier one."""
    return {
        function: (calls - early.get(function, (0, 0.0))[0], seconds - early.get(function, (0, 0.0))[1])
        for function, (calls, seconds) in late.items()
    }


def snapshot(pid: int, folder: Path, number: int) -> dict[str, Profile]:
    """Have a service write what it has found so far; ``number``: how many there were before."""
    os.kill(pid, signal.SIGUSR2)
    path, until = folder / f"{number}.json", time.monotonic() + 10
    while not path.exists():
        if time.monotonic() > until:
            raise Failed(f"process {pid} writes no profile")
        time.sleep(0.01)
    return read(path)


def group(function: Function) -> str:
    """Whose code it is."""
    file, name = function
    if not file:
        return next((group for group, marks in _IN_C if any(mark in name for mark in marks)), "Python, C")
    if file.startswith(str(ROOT / "twistedipc")):
        return "twistedipc"
    return next((name for name in _FOLDERS if f"/site-packages/{name}/" in file), "Python, library")


def told(profile: Profile, seconds: float) -> Measured:
    """
    The work of a thread, in % of the time that was looked at; in % of the work: whose it is; and, as text, the
    functions that took most.
    """
    work = {
        function: (calls, own)
        for function, (calls, own) in profile.items()
        if own > 0 and not (not function[0] and any(wait in function[1] for wait in _WAITS))
    }
    total = sum(own for _, own in work.values())
    if not total:
        raise Failed("the profile is empty")
    groups: dict[str, float] = defaultdict(float)
    for function, (_, own) in work.items():
        groups[group(function)] += own / total * 100
    for name in [name for name, share in groups.items() if share < 1]:
        groups["other"] += groups.pop(name)
    most = sorted(work.items(), key=lambda item: -item[1][1])[:_SHOWN]
    rows = [f"{own / total:5.1%} {calls:>10,.0f} calls  {label(function)}" for function, (calls, own) in most]
    return Measured(
        total / seconds * 100,
        {f"{name}, %": share for name, share in sorted(groups.items(), key=lambda item: -item[1])},
        "\n".join(rows),
    )


def label(function: Function) -> str:
    """A function for people: without the folders of this machine."""
    file, name = function
    if not file:
        return name.replace("<", "").replace(">", "")
    path = Path(file)
    if path.is_relative_to(ROOT / "twistedipc"):
        return f"{path.relative_to(ROOT)}: {name}"
    _, mark, inside = file.partition("/site-packages/")
    return f"{inside if mark else path.name}: {name}"
