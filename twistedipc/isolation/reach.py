"""
What one step can see and use. Pure: ``steps`` makes it, ``bubblewrap`` puts it up, ``confinement`` makes rules of it.

A step sees files under the names that they have on the machine, so nothing has to be translated that names a path: a
log, a source map, a configuration.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

import msgspec

#: The folder in which a step finds what the platform puts there for it, under names that are short and always the same.
PLATFORM = "/run/twistedipc"

#: As whom a step's processes see themselves: as a user, never as root, which programs ask for more than they get then.
USER = 1000

#: The network of a step. "none": only its own loopback. "joined": the one of the process that starts it.
Network = Literal["none", "joined"]


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """
    What one step can see and use. What isn't named here isn't there. Paths are absolute, without a final slash; one
    that isn't there is left out, unless the step can write to it.
    """

    readable: Sequence[str] = ()
    writable: Sequence[str] = ()
    hidden: Sequence[str] = ()  # folders in what is readable that the step doesn't see
    hidden_files: Sequence[str] = ()  # the same for files
    elsewhere: Mapping[str, str] = {}  # name in the step -> what it is on the machine: for reading only
    links: Mapping[str, str] = {}  # name in the step -> where it leads
    files: Mapping[str, bytes] = {}  # name in the step -> what is in it
    network: Network = "none"
    gate: int = 0  # the port, at this machine's loopback address, of the proxy that it may connect to; 0: there is none


class UnsafeReach(ValueError):
    """A reach can't be put up safely: what a step can write to would decide where something is put."""


HIDDEN, READABLE, WRITABLE = range(3)


class Place(NamedTuple):
    """Something that a step sees, or doesn't. The order is the one in which places are put up."""

    parts: tuple[str, ...]
    rank: int  # `HIDDEN`, `READABLE` or `WRITABLE`
    path: str  # its name in the step
    source: str  # what it is on the machine; where it is hidden "/dev/null" for a file, and "" for a folder


def arranged(reach: Reach) -> Iterator[Place]:
    """
    Yield what a step sees, in an order in which what lies in something else comes after it, and what lies in something
    readable and isn't to be seen. Raises `UnsafeReach`.
    """
    found = [
        *(_place(path, HIDDEN, "") for path in reach.hidden),
        *(_place(path, HIDDEN, os.devnull) for path in reach.hidden_files),
        *(_place(path, READABLE, path) for path in reach.readable),
        *(_place(name, READABLE, path) for name, path in reach.elsewhere.items()),
        *(_place(path, WRITABLE, path) for path in reach.writable),
    ]
    above: list[Place] = []  # those that the one before lies in, and itself
    for place in sorted(found):
        while above and above[-1].parts != place.parts[: len(above[-1].parts)]:
            above.pop()
        if place.rank == HIDDEN and not above:
            continue  # nothing shows it
        if place.rank == READABLE and above and above[-1].rank == READABLE and place.source == place.path:
            continue  # it is seen already
        if any(each.rank == WRITABLE for each in above):
            # The step could put a link in its place, which would be followed, on the machine, the next time.
            raise UnsafeReach(f"{place.path} lies in {above[-1].path}, which the step can write to")
        above.append(place)
        yield place


def _place(path: str, rank: int, source: str) -> Place:
    return Place(PurePosixPath(path).parts, rank, path, source)
