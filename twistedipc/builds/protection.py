"""
Protected refs: what a project publishes for its users comes from these alone. Bottom layer, pure.

A pattern is a branch (``main``, ``release/*``), a tag (``tags/v*``) or a full name (``refs/heads/main``). ``*`` stands
for any characters but ``/``, ``**`` for any. ``HEAD`` is the repository's own default branch.

The apiserver compares the ref that was asked for (`why_preview`). That is not enough: a short name may be a branch's or
a tag's, and a commit of an earlier attempt may have been pushed away. So the checkout looks which protected ref the
commit can be reached from (`is_protected`, of full names), and nothing is published for users without one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from twistedipc.builds import names
from twistedipc.builds.names import HEAD, BadValue

#: The most patterns of a project, and the most characters of one.
MAX_PATTERNS = 50
MAX_PATTERN = 200

#: What a pattern is, for the API's document. `check` holds it to that.
PATTERN = r"[^\x00-\x20\x7f~^:?\[\\]+"

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_STARS = re.compile(r"\*+")


def check(patterns: Sequence[str]) -> list[str]:
    """Return the patterns of a project's protected refs, each once. Raises `BadValue`."""
    if len(patterns) > MAX_PATTERNS:
        raise BadValue(f"a project has at most {MAX_PATTERNS} patterns of protected refs")
    for pattern in patterns:
        if len(pattern) > MAX_PATTERN:
            raise BadValue(f"a pattern of protected refs has at most {MAX_PATTERN} characters")
        try:
            # A star stands for some characters; and is whatever else of the pattern could be in a ref?
            names.ref(_STARS.sub("x", pattern))
        except BadValue as error:
            raise BadValue(
                f"{pattern!r} is no pattern of refs: it is a branch such as main or release/*, a tag such as tags/v*, "
                "or a full name such as refs/heads/main"
            ) from error
    return list(dict.fromkeys(patterns))


def patterns_of(patterns: Sequence[str] | None, default_ref: str) -> list[str]:
    """Return the patterns of a project; without its own, its default ref is the only protected one."""
    return list(patterns) if patterns else [default_ref]


def is_protected(patterns: Iterable[str], full_name: str, head: str) -> bool:
    """
    Return whether a ref is protected.

    :param full_name: ``refs/heads/main``
    :param head: the branch that the repository's HEAD stands for, as far as it is known
    """
    return any(_regex(full).fullmatch(full_name) for full in globs(patterns, head))


def globs(patterns: Iterable[str], head: str) -> list[str]:
    """Return the patterns as full names, ``refs/heads/release/*``. HEAD is left out as long as it isn't known."""
    full = []
    for pattern in patterns:
        if pattern == HEAD:
            full += [f"refs/heads/{head}"] if head else []
        elif pattern.startswith("refs/"):
            full.append(pattern)
        elif pattern.startswith(("heads/", "tags/")):
            full.append(f"refs/{pattern}")
        else:
            full.append(f"refs/heads/{pattern}")
    return full


def may_be_protected(patterns: Sequence[str], ref: str, head: str) -> bool:
    """Return whether a ref, as a person writes it, is a protected one, or may turn out to be one."""
    if ref in patterns:
        return True
    if ref == HEAD:
        return not head or is_protected(patterns, f"refs/heads/{head}", head)
    if ref.startswith("refs/"):
        return is_protected(patterns, ref, head)
    full = [f"refs/heads/{ref}", f"refs/tags/{ref}"]
    if ref.startswith(("heads/", "tags/")):
        full.append(f"refs/{ref}")
    return any(is_protected(patterns, name, head) for name in full)


def is_commit(ref: str) -> bool:
    """Return whether a ref is the full id of a commit."""
    return _COMMIT.match(ref.lower()) is not None


def why_preview(
    *, project: str, ref: str, patterns: Sequence[str], head: str, publish: bool, may_publish: bool, live: bool
) -> str:
    """
    Return why a build publishes nothing for its project's users, in a sentence; "" if it may.

    :param publish: it was asked to publish
    :param may_publish: the one who asked has the scope publish
    :param live: it was asked to go live whatever its ref: then it may also be one commit, which the checkout must
        find on a protected ref
    """
    if not publish:
        return "it was asked not to publish"
    if not may_publish:
        return "it was asked for with a token that hasn't the scope publish"
    if may_be_protected(patterns, ref, head) or (live and is_commit(ref)):
        return ""
    return f"{ref} isn't {listing(patterns)} of {project}"


def listing(patterns: Sequence[str]) -> str:
    """Return the protected refs as they are named in a sentence."""
    return f"the protected ref ({patterns[0]})" if len(patterns) == 1 else f"a protected ref ({', '.join(patterns)})"


def _regex(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*+)", pattern)
    return re.compile("".join(_star(part) if part.startswith("*") else re.escape(part) for part in parts))


def _star(stars: str) -> str:
    return "[^/]*" if stars == "*" else ".*"
