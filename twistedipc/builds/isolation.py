"""
What keeps a build from reaching more than its own, on one builder. Bottom layer, pure data; the room ``isolation``
finds it out and builds it.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

#: By what the steps of an attempt are kept apart from the rest of their machine; "none": by nothing.
Kind = Literal["bubblewrap", "landlock", "none"]


def kind_of(said: str | None) -> Kind | None:
    """Return the kind that a builder names; None if it names none that is known."""
    return next((kind for kind in get_args(Kind) if kind == said), None)


class Isolation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a builder found at its start, and what each of its runners is told."""

    kind: Kind = "none"
    said: str = ""  # for people: what isolates, in which version, by what else
    refused: str = ""  # why nothing isolates though it must, and what to do: then no attempt may be run
    program: str = ""  # bubblewrap's file
    #: what connects steps with the network: see `engines`
    engine: Literal["", "pasta", "slirp4netns", "gate", "loopback"] = ""
    connects: str = ""  # the engine's file
    readable: list[str] = []  # what the operator lets all steps read
    hidden: list[str] = []  # what no step sees though it may lie in what steps can read: the builder's own files


#: Steps as they were before there were walls.
NOT_ISOLATED = Isolation()
