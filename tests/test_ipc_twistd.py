"""Links as services of Twisted's: `listening_service`, `dialling_service`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.application.service import IService, MultiService
from twisted.internet import reactor as global_reactor
from twisted.trial.unittest import TestCase

from twistedipc.ipc import (
    BadEndpoint,
    CannotStart,
    Interface,
    Peer,
    Request,
    Service,
    dialling_service,
    handles,
    listening_service,
)

reactor: Any = global_reactor


class Value(msgspec.Struct):
    value: int


class Double(Request[Value]):
    of: int


DOUBLER = Interface("doubler", Double)


class Doubler(Service):
    interface = DOUBLER

    @handles(Double)
    def double(self, request: Double, peer: Peer) -> Value:
        return Value(request.of * 2)


class AsServices(TestCase):
    async def test_they_run_with_their_parent(self) -> None:
        endpoint = f"unix:{self.mktemp()}"
        parent = MultiService()
        dialling = dialling_service(reactor, endpoint, DOUBLER, name="asker")
        listening = listening_service(reactor, endpoint, Doubler())
        for each in (dialling, listening):
            self.assertTrue(IService.providedBy(each))
            each.setServiceParent(parent)
        with pytest.raises(RuntimeError, match="isn't running"):
            _ = dialling.remote
        self.assertFalse(Path(endpoint.removeprefix("unix:")).exists())  # noqa: ASYNC240
        for _start in range(2):
            parent.startService()
            self.assertEqual(await dialling.remote.call(Double(of=4)), Value(8))
            (peer,) = listening.listening.peers
            self.assertEqual(peer.info.name, "asker")
            await parent.stopService()
        with pytest.raises(RuntimeError, match="isn't running"):
            _ = listening.listening

    def test_what_keeps_them_from_starting(self) -> None:
        for service in (
            listening_service(reactor, "unix:no/such/folder/socket", Doubler()),
            listening_service(reactor, "tcp:0", Doubler()),
            listening_service(reactor, "tcp:0", Doubler(), key=b"short"),
            dialling_service(reactor, "nowhere", DOUBLER),
            dialling_service(reactor, "unix:socket", DOUBLER, name="two words"),
        ):
            with pytest.raises(CannotStart) as failed:
                service.startService()
            self.assertIsInstance(failed.value, BadEndpoint)
            self.assertEqual(failed.value.code, str(failed.value))
            self.assertFalse(service.running)
