"""Pages that are open when the next release goes live: they find the files of their own."""

from __future__ import annotations

import gzip
import posixpath
import re
from pathlib import Path

import pytest

from tests.site_client import SiteClient, put_release
from twistedipc.builds.site.headers import read_headers
from twistedipc.builds.site.redirects import read_redirects
from twistedipc.builds.site.rules import Serving
from twistedipc.web.releases import pages

IMMUTABLE = "public, max-age=31536000, immutable"
PAGE = """<!doctype html><link rel="stylesheet" href="/style.css"><script type="module" src="./app.js"></script>
<a href="/about.html">about</a>"""


def files(number: int) -> dict[str, bytes]:
    return {
        "index.html": PAGE.encode() + b" " * 500,
        "about.html": b"about %d" % number,
        "app.js": b"import './chunk.js'; import('./lazy/part.js') // %d" % number,
        "chunk.js": b"chunk %d" % number,
        "lazy/part.js": b"part %d" % number,
        "style.css": b"body { background: url(img/back.png) } /* %d */" % number,
        "img/back.png": b"png %d" % number,
        "same.js": b"the same",
        f"gone-in-{number}.js": b"gone %d" % number,
    }


@pytest.fixture
def site(tmp_path: Path) -> SiteClient:
    client = SiteClient(tmp_path / "releases")
    client.release(1, files(1))
    return client


class Tab:
    """A page that is open in a browser."""

    def __init__(self, site: SiteClient, path: str = "/") -> None:
        self._site = site
        answer = site.get(path)
        assert answer.status == 200
        self.links = re.findall(r'(?:src|href)="([^"]+)"', answer.body.decode())[:2]

    def load(self, name: str) -> bytes:
        """Load what its module names relative to itself."""
        answer = self._site.get(posixpath.normpath(posixpath.join(posixpath.dirname(self.links[1]), name)))
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == IMMUTABLE
        return answer.body


def test_tabs_of_several_releases_load_their_own_files(site: SiteClient) -> None:
    oldest = Tab(site)
    for number in range(2, 50):
        site.release(number, {"app.js": b"app %d" % number, "chunk.js": b"chunk %d" % number})
    site.release(50, files(50))
    older = Tab(site)
    site.release(51, files(51))
    site.store.retire("shop", [50])
    newest = Tab(site)
    for tab, number in ((oldest, 1), (older, 50), (newest, 51), (oldest, 1)):
        for name in ("chunk.js", "lazy/part.js", "img/back.png", f"gone-in-{number}.js"):
            assert tab.load(name) == files(number)[name], (number, name)
        assert [site.get(posixpath.normpath(link)).status for link in tab.links] == [200, 200]
    assert site.get("/chunk.js").body == b"chunk 51"
    site.store.activate("shop", 50)
    assert newest.load("chunk.js") == b"chunk 51", "after a rollback too"
    assert Tab(site).load("chunk.js") == b"chunk 50"


def test_a_page_says_its_release_in_links_alone(site: SiteClient) -> None:
    answer = site.get("/")
    plain = (PAGE + " " * 500).replace('"/style', '"/~r1~/style').replace('"./app', '"/~r1~/./app').encode()
    assert answer.body == plain
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert (answer.headers["Cache-Control"], answer.headers["Vary"]) == ("no-cache", "Accept-Encoding")
    assert answer.headers["Referrer-Policy"] == "same-origin"
    etag = answer.headers["ETag"]
    assert site.get("/", ("If-None-Match", etag)).status == 304
    assert site.get("/", ("If-Match", '"other"')).status == 412
    head = site.get("/", method="HEAD")
    assert (head.body, head.headers["Content-Length"], head.headers["ETag"]) == (b"", str(len(plain)), etag)
    zipped = site.get("/", ("Accept-Encoding", "gzip, br"))
    assert (zipped.headers["Content-Encoding"], gzip.decompress(zipped.body)) == ("gzip", plain)
    assert zipped.headers["ETag"] != etag
    assert site.get("/", ("Accept-Encoding", "identity;q=0, br")).status == 406
    site.release(2, files(2))
    assert site.get("/", ("If-None-Match", etag)).status == 200, "its links are others"


def test_a_mark_leads_to_assets_alone(site: SiteClient) -> None:
    site.release(2, files(2))
    for address in ("", "about.html?a=b", "about", "index.html", "none.html"):
        answer = site.get(f"/~r1~/{address}")
        assert (answer.status, answer.headers["Location"]) == (302, f"/{address}"), "documents are the live release's"
    for path in ("/~r1~/none.js", "/~r1~/.env.js", "/~r1~//app.js", "/~r1~/../app.js"):
        assert site.get(path).status == 404
    assert site.get("/~r1~").headers["Location"] == "/"
    assert site.get("/~r1~/~r2~/app.js").status == 404


