"""Masking: no secret comes through, whole or split, plain or as tools write it; what isn't secret isn't changed."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.properties import examples
from twistedipc.runner.masking import MASK, MAX_HELD, Masking
from twistedipc.runner.spelling import spellings
from twistedipc.terminal import escapes

SECRET = "npm_aB3/x+Ü=9 tail"
ODD = "q7Rk-41xZ_9pLm&<0\"'$\\>"


def mask(data: bytes, *secrets: str) -> bytes:
    masking = Masking(secrets)
    return masking.feed(data) + masking.finish()


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "user:"])
@pytest.mark.parametrize("after", ["", "z", "zy", "zyx"])
def test_base64_at_every_alignment(before: str, after: str) -> None:
    text = (before + SECRET + after).encode()
    for encoded in (base64.b64encode(text), base64.urlsafe_b64encode(text)):
        shown = mask(b"<" + encoded + b">", SECRET)
        assert MASK in shown
        # What is left of it are the ends, which also hold the neighbours' bits.
        assert len(shown) <= len(MASK) + 2 + 2 * (len(before) + len(after)) + 10
        twice = mask(b"<" + base64.b64encode(encoded) + b">", SECRET)
        assert MASK in twice
        assert len(twice) <= len(MASK) + 2 + 4 * (len(before) + len(after)) + 20


@pytest.mark.parametrize(
    "encoded",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        quote(quote(SECRET)),
        quote(SECRET, safe="")
        .replace("%2F", "%2f")
        .replace("%2B", "%2b")
        .replace("%C3%9C", "%c3%9c")
        .replace("%3D", "%3d"),
        quote(SECRET, safe="=+"),  # in part
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1].replace("/", "\\/"),
        json.dumps(json.dumps(SECRET))[3:-3],
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
        SECRET.encode("ascii", "xmlcharrefreplace").decode(),
        SECRET.replace("Ü", "&#xDC;").replace("=", "&#61;"),
        SECRET.replace(" ", "\\ "),
        base64_of(base64_of(SECRET))[: len(base64_of(base64_of(SECRET))) - 4],
    ],
)
def test_encodings(encoded: str) -> None:
    assert re.fullmatch(rb"x\*\*\*\w{0,6}y", mask(b"x" + encoded.encode() + b"y", SECRET))


@pytest.mark.parametrize(
    "encoded",
    [
        html.escape(ODD),
        html.escape(ODD, quote=False),
        html.escape(html.escape(ODD, quote=False), quote=False),
        html.escape(ODD).replace("&#x27;", "&#39;"),
        html.escape(ODD).replace("&#x27;", "&apos;"),
        html.escape(ODD).replace("&#x27;", "&#039;").replace("&lt;", "&#060;"),
        "".join(character if character.isalnum() else f"&#{ord(character)};" for character in ODD),
        "".join(character if character.isalnum() else f"&#X{ord(character):02X};" for character in ODD),
        ODD.replace("&", "&amp;"),
        shlex.quote(ODD)[1:-1],
        ODD.replace("'", "'\\''"),
        re.sub(r"([^\w-])", r"\\\1", ODD),
        re.sub(r"(\W)", lambda match: f"\\x{ord(match[1]):02x}", ODD),
        json.dumps(ODD)[1:-1],
        json.dumps(json.dumps(ODD))[3:-3],
        json.dumps(json.dumps(json.dumps(ODD)))[7:-7],
        json.dumps(ODD).replace("<", "\\u003c").replace(">", "\\u003E").replace("&", "\\u0026")[1:-1],
    ],
)
def test_encodings_of_punctuation(encoded: str) -> None:
    assert mask(b"<" + encoded.encode() + b">", ODD) == b"<***>"


def test_secret_of_several_lines_is_masked_line_by_line() -> None:
    secret = "-----BEGIN-----\nAAAABBBB\r\n}\nCCCCDDDD\n"
    shown = mask(secret.encode(), secret)
    assert shown == b"***\n***\r\n}\n***\n"
    assert mask(json.dumps({"k": secret}).encode(), secret) == b'{"k": "***"}'
    assert mask(json.dumps(json.dumps({"k": secret})).encode(), secret) == rb'"{\"k\": \"***\"}"'
    assert mask(quote(secret).encode(), secret) == b"***"


def test_a_long_secret_is_hidden_in_all_its_encodings() -> None:
    secret = "".join(f"{i}/" for i in range(400))
    for encoded in (secret, quote(secret, safe=""), secret.encode().hex(), json.dumps(secret).replace("/", "\\/")):
        assert not re.search(rb"[0-9]{2}", mask(encoded.encode(), secret))


def test_short_secrets_are_masked_only_as_they_are() -> None:
    assert mask(b"cab abc 6162 YWI=", "ab") == b"c*** ***c 6162 YWI="
    assert mask(b"a x", "a") == b"*** x"
    assert spellings("") == set()
    assert spellings("***") == set()


def test_longest_form_wins() -> None:
    assert mask(b"secret-long", "secret", "secret-long") == b"***"
    assert mask(b"secret-lon", "secret", "secret-long") == b"***-lon"


@pytest.mark.parametrize(
    "code",
    [
        b"\x1b[31m",
        b"\x1b[0m\x1b[1;38;5;9m",
        b"\x1b[K",
        b"\x1b]8;;http://x\x07",
        b"\x1b]0;title\x1b\\",
        b"\x1b(B",
        b"\0",
        b"\x08",
        "\u202e".encode(),
        "\u009b1m".encode(),
    ],
)
def test_codes_in_the_middle(code: bytes) -> None:
    """A token with a colour code in its middle was shown; the log as text, which has no codes, even showed it whole."""
    for encoded in (b"hunter2&x", b"hunter2&amp;x", b"68756e7465723226 78"[:16]):
        for at in range(1, len(encoded)):
            if encoded[at - 1 : at].isalnum() and encoded[at : at + 1].isalnum():
                shown = mask(b"is " + encoded[:at] + code + encoded[at:] + b"!\n", "hunter2&x", "hunter2&")
                assert shown == b"is ***" + code + b"!\n"


def test_a_code_after_each_character() -> None:
    assert mask("\0".join("hunter2!").encode() + b"\n", "hunter2!") == b"***" + bytes(7) + b"\n"
    coloured = b"".join(b"\x1b[3%dm%c" % (i, byte) for i, byte in enumerate(b"hunter2!"))
    assert mask(coloured + b"\x1b[0m\n", "hunter2!").startswith(b"\x1b[30m***\x1b[31m")
    assert escapes.plain(mask(coloured + b"\x1b[0m\n", "hunter2!").decode()) == "***\n"


def test_a_link_s_address_is_looked_at_too() -> None:
    assert mask(b"\x1b]8;;https://hunter2!@x\x07here\x1b]8;;\x07\n", "hunter2!") == (
        b"\x1b]8;;https://***@x\x07here\x1b]8;;\x07\n"
    )


def test_of_a_line_without_an_end_that_is_shown_which_can_be() -> None:
    masking = Masking(["hunter2!"])
    assert masking.feed(b"pw: hunt") == b""
    assert masking.flush() == b"pw: "
    assert not masking.pending
    assert masking.flush() == b""
    assert masking.feed(b"er2!\n") == b"***\n"
    assert masking.feed(b"hunt") + masking.flush() == b""
    assert masking.feed(b"ing\n") == b"hunting\n"
    assert masking.feed(b"a hunter2!") + masking.flush() == b"a ***"
    assert masking.feed(b"b hunt\x1b[3") + masking.flush() == b"b "
    assert masking.feed(b"1mer2") + masking.flush() == b""
    assert masking.feed(b"!") + masking.flush() == b"***\x1b[31m"
    assert masking.feed(b"hunter") == b""
    assert masking.finish() == b"hunter"


def test_what_another_character_may_be_the_beginning_of() -> None:
    masking = Masking(["abcd&"])
    assert masking.feed(b"abcd&") + masking.flush() == b""
    assert masking.feed(b"amp;\n") == b"***\n"
    assert masking.feed(b"abcd&\n") == b"***\n"


def test_a_line_without_an_end_isn_t_kept() -> None:
    masking = Masking(["hunter2!"])
    fed, shown = 0, b""
    for data in [*[b"x" * 5000 + b"hunter2!"] * 100, b"\x1b]" + b"x" * 100_000]:
        fed += len(data)
        shown += masking.feed(data)
        as_written = len(shown) + shown.count(b"***") * (len("hunter2!") - len("***"))
        assert fed - as_written <= MAX_HELD
    assert shown + masking.finish() == (b"x" * 5000 + b"***") * 100 + b"\x1b]" + b"x" * 100_000


def test_added_later() -> None:
    masking = Masking()
    assert masking.feed(b"token-1234") == b"token-1234"
    masking.add(["token-1234"])
    assert masking.feed(b"token-1234\n") == b"***\n"


def test_texts_that_are_no_output() -> None:
    masking = Masking(["hunter2!", "ab"])
    assert masking.hide("no hunter2!\nnor aHVudGVyMiE=") == "no ***\nnor ***E="
    assert masking.hide("ababab") == "******"  # never longer than it was: it may be as long as it can be
    assert Masking().hide("hunter2!") == "hunter2!"


def test_texts_that_were_cut() -> None:
    """The name of a step is the beginning of its command, and ended within a value."""
    masking = Masking(["hunter2!-and-more"])
    assert masking.hide("login\nhunter2!-and-more hunter2!-an…") == "login\n*** ***…"
    assert masking.hide("login aHVudGVyMiEtY…") == "login ***…"
    assert masking.hide("login hun…") == "login hun…"  # too little to know
    assert masking.hide("login hunter2!-and-or…") == "login hunter2!-and-or…"
    assert masking.hide("hunter2!-and…") == "***…"


def test_which_of_many_texts_has_a_secret() -> None:
    masking = Masking(["q7Rk-41xZ/9", "of two\nlines here"])
    harmless = [f"assets/{number}.js" for number in range(3)]
    assert masking.first_with_secret(harmless) is None
    assert masking.first_with_secret([]) is None
    for hidden in (
        "assets/q7Rk-41xZ/9.js",
        "q7Rk-41xZ%2F9",
        "a/cTdSay00MXhaLzk=.css",
        b"q7Rk-41xZ/9".hex() + ".txt",
        "lines here.html",
    ):
        assert masking.first_with_secret([*harmless, hidden, "q7Rk-41xZ/9"]) == hidden
    assert Masking().first_with_secret(["q7Rk-41xZ/9"]) is None
    # What a secret is replaced by is no sign of one.
    assert Masking(["abcdefg***"]).first_with_secret(["***", "bcdefg***"]) is None
    assert Masking(["***abcdefg"]).first_with_secret(["", "***abcdefga"]) == "***abcdefga"
    # A short one is in a name by chance.
    assert Masking(["main"]).first_with_secret(["assets/main.js"]) is None


# Few letters, so that secrets overlap, repeat, and begin with one another.
_secrets = st.lists(st.text("abc&\n", min_size=1, max_size=9), min_size=1, max_size=4)
_piece = st.one_of(
    st.text("abc&\n ", max_size=12), st.integers(0, 3), st.sampled_from(["\x1b[1m", "\x1b", "[3", "amp;", "%26", "\0"])
)


@given(
    secrets=_secrets,
    pieces=st.lists(_piece, max_size=12),
    cuts=st.lists(st.tuples(st.integers(0, 200), st.booleans()), max_size=20),
)
def test_every_split_gives_the_same_and_no_secret(
    secrets: list[str], pieces: list[str | int], cuts: list[tuple[int, bool]]
) -> None:
    data = "".join(p if isinstance(p, str) else secrets[p % len(secrets)] for p in pieces).encode()
    whole = mask(data, *secrets)
    masking = Masking(secrets)
    shown = b""
    at = 0
    for cut, flush in [*sorted(cuts), (len(data), False)]:
        shown += masking.feed(data[at:cut])
        if flush:
            shown += masking.flush()
        at = max(at, min(cut, len(data)))
        assert whole.startswith(shown)
    assert shown + masking.finish() == whole
    for secret in secrets:
        for line in secret.split("\n") if "\n" in secret else [secret]:
            if len(line) >= 4 or "\n" not in secret:
                assert line.encode() not in whole


_TOOLS: list[Callable[[str], str]] = [
    str,
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    lambda text: json.dumps(json.dumps(text))[3:-3],
    lambda text: quote(text, safe=""),
    quote,
    quote_plus,
    html.escape,
    lambda text: html.escape(text, quote=False),
    lambda text: text.encode("ascii", "xmlcharrefreplace").decode(),
    lambda text: text.encode().hex(),
    lambda text: text.encode().hex().upper(),
    lambda text: shlex.quote("'" + text)[6:-1],
    lambda text: re.sub(r"([^\w\n])", r"\\\1", text, flags=re.A),
    lambda text: ascii("'\"" + text)[4:-1],
    lambda text: "".join(f"\\{byte:03o}" if byte > 127 else chr(byte) for byte in text.encode()),
]


# Each example makes the patterns of a secret of all kinds of characters, which takes some milliseconds.
@settings(max_examples=examples(30))
@given(
    secret=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=4, max_size=12),
    tool=st.sampled_from(_TOOLS),
    cut=st.integers(0, 60),
    flush=st.booleans(),
)
def test_any_secret_by_any_tool(secret: str, tool: Callable[[str], str], cut: int, flush: bool) -> None:
    if not secret.strip("*"):
        return
    data = b"\x02" + tool(secret).encode() + b"\x02\n"
    masking = Masking([secret])
    shown = masking.feed(data[:cut])
    if flush:
        shown += masking.flush()
    assert shown + masking.feed(data[cut:]) == b"\x02***\x02\n"


@settings(max_examples=examples(30))
@given(
    secret=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=6, max_size=12),
    before=st.binary(max_size=5),
    after=st.binary(max_size=5),
    times=st.integers(1, 2),
)
@example(secret="000000", before=bytes(4), after=b"", times=2)  # the shortest, where the least of it is known
def test_any_secret_in_base64(secret: str, before: bytes, after: bytes, times: int) -> None:
    if not secret.strip("*"):
        return
    encoded = before + secret.encode() + after
    for _ in range(times):
        encoded = base64.b64encode(encoded)
    assert MASK in mask(encoded, secret)


def wrapped(digits: str, width: int, first: int = 0) -> str:
    """Digits in lines, the first of which begins after so many others."""
    cut = max(1, width - first)
    return "\n".join([digits[:cut], *(digits[i : i + width] for i in range(cut, len(digits), width))])


LONG = "npm_" + "".join(f"{i:x}Qz" for i in range(40))


@pytest.mark.parametrize("secret", ["q7Rk-41xZ", LONG])
@pytest.mark.parametrize(
    "encode", [lambda data: base64.b64encode(data).decode(), bytes.hex, lambda data: data.hex().upper()]
)
@pytest.mark.parametrize("width", [40, 60, 64, 76])
@pytest.mark.parametrize("before", ["", "user:", "x" * 50, "x" * 53, "y" * 55])
def test_encoders_break_lines(secret: str, encode: Callable[[bytes], str], width: int, before: str) -> None:
    whole = encode((before + secret + "!after").encode())
    text = "a: " + wrapped(whole, width) + "\nz\n"
    shown = mask(text.encode(), secret)
    assert shown.count(b"\n") == text.count("\n")
    left = shown.decode().removeprefix("a: ").removesuffix("\nz\n").replace("\n", "")
    # But for the ends, which also hold the neighbours' bits, and where one piece of a long value follows another.
    known = encode(secret.encode())[4:-4]
    assert not any(known[i : i + 12] in left for i in range(len(known) - 11))
    assert "***" in left


def test_lines_that_may_go_on_are_not_held_for_long() -> None:
    masking = Masking(["q7Rk-41xZ_9pLm770"])
    digits = base64_of("q7Rk-41xZ_9pLm770")
    for line in (b"short cTdSay00\n", b"0" * 40 + b" cTdSay00\n", b"0" * 40 + b"cTdSay00 \n", b"0" * 40 + b"\n"):
        assert masking.feed(line) == line
    start = b"0" * 40 + digits[:9].encode()
    assert masking.feed(start + b"\n") == b"0" * 40
    assert masking.flush() == b""
    assert masking.feed(b"other\n") == digits[:9].encode() + b"\nother\n"
    assert masking.feed(start + b"\n" + digits[9:15].encode()) == b"0" * 40
    assert masking.feed(digits[15:].encode() + b" more\n") == b"***\n***A= more\n"
    assert masking.feed(start + b"\n") == b"0" * 40
    assert masking.finish() == digits[:9].encode() + b"\n"


@given(
    secrets=st.lists(st.text("abc", min_size=4, max_size=60), min_size=1, max_size=3),
    pieces=st.lists(
        st.tuples(st.integers(0, 2), st.binary(max_size=3), st.integers(0, 2), st.sampled_from([33, 34, 40, 50])),
        max_size=5,
    ),
    between=st.sampled_from(["", "\n", " ", "abc\n", "\x1b[1m\n", "0" * 40 + "\n"]),
    cuts=st.lists(st.tuples(st.integers(0, 500), st.booleans()), max_size=12),
)
def test_every_split_gives_the_same_where_lines_are_broken(
    secrets: list[str],
    pieces: list[tuple[int, bytes, int, int]],
    between: str,
    cuts: list[tuple[int, bool]],
) -> None:
    encoders: list[Callable[[bytes], str]] = [lambda data: base64.b64encode(data).decode(), bytes.hex, bytes.decode]
    texts = []
    for number, more, encoder, width in pieces:
        value = secrets[number % len(secrets)].encode()
        data = value + value if encoder == 2 else more + value + more
        texts.append(wrapped(encoders[encoder](data), width))
    data = between.join(texts).encode()
    whole = mask(data, *secrets)
    masking = Masking(secrets)
    shown = b""
    at = 0
    for cut, flush in [*sorted(cuts), (len(data), False)]:
        shown += masking.feed(data[at:cut])
        if flush:
            shown += masking.flush()
        at = max(at, min(cut, len(data)))
        assert whole.startswith(shown)
    assert shown + masking.finish() == whole


@given(
    secret=st.text("qwxyz0&", min_size=4, max_size=12),
    codes=st.lists(st.sampled_from(["\x1b[1m", "\x1b[0m", "\x1b]0;t\x07", "\0", ""]), min_size=11, max_size=11),
)
def test_no_codes_bring_it_back(secret: str, codes: list[str]) -> None:
    text = "".join(
        character + code for character, code in zip(secret, [*codes, ""], strict=False)
    )  # fmt: skip
    shown = mask(f"ab {text} ab\n".encode(), secret).decode()
    assert escapes.plain(shown) == "ab *** ab\n"


@given(st.lists(st.sampled_from([*"abcdefgh &;%\\\n", "\x1b[1m", "\x1b", "\0", "é", "%26", "&amp;"])), st.booleans())
def test_what_is_no_secret_is_not_changed(pieces: list[str], flush: bool) -> None:
    data = "".join(pieces).encode()
    masking = Masking(["zq7Rk-41xZ", "yy\nABCDEFGH\n", "Ω✓"])
    shown = masking.feed(data)
    if flush:
        shown += masking.flush()
    assert shown + masking.finish() == data
