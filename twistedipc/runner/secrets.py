"""
The secrets of the attempt, in the runner: it asks for them before anything of the build begins, and has them in memory
alone. Used by ``course``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from twistedipc.attempts.handover import Listening
from twistedipc.builds.attempt import Secrets, SecretsWanted, Spec
from twistedipc.disk.files import PASSING_ERRORS
from twistedipc.runner.steps import Steps

_WANTED = "secrets.wanted"


def ask(
    folder: Path,
    spec: Spec,
    steps: Steps,
    write: Callable[[Path, msgspec.Struct], bool],
    ring: Callable[[], None],
) -> Secrets | None:
    """
    Ask the builder for what the spec says, and wait for it. None if the attempt is to end first.

    :param write: writes a file, durably; whether the disk had room for it
    :param ring: tells the builder that there is something new in the folder
    """
    wanted = folder / _WANTED
    with _listening(folder, steps) as listening:
        steps.persist(lambda: write(wanted, SecretsWanted(uses=spec.asks)))
        ring()
        try:
            return steps.wait_for(listening.take, lambda: listening.descriptors)
        finally:
            wanted.unlink(missing_ok=True)


def _listening(folder: Path, steps: Steps) -> Listening:
    """Listen, once the disk has room for the socket."""
    made: list[Listening] = []

    def listen() -> bool:
        try:
            made.append(Listening(folder))
        except OSError as error:
            if error.errno not in PASSING_ERRORS:
                raise
            return False
        return True

    steps.persist(listen)
    return made[0]
