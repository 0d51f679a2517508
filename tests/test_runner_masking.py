"""Masking: no secret comes through, whole or split, plain or encoded."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.runner.masking import MASK, Masking, forms

SECRET = "npm_aB3/x+Ü=9 tail"


def mask(data: bytes, *secrets: str) -> bytes:
    masking = Masking(secrets)
    return masking.feed(data) + masking.finish()


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "user:"])
@pytest.mark.parametrize("after", ["", "z", "zy", "zyx"])
def test_base64_at_every_alignment(before: str, after: str) -> None:
    text = (before + SECRET + after).encode()
    for encoded in (base64.b64encode(text), base64.urlsafe_b64encode(text)):
        shown = mask(b"<" + encoded + b">", SECRET)
        assert MASK in shown
        # What is left of it are the ends, which also hold the neighbours' bits.
        assert len(shown) <= len(MASK) + 2 + 2 * (len(before) + len(after)) + 10


@pytest.mark.parametrize(
    "encoded",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        quote(SECRET, safe="")
        .replace("%2F", "%2f")
        .replace("%2B", "%2b")
        .replace("%C3%9C", "%c3%9c")
        .replace("%3D", "%3d"),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1].replace("/", "\\/"),
    ],
)
def test_encodings(encoded: str) -> None:
    assert mask(b"x" + encoded.encode() + b"y", SECRET) == b"x***y"


def test_secret_of_several_lines_is_masked_line_by_line() -> None:
    secret = "-----BEGIN-----\nAAAABBBB\r\n}\nCCCCDDDD\n"
    shown = mask(secret.encode(), secret)
    assert shown == b"***\n***\r\n}\n***\n"
    assert mask(json.dumps({"k": secret}).encode(), secret) == b'{"k": "***"}'


def test_short_secrets_are_masked_only_as_they_are() -> None:
    assert forms("ab") == {b"ab"}
    assert mask(b"cab abc", "ab") == b"c*** ***c"
    assert mask(b"a x", "a") == b"*** x"
    assert forms("") == set()
    assert forms("***") == set()


def test_longest_form_wins() -> None:
    assert mask(b"secret-long", "secret", "secret-long") == b"***"
    assert mask(b"secret-lon", "secret", "secret-long") == b"***-lon"


def test_what_may_be_the_beginning_is_held_back_until_it_is_known() -> None:
    masking = Masking(["hunter2!"])
    assert masking.feed(b"pw: hunt") == b"pw: "
    assert masking.feed(b"") == b""
    assert masking.feed(b"er2!\n") == b"***\n"
    assert masking.feed(b"hunt") == b""
    assert masking.feed(b"ing\n") == b"hunting\n"
    assert masking.feed(b"hunter") == b""
    assert masking.finish() == b"hunter"


def test_nothing_is_held_back_at_an_end_of_line() -> None:
    masking = Masking(["line\nsecret"])
    assert masking.feed(b"ends with line\n") == b"ends with ***\n"


def test_added_later() -> None:
    masking = Masking()
    assert masking.feed(b"token-1234") == b"token-1234"
    masking.add(["token-1234"])
    assert masking.feed(b"token-1234\n") == b"***\n"


# Few letters, so that secrets overlap, repeat, and begin with one another.
_secrets = st.lists(st.text("abc\n", min_size=1, max_size=9), min_size=1, max_size=4)


@given(
    secrets=_secrets,
    pieces=st.lists(st.one_of(st.text("abc\n ", max_size=12), st.integers(0, 3)), max_size=12),
    cuts=st.lists(st.integers(0, 200), max_size=20),
)
def test_every_split_gives_the_same_and_no_secret(secrets: list[str], pieces: list[str | int], cuts: list[int]) -> None:
    data = "".join(p if isinstance(p, str) else secrets[p % len(secrets)] for p in pieces).encode()
    whole = mask(data, *secrets)
    masking = Masking(secrets)
    shown = b""
    at = 0
    for cut in [*sorted(cuts), len(data)]:
        shown += masking.feed(data[at:cut])
        at = max(at, min(cut, len(data)))
        assert whole.startswith(shown)
    assert shown + masking.finish() == whole
    for secret in secrets:
        for form in forms(secret):
            assert form not in whole


@given(secret=st.text(min_size=4, max_size=30), before=st.binary(max_size=4), after=st.binary(max_size=4))
def test_any_secret_in_any_encoding(secret: str, before: bytes, after: bytes) -> None:
    for form in forms(secret):
        shown = mask(before + form + after, secret)
        assert form not in shown or form in before + b"***" + after
