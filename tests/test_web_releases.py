"""The site of the releases, as browsers see it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as global_reactor
from twisted.trial.unittest import TestCase

from tests.site_client import put_release
from tests.web_world import Answer, say
from twistedipc.publish.archive import create
from twistedipc.publish.targets.static.releases import ReleaseStore
from twistedipc.web.access.domains import Domains
from twistedipc.web.http.hosts import Hosts
from twistedipc.web.http.media import content_type
from twistedipc.web.releases.site import Refused, releases_site, segments_of

reactor: Any = global_reactor


class Site(TestCase):
    timeout = 180

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="twistedipc-test-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.store = ReleaseStore(self.folder / "releases")
        self.site = releases_site(
            self.store,
            reactor,
            os.urandom,
            domains=Domains(Hosts(), lambda project: [f"http://{project}.localhost:8081/"]),
        )
        listening = reactor.listenTCP(0, self.site, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        self.port: int = listening.getHost().port
        self.release(
            1,
            {
                "index.html": "<h1>one</h1>",
                "404.html": "<h1>gone</h1>",
                "assets/index-BvJ3kT9a.js": "one()",
                "docs/index.html": "docs",
                "docs/a b.txt": "päge",
                ".env": "SECRET=1",
                ".well-known/security.txt": "contact",
                "empty/x.txt": "",
            },
        )

    def release(self, number: int, files: dict[str, str], project: str = "shop") -> None:
        """Stored and live."""
        put_release(self.folder / "releases", project, number, {path: text.encode() for path, text in files.items()})
        self.store.activate(project, number)

    async def get(self, path: str, host: str = "shop.localhost:8081", method: str = "GET", **headers: str) -> Answer:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return Answer(await say(self.port, "\r\n".join([*lines, "", ""]).encode("latin-1")))

    async def test_by_host(self) -> None:
        answer = await self.get("/")
        assert (answer.status, answer.body) == (200, b"<h1>one</h1>")
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Set-Cookie"] is None
        asset = await self.get("/assets/index-BvJ3kT9a.js?x=1")
        assert asset.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert asset.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert (await self.get("/docs/a%20b.txt")).body.decode() == "päge"
        assert (await self.get("/empty/x.txt")).body == b""
        assert (await self.get("/", host="SHOP.LocalHost")).status == 200

    async def test_by_path(self) -> None:
        host = "127.0.0.2:8081"
        assert (await self.get("/shop/", host=host)).body == b"<h1>one</h1>"
        answer = await self.get("/shop?a=b", host=host)
        assert (answer.status, answer.headers["Location"]) == (302, "/shop/?a=b")
        answer = await self.get("/shop/docs", host=host)
        assert answer.headers["Location"] == "/shop/docs/"
        assert (await self.get("/", host=host)).status == 404

    async def test_no_release_at_a_host_of_the_api(self) -> None:
        """Ports share cookies: a release at 127.0.0.1 could put another session in the place of the API's there."""
        for host in ("127.0.0.1:8081", "localhost", "[::1]:8081", "[::ffff:127.0.0.1]:8081", "machine.lan", ""):
            for path in ("/shop/", "/shop", "/shop/docs", "/", "/shop/assets/index-BvJ3kT9a.js", "/none/", "/SHOP/"):
                answer = await self.get(path, host=host)
                assert answer.status in (421, 404), (host, path, answer.raw)
                assert answer.headers["Location"] is None
                assert b"<h1>" not in answer.body
        answer = await self.get("/shop/docs/", host="127.0.0.1:8081")
        assert answer.status == 421
        assert b"The release of shop is at http://shop.localhost:8081/" in answer.body
        assert answer.body == (await self.get("/shop/", host="127.0.0.1:8081")).body
        unknown = await self.get("/none/", host="127.0.0.1:8081")
        assert unknown.status == 421, "the same for a project that there isn't"

    async def test_a_folder_gets_its_slash(self) -> None:
        answer = await self.get("/docs?q=1")
        assert (answer.status, answer.headers["Location"]) == (302, "/docs/?q=1")
        assert (await self.get("/docs/")).body == b"docs"
        assert (await self.get("/assets/")).status == 404
        for path in ("//evil.example", "//evil.example/", "/docs//", "///"):
            answer = await self.get(path)
            assert (answer.status, answer.headers["Location"]) == (404, None)

    async def test_missing(self) -> None:
        for path in ("/nothing", "/assets/other.js", "/assets/gone-AbCdEf12.js", "/index.html/", "/index.html/x"):
            answer = await self.get(path)
            assert (answer.status, answer.body) == (404, b"<h1>gone</h1>"), path
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        for host in (
            "other.localhost",
            "a.b.localhost",
            "-.localhost",
            "..localhost",
            "SH%4fP.localhost",
        ):
            answer = await self.get("/", host=host)
            assert (answer.status, answer.headers["Content-Type"]) == (404, "text/plain; charset=utf-8"), host
        assert (await self.get("/", host=".localhost")).status == 421  # no project's host

    async def test_nothing_outside_the_release(self) -> None:
        (self.folder / "secret").write_text("secret")
        for path in (
            "/../secret",
            "/../../../../secret",
            "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/secret",
            "/..%2f..%2f..%2f..%2fsecret",
            "/%252e%252e/secret",
            "/docs/../../secret",
            "/docs/%5c..%5c..",
            "/%2e%2e/pool/",
            "/../history.json",
            "/current",
            "/.env",
            "/docs/.well-known/x",
            "/index.html%00.txt",
            "/index.html%0a",
            "/%ff",
            "/" + "a" * 5000,
            "http://shop.localhost/../secret",
        ):
            answer = await self.get(path)
            assert answer.status == 404, (path, answer.raw)
            assert b"secret" not in answer.body
        assert (await self.get("/.well-known/security.txt")).status == 200

    async def test_reading_only(self) -> None:
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
            answer = await self.get("/", method=method)
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
        head = await self.get("/", method="HEAD")
        assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "12")
        assert (await self.get("/nothing", method="HEAD")).body == b""

    async def test_validators(self) -> None:
        etag = (await self.get("/")).headers["ETag"]
        assert (await self.get("/", If_None_Match=etag)).status == 304
        assert (await self.get("/", If_None_Match='"other"')).status == 200
        later = "Fri, 01 Jan 2100 00:00:00 GMT"
        assert (await self.get("/", If_Modified_Since=later)).status == 200, "times say nothing here"
        assert (await self.get("/")).headers["Last-Modified"] is None
        self.release(2, {"index.html": "<h1>two</h1>", "docs/index.html": "docs"})
        answer = await self.get("/", If_None_Match=etag)
        assert (answer.status, answer.body) == (200, b"<h1>two</h1>")

    async def test_a_file_that_a_release_leaves_as_it_was_keeps_its_validator(self) -> None:
        """Else each release would have browsers fetch all that they have again."""
        etag = (await self.get("/docs/")).headers["ETag"]
        self.release(2, {"index.html": "<h1>two</h1>", "docs/index.html": "docs"})
        assert (await self.get("/docs/", If_None_Match=etag)).status == 304

    async def test_ranges(self) -> None:
        whole = await self.get("/")
        answer = await self.get("/", Range="bytes=4-6")
        assert (answer.status, answer.body, answer.headers["Content-Range"]) == (206, b"one", "bytes 4-6/12")
        assert (await self.get("/", Range="bytes=-5")).body == b"</h1>"
        assert (await self.get("/", Range="bytes=99-")).status == 416
        assert (await self.get("/", Range="bytes=4-6", If_Range=whole.headers["ETag"])).status == 206
        assert (await self.get("/", Range="bytes=4-6", If_Range='"old"')).status == 200
        assert (await self.get("/", Range="bytes=" + ",".join(["0-0"] * 500))).status == 200
        assert (await self.get("/", Range="nonsense")).status == 200

    async def test_old_assets_stay_after_their_release(self) -> None:
        hashes = {2: "Cx81Kq_z", 3: "D4vTw9Zp", 4: "4f2a9c1b", 5: "B7-kQx2V"}
        for number, each in hashes.items():
            self.release(number, {"index.html": str(number), f"assets/index-{each}.js": str(number), "p.js": "p"})
        for number in (5, 4, 3, 2):
            answer = await self.get(f"/assets/index-{hashes[number]}.js")
            assert (answer.status, answer.body) == (200, str(number).encode())
            assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert (await self.get("/assets/index-BvJ3kT9a.js")).status == 200, "five releases ago"
        self.store.activate("shop", 2)
        assert (await self.get("/assets/index-B7-kQx2V.js")).status == 200, "pages of the newer one are still open"
        self.release(6, {"index.html": "6"})
        assert (await self.get("/p.js")).status == 404, "without a hash it is another file"

    async def test_what_was_withdrawn_is_gone(self) -> None:
        """Pages, documents and pictures whose names only look hashed went on being served by older releases."""
        withdrawn = [
            "release-notes-2024.html",
            "about-BvJ3kT9a.html",
            "contract-BvJ3kT9a.pdf",
            "feed.4f2a9c1b.xml",
            "prices-4f2a9c1b.csv",
            "prices-20241128.json",
            "team-photo-March2024.jpg",
            "my-service-worker-v2.js",
            "sw.js",
        ]
        self.release(2, {"index.html": "2", **dict.fromkeys(withdrawn, "old")})
        for name in withdrawn:
            answer = await self.get(f"/{name}")
            assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-cache"), name
        self.release(3, {"index.html": "3"})
        for name in withdrawn:
            assert (await self.get(f"/{name}")).status == 404, name

    async def test_chunks_are_known_by_their_siblings(self) -> None:
        """Some hashes look like names: beside others of their form they are believed more, and at least kept."""
        chunks = ["a-BvJ3kT9a.js", "b-Cx81Kq_z.js", "c-DownLoad.js", "d-UserCard.js", "e-Portrait.js", "f-12345678.js"]
        self.release(2, {"index.html": "2", **{f"assets/{name}": "x" for name in chunks}})
        kept = {name: (await self.get(f"/assets/{name}")).headers["Cache-Control"] for name in chunks}
        assert [name for name, each in kept.items() if each != "no-cache"] == chunks[:2]
        self.release(3, {"index.html": "3"})
        for name in chunks:
            assert (await self.get(f"/assets/{name}")).status == 200, name

    async def test_a_chunk_that_is_alone_is_there_for_pages_that_are_open(self) -> None:
        """Vite's first example has one script and one style: of the hashes of such, one in six isn't believed."""
        self.release(2, {"index.html": "2", "assets/index-DiwrgTda.js": "x", "assets/logo-Portrait.png": "withdrawn"})
        self.release(3, {"index.html": "3"})
        assert (await self.get("/assets/index-DiwrgTda.js")).body == b"x"
        assert (await self.get("/assets/logo-Portrait.png")).status == 404

    async def test_a_release_that_was_never_live_answers_for_nothing(self) -> None:
        self.release(3, {"index.html": "3"})
        put_release(self.folder / "releases", "shop", 2, {"secret-BvJ3kT9a.js": b"of a branch"})
        assert (await self.get("/secret-BvJ3kT9a.js")).status == 404

    async def test_a_name_that_had_another_content_is_not_hashed(self) -> None:
        """`cache-control: immutable` on a name that the next release gives another content: no rollback mends that."""
        for number, text in ((1, "one"), (2, "two")):
            source = self.folder / text
            source.mkdir()
            (source / "index-BvJ3kT9a.js").write_text(text)
            (source / "ok-4f2a9c1b.js").write_text("x")
            create(source, self.folder / f"{text}.tar.gz")
            self.store.unpack("new", number, self.folder / f"{text}.tar.gz")
            self.store.activate("new", number)
        answer = await self.get("/index-BvJ3kT9a.js", host="new.localhost")
        assert (answer.body, answer.headers["Cache-Control"]) == (b"two", "no-cache")
        answer = await self.get("/ok-4f2a9c1b.js", host="new.localhost")
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"

    async def test_a_large_file(self) -> None:
        self.release(2, {"big.bin": "x" * 3_000_000})
        assert len((await self.get("/big.bin")).body) == 3_000_000


@given(st.binary(max_size=60))
def test_segments_never_lead_up(path: bytes) -> None:
    try:
        segments = segments_of(b"/" + path)
    except Refused:
        return
    assert all("/" not in each and "\0" not in each and each not in (".", "..") for each in segments)
    assert "" not in segments[:-1]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.WASM", "application/wasm"),
        ("a.svg", "image/svg+xml; charset=utf-8"),
        ("a.webmanifest", "application/manifest+json; charset=utf-8"),
        ("a.png", "image/png"),
        ("a.tar.gz", "application/gzip"),
        ("a.html.gz", "application/gzip"),
        ("a", "application/octet-stream"),
        ("LICENSE.unknown", "application/octet-stream"),
    ],
)
def test_content_types(name: str, kind: str) -> None:
    assert content_type(name) == kind