def test_what_no_release_can_answer_for_any_more_is_that_of_the_live_one(site: SiteClient, tmp_path: Path) -> None:
    site.release(2, files(2))
    put_release(tmp_path / "releases", "shop", 3, {"app.js": b"of a branch", "secret.js": b"of a branch"})
    for number in (3, 999):  # never live, and none
        answer = site.get(f"/~r{number}~/app.js")
        assert (answer.body, answer.headers["Cache-Control"]) == (files(2)["app.js"], "no-cache")
        old = site.get(f"/~r{number}~/gone-in-1.js")
        assert (old.body, old.headers["Cache-Control"]) == (b"gone 1", "no-cache")
        assert site.get(f"/~r{number}~/secret.js").status == 404
    assert site.get("/~r2~/gone-in-1.js").body == b"gone 1"


def test_what_a_marked_file_names_from_the_top_is_of_its_release(site: SiteClient) -> None:
    site.release(2, files(2))
    marked = ("Referer", "http://shop.localhost/~r1~/app.js")
    answer = site.get("/chunk.js", marked)
    assert (answer.body, answer.headers["Cache-Control"], answer.headers["Vary"]) == (
        b"chunk 1",
        "no-cache",
        "Referer, Cookie",
    )
    assert site.get("/gone-in-1.js", marked).body == b"gone 1"
    assert site.get("/gone-in-1.js").status == 404
    assert site.get("/same.js", marked).headers["Vary"] is None
    assert site.get("/about.html", marked).body == b"about 2"
    assert site.get("/chunk.js", ("Referer", "http://evil.example/~r1~/app.js")).body == b"chunk 2"
    assert site.get("/chunk.js", ("Referer", "http://shop.localhost/~r9~/app.js")).body == b"chunk 2"
    assert site.get("/chunk.js", marked, ("Service-Worker", "script")).body == b"chunk 2"
    assert site.get("/~r1~/app.js").headers["Referrer-Policy"] == "same-origin"


def test_what_has_a_hash_in_its_name_needs_no_mark(site: SiteClient) -> None:
    page = b'<script type=module src="/assets/index-BvJ3kT9a.js"></script><script src="/_next/static/x.js"></script>'
    hashed = {"assets/index-BvJ3kT9a.js": b"1", "assets/c-Cx81Kq_z.js": b"2", "_next/static/x.js": b"3"}
    site.release(2, {"index.html": page, **hashed})
    assert site.get("/").body == page
    site.release(3, {"index.html": page, **hashed, "assets/Portrait.js": b"no hash"})
    assert b'src="/~r3~/assets/index-' in site.get("/").body
    assert b'src="/_next/' in site.get("/").body


@pytest.mark.parametrize(
    "added",
    [
        {"sw.js": b""},
        {"scope/my-service-worker.js": b""},
        {"register.js": b"navigator.serviceWorker.register('/mine.js')"},
    ],
)
def test_a_site_with_a_service_worker_is_served_as_it_is(site: SiteClient, added: dict[str, bytes]) -> None:
    """It keeps files by the addresses that the build knows."""
    site.release(2, {**files(2), **added})
    assert b"~r2~" not in site.get("/").body


@pytest.mark.parametrize(
    "script", [b'import "/chunk.js"', b"load('/lazy/part.js?v=1')", b"import ( `/pages/${name}.js` )"]
)
def test_modules_that_name_one_another_from_the_top_have_no_marks(site: SiteClient, script: bytes) -> None:
    """With a mark and without, one would run twice."""
    site.release(2, {**files(2), "app.js": script})
    body = site.get("/").body
    assert b'"/~r2~/style.css"' in body
    assert b'"./app.js"' in body


def test_a_site_can_have_no_marks(site: SiteClient) -> None:
    site.release(2, files(2), serving=Serving(marks=False))
    assert b"~r2~" not in site.get("/").body


def test_pages_of_a_folder_and_pages_for_many_addresses(site: SiteClient) -> None:
    page = b'<script src="x.js"></script><script src="/app.js"></script>'
    of_site = {"docs/index.html": page, "404.html": page, "index.html": page, "docs/x.js": b"", "x.js": b""}
    site.release(2, {**files(2), **of_site}, serving=Serving(spa=True))
    marked = page.replace(b'"/app', b'"/~r2~/app')
    assert site.get("/docs/").body == marked.replace(b'"x', b'"/~r2~/docs/x')
    assert site.get("/").body == marked.replace(b'"x', b'"/~r2~/x')
    assert site.get("/users/42").body == marked, "what is relative there isn't in a folder of the site"
    missing = site.get("/none.js")
    assert (missing.status, missing.body, missing.headers["ETag"]) == (404, marked, None)


