"""
Runners as processes: the real `ports.Runners`. Made by ``compose``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol

from twistedipc.attempts.crashpoints import CrashPoint, crash_point
from twistedipc.attempts.liveness import take_lock
from twistedipc.builder.ports import Folder
from twistedipc.builds.attempt import Spec


class RunnerProcesses:
    """Starts ``command FOLDER LOCKFD`` for an attempt."""

    def __init__(self, reactor: IReactorProcess, command: Sequence[str]) -> None:
        self._reactor = reactor
        self._command = list(command)

    def start(self, folder: Folder, spec: Spec, exited: Callable[[], None]) -> None:
        """
        Start the attempt's runner. Its start is marked durably before, so that it is started once or never. It inherits
        the lock that is taken here: there is no moment at which it lives and doesn't hold it. Raises OSError.
        """
        lock = take_lock(folder.path)
        if lock is None:
            raise BlockingIOError(f"{folder.name} has a runner already")
        try:
            self._spawn(folder, spec, lock, exited)
        except FileExistsError:
            raise  # it was started before: that mark is not ours to take back
        except Exception:
            # There is no runner, and never was one: the mark that says otherwise must go, or there could be no retry.
            folder.unmark_start()
            raise
        finally:
            os.close(lock)

    def _spawn(self, folder: Folder, spec: Spec, lock: int, exited: Callable[[], None]) -> None:
        with ExitStack() as stack:

            def opened(path: Path | str, flags: int) -> int:
                descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
                stack.callback(os.close, descriptor)
                return descriptor

            null = opened(os.devnull, os.O_RDWR)
            errors = opened(folder.path / "runner.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            folder.mark_start()
            crash_point(CrashPoint.BUILDER_START_WRITTEN)
            self._reactor.spawnProcess(
                _RunnerExit(exited),
                self._command[0],
                [*self._command, str(folder.path), "3"],
                env={"PATH": spec.path, "LANG": "C.UTF-8"},
                path=str(folder.path),
                childFDs={0: null, 1: null, 2: errors, 3: lock},
            )


class _RunnerExit(ProcessProtocol):
    """Says when a runner that this builder started has exited, and lets the reactor reap it."""

    def __init__(self, exited: Callable[[], None]) -> None:
        self._exited = exited

    def processExited(self, reason: object) -> None:
        self._exited()
