"""The client's address behind proxies: a trusted proxy's word is taken, a stranger's isn't."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.web.http_headers import Headers

from twistedipc.web.http.clients import Client, Proxies

TRUSTED = ["127.0.0.1", "10.0.0.0/8", "2001:db8:1::/48", "::1"]


def client(peer: str, *lines: str, trusted: list[str] | None = None) -> Client:
    headers = Headers()
    for line in lines:
        name, _, value = line.partition(": ")
        headers.addRawHeader(name, value)
    return Proxies(TRUSTED if trusted is None else trusted).client_of(peer, headers)


def test_a_strangers_word_is_not_taken() -> None:
    for line in ("X-Forwarded-For: 192.0.2.9", "Forwarded: for=192.0.2.9;proto=https", "X-Forwarded-Proto: https"):
        assert client("192.0.2.1", line) == Client("192.0.2.1")
        assert client("127.0.0.1", line, trusted=[]) == Client("127.0.0.1")
        assert client("unix", line) == Client("unix"), "a UNIX socket is trusted only if the operator says so"


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        (["X-Forwarded-For: 192.0.2.1"], "192.0.2.1"),
        (["X-Forwarded-For: 192.0.2.1:4711"], "192.0.2.1"),
        (["X-Forwarded-For: 6.6.6.6, 192.0.2.1"], "192.0.2.1"),
        (["X-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.1.2.3,127.0.0.1"], "192.0.2.1"),
        (["X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 192.0.2.1"], "192.0.2.1"),
        (["X-Forwarded-For: 2001:DB8::1"], "2001:db8::1"),
        (["X-Forwarded-For: [2001:db8::1]:80"], "2001:db8::1"),
        (["X-Forwarded-For: ::ffff:192.0.2.1"], "192.0.2.1"),
        (["X-Forwarded-For: ::ffff:10.0.0.1"], "10.0.0.1"),
        (["X-Forwarded-For: 10.0.0.1, 10.0.0.2"], "10.0.0.1"),  # a client among the trusted
        (["X-Forwarded-For: 6.6.6.6, 2001:db8:1::7"], "6.6.6.6"),
        (['Forwarded: for="[2001:db8::1]:4711";proto=http;by=203.0.113.43'], "2001:db8::1"),
        (['forwarded: For="6.6.6.6", for=192.0.2.1;by="_a,b;for=1.1.1.1"'], "192.0.2.1"),
        (["Forwarded: for=6.6.6.6", "Forwarded: for=192.0.2.1, for=10.0.0.1"], "192.0.2.1"),
        (['Forwarded: for="192.0.2.1:_port"'], "192.0.2.1"),
        # One that hides it, and what isn't an address: the proxy that says so is all that is known.
        (["Forwarded: for=6.6.6.6, for=unknown"], "127.0.0.1"),
        (["Forwarded: for=6.6.6.6, for=_hidden, for=10.0.0.9"], "10.0.0.9"),
        (["Forwarded: by=10.0.0.1"], "127.0.0.1"),
        (["X-Forwarded-For: 6.6.6.6, unknown"], "127.0.0.1"),
        (["X-Forwarded-For: 6.6.6.6,"], "127.0.0.1"),
        (["X-Forwarded-For: 6.6.6.6, 999.1.1.1"], "127.0.0.1"),
        (["X-Forwarded-For: 6.6.6.6, fe80::1%eth0"], "127.0.0.1"),
        (["X-Forwarded-For: [192.0.2.1"], "127.0.0.1"),
        (["X-Forwarded-For: "], "127.0.0.1"),
        ([], "127.0.0.1"),
        # Both kinds, from a proxy that writes both; and from one that passes a client's own on.
        (["Forwarded: for=192.0.2.1", "X-Forwarded-For: 192.0.2.1"], "192.0.2.1"),
        (["Forwarded: for=6.6.6.6", "X-Forwarded-For: 192.0.2.1"], "127.0.0.1"),
    ],
)
def test_the_rightmost_address_that_is_not_trusted(lines: list[str], address: str) -> None:
    assert client("127.0.0.1", *lines).address == address
    assert client("::ffff:127.0.0.1", *lines).address == address


def test_a_proxy_on_a_unix_socket() -> None:
    assert client("unix", "X-Forwarded-For: 192.0.2.1", trusted=["unix"]).address == "192.0.2.1"
    assert client("127.0.0.1", "X-Forwarded-For: 192.0.2.1", trusted=["unix"]).address == "127.0.0.1"


@pytest.mark.parametrize(
    ("lines", "secure"),
    [
        (["X-Forwarded-Proto: https"], True),
        (["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: HTTPS"], True),
        (["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: http"], False),
        (["X-Forwarded-For: 192.0.2.1, 10.0.0.1", "X-Forwarded-Proto: https, http"], True),
        (["X-Forwarded-For: 6.6.6.6, 192.0.2.1", "X-Forwarded-Proto: https, http"], False),
        (["Forwarded: for=192.0.2.1;proto=https"], True),
        (["Forwarded: for=192.0.2.1"], False),
        (["X-Forwarded-For: 192.0.2.1"], False),
    ],
)
def test_how_the_client_speaks_to_the_proxy(lines: list[str], secure: bool) -> None:
    assert client("127.0.0.1", *lines).secure is secure


def test_failures_are_counted_by_what_a_client_can_not_choose() -> None:
    assert Client("2001:db8::1").neighbourhood == Client("2001:db8::ffff:1").neighbourhood == "2001:db8::/64"
    assert Client("192.0.2.1").neighbourhood == "192.0.2.1"
    assert Client("unix").neighbourhood == "unix"


@pytest.mark.parametrize("wrong", ["", "localhost", "10.0.0.1/8", "10.0.0.0/33", "all", "*"])
def test_what_can_not_be_trusted(wrong: str) -> None:
    with pytest.raises(ValueError, match="is neither an address"):
        Proxies([wrong])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Forwarded", "X-Forwarded-For", "X-Forwarded-Proto"]),
            st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=255), max_size=60),
        ),
        max_size=6,
    )
)
def test_whatever_comes_gives_an_address(lines: list[tuple[str, str]]) -> None:
    found = client("127.0.0.1", *(f"{name}: {value}" for name, value in lines))
    assert found.address
    assert "," not in found.address


DOCS = Path(__file__).parent.parent / "docs"
BLOCKS = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in sorted(DOCS.glob("*.md"))
    for number, block in enumerate(re.findall(r"\{[^{}]*\bproxy_pass\b[^{}]*\}", page.read_text()))
]


def test_the_documented_proxies_are_found() -> None:
    assert len(BLOCKS) == sum(page.read_text().count("proxy_pass http") for page in DOCS.glob("*.md")) > 2


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("block", BLOCKS)
def test_no_client_names_itself_through_a_documented_proxy(block: str, scheme: str) -> None:
    """nginx passes on what a client sends, but for what its configuration sets."""
    set_by_proxy = dict(re.findall(r"proxy_set_header ([A-Za-z-]+) (.*?);", block))
    for sent in (
        {},
        {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https"},
        {"Forwarded": "for=6.6.6.6;proto=https"},
        {"Forwarded": "for=192.0.2.1;proto=https", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https"},
    ):
        values = {
            "$proxy_add_x_forwarded_for": ", ".join([*filter(None, [sent.get("X-Forwarded-For")]), "192.0.2.1"]),
            "$scheme": scheme,
            '""': "",
        }
        passed = sent | {name: values.get(value, value) for name, value in set_by_proxy.items()}
        lines = [f"{name}: {value}" for name, value in passed.items() if value]
        assert client("127.0.0.1", *lines, trusted=["127.0.0.1"]) == Client("192.0.2.1", secure=scheme == "https"), sent
