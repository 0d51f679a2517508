"""A project's badge and feed: for those who have the address alone, briefly kept, and well formed whatever is in it."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from tests.web_world import Answer, World
from twistedipc.builds.attempt import Result
from twistedipc.storage import attempts
from twistedipc.storage.rows import Holder

ATOM = "{http://www.w3.org/2005/Atom}"


class FeedsTest(World):
    api_url = "http://api.test"

    async def prepare(self) -> None:
        project = await self.project()
        self.badge, self.atom = project["badge"], project["atom"]

    async def fetch(self, address: str, **headers: str) -> Answer:
        assert address.startswith(self.api_url)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask("GET", address.removeprefix(self.api_url), token=None, headers=named)

    async def end(self, outcome: str, reason: str = "", title: str = "") -> int:
        build = await self.build()
        holder = Holder("a" * 16, "one")

        def change(connection: Any) -> None:
            attempts.offer(connection, f"{build}-1", holder.lease, holder.builder, self.time)
            attempts.accept(connection, f"{build}-1", holder)
            result = Result(outcome=outcome, reason=reason, lines=0, sha256="", started=self.time - 5000,  # type: ignore[arg-type]
                            ended=self.time, subject=title, commit="c" * 40)  # fmt: skip
            attempts.finish(connection, f"{build}-1", holder, result, True, self.time)

        await self.ledger.write(change)
        return build

    async def test_the_badge_says_how_the_newest_build_has_ended(self) -> None:
        assert b"unknown" in (await self.fetch(self.badge)).body
        await self.end("failed")
        answer = await self.fetch(self.badge)
        assert answer.headers["Content-Type"] == "image/svg+xml"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        picture = ElementTree.fromstring(answer.body)
        assert picture.attrib["aria-label"] == "build: failed"
        await self.end("succeeded")
        assert b"build: succeeded" in (await self.fetch(self.badge)).body

    async def test_it_is_kept_briefly_and_asked_for_again(self) -> None:
        await self.end("succeeded")
        for address in (self.badge, self.atom):
            first = await self.fetch(address)
            assert first.headers["Cache-Control"] == "max-age=60"
            again = await self.fetch(address, If_None_Match=first.headers["ETag"])
            assert (again.status, again.body) == (304, b"")
            assert "Content-Length" not in again.headers
        await self.end("failed")
        assert (await self.fetch(self.badge, If_None_Match=first.headers["ETag"])).status == 200

    async def test_a_feed_is_well_formed_whatever_a_build_says(self) -> None:
        evil = "]]>&<script>alert(1)</script>\x00\x1b[2J\ufffe"
        build = await self.end("failed", reason=evil, title=evil)
        await self.end("succeeded")
        answer = await self.fetch(self.atom)
        assert answer.headers["Content-Type"] == "application/atom+xml"
        feed = ElementTree.fromstring(answer.body)
        entries = feed.findall(f"{ATOM}entry")
        assert len(entries) == 2
        assert entries[1].findtext(f"{ATOM}id") == f"http://api.test/#/builds/{build}"
        assert "<script>" in (entries[1].findtext(f"{ATOM}content") or "")
        assert feed.findtext(f"{ATOM}updated") == entries[0].findtext(f"{ATOM}updated")

    async def test_without_the_key_there_is_nothing(self) -> None:
        for address in (self.badge, self.atom):
            path = address.partition("?")[0]
            for query in ("?key=0123456789abcdef", "?key=0"):
                self.problem(await self.fetch(path + query), 404)
            assert (await self.fetch(path)).status in (400, 422)
        await self.project("other")
        self.problem(await self.fetch(self.badge.replace("/shop/", "/other/")), 404)
        self.problem(await self.fetch(self.badge.replace("/shop/", "/none/")), 404)

    async def test_the_key_shows_nothing_else(self) -> None:
        key = self.badge.partition("key=")[2]
        assert (
            await self.ask("GET", "/api/v1/projects/shop", headers={"Authorization": f"Bearer {key}"})
        ).status == 401
