"""A file as a response: conditions, ranges, and a body that is cut off, stalls, or can't be read."""

from __future__ import annotations

import email
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from tests.site_client import SiteClient, Transport, file_of
from twistedipc.web.http.channel import Channel
from twistedipc.web.http.file_body import BLOCK
from twistedipc.web.http.ranges import MAX_RANGES, satisfiable_ranges
from twistedipc.web.http.stall import STALL_LOOKS, STALL_SECONDS

TEN = b"0123456789"


@pytest.fixture
def site(tmp_path: Path) -> SiteClient:
    client = SiteClient(tmp_path / "releases")
    client.release(
        1, {"index.html": b"hi", "ten.txt": TEN, "empty.js": b"", "404.html": b"gone", "big.bin": os.urandom(1_000_000)}
    )
    return client


# -- ranges ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("bytes=2-4", [(2, 5)]),
        ("bytes=0-0", [(0, 1)]),
        ("bytes=5-999", [(5, 10)]),
        ("bytes=5-", [(5, 10)]),
        ("bytes=-3", [(7, 10)]),
        ("bytes=-10", [(0, 10)]),
        ("bytes=-99", [(0, 10)]),
        ("bytes=-99999999999999999999999999", [(0, 10)]),
        ("bytes=0-99999999999999999999999999", [(0, 10)]),
        ("Bytes=0-1", [(0, 2)]),
        ("BYTES=0-1", [(0, 2)]),
        ("bytes=00-01", [(0, 2)]),
        # several
        ("bytes=0-1,8-9", [(0, 2), (8, 10)]),
        ("bytes=0-1, 8-9", [(0, 2), (8, 10)]),
        ("bytes=0-1\t,\t8-9", [(0, 2), (8, 10)]),
        ("bytes=,0-1,,8-9,", [(0, 2), (8, 10)]),  # a list may have empty elements (RFC 9110, 5.6.1.2)
        ("bytes=8-9,0-1", [(8, 10), (0, 2)]),
        ("bytes=-1,0-0", [(9, 10), (0, 1)]),
        ("bytes=0-1,80-90", [(0, 2)]),
        ("bytes=80-90,-2", [(8, 10)]),
        ("bytes=0-1,-0", [(0, 2)]),
        ("bytes=0-1,-99", [(0, 10)]),
        ("bytes=0-5,3-7", [(0, 8)]),
        ("bytes=0-3,4-7", [(0, 8)]),
        ("bytes=0-1,8-9,1-8", [(0, 10)]),
        ("bytes=8-9,3-4,0-1,4-5", [(8, 10), (3, 6), (0, 2)]),
        ("bytes=" + ",".join(["0-"] * MAX_RANGES), [(0, 10)]),
        # nothing that can be satisfied
        ("bytes=10-", []),
        ("bytes=10-20,30-", []),
        ("bytes=-0", []),
        ("bytes=-000", []),
        # to be ignored
        ("bytes=5-2", None),
        ("bytes=0-1,5-2", None),
        ("bytes=a-b", None),
        ("bytes=", None),
        ("bytes=,", None),
        ("bytes", None),
        ("bytes=-", None),
        ("bytes=--1", None),
        ("bytes=1", None),
        ("bytes=+1-2", None),
        ("bytes=0x1-2", None),
        ("bytes=1-2-3", None),
        ("bytes=0 - 1", None),
        ("bytes =0-1", None),
        ("bytes=0-1;q=1", None),
        ("bytes=1_0-2_0", None),
        ("bytes=\xb2-5", None),
        ("bytes:0-1", None),
        ("items=0-1", None),
        ("items=-0", None),
        ("bytes=0-1=2", None),
        ("bytes=" + ",".join(["0-0"] * (MAX_RANGES + 1)), None),
        ("bytes=" + "9" * 5000 + "-", None),
    ],
)
def test_ranges_of_ten_bytes(field: str, found: list[tuple[int, int]] | None) -> None:
    """`bytes=-99` of ten bytes was 503: the library sought to byte -89. `0-1,-99` never got an answer."""
    ranges = satisfiable_ranges(field, 10)
    assert (None if ranges is None else [(each.start, each.stop) for each in ranges]) == found


