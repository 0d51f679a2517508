"""The addresses of previews: which release is there, for whom, and what becomes of it when it is promoted."""

from __future__ import annotations

from typing import Any

from tests.site_client import put_release
from tests.storage_fixtures import HOLDER, LEASE, add_project
from tests.test_web_team import Served
from twistedipc.builds.attempt import Result
from twistedipc.builds.site.rules import HeaderRule, Serving
from twistedipc.server.boundaries import StateChange
from twistedipc.storage import attempts, previews, releases

PAGE = {"Accept": "text/html"}
DAY = 86_400_000


class PreviewWorld(Served):
    """Projects of whose branches there are previews."""

    async def prepare(self) -> None:
        await super().prepare()
        await self.built("blog", "first", None)  # the number of what is live already

    async def built(self, project: str, ref: str, body: str | None, *, protected: str = "") -> int:
        """A build of this ref succeeds, with a page that says ``body``: its number."""
        asked = await self.ask("POST", f"/api/v1/projects/{project}/builds", {"ref": ref}, token=self.admin)
        build: int = asked.json["id"]

        def end(connection: Any) -> int:
            queued = next(each for each in attempts.next_queued(connection, 100) if each.build == build)
            assert attempts.offer(connection, queued.name, LEASE, "one", self.time, queued.of, queued.inputs)
            assert attempts.accept(connection, queued.name, HOLDER)
            release = releases.create(
                connection,
                attempt=queued.name,
                target="static",
                project=project,
                sha256="a" * 64,
                files=1,
                size=9,
                commit="c" * 40,
                now=self.time,
            )
            result = Result(
                outcome="succeeded", lines=0, sha256="", started=1, ended=2, commit="c" * 40, protected=protected
            )
            assert attempts.finish(connection, queued.name, HOLDER, result, True, self.time, self.time)
            previews.settle(connection, releases.settle(connection, project, release.id, self.time), self.time)
            return release.id

        release = await self.ledger.write(end)
        if body is not None:
            put_release(self.folder / "releases", project, release, {"index.html": body.encode()})
        row = await self.ledger.read(attempts.get, f"{build}-1")
        assert row is not None
        self.feed.publish(StateChange.of(row, self.time))
        return build

    async def page(self, name: str) -> str:
        answer = await self.get(host=f"{name}.localhost:8081")
        return answer.body.decode() if answer.status == 200 else str(answer.status)


