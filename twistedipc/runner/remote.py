"""
A process of no attempt: ``python -m twistedipc.runner.remote``, started by the builder, which writes one line to its
input, a `builds.remotes.RemoteJob`, and reads its output, a `RefList` or a `CommitList`. It has the repository's host
asked by a process (``checkout.remote``) that can see and reach what the checkout of an attempt can, but for the
mirrors; and it ends that when its time is up, or when its input ends: then the builder is gone, or wants no answer.

What the host is shown is on disk only meanwhile, as with a checkout: in a folder that nobody else can read.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
from msgspec.structs import replace

from twistedipc.attempts.folder import CREDENTIALS
from twistedipc.attempts.processes import become_reaper, bury, exit_code, kill_descendants, reap, spawn
from twistedipc.attempts.programs import own_command
from twistedipc.builds.attempt import Contact, Failure
from twistedipc.builds.remotes import MAX_FAILED, CommitList, RefList, RemoteJob
from twistedipc.disk.files import remove_tree, write_file
from twistedipc.isolation.launching import launched
from twistedipc.isolation.reach import UnsafeReach
from twistedipc.runner.environment import Environment
from twistedipc.runner.findings import BadFinding, Findings
from twistedipc.runner.networking import NoNetwork
from twistedipc.runner.reaching import Reaching

_ASKING = "twistedipc.runner.checkout.remote"

#: The most bytes of the line that says what to ask.
MAX_JOB = 4 << 20

#: Seconds between two looks whether the process has ended.
_LOOK_EVERY = 0.02

#: Seconds for what is killed to be gone.
_BURY = 5.0

#: How much of what a process prints that breaks is shown, in bytes.
_TAIL = 2000


class NoAnswer(Exception):
    """There is no answer. ``str()`` of it is a sentence for people."""


class _Quiet:
    """Where a runner would say something in a log: here is none, and the answer says what is wrong."""

    def note(self, level: Literal["info", "warning", "error"], message: str) -> None:
        """See `networking.Notes`."""

    def mask(self, secret: str) -> None:
        """See `networking.Notes`."""


def answer(job: RemoteJob, left: Callable[[], bool]) -> RefList | CommitList:
    """
    Have the question answered.

    :param left: returns whether nobody waits for the answer any more
    """
    folder = Path(job.folder)
    findings = Findings(folder)
    kind: type[RefList] | type[CommitList] = RefList if job.refs is not None else CommitList
    failed = ""
    found: RefList | CommitList | None = None
    host_keys: list[str] = []
    try:
        folder.mkdir(mode=0o700, parents=True)
        findings.clear()
        write_file(folder / "question.json", replace(job, access=None))
        if job.access is not None:
            (folder / CREDENTIALS).mkdir(mode=0o700)
            write_file(folder / CREDENTIALS / "access.json", job.access, mode=0o600)
        try:
            said = _run(job, folder, findings, left)
            found = findings.read("answer.json", kind)
            told = findings.read("failure.json", Failure)
            failed = told.reason if told is not None else f"the process that asks it broke: {said}"
        finally:
            contact = findings.read("contact.json", Contact)
            host_keys = contact.host_keys if contact is not None else []
    except (NoAnswer, NoNetwork, BadFinding, UnsafeReach, OSError) as error:
        failed = str(error)
    finally:
        if folder.exists():
            remove_tree(folder)
    if found is None:
        found = kind(failed=failed[:MAX_FAILED] or "it can't be asked")
    return replace(found, host_keys=host_keys) if isinstance(found, RefList) else found


def _run(job: RemoteJob, folder: Path, findings: Findings, left: Callable[[], bool]) -> str:
    """Run the process to its end. Return the end of what it has printed. Raises `NoAnswer`, `NoNetwork`, OSError."""
    spec = job.spec
    reaching = Reaching(folder, spec, _Quiet())
    networking = reaching.networking
    reach = reaching.ask_remote(private=job.access is not None)
    try:
        with networking.connected("checkout", networking.checkout(), reach) as connected:
            environment = {
                **Environment(folder, spec).apart(home=findings.home, temporary=findings.temporary),
                **connected.environment,
            }
            argv = own_command(_ASKING, str(folder))
            launch = launched(spec.isolation, argv, environment, str(folder), connected.reach)
            reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                child = spawn(replace(launch, namespaces=connected.namespaces), output=writing)
                os.close(writing)
                tail, code = b"", None
                until = time.monotonic() + job.timeout
                while code is None:
                    tail = (tail + _read(reading))[-_TAIL:]
                    status = reap().get(child.pid)
                    code = None if status is None else exit_code(status)
                    if code is None and left():
                        raise NoAnswer("nobody waits for it any more")
                    if code is None and time.monotonic() >= until:
                        raise NoAnswer(
                            f"{spec.repository} can't be asked: its host hasn't answered within {job.timeout:g} seconds"
                        )
                bury(child, _BURY)
                return (tail + _read(reading))[-_TAIL:].decode("utf-8", "replace").strip() or f"exit code {code}"
            finally:
                os.close(reading)
    finally:
        networking.end()
        kill_descendants(_BURY)


def _read(pipe: int) -> bytes:
    """Return what is in a pipe, after a short wait for something."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    if not poll.poll(_LOOK_EVERY * 1000):
        return b""
    data = os.read(pipe, 64 * 1024)
    if not data:
        time.sleep(_LOOK_EVERY)  # it has closed its output, and lives
    return data


def _nobody_waits() -> bool:
    """Return whether this process's input has ended."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    return bool(poll.poll(0)) and not os.read(0, 1)


def main() -> int:
    """Answer. Return the exit code."""
    become_reaper()
    line = b""
    while not line.endswith(b"\n") and len(line) < MAX_JOB and (data := os.read(0, 64 * 1024)):
        line += data
    job = msgspec.json.decode(line, type=RemoteJob)
    sys.stdout.buffer.write(msgspec.json.encode(answer(job, _nobody_waits)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