@pytest.mark.parametrize(
    ("field", "found"), [("bytes=0-", []), ("bytes=0-0", []), ("bytes=-0", []), ("bytes=-5", None)]
)
def test_ranges_of_an_empty_file(field: str, found: list[range] | None) -> None:
    assert satisfiable_ranges(field, 0) == found


_spans = st.one_of(
    st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda t: f"{min(t)}-{max(t)}"),
    st.integers(0, 60).map(lambda first: f"{first}-"),
    st.integers(0, 60).map(lambda last: f"-{last}"),
)


def _bytes_of(span: str, size: int) -> set[int]:
    """What one range names, said another way: which bytes."""
    first, _, last = span.partition("-")
    if not first:
        return {at for at in range(size) if at >= size - int(last)}
    return {at for at in range(size) if int(first) <= at and (not last or at <= int(last))}


@given(st.lists(_spans, min_size=1, max_size=MAX_RANGES), st.integers(1, 50))
def test_ranges_hold_each_byte_that_is_named_once(spans: list[str], size: int) -> None:
    ranges = satisfiable_ranges("bytes=" + ",".join(spans), size)
    assert ranges is not None
    answered = [at for each in ranges for at in each]
    assert len(answered) == len(set(answered)), "a byte twice: answers could grow without bound"
    assert set(answered) == set().union(*(_bytes_of(span, size) for span in spans))
    assert all(each for each in ranges)


def test_one_range(site: SiteClient) -> None:
    for field, where, body in (("bytes=2-4", "2-4", b"234"), ("bytes=-99", "0-9", TEN), ("bytes=0-1,-99", "0-9", TEN)):
        answer = site.get("/ten.txt", ("Range", field))
        assert (answer.status, answer.body, answer.headers["Content-Range"]) == (206, body, f"bytes {where}/10")
        assert answer.headers["Content-Length"] == str(len(body))
        assert answer.headers["ETag"] == site.get("/ten.txt").headers["ETag"]
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers["Accept-Ranges"] == "bytes"


def test_several_ranges(site: SiteClient) -> None:
    answer = site.get("/ten.txt", ("Range", "bytes=8-9,0-1"))
    assert (answer.status, answer.whole, answer.headers["Content-Range"]) == (206, True, None)
    message = email.message_from_bytes(f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode() + answer.body)
    assert message.get_content_type() == "multipart/byteranges"
    leaves = [part for part in message.walk() if not part.is_multipart()]
    parts = [(part["Content-Range"], part["Content-Type"], part.get_payload()) for part in leaves]
    assert parts == [
        ("bytes 8-9/10", "text/plain; charset=utf-8", "89"),
        ("bytes 0-1/10", "text/plain; charset=utf-8", "01"),
    ]


def test_nothing_satisfies_it(site: SiteClient) -> None:
    answer = site.get("/ten.txt", ("Range", "bytes=10-"))
    assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */10")
    assert answer.headers["Cache-Control"] == "no-cache"
    assert b"10 bytes" in answer.body
    assert site.get("/empty.js", ("Range", "bytes=0-")).headers["Content-Range"] == "bytes */0"
    assert (site.get("/empty.js", ("Range", "bytes=-5")).status, site.get("/empty.js").status) == (200, 200)


def test_where_a_range_means_nothing(site: SiteClient) -> None:
    head = site.get("/ten.txt", ("Range", "bytes=0-1"), method="HEAD")
    assert (head.status, head.headers["Content-Length"], head.headers["Content-Range"]) == (200, "10", None)
    assert head.headers["Accept-Ranges"] == "bytes"
    two = site.get("/ten.txt", ("Range", "bytes=0-1"), ("Range", "bytes=4-5"))
    assert (two.status, two.body) == (200, TEN), "two Range fields are no list: which one was meant?"
    missing = site.get("/none", ("Range", "bytes=0-1"))
    assert (missing.status, missing.body) == (404, b"gone")
    assert site.get("/ten.txt", ("Range", "bytes=0-1"), method="POST").status == 405


