"""Addresses of pages as static exporters write them: `/about` is about.html; and where redirects lead."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.site_client import SiteClient
from twistedipc.builds.site.rules import Serving
from twistedipc.publish.site.addresses import Elsewhere, look_up
from twistedipc.publish.targets.static.release import Entry, Index, Release

FILES = (
    "index about docs docs/intro 404 deep/er/page blog/index v1.2 café [slug] both/index both only/x.y a.b/c".split()
)


@pytest.fixture
def site(tmp_path: Path) -> SiteClient:
    client = SiteClient(tmp_path / "releases")
    files = {f"{name}.html": f"page {name}".encode() for name in FILES}
    client.release(1, {**files, "exact": b"exact file", "exact.html": b"page exact", "plain/a.txt": b"x"})
    return client


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", "page index"),
        ("/index", "page index"),
        ("/about", "page about"),
        ("/about.html", "page about"),
        ("/about?x=1", "page about"),
        ("/docs/intro", "page docs/intro"),
        ("/docs", "page docs"),  # beside the folder docs, which has no index.html
        ("/deep/er/page", "page deep/er/page"),
        ("/v1.2", "page v1.2"),
        ("/only/x.y", "page only/x.y"),
        ("/a.b/c", "page a.b/c"),
        ("/caf%C3%A9", "page café"),
        ("/%61bout", "page about"),
        ("/%5Bslug%5D", "page [slug]"),
        ("/[slug]", "page [slug]"),
        ("/exact", "exact file"),
        ("/exact.html", "page exact"),
        ("/blog/", "page blog/index"),
        ("/both/", "page both/index"),
    ],
)
def test_pages(site: SiteClient, path: str, body: str) -> None:
    """`/about` was 404 with an about.html there; with a folder about/ beside it, it was a redirect to a 404."""
    for prefix, host in (("", "shop.localhost"), ("/shop", "127.0.0.2")):
        answer = site.get(prefix + path, host=host)
        assert (answer.status, answer.body.decode()) == (200, body)
        head = site.get(prefix + path, host=host, method="HEAD")
        assert (head.status, head.headers["Content-Length"]) == (200, str(len(body.encode())))


def test_such_a_page_is_a_page_like_any_other(site: SiteClient) -> None:
    answer = site.get("/about")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["ETag"] == site.get("/about.html").headers["ETag"]
    assert site.get("/about", ("If-None-Match", answer.headers["ETag"])).status == 304
    assert site.get("/about", ("Range", "bytes=0-3")).body == b"page"


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/blog", "/blog/"),
        ("/both?a=1&b=%2F", "/both/?a=1&b=%2F"),
        ("/about/", "/about"),
        ("/about/?q=%20x", "/about?q=%20x"),
        ("/docs/", "/docs"),
        ("/docs/intro/", "/docs/intro"),
        ("/caf%C3%A9/", "/caf%C3%A9"),
        ("/v1.2/", "/v1.2"),
        ("/[slug]/", "/%5Bslug%5D"),
        ('/blog?"<>', "/blog/?%22%3C%3E"),
    ],
)
def test_redirects(site: SiteClient, path: str, location: str) -> None:
    for prefix, host in (("", "shop.localhost"), ("/shop", "127.0.0.2")):
        answer = site.get(prefix + path, host=host)
        assert (answer.status, answer.headers["Location"]) == (302, prefix + location)
        assert answer.headers["Cache-Control"] == "no-cache"
        assert site.get(answer.headers["Location"], host=host).status == 200, "one step, no loop"


@pytest.mark.parametrize(
    "path",
    [
        "/none",
        "/none/",
        "/plain",
        "/plain/",
        "/about/x",
        "/about.html/",
        "/abou",
        "/about.html.html",
        "/About",
        "/.html",
    ],
)
def test_nothing_there(site: SiteClient, path: str) -> None:
    answer = site.get(path)
    assert (answer.status, answer.body) == (404, b"page 404")


def test_the_page_for_what_is_missing(site: SiteClient) -> None:
    head = site.get("/none", method="HEAD")
    assert (head.status, head.headers["Content-Length"], head.headers["Content-Type"]) == (
        404,
        "8",
        "text/html; charset=utf-8",
    )
    site.release(2, {"index.html": b"x", "404.html": b"large" * 1_000_000})
    assert len(site.get("/none").body) == 5_000_000
    site.release(3, {"index.html": b"x"})
    assert site.get("/none").body == b"There is nothing here.\n"


def test_well_known_is_at_the_top_of_the_project(tmp_path: Path) -> None:
    """By path, the project's name is the first segment, and what was looked for at the top is in the second."""
    site = SiteClient(tmp_path / "releases")
    site.release(1, {"index.html": b"x", ".well-known/a.json": b"{}", ".nojekyll": b"", "docs/.well-known/x": b"x"})
    for prefix, host in (("", "shop.localhost"), ("/shop", "127.0.0.2")):
        assert site.get(f"{prefix}/.well-known/a.json", host=host).body == b"{}"
        assert site.get(f"{prefix}/.nojekyll", host=host).status == 404
        assert site.get(f"{prefix}/docs/.well-known/x", host=host).status == 404
    assert site.get("/.well-known/shop/", host="127.0.0.2").status == 404


_names = st.sampled_from(
    ["a", "b", "a.html", "b.html", "index.html", "\\evil.example", "\\evil.example.html", "%2f", "..a"]
)


@given(
    st.lists(st.lists(_names, min_size=1, max_size=3).map("/".join), min_size=1, max_size=8),
    st.lists(_names, min_size=1, max_size=3),
    st.booleans(),
)
def test_no_redirect_leads_back_or_away(files: list[str], asked: list[str], slash: bool) -> None:
    release = Release(1, Index(files={file: Entry("0" * 64, 1) for file in files}))
    found = look_up(release, Serving(), [*asked, ""] if slash else asked)
    if isinstance(found, Elsewhere):
        again = look_up(release, Serving(), found.segments)
        assert again is not None
        assert not isinstance(again, Elsewhere)


@pytest.mark.parametrize(
    "name", ["\\evil.example", "\\\\evil.example", "evil.example", "@evil.example", "http:", "a b?c#d"]
)
def test_a_location_stays_on_the_site(tmp_path: Path, name: str) -> None:
    site = SiteClient(tmp_path / "releases")
    site.release(1, {f"{name}/index.html": b"folder", f"{name}.page.html": b"page", f"{name}.page/x": b"x"})
    for prefix, host in (("", "shop.localhost"), ("/shop", "127.0.0.2")):
        for path in (site.quoted(name), site.quoted(name + ".page/")):
            location = site.get(prefix + path, host=host).headers["Location"]
            assert location is not None
            target = urlsplit(urljoin(f"http://{host}/", location))
            assert (target.scheme, target.netloc, target.query, target.fragment) == ("http", host, "", "")
            assert "\\" not in location
            assert site.get(location, host=host).status == 200
