"""
One-time passwords for registries: typed by a person where nobody sees it, or the next line of standard input. None is
ever an argument, since other users of the machine can read these. Used by ``approvals`` and ``packages``.
"""

from __future__ import annotations

import re
import sys

import click

from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import note

otp_option = click.option(
    "--otp",
    metavar="-",
    help="With -, read the registry's one-time passwords from standard input, one a line (else they are asked for).",
)

#: What registries take: six or eight digits, a code for recovery.
_PASSWORD = re.compile(r"[0-9A-Za-z-]{4,100}\Z")


class Passwords:
    """
    Where passwords come from.

    :param option: of the command
    """

    def __init__(self, option: str | None) -> None:
        if option not in (None, "-"):
            raise click.UsageError("a password isn't an argument, which others can read: --otp - reads standard input")
        self._from_input = option == "-"
        self.given = self._line() if self._from_input else ""

    def next(self, why: str) -> str:
        """Return another password. Raises `Failure` if there is none. ``why``: a sentence for people."""
        note(why)
        if self._from_input:
            return self._line()
        if not sys.stdin.isatty():
            raise Failure(
                ExitCode.WAITS_APPROVAL, "there is no terminal at which to ask for it: --otp - reads standard input"
            )
        while True:
            typed = str(click.prompt("One-time password", hide_input=True, err=True)).strip()
            if _PASSWORD.match(typed):
                return typed
            note("that is no one-time password: it has 4 to 100 letters, digits and -")

    def _line(self) -> str:
        line = sys.stdin.readline(1000).strip()
        if not _PASSWORD.match(line):
            raise Failure(ExitCode.USAGE, "standard input has no (further) one-time password")
        return line
