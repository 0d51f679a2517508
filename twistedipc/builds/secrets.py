"""
What a secret of a project is for: which steps of which builds are given it, and what its name and its value may be.
Bottom layer, pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from twistedipc.builds import names
from twistedipc.builds.environments import PREVIEW, PRODUCTION

#: Below this many bytes a value can't be hidden in a log: it would be found everywhere.
SHORTEST = 4

#: The most characters of one value, and the most secrets of a project.
MAX_SECRET = 32 * 1024
MAX_SECRETS = 100

#: The most characters of all values of a project. They are given to its steps as environment variables, of which a
#: program can have about two million bytes; and each of them is looked for in all that the build prints.
MAX_SECRETS_TOGETHER = 64 * 1024

#: The kind of a build. Production: what it makes is for the project's users. Preview: any other.
Context = Literal["production", "preview"]

#: Which builds something is for: ``all``, ``production``, ``previews``, or those of an environment, by its name.
Builds = str

#: Which steps something is for: the one named ``install``, the others, or all.
Steps = Literal["all", "install", "build"]

#: The name of the step that installs what a project depends on.
INSTALL = "install"


#: What a value must have in it: `SHORTEST` characters in a row, with no blank at either end, that aren't all asterisks.
_LINE = r"[^ \t\r\n*\x00][^\r\n\x00]{2,}[^ \t\r\n\x00]"
_HIDEABLE = re.compile(_LINE)


class GivenSecret(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A secret as a runner gets it: the variable ``name`` of the steps that it is for."""

    name: str
    value: str
    steps: Steps = "all"


def why_for_none(builds: Builds, environments: Iterable[str]) -> str:
    """Return why nothing can be for these builds, of a project with these environments; "" if it can."""
    known = ["all", PRODUCTION, "previews", *environments]
    return "" if builds in known else f"the project has no environment {builds!r}: there is {', '.join(known)}"


def are_for(builds: Builds, environment: str) -> bool:
    """Return whether something for these ``builds`` is for one of this environment."""
    return builds in ("all", "previews" if environment == PREVIEW else environment)


def is_for_step(steps: Steps, step: str) -> bool:
    """Return whether something for these ``steps`` is for the step of this name."""
    return steps == "all" or (steps == "install") == (step == INSTALL)


def value(text: str) -> str:
    """Check a secret's value: it may have several lines, each of which can be hidden. Raises `names.BadValue`."""
    if len(text) > MAX_SECRET:
        raise names.BadValue(f"a secret has at most {MAX_SECRET} characters")
    if "\0" in text or not _is_text(text):
        raise names.BadValue("a secret is text without NUL: encode other bytes, for example as base64")
    if not _HIDEABLE.search(text):
        raise names.BadValue(
            f"a secret has at least {SHORTEST} characters in one of its lines, the first of them no asterisk: a "
            "shorter one can't be hidden in a log"
        )
    return text


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


#: A secret's value in the API's document.
SecretValue = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=MAX_SECRET,
        extra_json_schema={"pattern": rf"^[^\x00]*{_LINE}[^\x00]*$"},
    ),
]
