"""What a release has other than another: in the store, and as the API says it."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest

from tests.site_client import put_release
from tests.storage_fixtures import HOLDER, LEASE
from tests.web_world import World
from twistedipc.builds.attempt import Result
from twistedipc.builds.site.kinds import KINDS, kind_of
from twistedipc.publish.targets.differences import FileSizes
from twistedipc.publish.targets.static import comparing
from twistedipc.publish.targets.static.comparing import compare
from twistedipc.publish.targets.static.release import Content, Entry, Index, Release
from twistedipc.storage import attempts, previews, releases


def entry(content: str, size: int, **variants: int) -> Entry:
    made = {coding: Content("0" * 64, each) for coding, each in variants.items()}
    return Entry(hashlib.sha256(content.encode()).hexdigest(), size, made)


def release(files: dict[str, Entry], *, compressed: bool = False) -> Release:
    return Release(1, Index(files=files, compressed=compressed))


def test_each_kind_has_its_extensions() -> None:
    found = {path: kind_of(path) for path in ("a.JS", "a/b.mjs", "c.css", "x.html", "y.svg", "z.woff2", "d.json", "e")}
    assert list(found.values()) == ["js", "js", "css", "html", "images", "fonts", "other", "other"]
    assert kind_of("folder.js/README") == "other"
    assert set(found.values()) == set(KINDS)


def test_what_is_new_changed_and_gone_with_the_heaviest_first() -> None:
    before = release({"a.html": entry("1", 100), "b.html": entry("2", 5000), "same.css": entry("3", 9)})
    after = release({"a.html": entry("4", 130), "c.png": entry("5", 900), "same.css": entry("3", 9)})
    found = compare(before, after, 10)
    assert (found.added, found.changed, found.removed) == (1, 1, 1)
    assert [(each.path, each.weight) for each in found.files] == [("b.html", -5000), ("c.png", 900), ("a.html", 30)]
    assert [(each.kind, each.before.size, each.after.size) for each in found.totals] == [
        ("css", 9, 9),
        ("html", 5100, 130),
        ("images", 0, 900),
    ]
    few = compare(before, after, 1)
    assert ([each.path for each in few.files], few.added, few.changed, few.removed) == (["b.html"], 1, 1, 1)
    assert compare(before, before, 10).files == []


def test_without_a_release_before_it_all_is_new() -> None:
    found = compare(None, release({"a.html": entry("1", 100)}), 10)
    assert [(each.path, each.before, each.after) for each in found.files] == [
        ("a.html", None, FileSizes(100, 100, 100))
    ]
    assert (found.added, found.changed, found.removed) == (1, 0, 0)


def test_a_file_with_another_hash_in_its_name_has_changed() -> None:
    before = {
        "assets/index-BvJ3kT9a.js": entry("1", 300_000),
        "assets/index-CkQ8fW2d.js": entry("2", 10_000),
        "assets/vendor-DmR5sX7e.js": entry("3", 70_000),
        "about.html": entry("4", 10),
    }
    after = {
        "assets/index-Fp2LzY6h.js": entry("5", 310_000),
        "assets/index-GqN9vB3k.js": entry("6", 9_000),
        "assets/index-HrM4wC8t.js": entry("7", 1_000),
        "contact.html": entry("4", 10),
    }
    found = compare(release(before), release(after), 10)
    assert [(each.path, each.was) for each in found.files if each.before and each.after] == [
        ("assets/index-Fp2LzY6h.js", "assets/index-BvJ3kT9a.js"),
        ("assets/index-GqN9vB3k.js", "assets/index-CkQ8fW2d.js"),
    ]
    assert [each.path for each in found.files if each.before is None] == ["assets/index-HrM4wC8t.js", "contact.html"]
    assert [each.path for each in found.files if each.after is None] == ["assets/vendor-DmR5sX7e.js", "about.html"]
    assert (found.added, found.changed, found.removed) == (2, 2, 2)


def test_what_is_sent_is_said_as_far_as_it_is_known() -> None:
    files = {
        "both.js": entry("1", 1000, gzip=400, br=300),
        "gzip.js": entry("2", 1000, gzip=400),
        "unknown.js": entry("3", 1000),
        "picture.png": entry("4", 1000),
        "tiny.js": entry("5", 100),
    }
    found = {each.path: each.after for each in compare(None, release(files), 10).files}
    assert found == {
        "both.js": FileSizes(1000, 400, 300),
        "gzip.js": FileSizes(1000, 400, 400),
        "unknown.js": FileSizes(1000, None, None),
        "picture.png": FileSizes(1000, 1000, 1000),
        "tiny.js": FileSizes(100, 100, 100),
    }
    totals = {each.kind: each.after.gzip for each in compare(None, release(files), 10).totals}
    assert totals == {"js": None, "images": 1000}
    whole = compare(None, release(files, compressed=True), 10)
    assert {each.path: each.after for each in whole.files}["unknown.js"] == FileSizes(1000, 1000, 1000)
    assert {each.kind: each.after.gzip for each in whole.totals} == {"js": 1900, "images": 1000}


def test_two_releases_of_25_000_files_take_seconds_at_most() -> None:
    """All of them have other names: each is looked at for a hash, and nothing is compared with each other file."""

    def built(seed: str) -> Release:
        entries = [entry(f"{seed}{number}", number) for number in range(25_000)]
        return release({f"assets/p{each.size % 500}-{each.sha256[:8]}.js": each for each in entries})

    before, after = built("a"), built("b")
    began = time.process_time()
    found = compare(before, after, 500)
    assert time.process_time() - began < 20
    assert len(found.files) == 500
    assert found.changed > 24_500  # a hash of letters alone, or one like a date, isn't taken for one


def test_beyond_a_bound_names_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "MAX_PAIRED", 1)
    before = release({"a-BvJ3kT9a.js": entry("1", 9), "b-CkQ8fW2d.js": entry("2", 8)})
    after = release({"a-Fp2LzY6h.js": entry("3", 9), "b-GqN9vB3k.js": entry("4", 8)})
    found = compare(before, after, 10)
    assert (found.added, found.changed, found.removed) == (1, 1, 1)


class Differences(World):
    async def prepare(self) -> None:
        await self.project("shop")
        self.first = await self.built("", {"index.html": b"one"})
        self.release_store.activate("shop", 1)

    async def built(self, ref: str, files: dict[str, bytes]) -> int:
        """A build of a ref succeeds, with these files: its number. Those of the project's own ref go live."""
        asked = await self.ask("POST", "/api/v1/projects/shop/builds", {"ref": ref} if ref else {})
        build: int = asked.json["id"]

        def end(connection: Any) -> int:
            queued = next(each for each in attempts.next_queued(connection, 100) if each.build == build)
            assert attempts.offer(connection, queued.name, LEASE, "one", self.time, queued.of, queued.inputs)
            assert attempts.accept(connection, queued.name, HOLDER)
            made = releases.create(
                connection,
                attempt=queued.name,
                target="static",
                project="shop",
                sha256="a" * 64,
                files=1,
                size=9,
                commit="c" * 40,
                now=self.time,
            )
            result = Result(
                outcome="succeeded",
                lines=0,
                sha256="",
                started=1,
                ended=2,
                commit="c" * 40,
                protected="" if ref else None,
            )
            assert attempts.finish(connection, queued.name, HOLDER, result, True, self.time, self.time)
            previews.settle(connection, releases.settle(connection, "shop", made.id, self.time), self.time)
            return made.id

        put_release(self.folder / "releases", "shop", await self.ledger.write(end), files)
        self.time += 1000
        return build

    async def diff(self, query: str = "") -> Any:
        answer = await self.ask("GET", f"/api/v1/projects/shop/releases/diff{query}")
        assert answer.status == 200, answer.raw
        return answer.json

    async def test_a_preview_is_compared_with_what_is_live(self) -> None:
        build = await self.built("fix-menu", {"index.html": b"two!", "app.js": b"js"})
        for query in ("", "?to=fix-menu", f"?to=build-{build}", "?from=live&to=latest", "?from=1&to=2"):
            found = await self.diff(query)
            assert (found["before"]["id"], found["after"]["id"]) == (1, 2), query
            assert (found["added"], found["changed"], found["removed"]) == (1, 1, 0)
            assert found["files"] == [
                {
                    "path": "app.js",
                    "was": "",
                    "kind": "js",
                    "before": None,
                    "after": {"size": 2, "gzip": 2, "br": 2},
                },
                {
                    "path": "index.html",
                    "was": "",
                    "kind": "html",
                    "before": {"size": 3, "gzip": 3, "br": 3},
                    "after": {"size": 4, "gzip": 4, "br": 4},
                },
            ]
            assert [each["kind"] for each in found["totals"]] == ["js", "html"]
        back = await self.diff("?from=2&to=live")
        assert (back["before"]["id"], back["after"]["id"], back["removed"]) == (2, 1, 1)

    async def test_a_branch_can_be_written_as_it_is_called(self) -> None:
        await self.built("feature/größe", {"index.html": b"two"})
        assert (await self.diff("?to=feature/gr%C3%B6%C3%9Fe"))["after"]["id"] == 2

    async def test_where_nothing_is_live_all_is_new(self) -> None:
        await self.project("blog")
        self.problem(await self.ask("GET", "/api/v1/projects/blog/releases/diff"), 404)
        await self.ledger.write(
            lambda connection: connection.exec_driver_sql("UPDATE releases SET state = 'superseded'")
        )
        found = await self.diff()
        assert (found["before"], found["added"]) == (None, 1)

    async def test_what_is_not_there_is_said(self) -> None:
        await self.built("gone", {"index.html": b"two"})
        (self.folder / "releases" / "shop" / "releases" / "2.json").unlink()
        for query, why in (
            ("?to=99", "has no static release '99': say a release's number, live, latest"),
            (f"?to={'9' * 30}", "has no static release"),
            ("?from=99&to=1", "has no static release '99'"),
            ("?to=build-99", "has no static release 'build-99'"),
            ("?to=pr-7", "has no static release 'pr-7'"),
            ("?to=other/branch%00", "has no static release"),
            ("?to=2", "the files of release 2 of shop have been removed"),
        ):
            answer = await self.ask("GET", f"/api/v1/projects/shop/releases/diff{query}")
            self.problem(answer, 404)
            assert why in answer.json["detail"], answer.json
        for query in ("?to=", "?of=1", f"?to={'a' * 300}"):
            self.problem(await self.ask("GET", f"/api/v1/projects/shop/releases/diff{query}"), 422)

    async def test_a_project_of_others_is_not_seen(self) -> None:
        token = await self.token("stranger", "read", ["elsewhere"])
        self.problem(await self.ask("GET", "/api/v1/projects/shop/releases/diff", token=token), 404)
