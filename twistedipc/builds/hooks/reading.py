"""
JSON of strangers as what it must be. A field that nobody reads may be anything, one that is null is as if it were
missing. ``builds.hooks``.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

_T = TypeVar("_T", bound=msgspec.Struct)


class BadPayload(ValueError):
    """What was sent isn't what its kind of host sends. ``str()`` of it is a sentence."""


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """A commit of a push: all hosts have these names."""

    id: str = ""
    message: str | None = None
    added: list[str] | None = None
    modified: list[str] | None = None
    removed: list[str] | None = None

    @property
    def paths(self) -> tuple[list[str], list[str], list[str]]:
        """What it changes."""
        return self.added or [], self.modified or [], self.removed or []

    @property
    def knows_paths(self) -> bool:
        """Whether the host tells at all what it changes."""
        return None not in (self.added, self.modified, self.removed)


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """The repository of a push."""

    id: int = 0
    default_branch: str | None = None
    web_url: str = ""


def default_branch(repository: Repository | None) -> str:
    """Return a repository's default branch; "": it isn't told."""
    return "" if repository is None else repository.default_branch or ""


def message_of(commit: Commit | None) -> str:
    """Return a commit's message; "" where there is no commit."""
    return "" if commit is None else commit.message or ""


def is_complete(before: str, commits: list[Commit], count: int) -> bool:
    """
    Return whether these commits, and what they change, are all of a push; a new branch has none before.

    :param count: how many there are, as the host says
    """
    return bool(before.strip("0")) and len(commits) == count and all(each.knows_paths for each in commits)


def decoded(body: bytes, kind: type[_T]) -> _T:
    """Return a payload as this ``kind``. Raises `BadPayload`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadPayload(f"the payload can't be read: {error}") from error
