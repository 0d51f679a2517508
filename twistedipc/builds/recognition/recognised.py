"""What was recognised of a project, and why: the types. They are JSON in answers, in the log and for `inspect`."""

from __future__ import annotations

from typing import Literal

import msgspec

#: ``static``: the build makes a site. ``server``: it makes what needs a server of the framework's own. ``package``:
#: there is nothing to build, or nothing that makes a site. ``plain``: the files are the site as they are.
Kind = Literal["static", "server", "package", "plain", "unknown"]


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was recognised, and where that is said."""

    what: str  # "framework", "manager", "node", "root", "install", "build", "output", "workspace", …
    value: str
    why: str  # for people: "dependencies has next"
    file: str = ""  # relative to the repository's top; "": no file says it
    line: int = 0  # from 1; 0: the whole file says it, by being there


class ManagerWanted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The package manager that a project wants."""

    name: str  # "npm", "pnpm", "yarn" or "bun"
    version: str = ""  # exact, or a range as npm has them; "": none is said
    lock: str = ""  # its lock file, relative to the repository's top; "": there is none
    integrity: str = ""  # the hash that ``packageManager`` says of that version, as it is there: "sha512.…"


class Recognised(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a project is, and how it is built."""

    root: str = ""  # the folder of the project in its repository
    framework: str = ""  # a name of `frameworks`; "": none that is known
    kind: Kind = "unknown"
    manager: ManagerWanted | None = None  # None: nothing is installed
    node: str = ""  # a range as npm has them; "": none is said
    install: str = ""  # the command that installs, in ``install_root``; "": none
    install_root: str = ""  # where it runs: the top of the workspace that the project is part of
    build: str = ""  # the command that builds, in ``root``; "": none
    outputs: list[str] = []  # folders that may hold the site, relative to ``root``, in the order to look at them
    spa: bool = False  # addresses without a file get index.html
    findings: list[Finding] = []
    refusal: str = ""  # why it can't be built at all, in a sentence
    advice: list[str] = []  # what the authors should know, each a sentence
