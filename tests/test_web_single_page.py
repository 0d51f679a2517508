"""Single-page applications: which addresses without a file are answered with the application's page."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.site_client import SiteClient
from tests.web_world import Answer
from twistedipc.builds.site.rules import Serving
from twistedipc.publish.site.pages import is_page_address
from twistedipc.publish.targets.static.release import Index, Release

PAGE = b"<!doctype html><div id=root></div>"
VITE = {
    "index.html": PAGE,
    "favicon.svg": b"<svg/>",
    "about.html": b"about",
    "blog/index.html": b"blog",
    "assets/index-BvJ3kT9a.js": b"js",
    "assets/index-Cq8LwZx2.css": b"css",
    "static/js/main.4f2a9c1b.js": b"js",
    "photos/cat-BvJ3kT9a.png": b"cat",
    "photos/all.html": b"photos",
}


class SinglePageSite(SiteClient):
    """A site whose releases are single-page applications, or aren't."""

    def release_as(self, number: int, files: dict[str, bytes], *, spa: bool) -> None:
        """Release these files."""
        self.release(number, files, serving=Serving(spa=spa))


@pytest.fixture
def site(tmp_path: Path) -> SinglePageSite:
    client = SinglePageSite(tmp_path / "releases")
    client.release_as(1, VITE, spa=True)
    return client


def is_page(answer: Answer) -> bool:
    return (answer.status, answer.body) == (200, PAGE)


@pytest.mark.parametrize(
    "path",
    [
        "/users/42",
        "/users/42/",
        "/users?tab=2",
        "/docs/v1.2",
        "/docs/1.0.0",
        "/missing.html",
        "/MISSING.HTML",
        "/a.b/c",
        "/caf%C3%A9/x",
        "/with%20blank.and%20more",
        "/assets",
        "/photos/of-the-day",  # beside a hashed file, but a page is there too
    ],
)
def test_deep_links(site: SinglePageSite, path: str) -> None:
    for prefix, host in (("", "shop.localhost"), ("/shop", "127.0.0.2")):
        assert is_page(site.get(prefix + path, host=host))
        head = site.get(prefix + path, host=host, method="HEAD")
        assert (head.status, head.headers["Content-Length"]) == (200, str(len(PAGE)))


@pytest.mark.parametrize(
    "path",
    [
        "/logo.png",
        "/assets/index-Dq8LwZx2.js",
        "/assets/chunk",
        "/assets/deep/er/chunk",
        "/static/js/chunk",
        "/users/logo.png",
        "/users/logo.png/",
        "/app.js.map",
        "/x.7z",
        "/x.mp3",
        "/x.htm",
        "/robots.txt",
        "/_next/static/abc/chunk",
        "/_astro/x",
        "/.well-known/apple-app-site-association",
        "/.well-known",
        "/.env",
        "/.serving.json",
        "/..%2fx",
    ],
)
def test_assets_stay_missing(site: SinglePageSite, path: str) -> None:
    for method in ("GET", "HEAD"):
        assert site.get(path, method=method).status == 404


def test_a_page_of_its_own_comes_first(site: SinglePageSite) -> None:
    assert site.get("/about").body == b"about"
    assert site.get("/blog/").body == b"blog"
    assert site.get("/blog").status == 302
    assert site.get("/favicon.svg").body == b"<svg/>"


def test_it_is_the_page_that_the_top_has(site: SinglePageSite) -> None:
    """The same validator and the same caching, conditions and ranges as at the top."""
    deep, top = site.get("/users/42"), site.get("/")
    for name in ("ETag", "Cache-Control", "Content-Type"):
        assert deep.headers[name] == top.headers[name]
    assert deep.headers["Cache-Control"] == "no-cache"
    assert deep.headers["Content-Type"] == "text/html; charset=utf-8"
    assert site.get("/users/42", ("If-None-Match", deep.headers["ETag"])).status == 304
    assert site.get("/users/42", ("If-Match", '"other"')).status == 412
    part = site.get("/users/42", ("Range", "bytes=0-8"))
    assert (part.status, part.body) == (206, PAGE[:9])
    assert site.get("/users/42", method="POST").status == 405


def test_a_page_for_all_addresses_goes_before_the_index(tmp_path: Path) -> None:
    site = SinglePageSite(tmp_path / "releases")
    site.release_as(1, {"index.html": b"top", "200.html": b"app", "404.html": b"none"}, spa=True)
    assert site.get("/users/42").body == b"app"
    assert site.get("/").body == b"top"
    missing = site.get("/x.js")
    assert (missing.status, missing.body) == (404, b"none")


def test_without_any_page_it_is_missing(tmp_path: Path) -> None:
    site = SinglePageSite(tmp_path / "releases")
    site.release_as(1, {"main.js": b"x"}, spa=True)
    assert site.get("/users/42").status == 404


def test_a_rollback_brings_it_back(site: SinglePageSite) -> None:
    site.release_as(2, {"index.html": b"plain"}, spa=False)
    assert site.get("/users/42").status == 404
    site.store.activate("shop", 1)
    assert is_page(site.get("/users/42"))


def test_a_release_of_a_version_that_said_nothing(tmp_path: Path) -> None:
    site = SiteClient(tmp_path / "releases")
    site.release(1, VITE)
    assert site.get("/users/42").status == 404


def test_an_open_page_s_old_assets_come_before_it(site: SinglePageSite) -> None:
    site.release_as(2, {"index.html": PAGE, "assets/index-Dq8LwZx2.js": b"new"}, spa=True)
    assert site.get("/assets/index-BvJ3kT9a.js").body == b"js"


@given(st.lists(st.text("abz09.-_~", min_size=1, max_size=12), min_size=1, max_size=5), st.booleans())
def test_an_asset_is_never_a_page(names: list[str], slash: bool) -> None:
    """Whatever comes before it, and with or without a slash at the end."""
    nowhere = Release(1, Index(files={}))
    for extension in ("js", "css", "png", "json", "map", "woff2", "webmanifest"):
        asset = [*names, f"x.{extension}", *([""] if slash else [])]
        assert not is_page_address(nowhere, asset)
    if "." not in names[-1]:
        assert is_page_address(nowhere, [*names, *([""] if slash else [])])
