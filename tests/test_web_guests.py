"""Previews with a password: who sets it, who sees them by it, and how often somebody can guess."""

from __future__ import annotations

import base64
from typing import Any
from unittest import mock
from urllib.parse import urlencode

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from tests.test_web_previews import PreviewWorld
from tests.test_web_team import PAGE, cookies_of
from tests.web_world import Answer
from twistedipc.storage import password_hashes, preview_passwords, previews
from twistedipc.storage.errors import LedgerUnavailable
from twistedipc.storage.password_hashes import hash_of, is_hash_of
from twistedipc.web.access import guests
from twistedipc.web.access.guests import GUEST_SECONDS, MOST_TRIES, WINDOW, WINDOW_OF_PROJECT, Guests, TooManyTries
from twistedipc.web.http.clients import Client

SECRET = "eight or more"
HOST = "fix--blog.localhost:8081"
WHERE = "/api/v1/projects/blog/previews/password"
PASSWORD = "/.well-known/twistedipc-password"


def basic(password: str, user: str = "guest") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Hashes(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(password_hashes, "_COST", (4, 8, 1))

    def test_a_hash_is_of_its_password_alone(self) -> None:
        hashed = hash_of("pässword", lambda count: b"s" * count)
        assert hashed.startswith("scrypt:4:8:1:")
        assert "word" not in hashed
        assert is_hash_of(hashed, "pässword")
        assert is_hash_of(hashed, "pa\u0308ssword"), "the same letters, typed on another keyboard"
        for other in ("passord", "Pässword", "pässword ", ""):
            assert not is_hash_of(hashed, other)
        assert hash_of("pässword", lambda count: b"t" * count) != hashed, "with another salt"

    def test_what_is_no_hash_is_of_no_password(self) -> None:
        for damaged in ("", "scrypt", "scrypt:4:8:1:AAAA", "md5:4:8:1:AAAA:AAAA", "scrypt:4:8:1:AAAA:AAAA\n",
                        "scrypt:20:99:99:AAAA:AAAA", "scrypt:4:8:1:A:AAAA", "scrypt:0:8:1:AAAA:AAAA"):  # fmt: skip
            assert not is_hash_of(damaged, "")


class OneAtATime(SynchronousTestCase):
    """The tries, without threads."""

    def setUp(self) -> None:
        self.time = 1_000_000_000
        self.checked: list[str] = []

        self.guests = Guests(lambda: self.time, self.in_thread, b"k" * 32)

    def in_thread(self, function: Any, /, *args: Any) -> Deferred[Any]:
        self.checked.append(args[1])
        return succeed(args[0] == args[1])

    def check(self, password: str, address: str = "192.0.2.1", stored: str = "right", project: str = "shop") -> bool:
        return self.successResultOf(
            Deferred.fromCoroutine(self.guests.check(Client(address), project, password, stored))
        )

    def refused(self, password: str, address: str = "192.0.2.1", project: str = "shop") -> int:
        checked = len(self.checked)
        failure = self.failureResultOf(
            Deferred.fromCoroutine(self.guests.check(Client(address), project, password, "right")), TooManyTries
        )
        assert len(self.checked) == checked, "it wasn't looked at"
        return int(failure.value.seconds)

    def test_after_some_wrong_ones_none_is_looked_at(self) -> None:
        for _ in range(MOST_TRIES):
            assert not self.check("wrong")
        self.time += 100_000
        assert self.refused("right") == WINDOW - 100
        assert self.check("another", project="blog", stored="another"), "another project is guessed at by itself"
        assert self.check("right", "192.0.2.2"), "another address is another client"
        self.time += (WINDOW - 100) * 1000
        assert not self.check("wrong")
        assert self.check("right")

    def test_an_ipv6_client_has_one_network(self) -> None:
        for number in range(MOST_TRIES):
            assert not self.check("wrong", f"2001:db8::{number + 1:x}")
        self.refused("right", "2001:db8::ffff")
        assert self.check("right", "2001:db8:1::1")

    def test_many_clients_together_have_a_limit_too(self) -> None:
        self.patch(guests, "MOST_OF_PROJECT", 20)
        self.setUp()
        assert self.check("right", "198.51.100.1")
        cookie = self.guests.cookie("right", "fix--shop.example.org")
        for number in range(20):
            assert not self.check(f"wrong{number}", f"192.0.2.{number}")
        self.time += 100_000
        assert self.refused("another", "203.0.113.1") == WINDOW_OF_PROJECT - 100
        self.refused("right", "203.0.113.1")
        assert self.check("right", "198.51.100.1"), "it is remembered there"
        assert self.guests.admits(cookie, "right", "fix--shop.example.org")
        assert self.check("another", "203.0.113.1", "another", "blog"), "of another project"
        self.time += (WINDOW_OF_PROJECT - 100) * 1000
        assert not self.check("wrong", "203.0.113.1")

    def test_right_ones_do_not_count(self) -> None:
        for number in range(3 * MOST_TRIES):
            assert self.check(f"right{number}", stored=f"right{number}")
        for _ in range(MOST_TRIES):
            assert not self.check("wrong")

    def test_what_was_right_is_remembered_for_its_hash(self) -> None:
        assert self.check("right")
        assert self.check("right")
        assert self.checked == ["right"]
        here = Client("192.0.2.1")
        assert self.guests.remembers(here, "shop", "right", "right")
        assert not self.guests.remembers(here, "shop", "right", "another hash")
        assert not self.guests.remembers(here, "shop", "wrong", "right")

    def test_what_is_remembered_tells_nobody_who_guesses(self) -> None:
        """Else all but the right one would be refused, and no limit would hold."""
        assert self.check("right", "198.51.100.1")
        for address in ("192.0.2.1", "198.51.100.1"):
            for number in range(MOST_TRIES):
                assert not self.check(f"wrong{number}", address)
            self.refused("right", address)
            assert not self.guests.remembers(Client(address), "shop", "right", "right")
        assert self.check("right", "203.0.113.1"), "elsewhere it is looked at"

    def test_a_long_one_is_wrong_without_a_look(self) -> None:
        assert not self.check("x" * 201)
        assert self.checked == []

    def test_clients_that_are_remembered_have_a_bound(self) -> None:
        self.patch(guests, "_MOST", 3)
        for number in range(10):
            self.check("wrong", f"192.0.2.{number}")
        assert len(self.guests._tries) == 3

    def test_one_that_is_sent_many_times_at_once_is_checked_once(self) -> None:
        """A program sends it with each of its requests, and begins with several."""
        one, waiting = self.slow()
        asked = [Deferred.fromCoroutine(one.check(Client("192.0.2.1"), "shop", "right", "right")) for _ in range(30)]
        wrong = [Deferred.fromCoroutine(one.check(Client("192.0.2.1"), "shop", "wrong", "right")) for _ in range(30)]
        waiting.pop(0).callback(True)
        waiting.pop(0).callback(False)
        assert [self.successResultOf(each) for each in asked] == [True] * 30
        assert [self.successResultOf(each) for each in wrong] == [False] * 30
        assert waiting == []

    def test_those_that_wait_are_told_if_it_can_not_be_checked(self) -> None:
        one, waiting = self.slow()
        asked = [Deferred.fromCoroutine(one.check(Client("192.0.2.1"), "shop", "right", "right")) for _ in range(2)]
        waiting.pop().errback(MemoryError())
        self.failureResultOf(asked[0], MemoryError)
        assert self.successResultOf(asked[1]) is False

    def slow(self) -> tuple[Guests, list[Deferred[bool]]]:
        """One whose checks end when they are told to."""
        waiting: list[Deferred[bool]] = []

        def in_thread(function: Any, /, *args: Any) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1]

        return Guests(lambda: self.time, in_thread, b"k"), waiting

    def test_few_wait_at_a_time(self) -> None:
        one, waiting = self.slow()
        self.patch(guests, "MOST_WAITING", 4)
        asked = [
            Deferred.fromCoroutine(one.check(Client(f"192.0.2.{number}"), "shop", f"x{number}", "right"))
            for number in range(5)
        ]
        self.failureResultOf(asked.pop(), TooManyTries)
        assert len(waiting) == guests.CHECKED_AT_ONCE
        while waiting:
            waiting.pop(0).callback(False)
        assert [self.successResultOf(each) for each in asked] == [False] * 4

    def test_a_cookie_is_for_a_host_a_password_and_a_while(self) -> None:
        cookie = self.guests.cookie("hash", "fix--shop.example.org")
        assert self.guests.admits(cookie, "hash", "fix--shop.example.org")
        assert not self.guests.admits(cookie, "hash", "fix--blog.example.org")
        assert not self.guests.admits(cookie, "another hash", "fix--shop.example.org")
        expires, _, digest = cookie.partition(".")
        for other in ("", ".", expires, f"{int(expires) + 1}.{digest}", f"{expires}.", f"{expires}.{digest}0", "٣.x",
                      f"{'9' * 13}.{digest}", f"{expires}.ä"):  # fmt: skip
            assert not self.guests.admits(other, "hash", "fix--shop.example.org"), other
        assert not Guests(lambda: self.time, self.in_thread, b"other").admits(cookie, "hash", "fix--shop.example.org")
        self.time += GUEST_SECONDS * 1000
        assert not self.guests.admits(cookie, "hash", "fix--shop.example.org")


