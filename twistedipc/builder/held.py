"""
One attempt that this builder holds: its folder, and how far it is. Made and owned by ``service``.

The phase is read from the folder (``attempts/folder.py`` has the contract), so a builder that comes back knows as
much as one that never left::

    ACCEPTED   spec.json is there; no runner was ever started
    RUNNING    `starting` is there; its runner lives, or has died without a word
    ENDED      result.json is there
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from enum import Enum
from pathlib import Path

import msgspec
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger

from twistedipc.attempts.crashpoints import CrashPoint, crash_point
from twistedipc.attempts.journal import SHORTAGES, JournalReader, repair
from twistedipc.attempts.liveness import lock_held, take_lock
from twistedipc.attempts.processes import kill_remains
from twistedipc.attempts.room import default_reserve
from twistedipc.builder.uploading import UploadState
from twistedipc.builds.attempt import Cancel, Permit, PermitWanted, Result, Spec
from twistedipc.builds.logs import Batch
from twistedipc.builds.messages import Final, Offer
from twistedipc.builds.messages import HeldAttempt as HeldAttemptMessage
from twistedipc.disk.files import read_file, sync_folder, write_file
from twistedipc.ipc import CreditWindow
from twistedipc.ipc.wire.windows import SendWindow

#: Seconds for which it is tried again to read what a disk doesn't give; then that is lost, and said to be.
PATIENCE = 30.0

#: Seconds for which an upload is tried whose address doesn't answer as the apiserver does.
UPLOAD_LIMIT = 600.0

#: Seconds until the first of these tries, and the most between two of them.
FIRST_RETRY = 0.5
LAST_RETRY = 4.0

#: What says nothing of how the disk can be read: what this process lacks it will have again, and a disk that is full
#: has room again, whenever that is. (Without a number: its runner lives.)
_PASSES = SHORTAGES | {errno.ENOSPC, errno.EDQUOT, None}


class Phase(Enum):
    """How far an attempt is on this builder; the values are the link's words."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    ENDED = "ended"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator has set for all attempts of this builder."""

    data: Path
    path: str  # PATH of the steps
    environment: dict[str, str]
    timeout: float  # the most that an attempt is granted, in seconds
    idle_timeout: float
    grace: float
    upload: float = UPLOAD_LIMIT  # seconds for which an upload is tried that can't get through
    reserve: int | None = 0  # bytes of the disk that builds leave free; None is `room.default_reserve`

    def reserve_bytes(self) -> int:
        """How much of the disk builds leave free now. Raises OSError."""
        return default_reserve(self.data) if self.reserve is None else self.reserve

    @property
    def attempts(self) -> Path:
        """The folder of the attempts' folders."""
        return self.data / "attempts"

    @property
    def doorbell(self) -> Path:
        """The socket on which runners ring."""
        return self.data / "doorbell"

    def mirror(self, repository: str) -> Path:
        """The folder of a repository's bare mirror: recognisable to people, and unique."""
        words = re.sub(r"[^A-Za-z0-9]+", "-", repository).strip("-")[-48:]
        return self.data / "mirrors" / f"{words}-{hashlib.sha256(repository.encode()).hexdigest()[:12]}.git"


def spec_of(offer: Offer, settings: Settings, cgroups: str = "") -> Spec:
    """
    What the runner is told to do, from what the apiserver offered and what the operator allows. ``cgroups`` is the
    folder below which it may make a control group, if it may. Raises OSError.
    """
    return Spec(
        attempt=offer.attempt,
        lease=offer.lease,
        build=offer.build,
        project=offer.project,
        repository=offer.repository,
        ref=offer.ref,
        commit=offer.commit,
        publish=offer.publish,
        targets=offer.targets,
        site=offer.site,
        parameters=offer.parameters,
        environment=settings.environment,
        variables=offer.environment,
        path=settings.path,
        mirror=str(settings.mirror(offer.repository)),
        npm_cache=str(settings.data / "npm-cache"),
        doorbell="../../doorbell",
        cgroups=cgroups,
        timeout=min(offer.timeout, settings.timeout),
        idle_timeout=min(offer.idle_timeout, settings.idle_timeout),
        grace=settings.grace,
        reserve=settings.reserve_bytes(),
    )