def test_if_range(site: SiteClient) -> None:
    etag = site.get("/ten.txt").headers["ETag"]

    def status(*conditions: str) -> int:
        return site.get("/ten.txt", ("Range", "bytes=0-1"), *(("If-Range", each) for each in conditions)).status

    assert status(etag) == 206
    for other in ('"x"', f"W/{etag}", etag.strip('"'), f"{etag}, {etag}", "*", "Fri, 01 Jan 2100 00:00:00 GMT"):
        assert status(other) == 200, other
    assert status(etag, etag) == 200
    assert site.get("/ten.txt", ("If-Range", '"x"')).status == 200, "without a Range it says nothing"


# -- conditions ------------------------------------------------------------------------------------------------------


def test_if_none_match(site: SiteClient) -> None:
    """A proxy that compresses sends `W/"…"` back; a cache sends all that it has. Both were answered in full."""
    etag = site.get("/ten.txt").headers["ETag"]
    assert etag.startswith('"')
    for lines in (
        [etag],
        [f"W/{etag}"],
        [f'{etag}, "other"'],
        [f'"other",{etag}'],
        [f'"a,b" , W/{etag}'],
        ['"other"', etag],
        [f"W/{etag}", '"other"'],
        ["*"],
    ):
        for method in ("GET", "HEAD"):
            answer = site.get("/ten.txt", *(("If-None-Match", line) for line in lines), method=method)
            assert (answer.status, answer.body) == (304, b""), lines
            assert (answer.headers["ETag"], answer.headers["Cache-Control"]) == (etag, "no-cache")
            assert answer.headers["Date"]
            assert answer.headers["Content-Type"] is None
            assert answer.headers["Content-Length"] is None  # it said 0, and this isn't how long the file is
    for line in ('"other"', 'W/"other"', etag[:-2] + '"', '"*"', f'"a {etag[1:]}'):
        assert site.get("/ten.txt", ("If-None-Match", line)).status == 200, line


def test_if_match(site: SiteClient) -> None:
    etag = site.get("/ten.txt").headers["ETag"]
    for line in (etag, f'"other", {etag}', "*"):
        assert site.get("/ten.txt", ("If-Match", line)).status == 200, line
    for line in ('"x"', f"W/{etag}", f'W/{etag}, "x"', '"*"'):
        answer = site.get("/ten.txt", ("If-Match", line))
        assert (answer.status, answer.headers["Cache-Control"]) == (412, "no-cache"), line
        assert b"another version" in answer.body
    assert site.get("/ten.txt", ("If-Match", '"x"'), ("If-Match", etag)).status == 200
    assert site.get("/none", ("If-Match", '"x"')).status == 404


def test_the_order_of_conditions(site: SiteClient) -> None:
    """RFC 9110, 13.2.2: If-Match, then If-None-Match, then Range with If-Range."""
    etag = site.get("/ten.txt").headers["ETag"]
    assert site.get("/ten.txt", ("If-Match", '"x"'), ("If-None-Match", etag)).status == 412
    assert site.get("/ten.txt", ("If-Match", etag), ("If-None-Match", etag)).status == 304
    assert site.get("/ten.txt", ("Range", "bytes=0-1"), ("If-None-Match", etag)).status == 304
    assert site.get("/ten.txt", ("Range", "bytes=90-"), ("If-None-Match", etag)).status == 304
    assert site.get("/ten.txt", ("Range", "bytes=0-1"), ("If-Match", '"x"')).status == 412
    # Nothing has a date here, so conditions on dates aren't there (13.1.3, 13.1.4).
    for name in ("If-Modified-Since", "If-Unmodified-Since"):
        for date in ("Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"):
            assert site.get("/ten.txt", (name, date)).status == 200


