"""
Which protected ref has a commit. Used by ``working_copy``, while the mirror is locked; the patterns are
`builds.protection`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

from twistedipc.builds.protection import globs, is_protected
from twistedipc.runner.checkout.git import Git
from twistedipc.runner.checkout.refs import Found


def protecting_ref(git: Git, found: Found, asked: str, patterns: Sequence[str]) -> str:
    """
    Return a protected ref from which the commit can be reached, as its full name; "" if there is none.

    :param asked: the ref that has just led to the commit; "": the commit was given
    """
    if asked and asked in patterns:
        return asked
    below = [_without_stars(full) for full in globs(patterns, found.head)]
    if not below:
        return ""
    at = ("-C", str(found.mirror.folder))
    listed = git.ask(*at, "for-each-ref", "--contains", found.commit, "--format=%(refname)", "--", *below) or ""
    return next((name for name in listed.splitlines() if is_protected(patterns, name, found.head)), "")


def _without_stars(pattern: str) -> str:
    """Return the name or the folder below which all refs of a pattern are. git's own patterns mean other things."""
    before, star, _ = pattern.partition("*")
    return before.rpartition("/")[0] if star else pattern
