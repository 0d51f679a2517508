"""
Where a build came from that no person asked for: a push, a tag or a pull request that a repository's host told of, a
look at the repository, or a schedule. Bottom layer, pure. A host's words are brought into bounds here, since people are
shown them.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

import msgspec

from twistedipc.builds import names

#: Who said so: a kind of host, a hook of a program, a look at the repository by the apiserver itself, or its clock.
Kind = Literal["github", "gitlab", "gitea", "plain", "poll", "schedule"]

#: What happened.
Event = Literal["push", "tag", "pull_request", "schedule"]

#: The most characters of a title or a name, and of an address.
MAX_TEXT = 200
MAX_URL = 2000


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """
    Where a build came from. Texts are empty where nothing is known.

    ``branch`` is where the commit is: the branch that was pushed, the tag's name, or the branch of a pull request (in
    the repository that it comes from). ``base``: the branch into which a pull request is to go.
    """

    kind: Kind
    event: Event
    delivery: str = ""  # the id that the host gave its message
    number: int = 0  # of the pull request; 0: none
    commit: str = ""  # the head that was told of; a build of a branch may find a newer one
    branch: str = ""
    base: str = ""
    title: str = ""  # of the pull request, or the first line of the newest commit's message
    sender: str = ""  # who did it, as the host calls them
    url: str = ""  # of the push or pull request at its host; http or https
    fork: bool = False  # the pull request comes from another repository, so from a stranger


def shown_text(value: str) -> str:
    """Return a host's text as it can be shown: one line, of at most `MAX_TEXT` characters."""
    return names.shown(value.strip().split("\n", 1)[0].strip(), MAX_TEXT)


def shown_url(value: str) -> str:
    """Return a host's address if it can be a link on a page (http or https, no user in it), else ""."""
    if len(value) > MAX_URL or names.shown(value, MAX_URL) != value or " " in value:
        return ""
    try:
        parts = urlsplit(value)
    except ValueError:
        return ""
    return value if parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc else ""


def sentence(origin: Origin) -> str:
    """Return what led to a build, for people: "push to main by ann"."""
    match origin.event:
        case "push":
            what = f"push to {origin.branch}"
        case "tag":
            what = f"tag {origin.branch}"
        case "pull_request":
            what = f"pull request {origin.number}"
            if origin.fork:
                what += ", maybe from a fork" if origin.kind == "poll" else " from a fork"
        case "schedule":
            what = f"schedule {origin.title}".rstrip()
    return f"{what} by {origin.sender}" if origin.sender else what
