"""Answers of the releases' site that were given before: the same as those that are made, and never for longer."""

from __future__ import annotations

import gc
import shutil
import sys
from collections import OrderedDict
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from weakref import ref

import pytest

from tests.site_client import SiteClient
from twistedipc.publish.targets.static import releases
from twistedipc.publish.targets.static.history import History
from twistedipc.publish.targets.static.release import Release
from twistedipc.publish.targets.static.target import StaticSettings
from twistedipc.storage.rows import DomainRow
from twistedipc.web.access.audience import Audience, Sought
from twistedipc.web.access.domains import Domains
from twistedipc.web.http.hosts import Hosts
from twistedipc.web.releases import ready
from twistedipc.web.releases.ready import ReadyAnswers
from twistedipc.web.releases.site import Releases

HOME = b'<!doctype html><script src="/app.js"></script><p>' + b"home " * 200

#: Beside nothing, what a request can say.
SAID = [
    (),
    (("Accept-Encoding", "gzip"),),
    (("Accept-Encoding", "br"),),
    (("Accept-Encoding", "identity;q=0, zstd"),),
    (("If-None-Match", "*"),),
    (("If-Match", '"another"'),),
    (("Range", "bytes=0-1"),),
    (("Referer", "http://shop.localhost/~r1~/style.css"),),
    (("Referer", "http://shop.localhost/"),),
    (("Sec-Fetch-Dest", "script"), ("Cookie", "twistedipc_release=1")),
    (("Sec-Fetch-Dest", "script"), ("Cookie", "twistedipc_release=2")),
    (("Sec-Fetch-Dest", "document"), ("Cookie", "a=b")),
    (("Service-Worker", "script"), ("Referer", "http://shop.localhost/~r1~/style.css")),
]

PATHS = [
    *(
        "/",
        "/?x=1",
        "/app.js",
        "/~r1~/app.js",
        "/~r2~/app.js",
        "/assets/index-BvJ3kT9a.js",
        "/assets/index-4f2a9c1b.js",
    ),
    *("/nothing", "/docs", "/docs/", "/%2e%2e/x", "/empty.txt"),
]


def files(text: str, **more: bytes) -> dict[str, bytes]:
    return {
        "index.html": HOME + text.encode(),
        "app.js": b"app of " + text.encode() * 500,
        "docs/index.html": b"docs",
        "empty.txt": b"",
        **more,
    }


def questions() -> Iterator[tuple[str, tuple[tuple[str, str], ...], str, str]]:
    yield from product(PATHS, SAID, ("GET", "HEAD"), ("shop.localhost", "other.localhost"))
    yield "/", (), "POST", "shop.localhost"


def seen(client: SiteClient) -> list[tuple[int, dict[str, str], bytes]]:
    """All answers, without what is each one's own."""
    found = []
    for path, said, method, host in questions():
        answer = client.get(path, *said, method=method, host=host)
        headers = {name: value for name, value in answer.headers.items() if name not in ("Date", "X-Request-Id")}
        found.append((answer.status, headers, answer.body))
    return found


@pytest.fixture
def client(tmp_path: Path) -> SiteClient:
    client = SiteClient(tmp_path)
    client.release(1, files("one", **{"assets/index-BvJ3kT9a.js": b"first", "assets/index-Cx81Kq_z.js": b"x"}))
    client.release(1, files("other"), project="other")
    return client


def test_an_answer_that_is_ready_is_the_one_that_would_be_made(client: SiteClient, tmp_path: Path) -> None:
    """After each change of what is there, also once what was live before is live again."""

    def same() -> None:
        fresh = seen(SiteClient(tmp_path))
        assert seen(client) == fresh
        assert seen(client) == fresh, "the second time it is ready"

    same()
    client.release(2, files("two", **{"assets/index-4f2a9c1b.js": b"second"}))
    same()
    compressed = client.store.compress("shop", 2, 1 << 20)
    assert compressed is not None
    client.store.take_compressed("shop", compressed)
    same()
    client.store.activate("shop", 1)
    same()


def test_nothing_is_read_again(client: SiteClient, tmp_path: Path) -> None:
    first = client.get("/app.js")
    for path in (tmp_path / "shop/pool").glob("*/*"):
        path.unlink()
    again = client.get("/app.js")
    assert (again.status, again.body, again.headers["ETag"]) == (200, first.body, first.headers["ETag"])
    assert again.headers["X-Request-Id"] != first.headers["X-Request-Id"]
    assert client.get("/app.js", ("Accept-Encoding", "gzip")).status == 503, "it wasn't asked for before"
    client.clock.advance(ready.SECONDS)
    assert client.get("/app.js").status == 503, "what is served of earlier releases ends with time"


def without_files(client: SiteClient, tmp_path: Path, *paths: str) -> list[bool]:
    """Remove the project's files. Return which of these paths are ready, and so answered nevertheless."""
    shutil.rmtree(tmp_path / "shop/pool")
    return [client.get(path).status == 200 for path in paths]


def size_of(client: SiteClient) -> int:
    """What is counted of the answers that are ready."""
    return answers_of(client).size


def answers_of(client: SiteClient) -> ReadyAnswers:
    root = client.site.resource
    assert isinstance(root, Releases)
    return root._ready


def taken(what: object, known: set[int]) -> int:
    """What Python takes for a value and all that it has, in bytes, but for releases and what is ``known``."""
    if id(what) in known or isinstance(what, type | Release | History):
        return 0
    known.add(id(what))
    # An entry of an OrderedDict has a link to the next one, which Python doesn't say.
    more = 64 * len(what) if isinstance(what, OrderedDict) else 0
    return sys.getsizeof(what) + more + sum(taken(each, known) for each in gc.get_referents(what))


