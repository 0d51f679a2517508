"""
How git is run: nothing in a repository can make it run anything. No hooks, no templates, a configuration that is
written each time, and only protocols that ``names.repository`` allows.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "advice.detachedHead=false",
    "gc.autoDetach=false",  # what outlives git would keep the mirror's lock
    "maintenance.autoDetach=false",
    "log.showSignature=false",
    "protocol.allow=never",
    "protocol.https.allow=always",
    "protocol.http.allow=always",
    "protocol.ssh.allow=always",
    "protocol.git.allow=always",
    "protocol.file.allow=always",  # whether a local repository is allowed was decided when it was named
)

#: How many bytes of the end of what git prints as errors are kept.
_TAIL = 8 * 1024

#: Seconds between two looks whether git has ended, though something that it started still has its output.
_LOOK_EVERY = 0.2


class CheckoutFailed(Exception):
    """There is no working copy. ``str()`` of it is a sentence for the person who asked for the build."""


class Git:
    """
    Runs git.

    :param lock: a descriptor that each git inherits: while one of them lives, the mirror is locked
    :param environment: its environment
    :param settings: as ``-c`` has them, beside those that are always set
    """

    def __init__(self, lock: int, environment: Mapping[str, str], settings: Sequence[str] = ()) -> None:
        self._lock = lock
        self._environment = environment
        self._settings = settings
        #: the end of what the last git has printed as errors
        self.said = ""

    def another(self, *settings: str) -> Git:
        """Return one more of the same, with these settings too."""
        return Git(self._lock, self._environment, (*self._settings, *settings))

    def under(self, lock: int) -> Git:
        """Return the same with another lock."""
        return Git(lock, self._environment, self._settings)

    def run(self, *arguments: str, quiet: bool = False) -> bool:
        """Run git with its output in the log. Return whether it succeeded."""
        return self._call(arguments, None, quiet=quiet) == 0

    def ask(self, *arguments: str, quiet: bool = True) -> str | None:
        """Return what git prints; None if it fails. Why is in the log then, unless ``quiet``."""
        output = bytearray()
        code = self._call(arguments, output, quiet=quiet)
        return output.decode("utf-8", "replace") if code == 0 else None

    def _call(self, arguments: Sequence[str], output: bytearray | None, *, quiet: bool) -> int:
        """Run git, and return its exit code. Its output is added to ``output``; None: it goes into the log."""
        sys.stdout.flush()
        settings = [part for setting in (*SETTINGS, *self._settings) for part in ("-c", setting)]
        try:
            process = subprocess.Popen(
                ["git", *settings, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=None if output is None else subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment,
                # While git lives, the mirror is locked, even if this process is killed.
                pass_fds=[self._lock],
            )
        except FileNotFoundError as error:
            raise CheckoutFailed("the builder has no git on its PATH") from error
        tail = bytearray()
        with process:
            for descriptor, data in _read(process):
                if process.stdout is not None and output is not None and descriptor == process.stdout.fileno():
                    output += data
                    continue
                tail += data
                del tail[:-_TAIL]
                if not quiet:
                    os.write(2, data)
        self.said = tail.decode("utf-8", "replace")
        return process.returncode


def _read(process: subprocess.Popen[bytes]) -> Iterator[tuple[int, bytes]]:
    """
    Yield what a process prints, by descriptor, until it has ended. Something that it started may have its errors' pipe
    for longer (a connection that ssh keeps open): that isn't waited for.
    """
    poll = select.poll()
    open_ones = {file.fileno() for file in (process.stdout, process.stderr) if file is not None}
    for descriptor in open_ones:
        poll.register(descriptor, select.POLLIN)
    while open_ones:
        ready = poll.poll(_LOOK_EVERY * 1000)
        if not ready and process.poll() is not None:
            return
        for descriptor, _event in ready:
            data = os.read(descriptor, 64 * 1024)
            if data:
                yield descriptor, data
            else:
                poll.unregister(descriptor)
                open_ones.discard(descriptor)


def defaults() -> dict[str, str]:
    """Return what git is told unless the operator's environment says otherwise."""
    return {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
