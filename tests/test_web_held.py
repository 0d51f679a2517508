"""What a token holds open ends with it: logs that are followed, WebSockets, and whatever comes later."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.web_world import Answer, World, connect, eventually, request_bytes
from twistedipc.storage.rows import Owner, TokenRow
from twistedipc.storage.tokens import SESSION_IDLE
from twistedipc.web.access.held import Ending, HeldOpen

reactor: Any = global_reactor


def token(
    number: int,
    parent: int | None = None,
    expires: int | None = None,
    *projects: str,
    person: Owner | None = None,
) -> TokenRow:
    return TokenRow(
        id=number,
        name="t",
        scopes=frozenset({"read"}),
        projects=frozenset(projects) or None,
        created=0,
        expires=expires,
        revoked=None,
        last_used=None,
        parent=parent,
        session=parent is not None,
        person=person,
    )


class Room:
    """A registry, and what was ended."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.offset = 0
        self.held = HeldOpen(self.clock, lambda: int(self.clock.seconds() * 1000) + self.offset)
        self.ended: list[tuple[str, Ending]] = []

    def hold(self, name: str, row: TokenRow) -> Any:
        holding = self.held.hold(row)
        holding.on_end(lambda why: self.ended.append((name, why)))
        return holding


def test_revoking_ends_what_a_token_and_its_sessions_hold() -> None:
    room = Room()
    holdings = [room.hold("one", token(1)), room.hold("session", token(3, parent=1)), room.hold("other", token(2))]
    room.held.revoked(1)
    room.held.revoked(1)
    assert sorted(room.ended) == [("one", Ending.REVOKED), ("session", Ending.REVOKED)]
    for holding in holdings:
        holding.release()
        holding.release()
    assert len(room.held) == 0
    room.held.revoked(2)
    assert len(room.ended) == 2, "what is over is told nothing"


def test_expiry_is_by_the_time_of_day_within_a_second() -> None:
    room = Room()
    room.hold("short", token(1, expires=5000))
    room.hold("long", token(2, expires=3_600_000))
    room.hold("unending", token(3))
    room.clock.pump([0.25] * 19)
    assert room.ended == []
    room.clock.pump([0.25] * 4)
    assert room.ended == [("short", Ending.EXPIRED)]
    room.offset = 3_600_000  # somebody sets the clock
    room.clock.pump([0.25] * 3)
    assert room.ended == [("short", Ending.EXPIRED), ("long", Ending.EXPIRED)]


def test_a_session_without_requests_ends_with_what_it_holds() -> None:
    room = Room()
    day = 86_400_000
    room.hold("idle", token(2, parent=1, expires=day))
    room.hold("used", token(3, parent=1, expires=day))
    room.hold("token", token(1, expires=day))
    room.clock.advance(SESSION_IDLE / 1000 - 1)
    room.hold("asks", token(3, parent=1, expires=day)).release()
    room.clock.pump([0.5] * 4)
    assert room.ended == [("idle", Ending.IDLE)]


def test_nothing_is_looked_at_when_nothing_expires() -> None:
    room = Room()
    room.hold("unending", token(3)).release()
    holding = room.hold("short", token(1, expires=5000))
    assert len(room.clock.getDelayedCalls()) == 1
    holding.release()
    assert room.clock.getDelayedCalls() == []


def test_a_deleted_project_ends_what_tokens_bound_to_it_hold() -> None:
    room = Room()
    room.hold("bound", token(1, None, None, "shop", "ui"))
    room.hold("elsewhere", token(2, None, None, "ui"))
    room.hold("unbound", token(3))
    room.held.project_gone("shop")
    assert room.ended == [("bound", Ending.CHANGED)]
    member, admin = Owner(id=1, name="ann", roles={"shop": "reader"}), Owner(id=2, name="bob", roles=None)
    room.hold("member", token(4, person=member))
    room.hold("admin", token(5, person=admin))
    room.held.project_gone("shop")
    assert room.ended[1:] == [("member", Ending.CHANGED)]
    assert not Ending.CHANGED.token_is_over


def test_a_person_ends_with_all_of_their_tokens() -> None:
    room = Room()
    ann, bob = Owner(id=1, name="ann", roles={}), Owner(id=2, name="bob", roles=None)
    for name, row in (("laptop", token(1, person=ann)), ("session", token(2, 1, person=ann))):
        room.hold(name, row)
    room.hold("bob's", token(3, person=bob))
    room.hold("nobody's", token(4))
    room.held.person_disabled(1)
    assert sorted(room.ended) == [("laptop", Ending.DISABLED), ("session", Ending.DISABLED)]
    assert Ending.DISABLED.token_is_over
    room.held.person_changed(2)
    assert room.ended[2:] == [("bob's", Ending.CHANGED)]


