"""The releases' site answers by the rules of the site: redirects, headers, encodings."""

from __future__ import annotations

import gzip
from pathlib import Path

import brotli
import pytest

from tests.site_client import SiteClient
from twistedipc.builds.site.headers import read_headers
from twistedipc.builds.site.redirects import read_redirects
from twistedipc.builds.site.rules import HeaderRule, Serving
from twistedipc.web.http.encodings import encoding_for

SCRIPT = b"console.log(1);\n" * 100
PACKED = gzip.compress(SCRIPT, mtime=0)
BEST = brotli.compress(SCRIPT, quality=1)
FILES = {
    "index.html": b"home",
    "404.html": b"top",
    "docs/404.html": b"docs",
    "docs/index.html": b"index of docs",
    "app.js": SCRIPT,
    "app.js.gz": PACKED,
    "app.js.br": BEST,
    "other.js": SCRIPT + b"// other",
    "other.js.gz": PACKED,
    "other.js.br": b"not really brotli",
    "logo.png": b"png",
    "logo.png.gz": b"never used",
    "apple-app-site-association": b"{}",
    "_redirects": b"secret",
}
REDIRECTS = """
/old/*    /docs/:splat
/gone     410
/away     https://example.org/there?x=1  307
/in-place /docs/ 200
/docs/*   /404.html 404
https://shop.localhost/* http://shop.localhost/:splat 301!
"""
HEADERS = """
/*
  X-A: 1
  X-Robots-Tag: noindex
  Service-Worker-Allowed: /
/app.js
  Cache-Control: public, max-age=60, s-maxage=600
  ! X-Frame-Options
/apple-app-site-association
  Content-Type: application/json
"""


@pytest.fixture
def site(tmp_path: Path) -> SiteClient:
    client = SiteClient(tmp_path / "releases")
    rules = Serving(redirects=read_redirects(REDIRECTS.encode()), headers=read_headers(HEADERS.encode()))
    client.release(1, FILES, serving=rules)
    client.compress()
    return client


BOTH = [("", "shop.localhost"), ("/shop", "127.0.0.2")]


@pytest.mark.parametrize(("prefix", "host"), BOTH)
def test_redirects(site: SiteClient, prefix: str, host: str) -> None:
    """A path of the site keeps the project before it, where that is in the path."""
    answer = site.get(f"{prefix}/old/a%20b/c?d=e", host=host)
    assert (answer.status, answer.headers["Location"]) == (301, f"{prefix}/docs/a%20b/c?d=e")
    assert answer.headers["Cache-Control"] == "no-cache"
    answer = site.get(f"{prefix}/away?y", host=host)
    assert (answer.status, answer.headers["Location"]) == (307, "https://example.org/there?x=1")


@pytest.mark.parametrize(("prefix", "host"), BOTH)
def test_files_in_place_of_others(site: SiteClient, prefix: str, host: str) -> None:
    for path, status, body in [
        ("/in-place", 200, b"index of docs"),
        ("/docs/none", 404, b"top"),
        ("/docs/", 200, b"index of docs"),
        ("/gone", 410, b"top"),
        ("/none", 404, b"top"),
        ("/_redirects", 404, b"top"),
    ]:
        answer = site.get(prefix + path, host=host)
        assert (answer.status, answer.body) == (status, body), path
        assert site.get(prefix + path, host=host, method="HEAD").headers["Content-Length"] == str(len(body))


def test_headers(site: SiteClient) -> None:
    answer = site.get("/")
    assert [answer.headers[name] for name in ("X-A", "X-Frame-Options", "Service-Worker-Allowed")] == [
        "1",
        "SAMEORIGIN",
        "/",
    ]
    script = site.get("/app.js")
    assert script.headers["X-Frame-Options"] is None
    assert script.headers["Cache-Control"] == "public, max-age=60, s-maxage=600"
    assert script.headers["X-Content-Type-Options"] == "nosniff"
    assert site.get("/apple-app-site-association").headers["Content-Type"] == "application/json"
    assert site.get("/none").headers["X-A"] == "1"
    shared = site.get("/shop/", host="127.0.0.2")
    assert (shared.headers["X-A"], shared.headers["Service-Worker-Allowed"]) == ("1", None)


def test_a_release_from_before_commands_no_proxy(tmp_path: Path) -> None:
    client = SiteClient(tmp_path / "releases")
    values = [("X-Accel-Redirect", "/internal/secret"), ("X-SENDFILE", "/etc/passwd"), ("X-A", "1")]
    client.release(1, FILES, serving=Serving(headers=[HeaderRule(source="/*", values=values)]))
    for path in ("/", "/app.js", "/none"):
        answer = client.get(path)
        assert [answer.headers[name] for name in ("X-Accel-Redirect", "X-Sendfile", "X-A")] == [None, None, "1"]


