"""
A hook of a program: a script, or a host that has no kind of its own here. ``builds.hooks``. Its payload::

    {"ref": "main", "commit": "6dcb09b5b57875f334f61aebed695e2e4193db5e", "message": "Fix the cart"}

``ref`` is a branch, or a full name; all else may be left out.
"""

from __future__ import annotations

import msgspec

from twistedipc.builds.hooks.events import BRANCHES, HookEvent, What, event, other, pushed, says_skip
from twistedipc.builds.hooks.reading import decoded


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """What a program sends."""

    ref: str = ""  # "": the message only tries whether it arrives
    commit: str = ""  # where the ref is now
    before: str = ""  # where it was before
    deleted: bool = False
    message: str = ""  # of the commit
    sender: str = ""
    url: str = ""
    changed: list[str] | None = None  # all paths that the push changes


def read(name: str, body: bytes) -> HookEvent:
    """Return what a message tells. It has no name. Raises `reading.BadPayload`."""
    told = decoded(body, Payload)
    if not told.ref:
        return event("plain", "ping")
    full = told.ref if told.ref.startswith("refs/") else BRANCHES + told.ref
    what: What | None = "gone" if told.deleted else pushed(full)
    if what is None:
        return other("plain", f"{full} is neither a branch nor a tag")
    return event(
        "plain",
        what,
        ref=full,
        before=told.before,
        commit=told.commit,
        title=told.message,
        sender=told.sender,
        url=told.url,
        skip=says_skip(told.message),
        changed=told.changed,
    )