def create_folder(settings: Settings, spec: Spec) -> Path:
    """
    Write a new attempt down, durably: after this it is accepted. Blocks on the disk. When it fails, nothing is left of
    it. Raises OSError, and whatever keeps ``spec`` from being encoded.
    """
    folder = settings.attempts / f"{spec.attempt}-{spec.lease}"
    folder.mkdir(mode=0o700)
    try:
        write_file(folder / "spec.json", spec)
        sync_folder(settings.attempts)
    except BaseException:
        # The disk is full, probably: what each offer would leave behind adds up.
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def remove_folder(folder: Path) -> None:
    """Delete an attempt's folder, of which nothing runs. Blocks on the disk."""
    # Renamed first, so that a folder is never found half deleted.
    doomed = folder.with_name(f".{folder.name}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def read_result(folder: Path) -> Result | None:
    """
    The attempt's result; None if there is none that can be read. It is written whole or not at all, so one that can't
    be is damage, and no better than none.
    """
    try:
        return read_file(folder / "result.json", Result)
    except msgspec.DecodeError:
        return None


class _Trouble:
    """Something on the disk that can't be read: since when, and when it is to be tried again."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._pause = FIRST_RETRY
        self.again = now + FIRST_RETRY  # on the reactor's clock

    def try_again(self, now: float, error: OSError) -> bool:
        """It failed again: whether to go on trying. Only what can't be read counts: anything else passes."""
        self._pause = min(2 * self._pause, LAST_RETRY)
        self.again = now + self._pause
        if error.errno in _PASSES:
            self._since = now
        return now - self._since < PATIENCE


class HeldAttempt:
    """One attempt's folder on this builder, and how far its journal has been sent."""

    _log = Logger()

    def __init__(self, folder: Path, spec: Spec, credit: CreditWindow, *, upload_limit: float = UPLOAD_LIMIT) -> None:
        self.folder = folder
        self.spec = spec
        self.phase = Phase.ACCEPTED
        self.result: Result | None = None
        self.synced = False  # the apiserver has said what to do with it, on this link
        self.may_have_more = True  # the journal may have grown since it was read to its end
        self.final_sent: float | None = None  # when, on the reactor's clock
        self.upload = UploadState(upload_limit)
        self.retry_permit_at = 0.0  # on the reactor's clock
        self.forgetting = False  # it is over for the apiserver: delete it once its runner is gone
        self.starting = False  # told to go, and not started yet: the disk had no room
        self.cancelling = ""  # why it is to end, until that is written down for its runner
        self.busy: set[str] = set()  # the workflows under way for it
        self._window = SendWindow(credit)
        self._reader = JournalReader(folder)
        self._unread: _Trouble | None = None  # with reading the journal
        self._untold: _Trouble | None = None  # with finding out how it ended
        self._given_up = False  # in this what can't be read
        if (folder / "starting").exists():
            self.phase = Phase.RUNNING
        if (result := read_result(folder)) is not None:
            self.ended(result)

    @property
    def name(self) -> str:
        """The folder's name, which is what the runner rings with."""
        return self.folder.name

    # -- its life

    def start(self, reactor: IReactorProcess, exited: Callable[[], None]) -> None:
        """
        Spawn its runner. Durably marked before, so that it is started once or never. The runner inherits the lock
        that is taken here: there is no moment at which it lives and doesn't hold it. Raises OSError.
        """
        lock = take_lock(self.folder)
        if lock is None:
            raise BlockingIOError(f"{self.name} has a runner already")
        try:
            self._spawn(reactor, lock, exited)
        except FileExistsError:
            raise  # it was started before: that mark is not ours to take back
        except Exception:
            # There is no runner, and never was one: what says otherwise must go, or it could not be tried again.
            (self.folder / "starting").unlink(missing_ok=True)
            raise
        finally:
            os.close(lock)

    def _spawn(self, reactor: IReactorProcess, lock: int, exited: Callable[[], None]) -> None:
        with ExitStack() as stack:

            def opened(path: Path | str, flags: int) -> int:
                descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
                stack.callback(os.close, descriptor)
                return descriptor

            null = opened(os.devnull, os.O_RDWR)
            errors = opened(self.folder / "runner.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            opened(self.folder / "starting", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            sync_folder(self.folder)
            crash_point(CrashPoint.BUILDER_START_WRITTEN)
            reactor.spawnProcess(
                _RunnerExit(exited),
                sys.executable,
                [sys.executable, "-I", "-m", "twistedipc.runner", str(self.folder), "3"],
                env={"PATH": self.spec.path, "LANG": "C.UTF-8"},
                path=str(self.folder),
                childFDs={0: null, 1: null, 2: errors, 3: lock},
            )
        self.phase = Phase.RUNNING

    def look(self) -> bool:
        """
        Whether a running attempt has ended: its result is there, or its runner is dead. In the second case
        `conclude` is to be called.
        """
        return self.phase is Phase.RUNNING and ((self.folder / "result.json").exists() or not lock_held(self.folder))

    def may_conclude(self, now: float) -> bool:
        """Whether it is time to `conclude`, which may have failed before."""
        return self._untold is None or now >= self._untold.again

    def not_concluded(self, now: float, error: OSError) -> None:
        """`conclude` has failed."""
        if self._untold is None:
            self._untold = _Trouble(now)
        elif not self._untold.try_again(now, error):
            self._untold, self._given_up = None, True

    def conclude(self, now: int) -> Result:
        """
        The result of an attempt whose runner has ended; written in its name, if it died before it could. Blocks on
        the disk: for a thread. Raises OSError; what then can't be read for `PATIENCE`, of the journal too, is lost.
        """
        try:
            result = read_result(self.folder)
        except OSError as error:
            if not self._given_up or error.errno in _PASSES:
                raise
            result = None
        if result is not None:
            return result
        if lock_held(self.folder):
            raise BlockingIOError("its result can't be read, and its runner lives")
        kill_remains(self.folder, self.spec.cgroups)
        journal = repair(self.folder, give_up=self._given_up)
        errors = ""
        with contextlib.suppress(OSError):
            errors = (self.folder / "runner.err").read_bytes()[-500:].decode("utf-8", "replace").strip()
        reason = "its runner died" + (f": {errors.splitlines()[-1]}" if errors else "")
        result = Result(
            outcome="lost", reason=reason, lines=journal.lines, sha256=journal.sha256, started=now, ended=now
        )
        write_file(self.folder / "result.json", result)
        return result

    def ended(self, result: Result) -> None:
        """It has this result, which is on disk."""
        self.phase, self.result = Phase.ENDED, result
        self._reader.ends_at(result.lines)
        self.may_have_more = True

    def cancel(self) -> None:
        """Tell its runner to end, as `cancelling` says; the runner finds this even if it is being started."""
        write_file(self.folder / "cancel", Cancel(reason=self.cancelling))
        self.cancelling = ""
        self._ring_runner()

    def permit_wanted(self) -> PermitWanted | None:
        """What its runner asks to publish, if it asks and has no answer yet."""
        if self.phase is not Phase.RUNNING or (self.folder / "permit").exists():
            return None
        return read_file(self.folder / "permit.wanted", PermitWanted)

    def permit(self, permit: Permit) -> None:
        """Give the runner its answer."""
        write_file(self.folder / "permit", permit, mode=0o600)
        self._ring_runner()

    def remove(self) -> None:
        """Delete the folder, once its runner is gone. Blocks on the disk: for a thread."""
        kill_remains(self.folder, self.spec.cgroups)
        remove_folder(self.folder)

    def alive(self) -> bool:
        """Whether its runner lives."""
        return self.phase is not Phase.ACCEPTED and lock_held(self.folder)

    def _ring_runner(self) -> None:
        with contextlib.suppress(OSError):  # no runner reads it: it will look by itself when it starts
            descriptor = os.open(self.folder / "control", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.write(descriptor, b"\n")
            finally:
                os.close(descriptor)

    # -- its journal

    def described(self) -> HeldAttemptMessage:
        """What the builder says of it in a sync."""
        return HeldAttemptMessage(
            attempt=self.spec.attempt, lease=self.spec.lease, phase=self.phase.value, next=self._reader.next
        )

    def final(self, now: int) -> Final:
        """The attempt's end, as it is told at ``now``. Only of one that has ended."""
        assert self.result is not None
        resolved = self.result.resolved
        return Final(
            attempt=self.spec.attempt,
            lease=self.spec.lease,
            result=msgspec.structs.replace(self.result, resolved=0),  # this machine's clock is nobody else's
            resolved_ago=max(0, now - resolved) if resolved else None,
        )

    def begin(self, next: int, credit: CreditWindow) -> None:
        """On this link, send from record ``next`` on; so much may be under way."""
        self._window.begin(next, credit)
        self.synced = True
        self._go_to(next)

    def rewind(self, next: int) -> None:
        """Send from record ``next`` on again. Raises `RemoteProtocolError` if it was never sent."""
        self._window.rewind(next)
        self._go_to(next)

    def _go_to(self, next: int) -> None:
        self._reader.seek(next)
        self.may_have_more = True
        self.final_sent = None

    def unsync(self) -> None:
        """The link is lost: nothing is under way any more."""
        self._window.forget()
        self.synced = False
        self.final_sent = None
        self.upload.interrupted()

    def read(self, limit: int, now: float) -> list[Batch]:
        """
        The next batches to send, of about ``limit`` bytes, within its credit; empty if there is nothing or no
        credit, or while it is `searching`. They count as sent. ``now`` is the reactor's time.
        """
        if self._window.free <= 0:
            return []
        if self._unread is not None and now < self._unread.again:
            self.may_have_more = False
            return []
        try:
            read = self._reader.read(min(limit, self._window.free))
        except OSError as error:
            self._could_not_read(now, error)
            return []
        self._unread = None
        if not read:
            self.may_have_more = self._reader.searching
            return []
        self._window.sent(read[-1][0].end, sum(size for _batch, size in read))
        return [batch for batch, _size in read]

    def _could_not_read(self, now: float, error: OSError) -> None:
        """Too many open files, a disk that doesn't answer: that passes, and a later look tries again. Or it is lost."""
        if self._unread is None:
            self._unread = _Trouble(now)
            self._log.error("the journal of {name} can't be read now: {error}", name=self.name, error=error)
        elif not self._unread.try_again(now, error):
            self._unread = None
            self._reader.give_up()
            self._log.error("a part of the journal of {name} is given up: {error}", name=self.name, error=error)
            return
        self.may_have_more = False

    @property
    def searching(self) -> bool:
        """Whether `read` is to be called again soon, though it found nothing: it looks for the end of some damage."""
        return self.synced and self._window.free > 0 and self._reader.searching

    def close(self) -> None:
        """Nothing is read of it any more."""
        self._window.forget()
        self._reader.close()

    def acknowledged(self, next: int) -> None:
        """The apiserver has committed all records below ``next``. Raises `RemoteProtocolError` if they weren't sent."""
        self._window.acknowledged(next)

    @property
    def drained(self) -> bool:
        """Whether it has ended and its whole journal was sent."""
        return self.phase is Phase.ENDED and self.result is not None and self._reader.next > self.result.lines


class _RunnerExit(ProcessProtocol):
    """Says when a runner that we spawned has exited (and lets the reactor reap it)."""

    def __init__(self, exited: Callable[[], None]) -> None:
        self._exited = exited

    def processExited(self, reason: object) -> None:
        """It has exited."""
        self._exited()
