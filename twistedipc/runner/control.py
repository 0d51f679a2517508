"""
The messages between builder and runner while the attempt runs. Used by ``steps``, ``course`` and ``__main__``.

To the runner: the files ``cancel`` and ``permit``, with a byte into the FIFO ``control`` as the bell; and SIGTERM.
From the runner: a datagram with the folder's name as the bell. Bells may be lost: the files count, so both sides look
at them now and then.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import msgspec

from twistedipc.builds.attempt import Cancel, Permit
from twistedipc.disk.files import read_file

_SignalHandler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None


class Control:
    """The orders to the runner. One for a process, since signals are the process's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = folder / "control"
        if not path.exists():
            os.mkfifo(path, 0o600)
        # Opened for writing too, so that it never is at its end.
        self._fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._cancel: Cancel | None = None
        # what listened to signals before: the wake-up descriptor, and the two handlers
        self._before: tuple[int, _SignalHandler, _SignalHandler] | None = None
        #: whether SIGTERM came
        self.told_to_stop = False

    @property
    def descriptors(self) -> tuple[int, int]:
        """What becomes readable when there is something to look at, or a child has died."""
        return self._fifo, self._woken

    def listen_to_signals(self) -> None:
        """Take SIGTERM for a cancellation by the platform, and let SIGCHLD wake the runner."""
        self._before = (
            signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False),
            signal.signal(signal.SIGCHLD, lambda _number, _frame: None),
            signal.signal(signal.SIGTERM, self._told_to_stop),
        )

    def quieten(self) -> None:
        """Forget the bells that rang so far: to be called before looking."""
        for descriptor in self.descriptors:
            try:
                while len(os.read(descriptor, 4096)) == 4096:
                    pass
            except BlockingIOError:
                pass

    def cancelled(self) -> Cancel | None:
        """Return why the attempt is to end; None if it isn't."""
        if self._cancel is None:
            try:
                self._cancel = read_file(self._folder / "cancel", Cancel)
            except msgspec.DecodeError:
                self._cancel = Cancel(reason="cancelled")
        return self._cancel

    def take_permit(self) -> Permit | None:
        """Return the answer to `PermitWanted`, once, or None: the file is deleted, since it may hold a token."""
        path = self._folder / "permit"
        try:
            permit = read_file(path, Permit)
        except msgspec.DecodeError:
            permit = Permit(granted=False, reason="the builder's answer can't be read")
        if permit is not None:
            self.forget_permit()
        return permit

    def forget_permit(self) -> None:
        """Delete question and answer, in this order, so that there is no second answer (but for one under way)."""
        for name in ("permit.wanted", "permit"):
            (self._folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Stop listening for signals, and restore what handled them before."""
        if self._before is not None:
            descriptor, on_child, on_term = self._before
            signal.set_wakeup_fd(descriptor)
            signal.signal(signal.SIGCHLD, on_child)
            signal.signal(signal.SIGTERM, on_term)
        for descriptor in (self._fifo, self._woken, self._waker):
            os.close(descriptor)

    def _told_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.told_to_stop = True
        self._cancel = self._cancel or Cancel(reason="the runner was told to stop")


class Ringer:
    """Rings at the builder. That the builder is absent does no harm."""

    def __init__(self, address: str, folder: Path) -> None:
        self._address = address
        self._name = folder.name.encode()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def ring(self) -> None:
        """Tell the builder that there is something new in the folder."""
        try:
            self._socket.sendto(self._name, self._address)
        except OSError:
            pass
