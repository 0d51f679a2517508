"""
What publint says of the packages that a build has packed, and how the pack step is given publint. Pure.

https://publint.dev/rules has its rules. It never fails a build: what it says is for people who approve.
"""

from __future__ import annotations

from typing import Literal

import msgspec

#: The most messages of an attempt that are kept, and the most characters of each.
MAX_MESSAGES = 200
MAX_MESSAGE = 400

#: The file in which the pack step leaves `Linted`.
LINTED = "linted.json"

#: The variable by which the pack step is given a `Linter`, as JSON.
LINTER = "TWISTEDIPC_LINTER"


class Linter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where publint is on this machine."""

    version: str = ""
    packages: dict[str, str] = {}  # publint and what it needs: name of the package -> its folder
    why: str = ""  # why it isn't there; "": it is


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Something that publint says."""

    level: Literal["error", "warning", "suggestion"]
    text: str


class LintedPackage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What it says of one package."""

    target: str
    name: str
    version: str
    messages: list[Message] = []
    more: int = 0  # how many found no room
    why: str = ""  # why it wasn't looked at; "": it was


class Linted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What it says of an attempt's packages."""

    version: str = ""  # publint's
    packages: list[LintedPackage] = []
    why: str = ""  # why none was looked at; "": they were

    def about(self, target: str, name: str, version: str) -> LintedPackage:
        """Return what is known of a package."""
        for each in self.packages:
            if (each.target, each.name, each.version) == (target, name, version):
                return each
        return LintedPackage(target=target, name=name, version=version, why=self.why or "nothing is known of it")


def bounded(linted: Linted) -> Linted:
    """Return the same with at most `MAX_MESSAGES` messages; the errors of all packages come before the rest."""
    left = MAX_MESSAGES
    kept: list[set[int]] = [set() for _ in linted.packages]
    for level in ("error", "warning", "suggestion"):
        for package, chosen in zip(linted.packages, kept, strict=True):
            for index, message in enumerate(package.messages):
                if message.level == level and left > 0:
                    chosen.add(index)
                    left -= 1
    packages = [
        msgspec.structs.replace(
            package,
            messages=[message for index, message in enumerate(package.messages) if index in chosen],
            more=package.more + len(package.messages) - len(chosen),
        )
        for package, chosen in zip(linted.packages, kept, strict=True)
    ]
    return msgspec.structs.replace(linted, packages=packages)
