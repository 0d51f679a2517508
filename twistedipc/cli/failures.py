"""
The exit codes of the command, and the errors that end it. Used by all of ``cli``. Scripts rely on the codes, so they
don't change; `README.md` lists them.
"""

from __future__ import annotations

from enum import IntEnum

import click


class ExitCode(IntEnum):
    """The exit codes of `twistedipc`."""

    OK = 0
    NOT_SUCCEEDED = 1  # the build that was followed failed, was cancelled, timed out or was lost; nothing was found
    USAGE = 2  # bad options or bad input, whether this program or the server says so
    NOT_ALLOWED = 3  # not signed in, or the token may not do this
    NOT_FOUND = 4
    UNAVAILABLE = 5  # the server can't be reached, or can't answer now
    INCOMPLETE = 6  # the log that was read is not all of the log
    NOT_WRITTEN = 7  # the output can't be written: the disk is full, or a file can't be used
    WAITS_APPROVAL = 8  # the build that was followed waits for another person's approval
    INTERRUPTED = 130  # Ctrl-C


class Failure(click.ClickException):
    """Ends the command with a sentence on standard error and an exit code."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click reads it from the instance
