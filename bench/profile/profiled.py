"""
``python -m bench.profile.profiled FOLDER twistd ARGUMENT...`` or ``... FOLDER runner ATTEMPT``: a service under the
profiler, each thread by itself.

A service writes what it has found so far into ``FOLDER/N.json`` at each SIGUSR2, N being 0, 1, …; so what happened
between two signals can be told. A runner writes it once, at its end. Of each thread, by its name: for each
function its file (empty for those in C), its name, its calls, and the seconds in itself alone.

From Python 3.12 on there is one profiler for all threads: there, only the reactor's is looked at.
"""

from __future__ import annotations

import cProfile
import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

_profiles: dict[str, cProfile.Profile] = {}


def begin(*_: object) -> None:
    """Profile the thread that calls this from now on."""
    profile = cProfile.Profile()
    try:
        profile.enable()
    except ValueError:
        sys.setprofile(None)
        return
    _profiles[threading.current_thread().name] = profile


def write(path: Path) -> None:
    """Write the profile so far; the writing isn't profiled."""
    here = _profiles.get(threading.current_thread().name)
    if here is not None:
        here.disable()
    found = {}
    for thread, profile in list(_profiles.items()):
        found[thread] = [
            ["", entry.code, entry.callcount, entry.inlinetime]
            if isinstance(entry.code, str)
            else [entry.code.co_filename, entry.code.co_name, entry.callcount, entry.inlinetime]
            for entry in profile.getstats()
        ]
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(found))
    unfinished.rename(path)
    if here is not None:
        here.enable()


def service(folder: Path, arguments: list[str]) -> None:
    """twistd."""
    written = 0

    def told(_number: int, _frame: FrameType | None) -> None:
        nonlocal written
        write(folder / f"{written}.json")
        written += 1

    threading.setprofile(begin)
    from twisted.internet import reactor
    from twisted.scripts.twistd import run

    signal.signal(signal.SIGUSR2, told)
    reactor.callWhenRunning(begin)
    sys.argv = ["twistd", *arguments]
    run()


def runner(folder: Path, arguments: list[str]) -> None:
    """One attempt's runner."""
    from twistedipc.runner.__main__ import main

    begin()
    code = main(arguments)
    write(folder / "0.json")
    os._exit(code)


if __name__ == "__main__":
    {"twistd": service, "runner": runner}[sys.argv[2]](Path(sys.argv[1]).resolve(), sys.argv[3:])
