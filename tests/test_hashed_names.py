"""Which names have a hash in them: bundlers' own, and what people write that looks like it."""

from __future__ import annotations

import random
import string

import pytest

from twistedipc.publish.targets.static.hashed_names import (
    Form,
    could_be_hashed,
    forms_among,
    is_hashed,
    likely_forms_among,
    may_be_chunk,
    may_be_hashed,
)

#: As Vite, Rollup, webpack, esbuild, Angular, Next.js, Nuxt, Astro, SvelteKit, VitePress, Parcel and others write them.
HASHED = [
    "assets/index-BvJ3kT9a.js",
    "main.4f2a9c1b.css",
    "main.4f2a9c1b.js",
    "chunk.abcdef0123456789.css",
    "chunk-4f2a9c1b.js.map",
    "index-B_-J3kT9.js",
    "chunk-7QVYU63E.js",
    "main-3XKPLJ2V.js",
    "main-ABCDEFGH.js",
    "chunk-ABCDEFGH.js",
    "_next/static/chunks/main-4f2a9c1b01234567.js",
    "_next/static/media/c9a5bc6a7c948fb0-s.p.woff2",
    "_next/static/media/logo.4f2a9c1b.png",
    "_nuxt/BvJ3kT9a.js",
    "_nuxt/entry.BvJ3kT9a.css",
    "_astro/hoisted.BvJ3kT9a.js",
    "_astro/img.BvJ3kT9a_Z1a2b3c.webp",
    "_app/immutable/chunks/BvJ3kT9a.js",
    "_app/immutable/entry/start.BvJ3kT9a.js",
    "_app/immutable/nodes/0.DkWvOqZx.js",
    "assets/about.md.BvJ3kT9a.lean.js",
    "static/js/2.4f2a9c1b.chunk.js",
    "static/js/main.4f2a9c1b.js",
    "857.0123abcd.iframe.bundle.js",
    "app-4f2a9c1b01234567_bg.wasm",
    "index-legacy-BvJ3kT9a.js",
    "4f2a9c1b0123456789ab.png",
    "component---src-pages-index-js-4f2a9c1b0123456789ab.js",
    "index.4f2a9c1b.js",
    "chunk-vxg8m3a2.js",
    "fonts/inter-latin-wght-normal-Dx4kXJAl.woff2",
    "app.4f2a9c1b.css",
    "locales/en.4f2a9c1b.json",
    "assets/index-DkWvOqZx.js",
    "umi/p__index.4f2a9c1b.async.js",
    "build/p-4f2a9c1b.entry.js",
    "build/p-5b1d8b6a.system.js",
    "_framework/dotnet.runtime.b4oxdbkzh0.js",
    "style.min.4f2a9c1b4f2a9c1b4f2a9c1b4f2a9c1b4f2a9c1b4f2a9c1b4f2a9c1b4f2a9c1b.css",
]

#: Words, dates, sizes, versions, ids, numbers of photos and telephones; and documents, whatever their names.
NOT_HASHED = [
    "index.html",
    "release-notes-2024.html",
    "my-service-worker-v2.js",
    "apple-touch-icon-180x180.png",
    "report-20241128.pdf",
    "team-photo-March2024.jpg",
    "sitemap-2024-11.xml",
    "user-guide-Version2.html",
    "main.4f2a9c1b.html",
    "page-BvJ3kT9a.html",
    "doc-BvJ3kT9a.pdf",
    "feed.4f2a9c1b.xml",
    "notes-BvJ3kT9a.txt",
    "data.csv",
    "data-4f2a9c1b.csv",
    "reset-password.js",
    "background-portrait.jpg",
    "jquery-3.7.1.min.js",
    "bootstrap-5.3.3.bundle.js",
    "a-deadbeef.js",
    "my-facade.js",
    "v20241128.js",
    "app.v20241128.js",
    "bg-1920x1080.jpg",
    "IMG_20240101.jpg",
    "img-IMG_20240101.jpg",
    "en-US.json",
    "lang.en-US.js",
    "tel-4915112345678.png",
    "+49-30-1234567.png",
    "avatar-550e8400-e29b-41d4-a716-446655440000.png",
    "avatar-550e8400e29b41d4a716446655440000.png",
    "icon-DOWNLOAD.svg",
    "photo-PORTRAIT.jpg",
    "my-LoginForm.js",
    "page-UserCard.js",
    "page-MyNewApp.js",
    "logo-GitHubCI.png",
    "icon-ReactDOM.svg",
    "x-HTMLPage.js",
    "photo-Portrait.jpg",
    "clip-1080p60fps.mp4",
    "IMGP1234.jpg",
    "foo-IMGP1234.jpg",
    "foo-MVIMG2024.jpg",
    "trip-20240101T120000.jpg",
    "trip-2024-01-01.jpg",
    "trip-20240101.jpg",
    "main.20241128.js",
    "main.20241128153000.js",
    "main.1700000000.js",
    "main.12345678.js",
    "12345678.png",
    "BvJ3kT9a.js",
    "thumb-dQw4w9WgXcQ.jpg",
    "photo-507f1f77bcf86cd799439011.jpg",
    "internationalization.js",
    "app-internationalization.js",
    "icons-material.js",
    "vendor-react-18.3.1.js",
    "bundle.min.js",
    "bundle.module.js",
    "main.bundle.js",
    "lib-es2015module.js",
    "win-win32x64.js",
    "ep-S01E02HD.mp4",
    "fy-Q3FY2024.png",
    "x-2024KW48.png",
    "x-v2024rc1.js",
    "background-3840x2160.jpg",
    "logo@2x.png",
    "two-2024.js",
    "favicon-32x32.png",
    "android-chrome-512x512.png",
    "screenshot-iPhone15.png",
    "my-iPhone14Pro.png",
    "console-XboxOneX.jpg",
    "controller-PS5ProXL.png",
    "card-RTX4090S.jpg",
    "card-GTX1080T.jpg",
    "phones-WH1000XM4B.jpg",
    "book-B07FZ8S7XK.jpg",
    "part-AB12CD34.png",
    "seat-LH4711XY.svg",
    "lib-ipv6addr.js",
    "lib-html5shv.js",
    "api-w3c2html.js",
    "lib-Html5Doc.js",
    "lib-XmlHttpReq.js",
    "lib-HTTP2Srv.js",
    "openapi-v1alpha1.json",
    "openapi.v1beta3x.json",
    "build-1rc2post.js",
    "shot-12h30m00.png",
]


