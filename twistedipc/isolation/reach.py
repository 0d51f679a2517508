"""
What one step can see and use. Pure data: ``steps`` makes it, ``bubblewrap`` puts it up.

A step sees files under the names that they have on the machine, so nothing has to be translated that names a path: a
log, a source map, a configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

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
