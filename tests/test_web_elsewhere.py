"""Requests to addresses that somebody has entered: none leads back to this machine, and nothing of them is told."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.outside import Anybody
from tests.outside_server import OutsideServer
from twistedipc.builds.places import Place
from twistedipc.outgoing.exchange import Answer, Request
from twistedipc.web.http.elsewhere import agent_for_elsewhere
from twistedipc.web.http.outgoing import SECONDS, AgentOutgoing

reactor: Any = global_reactor


class ElsewhereTest(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.service = Anybody()
        self.server = OutsideServer(self.service, "http://hooks.example")
        self.addCleanup(lambda: deferToThread(self.server.stop))
        self.port = int(self.server.url.rpartition(":")[2])
        self.looked: list[str] = []
        self.clock = Clock()

    def sending(self, *places: Place, allowed: bool) -> AgentOutgoing:
        def look_up(host: str) -> Deferred[list[Place]]:
            self.looked.append(host)
            return succeed(list(places))

        agent = agent_for_elsewhere(reactor, look_up, lambda address: not allowed)
        return AgentOutgoing(agent, self.clock)

    def request(self, path: str = "/secret?token=1", method: str = "POST") -> Request:
        return Request(method=method, url=f"http://hooks.example:{self.port}{path}", body=b"{}")

    async def test_a_host_that_is_allowed(self) -> None:
        answer = await self.sending(Place("127.0.0.1", True), allowed=True).send(self.request())
        assert (answer.status, answer.body) == (200, b"ok")
        assert self.service.asked[0].url == "http://hooks.example/secret?token=1"
        assert self.looked == ["hooks.example"]

    async def test_nothing_goes_to_this_machine_or_to_its_cloud(self) -> None:
        for place in (
            Place("127.0.0.1", True),
            Place("127.1.2.3", False),
            Place("10.1.2.3", True),
            Place("::1", True),
            Place("::ffff:127.0.0.1", False),
            Place("169.254.169.254", False),
            Place("fd00:ec2::254", False),
            Place("0.0.0.0", False),
        ):
            answer = await self.sending(place, allowed=False).send(self.request())
            assert "internal_repositories" in answer.problem, place
        both = self.sending(Place("93.184.216.34", False), Place("127.0.0.1", True), allowed=False)
        assert "this machine itself" in (await both.send(self.request())).problem
        assert self.service.asked == []

    async def test_it_connects_to_what_was_looked_at(self) -> None:
        """The name leads nowhere here, so a second look would fail."""
        assert (await self.sending(Place("127.0.0.1", True), allowed=True).send(self.request())).good

    async def test_another_address_is_tried(self) -> None:
        sending = self.sending(Place("127.0.0.2", True), Place("127.0.0.1", True), allowed=True)
        assert (await sending.send(self.request())).good

    async def test_a_redirect_is_not_followed(self) -> None:
        self.service.faults = [Answer(status=302, headers={"location": f"http://hooks.example:{self.port}/other"})]
        answer = await self.sending(Place("127.0.0.1", True), allowed=True).send(self.request())
        assert answer.status == 302
        assert len(self.service.asked) == 1

    async def test_what_is_said_of_a_failure_has_nothing_secret(self) -> None:
        unknown = await self.sending(allowed=True).send(self.request())
        assert "has no address here" in unknown.problem
        await deferToThread(self.server.stop)
        refused = await self.sending(Place("127.0.0.1", True), allowed=True).send(self.request())
        for answer in (unknown, refused):
            assert answer.problem
            assert "secret" not in answer.problem
            assert "token" not in answer.problem

    async def test_an_answer_is_bounded_in_size_and_time(self) -> None:
        self.service.faults = [Answer(status=200, body=b"x" * 300_000)]
        answer = await self.sending(Place("127.0.0.1", True), allowed=True).send(self.request())
        assert "more than" in answer.problem

        def never(host: str) -> Deferred[list[Place]]:
            return Deferred()

        sending = Deferred.fromCoroutine(
            AgentOutgoing(agent_for_elsewhere(reactor, never, lambda address: True), self.clock).send(self.request())
        )
        self.clock.advance(SECONDS)
        assert "didn't answer within" in (await sending).problem