@pytest.mark.parametrize("path", HASHED)
def test_bundlers_names(path: str) -> None:
    assert is_hashed(path)
    assert may_be_hashed(path, frozenset())
    assert could_be_hashed(path)


@pytest.mark.parametrize("path", NOT_HASHED)
def test_what_only_looks_hashed(path: str) -> None:
    """`my-service-worker-v2.js`, `report-20241128.pdf`, `apple-touch-icon-180x180.png`: each was kept for a year."""
    assert not is_hashed(path)
    assert not may_be_hashed(path, frozenset())


_DOCUMENTS = "html htm xhtml pdf txt md xml rss atom csv docx xlsx zip tar gz ics yaml".split()


@pytest.mark.parametrize("extension", _DOCUMENTS)
def test_documents_are_never_hashed(extension: str) -> None:
    path = f"_app/immutable/assets/a.BvJ3kT9a.{extension}"
    assert not could_be_hashed(path)
    assert not is_hashed(path, frozenset({Form(".", 8)}))


@pytest.mark.parametrize(
    ("alphabet", "alone", "among_others", "in_doubt"),
    [
        (string.ascii_letters + string.digits + "-_", 0.82, 0.92, 0.98),
        (string.ascii_uppercase + "234567", 0.93, 0.96, 0.98),
        (string.digits + "abcdef", 0.90, 0.92, 0.98),
    ],
    ids=["rollup", "esbuild", "webpack"],
)
def test_most_hashes_are_believed(alphabet: str, alone: float, among_others: float, in_doubt: float) -> None:
    """An asset that isn't believed is asked for again each time; a chunk that is gone breaks an open page."""
    chance = random.Random(1)
    paths = ["assets/index-" + "".join(chance.choices(alphabet, k=8)) + ".js" for _ in range(1000)]
    forms = forms_among(paths)
    assert forms >= {Form("-", 8)}
    assert sum(map(is_hashed, paths)) >= 1000 * alone
    assert sum(is_hashed(path, forms) for path in paths) >= 1000 * among_others
    assert sum(may_be_hashed(path, forms) for path in paths) >= 1000 * in_doubt


@pytest.mark.parametrize(("count", "there"), [(1, 0.99), (2, 0.999), (5, 1)])
def test_chunks_are_there_for_pages_that_are_open(count: int, there: float) -> None:
    """Rollup's hashes have any letters, and a chunk that is gone breaks an open page."""
    chance = random.Random(1)
    names = "".join(chance.choices(string.ascii_letters + string.digits + "-_", k=8 * count * 1000))
    found = 0
    for start in range(0, len(names), 8 * count):
        paths = [f"assets/index-{names[at : at + 8]}.js" for at in range(start, start + 8 * count, 8)]
        likely = likely_forms_among(paths)
        found += sum(may_be_chunk(path, likely) for path in paths)
    assert found >= there * count * 1000


@pytest.mark.parametrize("path", ["a/team-portrait.jpg", "a/prices-february.json", "a/index-settings.html", "a/p.js"])
def test_what_can_be_withdrawn_is_no_chunk(path: str) -> None:
    assert not may_be_chunk(path, frozenset({Form("-", 8)}))


def test_words_are_no_hashes_among_others_either() -> None:
    forms = frozenset({Form("-", 8), Form("-", 12)})
    words = "portrait password download Portrait Password LoginForm deadbeef 20241128 Version2 UserCard".split()
    assert [word for word in words if is_hashed(f"assets/team-{word}.jpg", forms)] == []


def test_the_example_of_the_docs() -> None:
    assert not is_hashed("assets/index-DiwrgTda.js")
    assert is_hashed("assets/index-DiwrgTda.js", frozenset({Form("-", 8)}))


def test_forms_are_of_at_least_two_names() -> None:
    assert forms_among(["a-BvJ3kT9a.js", "b.js", "c.4f2a9c1b.css"]) == frozenset()
    assert forms_among(["a-BvJ3kT9a.js", "b-4f2a9c1b.css"]) == {Form("-", 8)}


def test_whole_names_in_bundlers_folders_only() -> None:
    assert not could_be_hashed("chunks/BvJ3kT9a.js")
    assert is_hashed("base/_nuxt/BvJ3kT9a.js")
    assert not is_hashed("_nuxt/builds/latest.json")
    assert not is_hashed("_app/version.json")
    assert not is_hashed("_app/immutable/start.js")
    assert not is_hashed("_next/static/media/logo.png")