# -- bodies ----------------------------------------------------------------------------------------------------------


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def ask(site: SiteClient, path: str, *headers: tuple[str, str]) -> tuple[Channel, Transport]:
    """A request on a connection of which the test is the transport."""
    channel, transport = site.connect()
    channel.dataReceived(site.send(path, headers=headers))
    return channel, transport


def ask_slowly(site: SiteClient, monkeypatch: pytest.MonkeyPatch, path: str) -> tuple[Channel, Transport]:
    """A request of a client that takes nothing: its connection has enough after each write of a block."""
    write = Transport.write

    def full(transport: Transport, data: bytes) -> None:
        write(transport, data)
        if transport.producer is not None and len(data) >= BLOCK:
            transport.producer.pauseProducing()

    monkeypatch.setattr(Transport, "write", full)
    return ask(site, path)


def test_a_body_waits_for_its_client(site: SiteClient, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_files()
    channel, transport = ask_slowly(site, monkeypatch, "/big.bin")
    for blocks in range(1, 15):
        sent = transport.value().partition(b"\r\n\r\n")[2]
        assert len(sent) == blocks * BLOCK, "it reads only what the connection takes"
        channel.resumeProducing()
    assert open_files() == before + 1
    channel.resumeProducing()
    assert len(transport.value().partition(b"\r\n\r\n")[2]) == 1_000_000
    assert open_files() == before
    assert transport.disconnecting
    assert site.clock.getDelayedCalls() == []


def test_a_client_that_goes_leaves_no_open_file(site: SiteClient, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_files()
    channel, _ = ask_slowly(site, monkeypatch, "/big.bin")
    assert open_files() == before + 1
    channel.connectionLost(Failure(ConnectionLost()))
    assert open_files() == before
    assert site.clock.getDelayedCalls() == []


def test_a_client_that_stands_still_is_cut_off(site: SiteClient, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_files()
    _, transport = ask_slowly(site, monkeypatch, "/big.bin")
    for _ in range(STALL_LOOKS):
        assert not transport.aborted
        site.clock.advance(STALL_SECONDS / STALL_LOOKS)
    assert transport.aborted
    assert open_files() == before


def test_a_file_that_is_cut_while_it_is_sent(site: SiteClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the middle left the connection without an end: the client waited for good."""
    before = open_files()
    channel, transport = ask_slowly(site, monkeypatch, "/big.bin")
    big = file_of(site.store, "big.bin")
    assert big is not None
    os.truncate(big, 100_000)
    channel.resumeProducing()
    channel.resumeProducing()
    assert transport.aborted
    assert open_files() == before


def test_a_disk_that_can_t_be_read(site: SiteClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    before = open_files()
    monkeypatch.setattr(os, "pread", broken)
    for headers in ((), (("Range", "bytes=0-1"),), (("Range", "bytes=0-1,8-9"),)):
        _, transport = ask(site, "/ten.txt", *headers)
        assert transport.aborted
    _, transport = ask(site, "/none")
    assert transport.aborted, "the page of a 404 is a file too"
    assert open_files() == before


def test_a_file_that_can_t_be_opened_is_said(site: SiteClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "open", broken)
    answer = site.get("/ten.txt")
    assert (answer.status, answer.headers["ETag"], answer.headers["Cache-Control"]) == (503, None, "no-cache")


def test_requests_one_after_the_other_on_a_connection(site: SiteClient) -> None:
    channel, transport = site.connect()
    one = site.send("/ten.txt", headers=(("Range", "bytes=-99"),)).replace(b"Connection: close\r\n", b"")
    channel.dataReceived(one * 3)
    assert transport.value().count(b"206 Partial Content") == 3
    assert transport.value().count(TEN) == 3
