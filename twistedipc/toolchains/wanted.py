"""What a project asks for, and what the steps of its build get: the contents of files in an attempt's folder."""

from __future__ import annotations

import msgspec

from twistedipc.builds.attempt import Tool
from twistedipc.builds.lint import Linter


class Wanted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a project asks for."""

    manager: str = ""  # the manager's name; "": none was recognised
    version: str = ""  # the manager's version, or a range; "" is any
    integrity: str = ""  # the manager's hash in packageManager ("sha512.…"); "": none was given
    manager_why: str = ""  # what asks for it, for people: "packageManager in package.json"
    node: str = ""  # a version of Node or a range; "" is any
    node_why: str = ""
    linter: bool = False  # whether publint is to look at what is packed


class Toolchain(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the steps of a build get."""

    path: list[str] = []  # the folders that come first on PATH
    environment: dict[str, str] = {}
    said: list[str] = []  # what was chosen and why, for the log
    remarks: list[str] = []  # warnings, for the log
    tools: list[Tool] = []  # the same for programs
    linter: Linter | None = None  # what the pack step gets; None: it isn't wanted
