"""
How git is run: nothing in a repository can make it run anything, or take anything for what it isn't. No hooks, no
templates, a configuration that is written each time, only protocols that ``names.repository`` allows, and of the
environment only the variables that an operator may set.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from twistedipc.isolation.landlock import restrict, writing_below

#: The protocols that git may use. Whether a local repository is allowed was decided when it was named.
PROTOCOLS = ("https", "http", "ssh", "git", "file")

#: What git's check of objects finds in the history of well-known repositories, where it does no harm: old or other
#: programs wrote times and people in their own way, and file modes with a zero before them. Without these, requests,
#: lodash, flask and linux-firmware couldn't be fetched. All else that the check knows (entries such as ``.git`` or
#: ``..``, a ``.gitmodules`` that runs commands) fails the fetch. https://git-scm.com/docs/git-fsck
TOLERATED = (
    "badDate",
    "badDateOverflow",
    "badEmail",
    "badName",
    "badTimezone",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "multipleAuthors",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
)

SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    # These say of a commit what only the commit itself may say, and nothing checks them.
    "core.commitGraph=false",
    "core.useReplaceRefs=false",
    "gc.writeCommitGraph=false",
    "fetch.writeCommitGraph=false",
    "submodule.recurse=false",
    "fetch.fsckObjects=true",
    *(f"fetch.fsck.{name}=ignore" for name in TOLERATED),
    "advice.detachedHead=false",
    # Each fetch that is checked leaves a pack, and fifty packs are packed into one: the large one needn't be.
    "gc.bigPackThreshold=64m",
    "gc.autoDetach=false",  # what outlives git would keep the mirror's lock
    "maintenance.autoDetach=false",
    "log.showSignature=false",
    "protocol.allow=never",
    # By name, since a repository's own setting for one of these would count more than the one for all.
    "protocol.ext.allow=never",
    "protocol.fd.allow=never",
    *(f"protocol.{name}.allow=always" for name in PROTOCOLS),
)

#: Variables of git that an operator may set, in ``[environment]``: how hosts are reached, and what is traced. All
#: others say which repository git works on, or bring in settings.
_OPERATORS = re.compile(
    r"GIT_(?:SSH(?:_COMMAND|_VARIANT)?|SSL_\w+|HTTP_\w+|PROXY_\w+|TRACE\w*|CURL_VERBOSE|ASKPASS|EXEC_PATH|LFS_\w+"
    r"|CONFIG_(?:GLOBAL|SYSTEM|NOSYSTEM)|TERMINAL_PROMPT)\Z"
)

#: How many bytes of the end of what git prints as errors are kept.
_TAIL = 8 * 1024

#: Seconds between two looks whether git has ended, though something that it started still has its output.
_LOOK_EVERY = 0.2


class CheckoutFailed(Exception):
    """There is no working copy. ``str()`` of it is a sentence for the person who asked for the build."""


class TooMuch(CheckoutFailed):
    """git, or what it speaks with, says more than there may be."""


class BadMirror(Exception):
    """A mirror isn't what it should be: another is made in its place. ``str()`` of it is a clause that says why."""


class Git:
    """
    Runs git.

    :param lock: a descriptor that each git inherits: while one of them lives, the mirror is locked
    :param environment: its environment
    :param settings: as ``-c`` has them, beside those that are always set
    :param rule: of `landlock`, to which each git is held
    """

    def __init__(
        self, lock: int, environment: Mapping[str, str], settings: Sequence[str] = (), rule: int | None = None
    ) -> None:
        self._lock = lock
        self._environment = environment
        self._settings = settings
        self._rule = rule
        #: the end of what the last git has printed as errors
        self.said = ""

    def another(self, *settings: str) -> Git:
        """Return one more of the same, with these settings too."""
        return Git(self._lock, self._environment, (*self._settings, *settings), self._rule)

    def under(self, lock: int) -> Git:
        """Return the same with another lock."""
        return Git(lock, self._environment, self._settings, self._rule)

    def with_environment(self, more: Mapping[str, str]) -> Git:
        """Return the same with more in its environment."""
        return Git(self._lock, {**self._environment, **more}, self._settings, self._rule)

    def writing_below(self, *folders: Path) -> Git:
        """
        Return one that can't write anywhere but below these folders, where the kernel can hold it to that: for what
        works on the content of a repository. It is the repository's, and so may be what breaks into it.
        """
        return Git(self._lock, self._environment, self._settings, writing_below(map(str, folders)))

    def _hold(self) -> None:
        """Called in the process that becomes git."""
        assert self._rule is not None
        restrict(self._rule)

    def run(self, *arguments: str, quiet: bool = False) -> bool:
        """Run git with its output in the log. Return whether it succeeded."""
        return self._call(arguments, None, quiet=quiet) == 0

    def ask(self, *arguments: str, quiet: bool = True) -> str | None:
        """Return what git prints; None if it fails. Why is in the log then, unless ``quiet``."""
        output = bytearray()
        code = self._call(arguments, output, quiet=quiet)
        return output.decode("utf-8", "replace") if code == 0 else None

    def ask_bytes(self, *arguments: str, most: int) -> bytearray | None:
        """Return what git prints; None if it fails. Raises `TooMuch` if that is more than so many bytes."""
        output = bytearray()
        return output if self._call(arguments, output, quiet=True, most=most) == 0 else None

    def converse(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start git with its input and its output as pipes. What it prints as errors is lost."""
        return subprocess.Popen(
            [*self._command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=1 << 20,
            env=self._environment,
            pass_fds=[self._lock],
            preexec_fn=self._hold if self._rule is not None else None,
        )

    @property
    def _command(self) -> list[str]:
        settings = [part for setting in (*SETTINGS, *self._settings) for part in ("-c", setting)]
        return ["git", *settings]

    def _call(self, arguments: Sequence[str], output: bytearray | None, *, quiet: bool, most: int | None = None) -> int:
        """
        Run git, and return its exit code. Its output is added to ``output``; None: it goes into the log. ``most``: the
        most bytes of that.
        """
        sys.stdout.flush()
        try:
            process = subprocess.Popen(
                [*self._command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=None if output is None else subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment,
                # While git lives, the mirror is locked, even if this process is killed.
                pass_fds=[self._lock],
                preexec_fn=self._hold if self._rule is not None else None,
            )
        except FileNotFoundError as error:
            raise CheckoutFailed("the builder has no git on its PATH") from error
        tail = bytearray()
        with process:
            for descriptor, data in _read(process):
                if process.stdout is not None and output is not None and descriptor == process.stdout.fileno():
                    output += data
                    if most is not None and len(output) > most:
                        process.kill()
                        raise TooMuch(f"git prints more than {most >> 20} MiB")
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


def environment_of_git(environment: Mapping[str, str]) -> dict[str, str]:
    """Return git's environment, of a step's: what isn't set by the operator has our defaults."""
    return {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        **{n: value for n, value in environment.items() if not n.startswith("GIT_") or _OPERATORS.match(n)},
        "GIT_ALLOW_PROTOCOL": ":".join(PROTOCOLS),  # no setting, wherever it is, counts more
        "GIT_ATTR_NOSYSTEM": "1",
    }
