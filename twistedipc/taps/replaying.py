"""
One attempt on this machine, without an apiserver and without a builder: `twistedipc replay`. The runner is the same
program that a builder starts, and gets the same kind of folder; who asked reads its journal. Blocks.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from twistedipc.attempts.folder import AttemptFolder
from twistedipc.attempts.liveness import take_lock
from twistedipc.attempts.programs import own_command
from twistedipc.builder.settings import Settings, spec_of
from twistedipc.builds.attempt import Result, Spec
from twistedipc.builds.isolation import Isolation
from twistedipc.builds.logs import Batch
from twistedipc.builds.messages import Offer
from twistedipc.isolation.probe import find_isolation

#: Seconds between two looks into the journal.
_EVERY: Final = 0.1


class Replay:
    """
    The attempts that are replayed in a folder, of which the newest stays there, to be looked at.

    :param settings: those of a builder; its data folder isn't touched
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        hidden = [*settings.hidden, str(settings.data)]
        self._settings = replace(settings, data=folder, hidden=hidden, caches=None, reserve=0)
        self.isolation: Isolation = find_isolation(self._settings.wanted)

    def run(self, offer: Offer, apiserver: str, show: Callable[[Batch], None]) -> tuple[Result, Path]:
        """
        Run what is offered to its end; it is cancelled if this is interrupted. Return how it ended, and where its
        working copy is. ``show`` is called with what it logs. Raises `OSError`.
        """
        attempts = self._settings.attempts
        attempts.mkdir(parents=True, exist_ok=True, mode=0o700)
        for each in attempts.iterdir():
            before = AttemptFolder(each)
            if not before.runner_lives():
                before.remove()
        spec = spec_of(offer, self._settings, reserve=0, isolation=self.isolation, apiserver=apiserver)
        folder = AttemptFolder.create(attempts, spec)
        runner = _start(folder, spec)
        journal = folder.journal()
        try:
            while True:
                over = runner.poll() is not None
                while found := journal.read():
                    for batch, _size in found:
                        show(batch)
                if over:
                    break
                try:
                    runner.wait(_EVERY)
                except subprocess.TimeoutExpired:
                    continue
        except BaseException:
            folder.cancel("the replay was interrupted")
            runner.wait()
            raise
        finally:
            journal.close()
        return folder.conclude(0, cgroups=[], give_up=True), folder.path / "work"


def _start(folder: AttemptFolder, spec: Spec) -> subprocess.Popen[bytes]:
    """Start the runner, which inherits the folder's lock."""
    lock = take_lock(folder.path)
    if lock is None:
        raise BlockingIOError(f"{folder.name} has a runner already")
    try:
        folder.mark_start()
        with (folder.path / "runner.err").open("ab") as errors:
            return subprocess.Popen(
                [*own_command("twistedipc.runner"), str(folder.path), str(lock)],
                cwd=folder.path,
                env={"PATH": spec.path, "LANG": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=(lock,),
                start_new_session=True,
            )
    finally:
        os.close(lock)