def test_the_rules_of_a_site_see_the_address_without_its_mark(site: SiteClient) -> None:
    rules = Serving(
        redirects=read_redirects(b"/chunk.js /new.js 302!\n/style.css 410!\n/lazy/* /same.js 200!\n"),
        headers=read_headers(b"/app.js\n  Access-Control-Allow-Origin: *\n  Cache-Control: max-age=5\n"),
    )
    site.release(2, files(2), serving=rules)
    for number in (1, 2):
        assert site.get(f"/~r{number}~/chunk.js").headers["Location"] == "/new.js"
        assert site.get(f"/~r{number}~/style.css").status == 410
        assert site.get(f"/~r{number}~/lazy/part.js").headers["Location"] == "/lazy/part.js"
        answer = site.get(f"/~r{number}~/app.js")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Cache-Control"] == "max-age=5"


def test_a_policy_about_paths_leaves_pages_as_they_are(site: SiteClient) -> None:
    policy = b"/*\n  Content-Security-Policy: script-src http://shop.localhost/assets/\n"
    site.release(2, files(2), serving=Serving(headers=read_headers(policy)))
    assert b"~r2~" not in site.get("/").body


def test_no_marks_where_projects_share_a_host(site: SiteClient) -> None:
    assert site.get("/shop/", host="127.0.0.2").body == files(1)["index.html"]
    assert site.get("/shop/~r1~/app.js", host="127.0.0.2").status == 404


def test_a_large_page_is_served_as_it_is(site: SiteClient) -> None:
    large = PAGE.encode() + b" " * (256 << 10)
    site.release(2, {**files(2), "large.html": large})
    assert site.get("/large.html").body == large


def test_pages_in_memory_have_a_bound(site: SiteClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MAX_BYTES", 5000)
    site.release(2, {"app.js": b"", **{f"{number}.html": PAGE.encode() for number in range(20)}})
    release = site.store.live("shop")
    assert release is not None
    marked = pages.MarkedPages(site.store.file)
    for _ in range(2):
        for number in range(20):
            page = marked.page("shop", release, f"{number}.html", "", lambda path: False)
            assert page is not None
            assert page[""].body.count(b"/~r2~/") == 1
            assert marked.size <= 5000


def test_last_of_all_a_cookie_tells_the_release(site: SiteClient) -> None:
    """For scripts that a page loads from the top: webpack's with a public path do, and have no mark."""
    said = site.get("/").headers["Set-Cookie"]
    assert said == "twistedipc_release=1; Path=/; HttpOnly; SameSite=Lax"
    site.release(2, files(2))
    cookie = ("Cookie", "a=b; twistedipc_release=1")
    answer = site.get("/chunk.js", cookie, ("Sec-Fetch-Dest", "script"))
    assert (answer.body, answer.headers["Vary"]) == (b"chunk 1", "Referer, Cookie")
    assert answer.headers["Cache-Control"] == "no-cache"
    assert site.get("/gone-in-1.js", cookie, ("Sec-Fetch-Dest", "script")).body == b"gone 1"
    marked = ("Referer", "http://shop.localhost/~r2~/app.js")
    for others in (
        [cookie],
        [cookie, ("Sec-Fetch-Dest", "empty")],
        [cookie, ("Sec-Fetch-Dest", "serviceworker"), ("Service-Worker", "script")],
        [cookie, ("Sec-Fetch-Dest", "script"), marked],
        [("Cookie", "twistedipc_release=9"), ("Sec-Fetch-Dest", "script")],
        [("Cookie", "twistedipc_release=1; twistedipc_release=2"), ("Sec-Fetch-Dest", "script")],
        [("Cookie", "twistedipc_release=x"), ("Sec-Fetch-Dest", "script")],
    ):
        assert site.get("/chunk.js", *others).body == b"chunk 2", others
    assert site.get("/about.html", cookie, ("Sec-Fetch-Dest", "script")).body == b"about 2"
    site.release(3, {"index.html": PAGE.encode(), "assets/index-BvJ3kT9a.js": b""})
    assert site.get("/").headers["Set-Cookie"] is None, "names with hashes need none"
    site.release(4, files(4), serving=Serving(marks=False))
    assert site.get("/").headers["Set-Cookie"] is None
    assert site.get("/chunk.js", cookie, ("Sec-Fetch-Dest", "script")).body == b"chunk 4"
