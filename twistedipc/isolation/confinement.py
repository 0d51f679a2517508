"""
A `Reach` as what Landlock is told, and the warden: which files may be read and written, which folders a step is free
in. Pure, but for the look at a folder of which a part is hidden.

Rules of Landlock add up, and a rule for a folder is one for all below it: nothing can be taken out again. So where
something hidden lies in a readable folder, there is a rule for each of the others in it, and none for the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from twistedipc.isolation import landlock
from twistedipc.isolation.reach import HIDDEN, PLATFORM, WRITABLE, Reach, arranged

#: Devices that every program expects, and that are nobody's.
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


class Confinement(msgspec.Struct, frozen=True, kw_only=True):
    """What a step is held to."""

    optional: Mapping[str, int]  # path -> what may be done there, for `landlock.confining`; it may be absent
    needed: Mapping[str, int]  # the same for what must be there
    free: Sequence[str]  # folders in which it may change what it likes
    connectable: Sequence[str]  # folders in which it may connect to UNIX sockets
    gate: int  # see `Reach`


def confinement(reach: Reach, entries: Callable[[str], Iterable[str]]) -> Confinement:
    """
    Return what a step of this reach is held to. What a reach puts under another name is there under its own.

    :param entries: returns the names in a folder of the machine but those of links, which need no rule: what they lead
        to has one, or isn't to be seen; raises OSError

    Raises `UnsafeReach`.
    """
    places = list(arranged(reach))
    hidden = [place.path for place in places if place.rank == HIDDEN]
    readable = ["/proc", *reach.files]
    for place in places:
        if place.rank not in (HIDDEN, WRITABLE):
            readable += _without(place.source, hidden, entries)
    channels = [path for name, path in reach.elsewhere.items() if name.startswith(f"{PLATFORM}/")]
    return Confinement(
        optional=dict.fromkeys(readable, landlock.READ) | dict.fromkeys(_DEVICES, landlock.USE_DEVICE),
        needed=dict.fromkeys(reach.writable, landlock.WRITE),
        free=list(reach.writable),
        connectable=[*reach.writable, *channels],
        gate=reach.gate if reach.network == "joined" else 0,
    )


def _without(path: str, hidden: Sequence[str], entries: Callable[[str], Iterable[str]]) -> list[str]:
    """Return a path, if nothing that is hidden lies in it; else what is in it, without that."""
    above = path.rstrip("/") + "/"
    inside = [each for each in hidden if each.startswith(above)]
    if not inside:
        return [path]
    try:
        names = sorted(entries(path))
    except OSError:
        return []
    found: list[str] = []
    for name in names:
        if above + name not in inside:
            found += _without(above + name, inside, entries)
    return found
