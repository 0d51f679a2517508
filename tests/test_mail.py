"""Mail, by a real server for it in this process: what it is given, and what is said if it takes nothing."""

from __future__ import annotations

import subprocess
import sys
from email import message_from_bytes
from email.policy import default
from typing import Any

import msgspec
import pytest
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import Portal
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, succeed
from twisted.mail import imap4, smtp
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.web_world import eventually
from twistedipc.builds.states import Phase
from twistedipc.outgoing import mail
from twistedipc.outgoing.told import At, Told
from twistedipc.taps.mail import SmtpMail
from twistedipc.taps.mail_server import MailServer

reactor: Any = global_reactor
TOLD = Told(project="shop", build=17, attempt=1, phase=Phase.FAILED, event="failed", ref="main", commit="c" * 40,
            title="Faster", author="Ann", reason="the step test failed\nsee its log")  # fmt: skip
AT = At(build="https://builds.example/#/builds/17")


def letter(told: Told = TOLD) -> bytes:
    return mail.message(told, AT, sender="ci@builds.example", to=["a@b.example", "c@d.example"], delivery="x-17", now=9)


def test_a_message() -> None:
    read = message_from_bytes(letter(), policy=default)
    assert read["Subject"] == "shop: build 17 of main failed"
    assert read["To"] == "a@b.example, c@d.example"
    assert read["Message-ID"] == "<x-17.twistedipc@builds.example>"
    body = read.get_content()
    assert "https://builds.example/#/builds/17" in body
    assert "the step test failed" in body


@pytest.mark.parametrize(
    "evil", ["main\r\nBcc: evil@x.example", "main\nX: y", "m\x00ain", "main\u2028Bcc: x", "\udce9", "a" * 5000]
)
def test_what_a_stranger_writes_adds_no_header(evil: str) -> None:
    told = msgspec.structs.replace(TOLD, ref=evil, title=evil, author=evil, reason=evil)
    read = message_from_bytes(letter(told), policy=default)
    assert sorted(read.keys()) == sorted(message_from_bytes(letter(), policy=default).keys())
    assert len(read["Subject"]) < 400


def test_the_service_chooses_its_reactor_itself() -> None:
    """Its modules are imported before there is one."""
    code = (
        "import sys, twistedipc.taps.apiserver, twistedipc.taps.builder; "
        "sys.exit('twisted.internet.reactor' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@implementer(smtp.IMessage)
class _Letter:
    def __init__(self, post: _Post, to: str) -> None:
        self._post, self._to = post, to
        self._lines: list[bytes] = []

    def lineReceived(self, line: bytes) -> None:
        self._lines.append(line)

    def eomReceived(self) -> Deferred[None]:
        self._post.taken.append((self._to, b"\r\n".join(self._lines)))
        return succeed(None)

    def connectionLost(self) -> None:
        pass


@implementer(smtp.IMessageDelivery)
class _Post:
    """Takes mail for b.example alone."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes]] = []

    def receivedHeader(self, helo: Any, origin: Any, recipients: Any) -> bytes:
        return b"Received: by the test"

    def validateFrom(self, helo: Any, origin: Any) -> Any:
        return origin

    def validateTo(self, user: Any) -> Any:
        if user.dest.domain != b"b.example":
            raise smtp.SMTPBadRcpt(user)
        return lambda: _Letter(self, str(user.dest))


class MailTest(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.post = _Post()
        self.addCleanup(lambda: Deferred.fromCoroutine(eventually(self._is_quiet)))

    def _is_quiet(self) -> bool:
        """Both ends of each connection have seen its end."""
        return not any("TimeoutMixin" in str(call) for call in reactor.getDelayedCalls())

    def serve(self, *, users: dict[str, str] | None = None) -> int:
        factory: Any = smtp.SMTPFactory()
        checker = InMemoryUsernamePasswordDatabaseDontUse(**{k: v.encode() for k, v in (users or {}).items()})
        post = self.post

        class Realm:
            def requestAvatar(self, avatar: Any, mind: Any, *interfaces: Any) -> Any:
                return smtp.IMessageDelivery, post, lambda: None

        def build(address: Any) -> Any:
            esmtp: Any = smtp.ESMTP
            realm: Any = Realm()
            protocol = esmtp({b"LOGIN": imap4.LOGINCredentials, b"PLAIN": imap4.PLAINCredentials})
            protocol.portal = Portal(realm, [checker])
            protocol.factory = factory
            if not users:
                protocol.delivery = post
            return protocol

        factory.buildProtocol = build
        listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        port: int = listening.getHost().port
        return port

    def sending(self, port: int, user: str = "", password: str = "") -> SmtpMail:
        return SmtpMail(reactor, MailServer(host="127.0.0.1", port=port, security="none", user=user,
                                            password=password, sender="ci@builds.example"))  # fmt: skip

    async def test_it_is_taken(self) -> None:
        answer = await self.sending(self.serve()).send(["a@b.example", "c@d.example"], letter())
        assert answer.good  # one of them has it: nobody gets it twice
        [(to, content)] = self.post.taken
        assert to == "a@b.example"
        assert message_from_bytes(content, policy=default)["Subject"] == "shop: build 17 of main failed"

    async def test_it_signs_in(self) -> None:
        port = self.serve(users={"ci": "secret"})
        assert (await self.sending(port, "ci", "secret").send(["a@b.example"], letter())).good
        refused = await self.sending(port, "ci", "wrong").send(["a@b.example"], letter())
        assert "didn't take the mail" in refused.problem
        assert "wrong" not in refused.problem
        assert len(self.post.taken) == 1

    async def test_it_is_taken_for_nobody(self) -> None:
        answer = await self.sending(self.serve()).send(["c@d.example"], letter())
        assert answer.problem

    async def test_nobody_listens(self) -> None:
        listening = reactor.listenTCP(0, smtp.SMTPFactory(), interface="127.0.0.1")
        port = listening.getHost().port
        await listening.stopListening()
        answer = await self.sending(port).send(["a@b.example"], letter())
        assert "didn't take the mail" in answer.problem

    async def test_tls_is_insisted_on(self) -> None:
        port = self.serve()
        server = MailServer(host="127.0.0.1", port=port, security="starttls", user="", password="",
                            sender="ci@builds.example")  # fmt: skip
        answer = await SmtpMail(reactor, server).send(["a@b.example"], letter())
        assert answer.problem
        assert self.post.taken == []
