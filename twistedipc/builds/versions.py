"""
Versions of packages: how one is raised, and what a preview of a package is called. Bottom layer, pure.

A version is raised as ``npm version`` does it. A preview of a package, a *canary*, is a prerelease with a tag of its
own: of pull request 12 ``1.4.0-pr12.345`` with the tag ``pr-12``, of the branch feature-x ``1.4.0-feature-x.345`` with
the tag ``feature-x``. Its last number is the build's.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import msgspec

from twistedipc.builds.names import BadValue, full_ref, pull_request_of

#: The step that pushes a commit with versions, before the first publication.
PUSH = "push"

#: How a request says that versions are raised by the project's own tool, changesets.
CHANGESETS = "changesets"

#: The identifier of a line of prereleases, which is also the tag of its versions.
_LINE = r"[a-z][a-z0-9-]{0,31}"

#: What `check_bump` allows, for the API's document.
BUMP = rf"(?:patch|minor|major|prerelease(?::{_LINE})?|{CHANGESETS})"

_NUMBER = r"(0|[1-9][0-9]{0,15})"
_VERSION = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)

#: npm takes these for ranges of versions, so they can't be tags.
_RANGE = re.compile(r"x|v[0-9].*")

_PLAIN = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?")

#: Names of branches that aren't tags as they are: tags that packages have for other things, or that the platform
#: makes for others, and those that look like a name with a digest.
_TAKEN = re.compile(
    r"latest|next|beta|alpha|rc|pre|preview|canary|dev|stable|lts|current|legacy|nightly|experimental|insiders"
    r"|(?:pr|build)-?[0-9]+"
)

#: The names of canaries that aren't a branch's name as it is.
_MADE = re.compile(r"pr-[1-9][0-9]*|.*-[0-9a-f]{8}")

#: How many characters of a branch's name are in a tag that also has a digest of it.
_SHOWN = 24


class Canary(msgspec.Struct, frozen=True, kw_only=True):
    """What the previews of packages are called that one build makes."""

    tag: str
    identifier: str  # the first of the prerelease
    number: int  # the second: the build's

    def version(self, base: str) -> str:
        """Return the version of a package, which comes after ``base`` and before what is released next."""
        return f"{base}-{self.identifier}.{self.number}"

    def is_its_own(self, version: str) -> bool:
        """Return whether a version is a canary of this build."""
        match = _VERSION.fullmatch(version)
        return match is not None and match[4] == f"{self.identifier}.{self.number}"


class Versioning(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which versions a build gives its packages; without one, it leaves those of package.json."""

    bump: str = ""  # as `check_bump` allows it; "": none was asked for
    canary: Canary | None = None
    fixed: dict[str, str] = {}  # package -> version, of an earlier attempt of the same build that was to publish it
    taken: dict[str, list[str]] = {}  # package -> the versions that other builds of the project were to publish
    asked: int = 0  # when the build was asked for, in milliseconds since the epoch


