"""The builder's doorbell, with real sockets."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorUNIXDatagram
from twisted.trial.unittest import TestCase

from twistedipc.builder.doorbell import listen
from twistedipc.runner.control import Ringer


class DoorbellTests(TestCase):
    """The address of a UNIX socket has room for 107 bytes; a data folder's path may be longer."""

    def setUp(self) -> None:
        """Make the data folder."""
        folder = Path(tempfile.mkdtemp(prefix="twistedipc-test-"))
        self.addCleanup(shutil.rmtree, folder)
        self.data = folder / ("d" * 200)
        self.data.mkdir(parents=True)

    async def test_it_is_heard_in_a_folder_with_a_long_path(self) -> None:
        """The builder didn't start there. What an earlier builder has left at the same place doesn't matter either."""
        here = os.open(self.data, os.O_RDONLY)
        self.addCleanup(os.close, here)
        for time in ("first", "second"):
            rung: Deferred[str] = Deferred()
            port = listen(cast(IReactorUNIXDatagram, reactor), self.data / "doorbell", rung.callback)
            Ringer(f"/proc/self/fd/{here}/doorbell", self.data / "attempts" / f"{time}-attempt").ring()
            self.assertEqual(await rung, f"{time}-attempt")
            self.assertEqual((self.data / "doorbell").stat().st_mode & 0o777, 0o600)
            await maybeDeferred(port.stopListening)
