"""
How git is run: nothing in a repository can make it run anything. No hooks, no templates, a configuration that is
written each time, and only protocols that ``names.repository`` allows.
"""

from __future__ import annotations

import os
import subprocess
import sys

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


class CheckoutFailed(Exception):
    """There is no working copy. ``str()`` of it is a sentence for the person who asked for the build."""


class Git:
    """Runs git. ``lock`` is a descriptor that each git inherits: while one of them lives, the mirror is locked."""

    def __init__(self, lock: int, environment: dict[str, str]) -> None:
        self._lock = lock
        self._environment = environment

    def run(self, *arguments: str, quiet: bool = False) -> bool:
        """Run git with its output in the log. Return whether it succeeded."""
        return self._call(arguments, capture=False, quiet=quiet).returncode == 0

    def ask(self, *arguments: str, quiet: bool = True) -> str | None:
        """Return what git prints; None if it fails. Why is in the log then, unless ``quiet``."""
        done = self._call(arguments, capture=True, quiet=quiet)
        return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None

    def _call(self, arguments: tuple[str, ...], *, capture: bool, quiet: bool) -> subprocess.CompletedProcess[bytes]:
        sys.stdout.flush()
        try:
            return subprocess.run(
                ["git", *(part for setting in SETTINGS for part in ("-c", setting)), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if capture else None,
                stderr=subprocess.DEVNULL if quiet else None,
                env=self._environment,
                check=False,
                # While git lives, the mirror is locked, even if this process is killed.
                pass_fds=[self._lock],
            )
        except FileNotFoundError as error:
            raise CheckoutFailed("the builder has no git on its PATH") from error


def defaults() -> dict[str, str]:
    """Return what git is told unless the operator's environment says otherwise."""
    return {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