class GuestWorld(PreviewWorld):
    """A project whose previews have a password."""

    async def prepare(self) -> None:
        cheap = mock.patch.object(password_hashes, "_COST", (4, 8, 1))
        cheap.start()
        self.addCleanup(cheap.stop)
        await super().prepare()
        await self.built("blog", "fix", "preview")
        await self.put(SECRET)

    async def put(self, password: str) -> None:
        answer = await self.ask("PUT", WHERE, {"password": password})
        assert answer.status == 204, answer.raw

    async def give(self, password: str, to: str = "/a?b=c", host: str = HOST, **headers: str) -> Answer:
        form = urlencode({"password": password, "to": to}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded", **headers}
        return await self.send("POST", PASSWORD, host, "", form, **headers)

    async def guest(self, password: str = SECRET, host: str = HOST) -> str:
        """The cookie of a guest."""
        answer = await self.give(password, host=host)
        assert answer.status == 303, answer.raw
        return "; ".join(map("=".join, cookies_of(answer).items()))


class WithPassword(GuestWorld):
    # -- setting it

    async def test_only_admins_of_the_project_set_and_remove_it(self) -> None:
        for scope in ("read", "build", "publish"):
            token = await self.token(f"t-{scope}", scope)
            self.problem(await self.ask("PUT", WHERE, {"password": SECRET}, token=token), 403)
            self.problem(await self.ask("DELETE", WHERE, token=token), 403)
        stranger = await self.token("stranger", "admin", ["shop"])
        self.problem(await self.ask("PUT", WHERE, {"password": SECRET}, token=stranger), 404)
        mine = await self.token("mine", "admin", ["blog"])
        assert (await self.ask("PUT", WHERE, {"password": SECRET}, token=mine)).status == 204
        assert (await self.ask("DELETE", WHERE, token=mine)).status == 204
        self.problem(await self.ask("DELETE", WHERE, token=mine), 404)

    async def test_it_is_kept_as_a_hash_and_shown_nowhere(self) -> None:
        row = await self.ledger.read(preview_passwords.get, "blog")
        assert row is not None
        assert row.hash.startswith("scrypt:")
        assert SECRET not in row.hash
        found = await self.ask("GET", "/api/v1/projects/blog/releases")
        assert found.json["password_since"] == "2027-01-15T08:00:00Z"
        lines = (await self.ask("GET", "/api/v1/audit?action=preview_password")).json["lines"]
        assert [(line["action"], line["project"]) for line in lines] == [("preview_password.set", "blog")]
        assert SECRET not in str(lines) + found.body.decode()
        assert (await self.ask("DELETE", WHERE)).status == 204
        lines = (await self.ask("GET", "/api/v1/audit?action=preview_password")).json["lines"]
        assert [line["action"] for line in lines] == ["preview_password.remove", "preview_password.set"]

    async def test_a_short_long_or_odd_one_is_refused(self) -> None:
        for password in ("", "seven c", "x" * 201, "a line\nand another"):
            self.problem(await self.ask("PUT", WHERE, {"password": password}), 422)
        assert (await self.give(SECRET)).status == 303

    async def test_a_project_of_the_same_name_has_none(self) -> None:
        for build in range(1, 3):
            await self.ask("POST", f"/api/v1/builds/{build}/cancel")
        assert (await self.ask("DELETE", "/api/v1/projects/blog")).status == 204
        await self.project("blog")
        assert await self.ledger.read(preview_passwords.get, "blog") is None

    def lose_answers(self) -> None:
        """From now on what the API writes is written, and the answer to that is lost."""
        write = self.ledger.write

        async def written(change: Any, *args: Any, **more: Any) -> Any:
            found = await write(change, *args, **more)
            if change.__module__.startswith("twistedipc.web.api."):
                raise LedgerUnavailable("the connection was lost during the commit")
            return found

        self.patch(self.ledger, "write", lambda *args, **more: Deferred.fromCoroutine(written(*args, **more)))

    async def test_what_is_changed_holds_though_the_answer_to_the_commit_is_lost(self) -> None:
        cookie = await self.guest()
        assert (await self.get("/", HOST, cookie=cookie)).status == 200
        self.lose_answers()
        self.problem(await self.ask("PUT", WHERE, {"password": "another password"}), 503)
        assert (await self.get("/", HOST, cookie=cookie)).status == 401
        self.problem(await self.ask("DELETE", WHERE), 503)
        assert await self.page("fix--blog") == "preview"
        change = {"targets": [{"type": "static", "access": "team", "previews": "team"}]}
        assert await self.page("blog") == "<h1>blog</h1>"
        self.problem(await self.ask("PATCH", "/api/v1/projects/blog", change), 503)
        assert [await self.page(name) for name in ("fix--blog", "blog")] == ["401", "401"]

    async def test_what_was_changed_unseen_holds_from_the_next_look_on(self) -> None:
        audience = self.context.audience
        pages = ["fix--blog", "blog"]
        assert [await self.page(name) for name in pages] == ["401", "<h1>blog</h1>"]
        before = [audience.known(name) for name in pages]
        await audience.refresh()
        assert [audience.known(name) for name in pages] == before
        assert all(audience.known(name) is each for name, each in zip(pages, before, strict=True))
        await self.ledger.write(preview_passwords.remove, "blog")
        assert await self.page("fix--blog") == "401"
        await audience.refresh()
        assert await self.page("fix--blog") == "preview"
        await self.ledger.write(previews.end, "blog", ["refs/heads/fix"])
        await audience.refresh()
        assert await self.page("fix--blog") == "404"
        await self.ledger.close()
        await audience.refresh()
        assert await self.page("blog") == "<h1>blog</h1>", "what is known holds while the database is away"

    # -- seeing previews

    async def test_nothing_is_seen_without_it(self) -> None:
        for path in ("/", "/index.html", "/nothing"):
            page = await self.get(path, HOST, **PAGE)
            assert page.status == 401
            assert b"<form" in page.body
            assert b"preview</h1>" not in page.body
            assert b"<script" not in page.body
            assert page.headers["Cache-Control"] == "no-store"
            assert "script" not in page.headers["Content-Security-Policy"]
            assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
            assert page.headers["WWW-Authenticate"] is None
            program = await self.get(path, HOST)
            assert (program.status, program.headers["WWW-Authenticate"][:5]) == (401, "Basic")
            assert b"preview" not in program.body.replace(b"previews", b"")
        head = await self.send("HEAD", "/", HOST, "", b"", **PAGE)
        assert (head.status, head.body) == (401, b"")
        assert (await self.get("/", HOST, Sec_Fetch_Mode="no-cors")).headers["WWW-Authenticate"] is None

    async def test_what_is_live_is_seen_as_before(self) -> None:
        assert await self.page("blog") == "<h1>blog</h1>"

    async def test_who_gives_it_comes_to_what_was_asked_for(self) -> None:
        asked = await self.get('/a?b="c"', HOST, **PAGE)
        assert b'name="to" value="/a?b=&quot;c&quot;"' in asked.body
        answer = await self.give(SECRET)
        assert (answer.status, answer.headers["Location"]) == (303, "/a?b=c")
        (line,) = answer.headers.get_all("Set-Cookie") or []
        assert line.startswith("twistedipc_guest=")
        for part in ("HttpOnly", "SameSite=Lax", "Path=/", f"Max-Age={GUEST_SECONDS}"):
            assert part in line
        assert "Domain" not in line
        page = await self.get("/", HOST, cookie=await self.guest())
        assert (page.status, page.body) == (200, b"preview")
        assert (page.headers["Cache-Control"], page.headers["Vary"]) == ("private, no-cache", "Cookie")

    async def test_it_leads_to_no_other_host(self) -> None:
        for to in ("//evil.example", "/\\evil.example", "https://evil.example", "", "/a\r\nX: y"):
            answer = await self.give(SECRET, to=to)
            assert (answer.status, answer.headers["Location"]) == (303, "/"), to

    async def test_another_password_is_refused_on_the_same_page(self) -> None:
        answer = await self.give("wrong wrong")
        assert answer.status == 401
        assert b'role="alert">This isn' in answer.body
        assert b'value="/a?b=c"' in answer.body
        assert answer.headers["Set-Cookie"] is None
        for form in (b"", b"password=", b"to=/", b"password=%FF%00&to=/", b"&a=" * 50, b"x" * 20_000):
            sent = await self.send("POST", PASSWORD, HOST, "", form)
            assert sent.status in (401, 413), sent.raw

    async def test_a_cookie_is_of_one_preview_and_ends_with_the_password(self) -> None:
        await self.built("blog", "other", "other")
        cookie = await self.guest()
        assert (await self.get("/", "other--blog.localhost:8081", cookie=cookie)).status == 401
        await self.put("another password")
        assert (await self.get("/", HOST, cookie=cookie)).status == 401
        assert (await self.get("/", HOST, cookie=await self.guest("another password"))).body == b"preview"
        await self.put(SECRET)
        assert (await self.get("/", HOST, cookie=cookie)).status == 401, "with another salt it is another one"

    async def test_without_one_it_is_as_before(self) -> None:
        await self.ask("DELETE", WHERE)
        assert await self.page("fix--blog") == "preview"
        answer = await self.give("anything")
        assert (answer.status, answer.headers["Location"], answer.headers["Set-Cookie"]) == (303, "/a?b=c", None)

    async def test_a_program_sends_it_with_each_request(self) -> None:
        for user in ("guest", "", "anybody"):
            answer = await self.get("/", HOST, Authorization=basic(SECRET, user))
            assert (answer.status, answer.body) == (200, b"preview")
            assert answer.headers["Set-Cookie"] is None
        wrong = await self.get("/", HOST, Authorization=basic("wrong wrong"))
        assert (wrong.status, wrong.headers["WWW-Authenticate"][:5]) == (401, "Basic")
        for odd in ("Basic", "Basic !", "Basic w7w=", "Basic " + base64.b64encode(b"\xff:x").decode(), "Bearer x"):
            assert (await self.get("/", HOST, Authorization=odd)).status == 401
        await self.put("another password")
        assert (await self.get("/", HOST, Authorization=basic(SECRET))).status == 401

    async def test_guesses_are_limited_by_address(self) -> None:
        for _ in range(MOST_TRIES):
            assert (await self.give("wrong wrong")).status == 401
        answer = await self.give(SECRET)
        assert (answer.status, answer.headers["Retry-After"]) == (429, str(WINDOW))
        assert b"Too many wrong passwords: try again in" in answer.body
        program = await self.get("/", HOST, Authorization=basic(SECRET))
        assert (program.status, program.headers["Retry-After"]) == (429, str(WINDOW))
        self.time += WINDOW * 1000
        assert (await self.give(SECRET)).status == 303

    async def test_a_right_guess_is_not_told_once_there_were_too_many(self) -> None:
        await self.guest()
        assert (await self.get("/", HOST, Authorization=basic(SECRET))).status == 200
        for _ in range(MOST_TRIES):
            assert (await self.get("/", HOST, Authorization=basic("wrong wrong"))).status == 401
        assert (await self.get("/", HOST, Authorization=basic(SECRET))).status == 429
        assert (await self.give(SECRET)).status == 429

    async def test_guests_with_a_cookie_are_not_stopped_by_the_guesses_of_others(self) -> None:
        cookie = await self.guest()
        for _ in range(MOST_TRIES + 1):
            answer = await self.give("wrong wrong")
        assert answer.status == 429
        assert (await self.get("/", HOST, cookie=cookie)).body == b"preview"

    async def test_the_team_signs_in_instead(self) -> None:
        page = await self.get("/a", HOST, **PAGE)
        assert b'href="/.well-known/twistedipc-visit?to=%2Fa"' in page.body
        begun = await self.get("/.well-known/twistedipc-visit?to=%2Fa", HOST, **PAGE)
        assert begun.status == 302
        host, challenge, to = begun.headers["Location"].split("#/visit/blog/")[1].split("/")
        assert (host, to) == ("fix--blog.localhost%3A8081", "%2Fa")
        body = {"host": HOST, "challenge": challenge, "path": "/a"}
        url = (await self.ask("POST", "/api/v1/projects/blog/visits", body)).json["url"]
        asked = "; ".join(map("=".join, cookies_of(begun).items()))
        entered = await self.get(url.removeprefix(f"http://{HOST}"), HOST, cookie=asked)
        visit = "; ".join(f"{name}={value}" for name, value in cookies_of(entered).items() if value)
        assert (await self.get("/", HOST, cookie=visit)).body == b"preview"

    async def test_guests_come_where_previews_are_for_the_team(self) -> None:
        await self.ask("PATCH", "/api/v1/projects/blog", {"targets": [{"type": "static", "previews": "team"}]})
        assert (await self.get("/", HOST, cookie=await self.guest())).body == b"preview"
        assert b"<form" in (await self.get("/", HOST, **PAGE)).body

    async def test_it_opens_no_live_release_of_the_team(self) -> None:
        await self.ask("PATCH", "/api/v1/projects/blog", {"targets": [{"type": "static", "access": "team"}]})
        live = "blog.localhost:8081"
        assert (await self.get("/", live, Authorization=basic(SECRET))).status == 401
        assert (await self.give(SECRET, host=live)).status == 404
        assert (await self.get("/", live, cookie=await self.guest())).status == 401

    async def test_where_there_is_no_preview_there_is_no_form(self) -> None:
        assert (await self.give(SECRET, host="none--blog.localhost:8081")).status == 404
        assert (await self.give(SECRET, host="127.0.0.1:8081")).status == 404
        assert (await self.send("POST", "/", HOST, "", b"x")).status == 405

    async def test_on_a_shared_host_it_leads_to_its_own(self) -> None:
        answer = await self.get("/fix--blog/a", "127.0.0.2:8081", **PAGE)
        assert (answer.status, answer.headers["Location"]) == (302, f"http://{HOST}/a")


class OverHttps(GuestWorld):
    scheme = "https"

    async def test_cookies_are_those_of_https(self) -> None:
        answer = await self.give(SECRET)
        (line,) = answer.headers.get_all("Set-Cookie") or []
        assert line.startswith("__Host-twistedipc_guest=")
        assert "; Secure" in line
        page = await self.get("/", HOST, cookie=await self.guest())
        assert (page.status, page.body) == (200, b"preview")
