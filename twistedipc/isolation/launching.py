"""
A command and its `Reach` -> how its process is started, by what isolates on this machine. Used by the runner, for every
step alike: nothing else asks of what kind the isolation is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

from twistedipc.attempts.processes import Launch
from twistedipc.builds.isolation import Isolation
from twistedipc.isolation import bubblewrap
from twistedipc.isolation.reach import Reach


def launched(
    isolation: Isolation,
    argv: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    reach: Reach,
    within: Callable[[Sequence[str]], Sequence[str]] = list,
) -> Launch:
    """
    Return how a command is started.

    :param environment: all that the command has
    :param folder: where the command begins
    :param within: returns the command that runs another one with its limits, in a user namespace of its own
    """
    match isolation.kind:
        case "none":
            return Launch(argv=argv, environment=environment, folder=folder)
        case "bubblewrap":
            return Launch(
                argv=bubblewrap.command(isolation.program, within(argv)),
                environment={},
                folder="/",
                given=bubblewrap.given(reach, environment, folder),
                says_child=True,
            )
        case "landlock":
            # Not above: no other runner needs it.
            from twistedipc.isolation import seccomp
            from twistedipc.isolation.confinement import confinement
            from twistedipc.isolation.warden import Warden

            machine = seccomp.machine()
            assert machine is not None  # or the builder wouldn't have found that it works
            return Launch(
                argv=argv,
                environment=environment,
                folder=folder,
                says_child=True,
                divide=Warden(confinement(reach, _entries), machine).divide,
            )
        case never:
            assert_never(never)


def _entries(folder: str) -> list[str]:
    """Return the names in a folder but those of links. Raises OSError."""
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if not entry.is_symlink()]