def test_what_begins_when_it_must_already_end_is_told_at_once() -> None:
    """Between the authentication and the first byte of a log, the ledger is read; the token is revoked meanwhile."""
    room = Room()
    holding = room.held.hold(token(1))
    room.held.revoked(1)
    told: list[Ending] = []
    holding.on_end(told.append)
    assert told == [Ending.REVOKED]


class Followed(World):
    async def prepare(self) -> None:
        await self.project()
        self.number = await self.build()
        self.log = self.logs.of(f"{self.number}-1")
        self.log.add("first")
        self.held = self.site.held

    async def follow(self, headers: dict[str, str], query: str = "") -> Any:
        client = await connect(self.port)
        assert client.transport is not None
        path = f"/api/v1/builds/{self.number}/log?follow=1{query}"
        client.transport.write(request_bytes("GET", path, headers, b""))
        await client.until(b"first")
        return client

    async def ended(self, client: Any) -> Answer:
        """Check that the response ends, and nothing comes after that."""
        await client.closed.addTimeout(20, reactor)
        self.log.add("too late")
        await eventually(lambda: len(self.held) == 0)
        assert all(cursor.closed for cursor in self.log.cursors)
        answer = Answer(bytes(client.received))
        assert b"too late" not in answer.body
        assert not answer.whole, "nobody may take it for the whole log"
        return answer

    async def made(self, **more: Any) -> tuple[int, str]:
        made = (await self.ask("POST", "/api/v1/tokens", {"name": "t", "scopes": ["read"], **more})).json
        return made["id"], made["token"]

    async def test_a_revoked_token_ends_the_log_that_it_follows(self) -> None:
        """Such a log went on for as long as the build did."""
        number, secret = await self.made()
        client = await self.follow({"Authorization": f"Bearer {secret}"})
        assert (await self.ask("DELETE", f"/api/v1/tokens/{number}")).status == 204
        answer = await self.ended(client)
        last = json.loads(answer.body.splitlines()[-1])
        assert last == {"type": "closed", "code": 4401, "reason": "the token was revoked"}

    async def test_a_text_says_so_too(self) -> None:
        for form in ("text", "ansi"):
            number, secret = await self.made()
            client = await self.follow({"Authorization": f"Bearer {secret}"}, f"&format={form}")
            assert (await self.ask("DELETE", f"/api/v1/tokens/{number}")).status == 204
            assert b"the token was revoked: the log breaks off here" in (await self.ended(client)).body
            self.log.entries.pop()

    async def test_an_expired_one_too(self) -> None:
        _, secret = await self.made(expires_in=60)
        client = await self.follow({"Authorization": f"Bearer {secret}"})
        self.time += 60_000
        assert b"the token has expired" in (await self.ended(client)).body

    async def test_a_session_ends_with_its_token_and_by_signing_out(self) -> None:
        for how in ("revoke", "sign out"):
            number, secret = await self.made()
            origin = {"Origin": "http://api.test"}
            signed = await self.ask("POST", "/api/v1/sessions", {"token": secret}, token=None, headers=origin)
            cookie = {"Cookie": signed.headers["Set-Cookie"].partition(";")[0]}
            client = await self.follow(cookie)
            if how == "revoke":
                assert (await self.ask("DELETE", f"/api/v1/tokens/{number}")).status == 204
            else:
                out = await self.ask("DELETE", "/api/v1/sessions", token=None, headers=cookie | origin)
                assert out.status == 204
            assert b"the token was revoked" in (await self.ended(client)).body
            self.log.entries.pop()

    async def test_a_token_that_is_revoked_while_it_is_looked_up_is_not_let_in(self) -> None:
        number, secret = await self.made()
        read = self.ledger.read
        waiting: list[Callable[[], None]] = []

        def slowly(query: Any, *arguments: Any) -> Any:
            answer = read(query, *arguments)
            if arguments[:1] != (secret,) or waiting:
                return answer
            late: Deferred[Any] = Deferred()
            answer.addCallback(lambda row: waiting.append(lambda: late.callback(row)))
            return late

        self.patch(self.ledger, "read", slowly)
        asked = Deferred.fromCoroutine(self.ask("GET", "/api/v1/identity", token=secret))
        await eventually(lambda: len(waiting) == 1)
        assert (await self.ask("DELETE", f"/api/v1/tokens/{number}")).status == 204
        waiting[0]()
        assert (await asked).status == 401

    async def test_an_answered_request_holds_nothing(self) -> None:
        for path in ("/api/v1/builds", "/api/v1/nothing", f"/api/v1/builds/{self.number}/log", "/api/v1/tokens"):
            await self.ask("GET", path)
        reader = await self.token("r", "read")
        assert (await self.ask("GET", "/api/v1/tokens", token=reader)).status == 403
        assert len(self.held) == 0
        client = await self.follow({"Authorization": f"Bearer {reader}"})
        assert len(self.held) == 1
        client.abort()
        await client.closed
        await eventually(lambda: len(self.held) == 0)
