"""The grammar of ``_redirects``, ``_headers`` and ``[site]``, and what is said of what isn't in it."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.builds.site.headers import read_headers
from twistedipc.builds.site.redirects import check_redirect, read_redirects
from twistedipc.builds.site.rules import MAX_BYTES, MAX_LINE, MAX_RULES, BadRules, HeaderRule, Redirect, Serving
from twistedipc.builds.site.said import SaidSite, check_serving, serving_of
from twistedipc.builds.site.sources import Source, read_source
from twistedipc.builds.site.targets import read_target


def redirects(text: str) -> list[Redirect]:
    return read_redirects(text.encode())


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("/home /", Redirect(source="/home", target="/")),
        ("\t/home\t\t/  # why\r", Redirect(source="/home", target="/")),
        ("/news/* /blog/:splat 302", Redirect(source="/news/*", target="/blog/:splat", status=302)),
        ("/a/:b /c/:b 200!", Redirect(source="/a/:b", target="/c/:b", status=200, force=True)),
        (
            "/store id=:id tag=x /blog/:id 301",
            Redirect(source="/store", target="/blog/:id", query={"id": ":id", "tag": "x"}),
        ),
        (
            "http://blog.example.org/* https://www.example.org/blog/:splat 301!",
            Redirect(source="http://blog.example.org/*", target="https://www.example.org/blog/:splat", force=True),
        ),
        ("/a.php /a#part", Redirect(source="/a.php", target="/a#part")),
        ("/gone 410", Redirect(source="/gone", status=410)),
        ("/en/* /en/404.html 404", Redirect(source="/en/*", target="/en/404.html", status=404)),
        ("/admin/* 200", Redirect(source="/admin/*", target="/admin/:splat", status=200)),
        ("/wiki/Special:Search /search", Redirect(source="/wiki/Special:Search", target="/search")),
        ("/s /wiki/Special:Search?at=a:b", Redirect(source="/s", target="/wiki/Special:Search?at=a:b")),
    ],
)
def test_a_line_is_a_redirect(line: str, rule: Redirect) -> None:
    assert redirects(f"# comment\n\n{line}\n") == [
        msgspec.structs.replace(rule, place="_redirects, line 3"),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/a", "it has no target"),
        ("/a x=1 y", "it has no target that begins"),
        ("a /b", "a isn't a path such as /blog/*"),
        ("//a /b", "/a begins with two slashes"),
        ("/a //evil.example", "write https:// before another host"),
        ("/a\\b /\\evil.example", "characters in it that can't be in an address"),
        ("/a /b 305", "the status 305 can't be given"),
        ("/a /b 30", "'30' isn't a status"),
        ("/a b /c", "'b' is neither a target nor NAME=VALUE"),
        ("/a?b=1 /c", "what a query must have is written after the path"),
        ("/a b=:1 /c", "isn't the name of a placeholder"),
        ("/a/*/b /c", "a star that isn't the last part"),
        ("/a* /c", "a star that isn't the last part"),
        ("/%zz /c", "a % that begins no escape"),
        ("/%ff /c", "an escape in it that isn't UTF-8"),
        ("/%00 /c", "control characters"),
        ("/:a/:a /c", "a placeholder twice"),
        ("/a /:b", "the rule's path has no such placeholder"),
        ("/a /b/:splat", "the rule's path has no star at its end"),
        ("/:a x=:a /:a", "stands for two things"),
        ("/:a https://:a.example.org/", "a placeholder in its host"),
        ("/* https://example.org:splat/", "a placeholder in its host"),
        ("/a https://user@example.org/", "has no host in it"),
        ("/a https://", "has no host in it"),
        ("/a https://x:99999/", "has no host in it"),
        ("https://x:80/ /b", "without a port"),
        ("/a https://api.example.org/:splat 200", "no star"),
        ("/api/* https://api.example.org/:splat 200", "proxying, which isn't done here"),
        ("/api/* /.netlify/functions/:splat 200", "a function of Netlify's"),
        ("/a /b 302 Country=de,at", "Country: the platform doesn't know in which country"),
        ("/a /b 302 Language=de", "Language: "),
        ("/a /b 200! Role=admin", "Role: roles aren't known here"),
        ("/a /b 302 Cookie=beta", "Cookie: "),
        ("/a Country=de /b", "Country: "),
        ("/" + "a" * MAX_LINE + " /b", f"more than {MAX_LINE} characters"),
        ("/a" * 51 + " /b", "more than 50 parts"),
    ],
)
def test_a_bad_line_is_told_with_its_number(line: str, said: str) -> None:
    with pytest.raises(BadRules) as caught:
        redirects(f"/good /one\n{line}\n/good /two\n")
    assert str(caught.value).startswith("_redirects, line 2: ")
    assert said in str(caught.value)


def test_several_bad_lines_are_told_at_once() -> None:
    with pytest.raises(BadRules) as caught:
        redirects("/a\n" * 9)
    assert str(caught.value).count("; ") == 5
    assert str(caught.value).endswith("; and 4 more")


def test_files_are_bounded() -> None:
    with pytest.raises(BadRules, match="more than 10000 redirects"):
        redirects("/a /b\n" * (MAX_RULES + 1))
    with pytest.raises(BadRules, match="more than 1048576 bytes"):
        read_redirects(b"#" * (MAX_BYTES + 1))
    with pytest.raises(BadRules, match="_redirects, line 2: it isn't UTF-8"):
        read_redirects(b"/a /b\n/\xff /b")
    assert len(redirects("/a /b\n" * MAX_RULES)) == MAX_RULES


@given(st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=200))
def test_any_text_is_rules_or_a_sentence(data: bytes) -> None:
    with contextlib.suppress(BadRules):
        check_serving(Serving(redirects=read_redirects(data)))
    with contextlib.suppress(BadRules):
        check_serving(Serving(headers=read_headers(data)))


@given(st.text(alphabet="ab/:*%2F.~-", max_size=30).map("/".__add__))
def test_a_plain_path_is_read_as_any_other(text: str) -> None:
    """There is a short way for plain paths. An empty query of a host makes a path take the long one."""
    try:
        short = read_source(text, globs=False)
        long = read_source(f"https://host{text}", globs=False)
    except ValueError:
        return
    assert short == Source("", "", *long[2:])


def test_values_are_encoded_where_they_go() -> None:
    target = read_target("/x/:a/:splat?of=:a#:a", frozenset({"a", "splat"}))
    values = {"a": "ü/&#?", "splat": ["p q", "\\", "r"]}
    encoded = "%C3%BC%2F%26%23%3F"
    assert target.location(values) == f"/x/{encoded}/p%20q/%5C/r?of={encoded}#{encoded}"
    assert target.segments(values) == ["x", "ü/&#?", "p q", "\\", "r"]


def test_no_value_leads_to_another_host() -> None:
    target = check_redirect(Redirect(source="/*", target="/:splat", query={}))
    assert target is not None
    for splat in (["", "evil.example"], ["\\evil.example"], ["/evil.example"]):
        location = target.location({"splat": splat})
        assert not location.startswith("/\\")
        assert not location.startswith("//")
    assert target.location({"splat": ["/evil.example"]}) == "/%2Fevil.example"
    # A star can stand for nothing, and so can a part of the query.
    target = read_target("/:splat/:a", frozenset({"splat", "a"}))
    for nothing in ([], [""], ""):
        assert target.location({"splat": nothing, "a": "evil.example"}) == "/evil.example"


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("/*\n  X-A: b", [("/*", [("X-A", "b")], [])]),
        ("/*\nX-A : b: c \r\n\n# no\n  X-A: d", [("/*", [("X-A", "b: c"), ("X-A", "d")], [])]),
        ("/*.js\n  ! X-Frame-Options\n/b/:c/*\n", [("/*.js", [], ["X-Frame-Options"]), ("/b/:c/*", [], [])]),
        ("https://www.example.org/*\n X-A: b", [("https://www.example.org/*", [("X-A", "b")], [])]),
        ("/a\n X-Content-Type-Options: nosniff", [("/a", [("X-Content-Type-Options", "nosniff")], [])]),
        ("/a\n Content-Type: application/json", [("/a", [("Content-Type", "application/json")], [])]),
    ],
)
def test_headers_are_read(text: str, rules: list[tuple[str, list[tuple[str, str]], list[str]]]) -> None:
    assert [(rule.source, rule.values, rule.removed) for rule in read_headers(text.encode())] == rules


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("X-A", "is neither an address nor a header"),
        ("X-A:", "X-A has no value; to leave the header out, write ! X-A"),
        ("X A: b", "is neither an address nor a header"),
        ("X-A: \u00e9", "aren't ASCII"),
        ("X-A: b\x0bc", "aren't ASCII"),
        ("Set-Cookie: a=b", "Set-Cookie can't be set: cookies"),
        ("Content-Length: 3", "Content-Length can't be set: it says where an answer ends"),
        ("transfer-encoding: chunked", "transfer-encoding can't be set"),
        ("Content-Encoding: gzip", "Content-Encoding can't be set"),
        ("Location: /b", "Location can't be set: a redirect does"),
        ("Basic-Auth: a:b", "Basic-Auth can't be set: passwords aren't asked for here"),
        ("ETag: x", "ETag can't be set"),
        ("! Content-Length", "Content-Length can't be set"),
        ("X-Accel-Redirect: /internal/secret", "X-Accel-Redirect can't be set: it is a command to a proxy in front"),
        ("x-accel-expires: 600", "x-accel-expires can't be set"),
        ("X-Sendfile: /etc/passwd", "X-Sendfile can't be set"),
        ("X-LIGHTTPD-send-file: /etc/passwd", "X-LIGHTTPD-send-file can't be set"),
        ("X-LiteSpeed-Location: /secret", "X-LiteSpeed-Location can't be set"),
        ("X-Reproxy-URL: http://10.0.0.1/", "X-Reproxy-URL can't be set"),
        ("X-Envoy-Immediate-Health-Check-Fail: 1", "can't be set"),
        ("! X-Accel-Buffering", "X-Accel-Buffering can't be set"),
        ("X-Content-Type-Options: none", "stays nosniff"),
        ("! X-Content-Type-Options", "stays nosniff"),
        ("/*/:a", "a placeholder after a star"),
        ("/*a*b*c*", "more than 3 stars"),
    ],
)
def test_a_bad_header_is_told_with_its_number(line: str, said: str) -> None:
    with pytest.raises(BadRules) as caught:
        read_headers(f"/*\n  X-Good: 1\n  {line}\n".encode())
    assert str(caught.value).startswith("_headers, line 3: ")
    assert said in str(caught.value)


def test_headers_come_after_an_address() -> None:
    with pytest.raises(BadRules, match="line 1: a header comes before the address"):
        read_headers(b"X-A: b\n/*\n")


def said(table: dict[str, object]) -> Serving:
    return serving_of(msgspec.convert(table, SaidSite))


def test_the_table_site_says_the_same() -> None:
    serving = said(
        {
            "trailing_slash": "never",
            "clean_urls": True,
            "index": "home.html",
            "marks": False,
            "redirects": [{"from": "/a/:b", "to": "/c/:b", "status": 302, "force": True, "query": {"x": "1"}}],
            "headers": [{"for": "/*", "values": {"X-A": ["b", "c"], "X-Frame-Options": ""}}],
        }
    )
    assert serving == Serving(
        trailing_slash="never",
        clean_urls=True,
        index="home.html",
        marks=False,
        redirects=[
            Redirect(
                source="/a/:b",
                target="/c/:b",
                status=302,
                force=True,
                query={"x": "1"},
                place="site.redirects, number 1",
            )
        ],
        headers=[
            HeaderRule(
                source="/*",
                values=[("X-A", "b"), ("X-A", "c")],
                removed=["X-Frame-Options"],
                place="site.headers, number 1",
            )
        ],
    )
    check_serving(serving)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (
            {"redirects": [{"from": "/a", "to": "/b"}, {"from": "/a", "to": "https://x/", "status": 200}]},
            "number 2: 200",
        ),
        ({"redirects": [{"from": "/a"}]}, "it says no target"),
        ({"headers": [{"for": "/*", "values": {"Set-Cookie": "a"}}]}, "Set-Cookie can't be set"),
        ({"headers": [{"for": "/*", "values": {"X-Accel-Redirect": "/a"}}]}, "X-Accel-Redirect can't be set"),
        ({"headers": [{"for": "*", "values": {}}]}, "isn't a path"),
        ({"headers": [{"for": "/*", "values": {"X": "a\r\nSet-Cookie: b"}}]}, "neither an address nor a header"),
    ],
)
def test_what_the_table_has_wrong_is_told(table: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadRules, match=sentence):
        said(table)


@pytest.mark.parametrize(
    "serving",
    [
        Serving(redirects=[Redirect(source="/a", target="/b", status=99)]),
        Serving(redirects=[Redirect(source="/" + "a" * 5000, target="/b")]),
        Serving(headers=[HeaderRule(source="/*", values=[("X", "a\r\nb: c")])]),
        Serving(headers=[HeaderRule(source="/*", values=[("Set-Cookie", "a")])]),
        Serving(headers=[HeaderRule(source="/*", values=[("X-Accel-Redirect", "/a")])]),
        Serving(headers=[HeaderRule(source="/*", removed=["X-Sendfile"])]),
        Serving(redirects=[Redirect(source="/a", target="/b")] * (2 * MAX_RULES + 1)),
    ],
)
def test_rules_of_another_machine_are_checked_again(serving: Serving) -> None:
    with pytest.raises(BadRules):
        check_serving(serving)