def test_what_the_build_has_compressed_is_sent(site: SiteClient) -> None:
    plain = site.get("/app.js")
    packed = site.get("/app.js", ("Accept-Encoding", "gzip"))
    best = site.get("/app.js", ("Accept-Encoding", "gzip, deflate, br"))
    assert (plain.body, packed.body, best.body) == (SCRIPT, PACKED, BEST)
    assert [each.headers["Content-Encoding"] for each in (plain, packed, best)] == [None, "gzip", "br"]
    assert len({each.headers["ETag"] for each in (plain, packed, best)}) == 3
    for each in (plain, packed, best):
        assert each.headers["Vary"] == "Accept-Encoding"
        assert each.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert site.get("/logo.png", ("Accept-Encoding", "gzip")).body == b"png"
    assert site.get("/", ("Accept-Encoding", "gzip")).headers["Vary"] is None


def test_what_the_build_has_compressed_is_not_sent_before_it_is_known_to_be_the_same(tmp_path: Path) -> None:
    client = SiteClient(tmp_path / "releases")
    client.release(1, FILES)
    for path in ("/app.js", "/other.js"):
        for encoding in ("gzip", "br"):
            assert client.get(path, ("Accept-Encoding", encoding)).headers["Content-Encoding"] is None
    client.compress()
    assert client.get("/app.js", ("Accept-Encoding", "br")).body == BEST
    best = client.get("/other.js", ("Accept-Encoding", "br"))
    assert brotli.decompress(best.body) == FILES["other.js"]
    packed = client.get("/other.js", ("Accept-Encoding", "gzip"))
    assert gzip.decompress(packed.body) == FILES["other.js"]


def test_conditions_and_ranges_are_about_what_is_sent(site: SiteClient) -> None:
    accepted = ("Accept-Encoding", "gzip")
    etag = site.get("/app.js", accepted).headers["ETag"]
    assert etag is not None
    for method in ("GET", "HEAD"):
        unchanged = site.get("/app.js", accepted, ("If-None-Match", etag), method=method)
        assert (unchanged.status, unchanged.headers["Vary"]) == (304, "Accept-Encoding")
    assert site.get("/app.js", ("If-None-Match", etag)).status == 200
    assert site.get("/app.js", ("If-Match", etag)).status == 412
    part = site.get("/app.js", accepted, ("Range", "bytes=2-5"))
    assert (part.status, part.body, part.headers["Content-Encoding"]) == (206, PACKED[2:6], "gzip")
    assert part.headers["Content-Range"] == f"bytes 2-5/{len(PACKED)}"
    assert site.get("/app.js", ("Range", "bytes=2-5"), ("If-Range", etag)).body == SCRIPT
    head = site.get("/app.js", accepted, method="HEAD")
    assert (head.headers["Content-Length"], head.headers["Content-Encoding"]) == (str(len(PACKED)), "gzip")


def test_a_client_that_takes_nothing_that_there_is(site: SiteClient) -> None:
    refused = site.get("/", ("Accept-Encoding", "identity;q=0"))
    assert (refused.status, b"in an encoding that the request takes" in refused.body) == (406, True)
    assert site.get("/app.js", ("Accept-Encoding", "identity;q=0, gzip")).body == PACKED


@pytest.mark.parametrize(
    ("field", "there", "encoding"),
    [
        (None, {"br", "gzip"}, ""),
        ("", {"br", "gzip"}, ""),
        ("gzip, deflate, br, zstd", {"br", "gzip"}, "br"),
        ("gzip, deflate, br, zstd", {"gzip"}, "gzip"),
        ("gzip, deflate, br, zstd", set(), ""),
        ("gzip;q=1, br;q=0.5", {"br", "gzip"}, "gzip"),
        ("br;q=0, gzip", {"br"}, ""),
        ("br;q=0, *", {"br", "gzip"}, "gzip"),
        ("*", {"br", "gzip"}, "br"),
        ("*;q=0", {"br", "gzip"}, None),
        ("*;q=0, identity", {"br"}, ""),
        ("identity;q=0, *", {"gzip"}, "gzip"),
        ("identity;q=1, *;q=0", {"br"}, ""),
        ("identity;q=0", {"br"}, None),
        ("identity, gzip;q=0.5", {"gzip"}, ""),
        ("X-GZIP;Q=0.8", {"gzip"}, "gzip"),
        ("gzip ; q=0.001", {"gzip"}, "gzip"),
        ("nonsense;;,;q=, gzip;q=2, \x00", {"gzip"}, ""),
        ("gzip," * 100_000, {"gzip"}, "gzip"),
    ],
)
def test_encodings_by_quality(field: str | None, there: set[str], encoding: str | None) -> None:
    assert encoding_for(field, there) == encoding