class Previews(PreviewWorld):
    async def test_a_branch_and_a_build_have_addresses(self) -> None:
        first = await self.built("blog", "fix-menu", "one")
        assert await self.page("fix-menu--blog") == "one"
        second = await self.built("blog", "fix-menu", "two")
        assert await self.page("fix-menu--blog") == "two"
        assert await self.page(f"build-{first}--blog") == "one"
        assert await self.page(f"build-{second}--blog") == "two"
        assert await self.page("blog") == "<h1>blog</h1>"
        for name in ("other--blog", "build-99--blog", f"build-{first}--shop", "fix-menu--none"):
            assert await self.page(name) == "404"

    async def test_no_robot_keeps_it(self) -> None:
        await self.built("blog", "fix", "one")
        answer = await self.get(host="fix--blog.localhost:8081")
        assert answer.headers["X-Robots-Tag"] == "noindex"
        assert "X-Robots-Tag" not in (await self.get(host="blog.localhost:8081")).headers

    async def test_a_site_does_not_call_robots_to_a_preview(self) -> None:
        """What it says of that is meant for its users' address."""
        for rule in (
            HeaderRule(source="/*", values=[("X-Robots-Tag", "all")]),
            HeaderRule(source="/*", removed=["X-Robots-Tag"]),
        ):
            build = await self.built("blog", "fix", None)
            (release,) = await self.ledger.read(releases.of_build, build)
            serving = Serving(headers=[rule])
            put_release(self.folder / "releases", "blog", release.id, {"index.html": b"one"}, serving)
            for name in ("fix--blog", f"build-{build}--blog"):
                answer = await self.get(host=f"{name}.localhost:8081")
                assert (answer.status, answer.headers["X-Robots-Tag"]) == (200, "noindex")

    async def test_the_marks_of_a_preview_are_of_its_own_release_alone(self) -> None:
        """It may be for others than what is live, and what is live for others than it."""
        await self.built("blog", "fix", "one")
        sought = await self.context.audience.look_up("fix--blog")
        assert sought is not None
        number = sought.release
        assert number is not None
        page = b'<script src="/app.js"></script>'
        put_release(self.folder / "releases", "blog", number, {"index.html": page, "app.js": b"preview"})
        put_release(self.folder / "releases", "blog", 50, {"index.html": page, "app.js": b"live"})
        self.release_store.activate("blog", 50)
        assert await self.page("fix--blog") == f'<script src="/~r{number}~/app.js"></script>'
        assert await self.page("blog") == '<script src="/~r50~/app.js"></script>'
        for path in (f"/~r{number}~/app.js", "/~r50~/app.js"):
            assert (await self.get(path, host="fix--blog.localhost:8081")).body == b"preview"
            assert (await self.get(path, host="blog.localhost:8081")).body == b"live"

    async def test_it_ends_after_a_time(self) -> None:
        await self.built("blog", "fix", "one")
        assert await self.page("fix--blog") == "one"
        self.time += 30 * DAY
        assert await self.page("fix--blog") == "404"

    async def test_what_is_pinned_ends_by_its_target_alone(self) -> None:
        async def ends() -> str:
            listed = await self.ask("GET", "/api/v1/projects/blog/releases", token=self.admin)
            (shown,) = [each for each in listed.json["previews"] if each["ref"] == "refs/heads/fix"]
            return str(shown["ends"])

        build = await self.built("blog", "fix", "one")
        by_target = await ends()
        body = {"retention": {"previews": 7}}
        assert (await self.ask("PATCH", "/api/v1/projects/blog", body, token=self.admin)).status == 200
        by_rule = await ends()
        assert "2" < by_rule < by_target < "3", "both are times"
        assert (await self.ask("PUT", f"/api/v1/builds/{build}/pin", token=self.admin)).status == 200
        assert await ends() == by_target
        assert (await self.ask("DELETE", f"/api/v1/builds/{build}/pin", token=self.admin)).status == 200
        assert await ends() == by_rule

    async def test_it_ends_with_its_branch(self) -> None:
        build = await self.built("blog", "fix", "one")
        assert await self.page("fix--blog") == "one"
        await self.ledger.write(previews.end, "blog", ["refs/heads/fix"])
        self.context.audience.changed("blog")
        assert await self.page("fix--blog") == "404"
        assert await self.page(f"build-{build}--blog") == "one"

    async def test_a_project_is_before_a_preview_of_the_same_name(self) -> None:
        await self.built("blog", "fix", "a preview")
        assert await self.page("fix--blog") == "a preview"
        await self.ledger.write(add_project, "fix--blog")  # as older versions let it be called
        put_release(self.folder / "releases", "fix--blog", 77, {"index.html": b"a project"})
        self.release_store.activate("fix--blog", 77)
        self.context.audience.changed("blog")
        assert await self.page("fix--blog") == "a project"

    async def test_a_teams_previews_are_for_the_team(self) -> None:
        await self.built("shop", "fix", "one")
        answer = await self.get("/a", host="fix--shop.localhost:8081", **PAGE)
        assert answer.status == 302
        assert "fix--shop.localhost" in answer.headers["Location"]
        assert (await self.get(host="fix--shop.localhost:8081")).status == 401

    async def test_previews_alone_can_be_for_the_team(self) -> None:
        await self.ask(
            "PATCH", "/api/v1/projects/blog", {"targets": [{"type": "static", "previews": "team"}]}, token=self.admin
        )
        await self.built("blog", "fix", "one")
        assert await self.page("fix--blog") == "401"
        assert await self.page("blog") == "<h1>blog</h1>"

    async def test_a_person_of_the_team_gets_to_a_preview(self) -> None:
        await self.built("shop", "fix", "one")
        begun = await self.get("/", host="fix--shop.localhost:8081", **PAGE)
        challenge = begun.headers["Location"].split("/")[-2]
        cookie = begun.headers["Set-Cookie"].partition(";")[0]
        for host in ("fix--blog.localhost:8081", "fix--shop.evil.test"):
            body = {"host": host, "challenge": challenge, "path": "/"}
            assert (await self.ask("POST", "/api/v1/projects/shop/visits", body, token=self.admin)).status == 404
        body = {"host": "fix--shop.localhost:8081", "challenge": challenge, "path": "/"}
        visit = await self.ask("POST", "/api/v1/projects/shop/visits", body, token=self.admin)
        path = visit.json["url"].removeprefix("http://fix--shop.localhost:8081")
        entered = await self.get(path, host="fix--shop.localhost:8081", cookie=cookie)
        assert entered.status == 302, entered.raw
        visited = (entered.headers.get_all("Set-Cookie") or [""])[0].partition(";")[0]
        page = await self.get("/", host="fix--shop.localhost:8081", cookie=visited)
        assert (page.status, page.body) == (200, b"one")
        assert "private" in page.headers["Cache-Control"] or page.headers["Cache-Control"] == "private, no-cache"
        assert (await self.get("/", cookie=visited)).status == 401  # another host's

    async def test_a_build_says_where_it_is(self) -> None:
        build = await self.built("blog", "fix", "one")
        shown = (await self.ask("GET", f"/api/v1/builds/{build}", token=self.admin)).json
        assert shown["previews"] == [
            self.context.release_url("fix--blog"),
            self.context.release_url(f"build-{build}--blog"),
        ]
        found = await self.ask("GET", "/api/v1/projects/blog/releases", token=self.admin)
        listed = found.json["previews"][:1]
        assert [(each["ref"], each["build"], each["url"]) for each in listed] == [
            ("refs/heads/fix", build, self.context.release_url("fix--blog"))
        ]
        newer = await self.built("blog", "fix", "two")
        shown = (await self.ask("GET", f"/api/v1/builds/{build}", token=self.admin)).json
        assert shown["previews"] == [self.context.release_url(f"build-{build}--blog")]
        assert newer > build

    async def test_what_is_on_a_protected_ref_is_promoted_as_it_is(self) -> None:
        build = await self.built("blog", "fix", "one", protected="main")
        done = await self.ask("POST", f"/api/v1/builds/{build}/promote", token=self.admin)
        assert done.json["release"]["state"] == "live"
        assert done.json["build"] is None

    async def test_what_is_not_is_refused(self) -> None:
        build = await self.built("blog", "fix", "one")
        refused = await self.ask("POST", f"/api/v1/builds/{build}/promote", token=self.admin)
        self.problem(refused, 403, "Merge it there first")

    async def test_production_is_built_where_it_is_another(self) -> None:
        await self.ask(
            "PATCH", "/api/v1/projects/blog", {"environments": {"previews": {"API": "test"}}}, token=self.admin
        )
        build = await self.built("blog", "fix", "one", protected="main")
        await self.ask("PATCH", "/api/v1/projects/blog", {"environment": {"API": "other"}}, token=self.admin)
        done = (await self.ask("POST", f"/api/v1/builds/{build}/promote", token=self.admin)).json
        assert done["release"] is None
        assert (done["build"]["ref"], done["build"]["live"]) == ("c" * 40, True)
        assert "other variables" in done["why"]

    async def test_production_is_built_where_the_preview_is_of_another_environment(self) -> None:
        """It never goes live itself, even if it was built with the same variables."""
        staging = {"environments": [{"name": "staging", "refs": ["fix"]}]}
        assert (await self.ask("PATCH", "/api/v1/projects/blog", staging, token=self.admin)).status == 200
        build = await self.built("blog", "fix", "one", protected="main")
        done = (await self.ask("POST", f"/api/v1/builds/{build}/promote", token=self.admin)).json
        assert done["release"] is None
        assert done["build"]["ref"] == "c" * 40
        assert done["why"] == "it was built for the environment staging"