def test_what_is_counted_is_what_is_taken(client: SiteClient) -> None:
    for number in range(200):
        client.get(f"/app.js?{number}")
        client.get(f"/app.js?{number}", ("Accept-Encoding", "gzip, deflate, br, zstd"))
    client.get("/")
    client.get("/")
    client.get("/", host="other.localhost")
    assert taken(answers_of(client), set()) <= size_of(client)


def test_what_is_in_memory_is_bounded(client: SiteClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "MAX_BYTES", 30_000)
    for _ in range(2):
        for number in range(20):
            client.get("/app.js", ("Accept-Encoding", f"x{number}"))
            assert size_of(client) <= 30_000
    client.get("/app.js")
    assert without_files(client, tmp_path, "/app.js") == [True], "it was asked for last"
    there = [number for number in range(20) if client.get("/app.js", ("Accept-Encoding", f"x{number}")).status == 200]
    assert there == list(range(there[0], 20)), "those that were asked for last"
    assert there[0] > 5


def test_what_is_asked_for_once_leaves_the_others(
    client: SiteClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready, "MAX_BYTES", 40_000)
    monkeypatch.setattr(ready, "MAX_PASSING", 20_000)
    for path in ("/docs/", "/app.js", "/docs/", "/app.js", "/~r1~/app.js"):
        client.get(path)
    for number in range(50):
        for _ in range(2):
            client.get(f"/app.js?{number}")
    there = without_files(client, tmp_path, "/docs/", "/app.js", "/~r1~/app.js", "/app.js?0", "/app.js?49")
    assert there == [True, True, False, False, True]


def test_a_large_answer_leaves_the_others(tmp_path: Path) -> None:
    client = SiteClient(tmp_path)
    page = HOME + b"x" * (ready.MAX_ANSWER - len(HOME) - 100)
    client.release(1, {**files("one"), "large.html": page})
    client.get("/app.js")
    size = size_of(client)
    for _ in range(2):
        assert len(client.get("/large.html").body) > len(page), "it has marks"
        assert size_of(client) == size
    assert without_files(client, tmp_path, "/app.js") == [True]


def test_what_is_old_leaves(client: SiteClient) -> None:
    client.get("/docs/")
    one = size_of(client)
    client.get("/app.js")
    client.get("/app.js?1")
    client.get("/", host="other.localhost")
    client.clock.advance(ready.SECONDS)
    client.get("/docs/")
    assert size_of(client) == one


def test_all_answers_of_a_project_leave_when_its_release_does(client: SiteClient) -> None:
    client.get("/nothing", host="other.localhost")
    client.get("/app.js", host="other.localhost")
    other = size_of(client)
    for path in ("/", "/", "/app.js", "/?1"):
        client.get(path)
    assert size_of(client) > other
    client.release(2, files("two"))
    client.get("/nothing")
    assert size_of(client) == other


def test_no_release_stays_in_memory_for_its_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "MAX_FILES_IN_MEMORY", 6)
    client = SiteClient(tmp_path)
    live: list[ref[Release]] = []
    for number in range(1, 6):
        client.release(number, files("one"), project=f"shop{number}")
        release = client.store.live(f"shop{number}")
        assert release is not None
        live.append(ref(release))
        del release
        assert client.get("/app.js", host=f"shop{number}.localhost").status == 200
    gc.collect()
    assert [each() is not None for each in live] == [False, False, False, False, True]


class _Told(Audience):
    """It is told what the project's settings say."""

    def __init__(self) -> None:
        self.settings = StaticSettings()

    def known(self, name: str) -> Sought:
        return Sought(name, self.settings)


def test_settings_hold_at_once(tmp_path: Path) -> None:
    told = _Told()
    client = SiteClient(tmp_path, told)
    client.release(1, files("one"))
    for _ in range(2):
        assert client.get("/app.js").headers["X-Robots-Tag"] is None
    told.settings = StaticSettings(headers=["X-Robots-Tag: noindex"])
    for _ in range(2):
        assert client.get("/app.js").headers["X-Robots-Tag"] == "noindex"
    told.settings = StaticSettings(access="team")
    for _ in range(2):
        assert client.get("/app.js").status == 403


class _Asked(Audience):
    """It has to be asked each time."""

    def __init__(self) -> None:
        pass

    def known(self, name: str) -> None:
        return None

    async def look_up(self, name: str) -> Sought:
        return Sought(name, StaticSettings())


def test_an_answer_that_is_ready_says_how_long_it_is(tmp_path: Path) -> None:
    """Also one that waited for the project's settings."""
    client = SiteClient(tmp_path, _Asked())
    client.release(1, files("one"))
    for path in ("/app.js", "/empty.txt"):
        for _ in range(2):
            answer = client.get(path)
            assert answer.headers["Transfer-Encoding"] is None
            assert answer.headers["Content-Length"] == str(len(answer.body))


def test_a_host_that_becomes_a_projects_has_no_answers_from_before(tmp_path: Path) -> None:
    """The same address is another file then."""
    domains = Domains(Hosts(), lambda project: [f"http://{project}.localhost/"])
    client = SiteClient(tmp_path, domains=domains)
    client.release(1, {"index.html": b"home", "shop/index.html": b"below"})
    assert [client.get("/shop/", host="127.0.0.2").body for _ in range(2)] == [b"home"] * 2
    domains.changed("shop", [DomainRow(name="127.0.0.2", project="shop", redirect=False, main=True, created=0)])
    assert [client.get("/shop/", host="127.0.0.2").body for _ in range(2)] == [b"below"] * 2