class Chosen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The version that a package is to have when it is packed."""

    version: str
    tag: str = ""  # the dist-tag; "": as package.json says
    settled: bool = False  # as `attempt.Package` has it


class ChosenVersions(msgspec.Struct, frozen=True, kw_only=True):
    """Of all packages of a build whose versions were chosen."""

    targets: dict[str, dict[str, Chosen]]  # target -> package -> its version


def check_bump(text: str) -> str:
    """Return how versions are to be raised, as a person says it. Raises `BadValue`."""
    if text.startswith("prerelease:") and _RANGE.fullmatch(text.partition(":")[2]):
        raise BadValue(f"{text[:100]!r}: npm would take a tag of that name for a range of versions")
    if text == "prerelease:latest":
        raise BadValue("a prerelease can't have the tag latest: name its line, for example prerelease:beta")
    if not re.fullmatch(BUMP, text):
        raise BadValue(
            f"{text[:100]!r}: versions are raised by patch, minor, major, prerelease, prerelease:ID or {CHANGESETS}; "
            "ID has 1 to 32 of a-z, 0-9 and -, a letter first, for example prerelease:beta"
        )
    return text


def bumped(version: str, bump: str) -> str:
    """
    Return the version that comes after this one, as ``npm version`` has it. Raises `BadValue` for what is no version.

    :param bump: "patch", "minor", "major", "prerelease" or "prerelease:ID"
    """
    match = _VERSION.fullmatch(version)
    if match is None:
        raise BadValue(f"{version[:100]!r} isn't a version like 1.2.3")
    major, minor, patch = int(match[1]), int(match[2]), int(match[3])
    before = match[4].split(".") if match[4] is not None else []
    kind, _, line = bump.partition(":")
    if kind == "major":
        return f"{major if before and minor == patch == 0 else major + 1}.0.0"
    if kind == "minor":
        return f"{major}.{minor if before and patch == 0 else minor + 1}.0"
    if kind == "patch":
        return f"{major}.{minor}.{patch if before else patch + 1}"
    if not before:
        patch += 1
    return f"{major}.{minor}.{patch}-{'.'.join(_next_of_line(before, line))}"


def _next_of_line(before: list[str], line: str) -> list[str]:
    """The prerelease after this one: its last number raised; or the first of another line."""
    if line and (not before or before[0] != line or len(before) < 2 or not before[1].isdigit()):
        return [line, "0"]
    for at in reversed(range(len(before))):
        if before[at].isdigit():
            return [*before[:at], str(int(before[at]) + 1), *before[at + 1 :]]
    return [*before, "0"]


def next_free(version: str, bump: str, taken: Collection[str]) -> str:
    """Return the first version after this one, by ``bump`` once or more often, that isn't taken. Raises `BadValue`."""
    found = bumped(version, bump)
    while found in taken:
        found = bumped(found, bump)
    return found


def tag_of(version: str) -> str:
    """Return the tag of a version that has none of its own: of a prerelease its line; "" if that can't be a tag."""
    match = _VERSION.fullmatch(version)
    first = match[4].partition(".")[0] if match is not None and match[4] is not None else ""
    return first if re.fullmatch(_LINE, first) and not _RANGE.fullmatch(first) and first != "latest" else ""


def is_prerelease(version: str) -> bool:
    """Return whether a version is a prerelease."""
    match = _VERSION.fullmatch(version)
    return match is not None and match[4] is not None


def canary_of(ref: str, build: int) -> Canary:
    """
    Return what the canaries are called of a build of this ref: always the same for one ref but for the number, and
    never the same for two.

    :param ref: a branch, or a full name, as `names.ref` has it
    """
    pull = pull_request_of(ref)
    if pull is not None:
        return Canary(tag=f"pr-{pull}", identifier=f"pr{pull}", number=build)
    full = full_ref(ref)
    branch = full.removeprefix("refs/heads/")
    if _is_plain(branch):
        return Canary(tag=branch, identifier=branch, number=build)
    import hashlib  # not above: a runner imports this module, and needs no libcrypto

    words = re.sub(r"[^a-z0-9]+", "-", full.partition("/")[2].partition("/")[2].lower()).strip("-")
    words = words if words[:1].isalpha() else f"ref-{words}"
    name = f"{words[:_SHOWN].strip('-')}-{hashlib.sha256(full.encode()).hexdigest()[:8]}"
    return Canary(tag=name, identifier=name, number=build)


def _is_plain(branch: str) -> bool:
    """Return whether a branch's name is that of its canaries."""
    return _PLAIN.fullmatch(branch) is not None and not any(
        taken.fullmatch(branch) for taken in (_TAKEN, _MADE, _RANGE)
    )


def is_canary(tag: str, version: str) -> bool:
    """Return whether a version is a canary that belongs to a tag, of whatever build, as far as names say it."""
    match = _VERSION.fullmatch(version)
    if match is None or match[4] is None or not (_MADE.fullmatch(tag) or _is_plain(tag)):
        return False
    identifier = re.sub(r"^pr-(?=[0-9]+$)", "pr", tag)
    return re.fullmatch(rf"{re.escape(identifier)}\.[1-9][0-9]*", match[4]) is not None
