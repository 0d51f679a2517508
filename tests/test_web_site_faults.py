"""The releases' site when something of its own is broken: each request gets one plain answer, and the log a line."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import brotli
import pytest
from sqlalchemy import text
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

from tests.instant import InstantLedger
from tests.site_client import SiteClient
from tests.web_world import Answer
from twistedipc.web.access.audience import Audience

SCRIPT = b"open()" * 1000
#: What the build has compressed itself.
PACKED, BEST = gzip.compress(SCRIPT), brotli.compress(SCRIPT, quality=1)


@pytest.fixture
def said() -> Iterator[list[tuple[LogLevel, str]]]:
    """What the log says of errors."""
    lines: list[tuple[LogLevel, str]] = []

    @implementer(ILogObserver)
    def note(event: LogEvent) -> None:
        if event["log_level"] >= LogLevel.error:
            lines.append((event["log_level"], formatEvent(event)))

    globalLogPublisher.addObserver(note)
    yield lines
    globalLogPublisher.removeObserver(note)


@pytest.fixture
def ledger() -> InstantLedger:
    ledger = InstantLedger()
    ledger.project("shop")
    return ledger


@pytest.fixture
def site(tmp_path: Path, ledger: InstantLedger) -> SiteClient:
    site = SiteClient(tmp_path / "releases", Audience(ledger.as_ledger(), lambda: 0))
    site.release(1, {"index.html": b"<h1>shop</h1>", "app.js": SCRIPT, "app.js.gz": PACKED, "app.js.br": BEST})
    return site


def incident(answer: Answer) -> str:
    """The name of the incident that an answer tells."""
    found = re.fullmatch(r"This went wrong here, not with you \(incident ([0-9a-f]{16})\)\.\n", answer.body.decode())
    assert found is not None, answer.raw
    assert (answer.status, answer.headers["Cache-Control"], answer.headers["ETag"]) == (500, "no-cache", None)
    return found[1]


@pytest.mark.parametrize("name", ["shop", "fix--shop", "other"])
def test_a_ledger_that_can_t_be_asked(
    site: SiteClient, ledger: InstantLedger, said: list[tuple[LogLevel, str]], name: str
) -> None:
    ledger.available = False
    answer = site.get("/", host=f"{name}.localhost")
    assert (answer.status, answer.body) == (503, b"This can't be read now.\n")
    assert said == [(LogLevel.error, f"what {name} is can't be looked up: the database is locked")]
    ledger.available = True
    assert site.get("/").status == 200


def test_a_ledger_that_is_not_what_it_should_be(
    site: SiteClient, ledger: InstantLedger, said: list[tuple[LogLevel, str]]
) -> None:
    """A query that fails for another reason was never answered: its client waited until it gave up."""
    with ledger.engine.begin() as connection:
        connection.execute(text("ALTER TABLE projects RENAME TO gone"))
    number = incident(site.get("/app.js"))
    assert said == [(LogLevel.critical, f"request {number} for a release failed: shop.localhost /app.js")]
    assert site.get("/", method="HEAD").body == b""
    with ledger.engine.begin() as connection:
        connection.execute(text("ALTER TABLE gone RENAME TO projects"))
    assert site.get("/").status == 200


@pytest.mark.parametrize("known", [False, True], ids=["looked up", "known"])
def test_a_mistake_of_ours(
    site: SiteClient, said: list[tuple[LogLevel, str]], monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    if known:
        assert site.get("/").status == 200

    def broken(project: str) -> None:
        raise LookupError(project)

    monkeypatch.setattr(site.store, "live", broken)
    number = incident(site.get("/"))
    assert said == [(LogLevel.critical, f"request {number} for a release failed: shop.localhost /")]


def test_the_answer_to_a_file_that_can_t_be_opened_is_not_said_to_be_compressed(
    site: SiteClient, said: list[tuple[LogLevel, str]]
) -> None:
    site.compress()
    wanted = (("Accept-Encoding", "gzip"), ("Range", "bytes=0-1"))
    good = site.get("/app.js", *wanted)
    assert (good.status, good.headers["Content-Encoding"], good.body) == (206, "gzip", PACKED[:2])
    live = site.store.live("shop")
    assert live is not None
    site.store.file("shop", live.files["app.js.gz"].sha256).unlink()
    answer = site.get("/app.js", *wanted)
    assert (answer.status, answer.body) == (503, b"This can't be read now.\n")
    assert not {"content-encoding", "content-range", "etag", "accept-ranges"} & {
        name.lower()
        for name in answer.headers.keys()  # noqa: SIM118  (of a message: there may be two of one)
    }
    assert len(said) == 1
