"""
What previews are called: the label before a project's name in a host name, ``LABEL--PROJECT``. Bottom layer, pure.

A build's label is ``build-17``, a pull request's ``pr-12``. A branch's is its name where that is a label already
(``fix-menu``); else what can be read of it, and eight digits of its hash: ``feature/größe#1`` is
``feature-grosse-1-0a1b2c3d``. So a ref's label is always the same, and no two refs of a project have one: names that
could be made by this rule, or mean something else, get a hash too.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Final

from twistedipc.builds.names import HEAD, PROJECT, full_ref, pull_request_of

#: Between a label and its project's name. No label has it.
SEPARATOR: Final = "--"

#: The most characters of one part of a host name (RFC 1035, 2.3.4).
MOST: Final = 63

_BUILD = re.compile(r"build-([1-9][0-9]{0,17})")

#: A branch's name that is its own label.
_PLAIN = re.compile(r"[a-z0-9](?:-?[a-z0-9])*")

#: Names that aren't left to branches: other labels, what a hash could end, and the beginning of host names in other
#: scripts (``xn--``: RFC 5890, 2.3.1).
_TAKEN = re.compile(r"(?:build|pr)-[0-9]+|(?:.*-)?[0-9a-f]{8}|xn")

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

#: How letters are written in a host name that have no accent to lose.
_SPELLED = str.maketrans({"æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ł": "l", "þ": "th", "ð": "d"})


def of_build(build: int) -> str:
    """Return the label of a build: of what it made, for ever."""
    return f"build-{build}"


def of_ref(ref: str, project: str) -> str:
    """
    Return the label of a branch, a pull request or another ref in the host names of a project. "" if there is no room
    for it beside the project's name, or if the ref is a commit, or the repository's HEAD whose branch isn't known.
    """
    if ref == HEAD or _COMMIT.fullmatch(ref):
        return ""
    pull = pull_request_of(ref)
    if pull is not None:
        label = f"pr-{pull}"
        return label if len(label) <= _room(project) else ""
    full = full_ref(ref)
    branch = full.removeprefix("refs/heads/")
    if _PLAIN.fullmatch(branch) and not _TAKEN.fullmatch(branch) and len(branch) <= _room(project):
        return branch
    digest = hashlib.sha256(full.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    words = _words(full.partition("/")[2].partition("/")[2])[: max(_room(project) - len(digest) - 1, 0)].rstrip("-")
    label = f"{words}-{digest}" if words else digest
    return label if len(label) <= _room(project) else ""


def host_name(label: str, project: str) -> str:
    """Return the first part of a preview's host name. "" if it would be too long: then the preview has no address."""
    return f"{label}{SEPARATOR}{project}" if label and len(label) <= _room(project) else ""


def parse(name: str) -> tuple[str, str] | None:
    """Return the label and the project that the first part of a host name has; None if it is no preview's."""
    label, separator, project = name.partition(SEPARATOR)
    if not separator or label == "xn" or not _PLAIN.fullmatch(label) or not re.fullmatch(PROJECT, project):
        return None
    return label, project


def build_of(label: str) -> int | None:
    """Return the build that a label is of; None if it is another's."""
    found = _BUILD.fullmatch(label)
    return None if found is None else int(found[1])


def _words(name: str) -> str:
    """Return what can be read of a name, in the characters of host names."""
    text = unicodedata.normalize("NFKD", name.casefold().translate(_SPELLED))
    text = "".join(each for each in text if not unicodedata.combining(each))
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


def _room(project: str) -> int:
    return MOST - len(SEPARATOR) - len(project)
