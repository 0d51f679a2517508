"""
A command and its `Reach` -> how its process is started, by what isolates on this machine. Used by the runner, for every
step alike: nothing else asks of what kind the isolation is.
"""

from __future__ import annotations

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
        case never:
            assert_never(never)
