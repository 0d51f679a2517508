"""What was recognised of a project, and why: the types. They are JSON in answers, in the log and for `inspect`."""

from __future__ import annotations

from typing import Literal

import msgspec

from twistedipc.builds.egress import NetworkMode

#: ``static``: the build makes a site. ``server``: it makes what needs a server of the framework's own. ``package``:
#: there is nothing to build that is known to make a site. ``plain``: the files are the site as they are.
Kind = Literal["static", "server", "package", "plain", "unknown"]


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was recognised, and where that is said."""

    what: str  # "framework", "manager", "node", "root", "install", "build", "output", "workspace", …
    value: str
    why: str  # for people: "dependencies has next"
    file: str = ""  # relative to the repository's top; "": no file says it
    line: int = 0  # from 1; 0: the whole file says it, by being there

    @property
    def place(self) -> str:
        """The file and the line, as people write them; "" if no file says it."""
        return f"{self.file}:{self.line}" if self.line else self.file


#: The most characters of a text of a finding, where it leaves the runner: what a project says of itself may be long.
MAX_TEXT = 1000


def short(finding: Finding) -> Finding:
    """Return the finding with texts of `MAX_TEXT` characters at most."""
    return Finding(
        what=_short(finding.what),
        value=_short(finding.value),
        why=_short(finding.why),
        file=_short(finding.file),
        line=finding.line,
    )


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def told(recognised: Recognised) -> list[str]:
    """What was recognised, and why, in lines for people."""
    found = []
    for finding in map(short, recognised.findings):
        why = f"{finding.place}: {finding.why}" if finding.file else finding.why
        found.append(f"{finding.what}: {finding.value or 'none'} ({why})")
    return found


class ManagerWanted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The package manager that a project wants."""

    name: str  # "npm", "pnpm", "yarn" or "bun"
    version: str = ""  # exact, or a range as npm has them; "": none is said
    lock: str = ""  # its lock file, relative to the repository's top; "": there is none
    integrity: str = ""  # the hash that ``packageManager`` says of that version, as it is there: "sha512.…"


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A command, and the folder in which it runs."""

    name: str
    run: str
    folder: str = ""  # relative to the repository's top
    network: NetworkMode | None = None  # what it may reach; None: what the plan says


class Recognised(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a project is, and how it is built. All paths are relative to the repository's top."""

    root: str = ""  # the folder of the project
    framework: str = ""  # a name of `frameworks`; "": none that is known
    kind: Kind = "unknown"
    manager: ManagerWanted | None = None  # None: nothing is installed by one
    node: str = ""  # a range as npm has them, or a word of Node's version managers; "": none is said
    install: PlannedStep | None = None
    build: list[PlannedStep] = []  # the last one builds the project; those before it what it needs of its workspace
    outputs: list[str] = []  # folders that may hold the site, in the order to look at them
    spa: bool = False  # addresses without a file get index.html
    needs: list[str] = []  # the programs that the builder must have, beside Node
    findings: list[Finding] = []
    refusal: str = ""  # why it can't be built at all, in a sentence
    no_site: str = ""  # why it is certain that the build makes no site, in a sentence that says how it would
    advice: list[str] = []  # what the authors should know, each a sentence
