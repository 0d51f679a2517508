"""Marks in pages: only the addresses of scripts and styles get one, and nothing else of a page changes."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.publish.site.links import _PLAIN_REST, Unclear, _attributes, is_about_paths, links_of
from twistedipc.publish.site.marks import mark_of, mark_of_referer, marked, path_of

FILES = frozenset({"app.js", "lib.js", "style.css", "docs/app.js", "a b.js", "docs/assets/x.js"})


def mark(page: str, folder: str | None = "", *, modules: bool = True, hashed: frozenset[str] = frozenset()) -> str:
    done = marked(
        page.encode(), 7, folder, FILES.__contains__, lambda path: path not in hashed, modules=lambda: modules
    )
    return page if done is None else done.decode()


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ('<script src="/app.js"></script>', '<script src="/~r7~/app.js"></script>'),
        ("<SCRIPT defer SRC = '/app.js?v=1#x' ></SCRIPT>", "<SCRIPT defer SRC = '/~r7~/app.js?v=1#x' ></SCRIPT>"),
        ("<script src=/app.js async></script>", "<script src=/~r7~/app.js async></script>"),
        ("<script src=app.js></script>", "<script src=/~r7~/app.js></script>"),
        ('<script src="./app.js"></script>', '<script src="/~r7~/./app.js"></script>'),
        ('<script src="/a%20b.js"></script>', '<script src="/~r7~/a%20b.js"></script>'),
        ("<link rel='x StyleSheet' href='/style.css'>", "<link rel='x StyleSheet' href='/~r7~/style.css'>"),
        ("<link href=/app.js rel=modulepreload>", "<link href=/~r7~/app.js rel=modulepreload>"),
        ("<link rel=preload as=script href=/app.js>", "<link rel=preload as=script href=/~r7~/app.js>"),
        (
            '<script integrity="sha384-x" src="/app.js"></script>',
            '<script integrity="sha384-x" src="/~r7~/app.js"></script>',
        ),
        ("<script src=/app.js src=/lib.js></script>", "<script src=/~r7~/app.js src=/lib.js></script>"),
        ("<!--><script src=/app.js></script>", "<!--><script src=/~r7~/app.js></script>"),
        (
            "<p title='<b'><link rel=stylesheet href=/style.css>",
            "<p title='<b'><link rel=stylesheet href=/~r7~/style.css>",
        ),
        ("ä<script src=/app.js></script>ö", "ä<script src=/~r7~/app.js></script>ö"),
    ],
)
def test_a_link_gets_a_mark(page: str, expected: str) -> None:
    assert mark(page) == expected


@pytest.mark.parametrize(
    "page",
    [
        "<script src=/none.js></script>",
        "<script src=//app.js></script>",
        "<script src=https://cdn.example.org/app.js></script>",
        "<script src='/app.js/'></script>",
        "<script src='/app.js '></script>",
        "<script src='\\app.js'></script>",
        "<script src='/app&period;js'></script>",
        "<script src='/docs%2Fapp.js'></script>",
        "<script src='/../app.js'></script>",
        "<script src='/~r3~/app.js'></script>",
        "<script type=text/template src=/app.js></script>",
        "<script>var x = '<script src=/app.js>';</script>",
        "<style>/* <script src=/app.js></script> */</style>",
        "<title><script src=/app.js></script></title>",
        "<textarea><script src=/app.js></textarea>",
        "<noscript><link rel=stylesheet href=/style.css></noscript>",
        "<!-- <script src=/app.js></script> -->",
        "<!-- <script src=/app.js></script>",
        "<?x <script src=/app.js?>",
        "<a title='<script src=/app.js></script>'>",
        "</p title='<script src=/app.js></script>'>",
        "<link rel=icon href=/app.js><link rel=preload as=image href=/app.js><link rel=alternate href=/app.js>",
        "<link rel=stylesheet><script></script>",
        "<img src=/app.js>",
        "<script src='/app.js",
        "<script src=/app.js",
        "<script data-src=/app.js></script>",
    ],
)
def test_what_is_no_link_to_a_file_of_the_site_stays(page: str) -> None:
    assert mark(page) == page


@pytest.mark.parametrize(
    "other",
    [
        '<base href="/x/">',
        '<script type=importmap>{"imports": {}}</script>',
        "<script type=module>import './app.js'</script>",
        "<script>import('/app.js')</script>",
        "<script>navigator.serviceWorker.register('/worker.js')</script>",
        '<meta http-equiv="Content-Security-Policy" content="script-src https://shop.example.org/assets/">',
        "<svg><![CDATA[ x ]]></svg>",
        "<plaintext>",
        "<svg><title/></svg>",
        "<script>/* <!-- <script> */</script>",
        "<textarea>",
        "\0",
        "\x1b$B",
    ],
)
def test_a_page_that_can_not_be_changed_safely_stays(other: str) -> None:
    link = "<script src=/app.js></script>"
    assert mark(link) != link
    for page in (other + link, link + other):
        assert mark(page) == page


def test_a_page_in_another_encoding_stays() -> None:
    for page in ("<script src=/app.js>ä</script>".encode("latin-1"), "<script src=/app.js></script>".encode("utf-16")):
        with pytest.raises(Unclear):
            links_of(page)


def test_relative_addresses_are_those_of_the_folder() -> None:
    link = '<script src="{}"></script>'.format
    assert mark(link("app.js"), "docs") == link("/~r7~/docs/app.js")
    assert mark(link("../app.js"), "docs") == link("/~r7~/docs/../app.js")
    assert mark(link("../../app.js"), "docs") == link("../../app.js")
    assert mark(link("assets/x.js"), "docs") == link("/~r7~/docs/assets/x.js")
    assert mark(link("/app.js"), None) == link("/~r7~/app.js")
    assert mark(link("app.js"), None) == link("app.js"), "the page answers for many addresses"


def test_modules_have_marks_together_or_not_at_all() -> None:
    """With two addresses a module would run twice."""
    page = "<script type=module src=/app.js></script><link rel=modulepreload href=/lib.js>"
    page += "<script src=/docs/app.js></script>"
    hashed = frozenset({"lib.js"})
    assert mark(page, hashed=hashed).count("/~r7~/") == 3
    assert mark(page, hashed=hashed, modules=False).count("/~r7~/") == 1
    assert mark(page, hashed=FILES) == page
    both = "<link rel=preload as=script href=/app.js><script type=module src=/app.js></script>"
    assert mark(both, modules=False) == both


def test_marks_are_read() -> None:
    assert mark_of(["~r17~", "app.js"]) == 17
    for segment in ("~r0~", "~r~", "r17", "~r17", "~r-1~", "~r1~x", "~r1234567890123456789~", "~R1~", ""):
        assert mark_of([segment, "app.js"]) is None
    assert mark_of_referer("https://Shop.example.org:8081/~r17~/a.js?x", "shop.example.org:8081") == 17
    for referer in (
        "https://evil.example/~r17~/a.js",
        "/~r17~/a.js",
        "https://shop.example.org:8081/a/~r17~/",
        "https://[",
    ):
        assert mark_of_referer(referer, "shop.example.org:8081") is None


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("default-src 'self' https://cdn.example.org data:", False),
        ("script-src 'self' 'sha256-a/b+c=' 'nonce-x/y'; report-uri https://x.example/y/z", False),
        ("script-src https://shop.example.org/assets/", True),
        ("script-src *.example.org/app.js", True),
    ],
)
def test_policies_about_paths(policy: str, expected: bool) -> None:
    assert is_about_paths(policy) is expected


PIECES = [
    "<script src=",
    "<script type=module src=",
    "<link rel=stylesheet href=",
    "<link rel=preload as=style href=",
    "/app.js",
    '"/app.js"',
    "'app.js'",
    '"./lib.js"',
    "/style.css",
    "https://x.example/app.js",
    ">",
    "</script>",
    "</SCRIPT >",
    "<!--",
    "-->",
    "--!>",
    "<!",
    "<?",
    "</",
    "<",
    "=",
    '"',
    "'",
    " ",
    "/",
    "\n",
    "<p class=x>",
    "<style>",
    "</style>",
    "<textarea>",
    "</textarea>",
    "<title>",
    "</title>",
    "ä",
    "&amp;",
    "<noscript>",
    "</noscript>",
    "<svg>",
    "text",
]
PAGES = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@given(PAGES, st.sampled_from(["", "docs", None]))
def test_nothing_but_the_addresses_of_links_changes(page: str, folder: str | None) -> None:
    done = marked(page.encode(), 7, folder, FILES.__contains__, lambda path: True)
    if done is None:
        return
    put = rb"/~r7~(?:/docs/(?=[^/])|/(?=[^/])|(?=/))"
    assert re.sub(put, b"", done) == page.encode(), "a mark is put in, and all else is as it was"
    links, before = links_of(done), links_of(page.encode())
    assert [link.kind for link in links] == [link.kind for link in before], "it is read as the same page"
    for now, old in zip(links, before, strict=True):
        if now.address != old.address:
            assert path_of(old.address, folder) in FILES
            assert now.address.endswith(old.address)


@given(st.text("ab='\"/ \n>`<", max_size=30))
def test_what_is_read_at_once_ends_where_its_attributes_do(rest: str) -> None:
    found = _PLAIN_REST.match(rest.encode())
    if found is not None:
        assert _attributes(rest.encode(), 0)[1] == found.end()


class Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(reversed(attrs))
        if tag == "script" and "src" in names:
            self.found.append(names["src"])
        elif tag == "link" and "href" in names:
            self.found.append(names["href"])


TAGS = st.sampled_from(
    [
        "<script src=/app.js></script>",
        "<script src='/lib.js' defer></script>",
        "<!-- <script src=/no.js></script> -->",
        "<link rel=stylesheet href=/style.css>",
        '<p title="<link rel=stylesheet href=/no.css>">',
        "text < more > & so on",
        "<script>let a = '<link rel=stylesheet href=/no.css>'</script>",
        "<style>a > b {}</style>",
        "<img src=x.png alt=''/>",
        "<title>a <b> c</title>",
        "<!doctype html>",
        "</p class='x'>",
        "<br/>",
        '<LINK REL=stylesheet HREF = "/style.css" >',
    ]
)


@given(st.lists(TAGS, max_size=12))
def test_pages_are_read_as_another_reader_does(tags: list[str]) -> None:
    page = "".join(tags)
    parser = Parser()
    parser.feed(page)
    parser.close()
    assert [link.address.decode() for link in links_of(page.encode())] == parser.found


@pytest.mark.parametrize(
    "piece", ["<", "<a ", "<a b=", '"', "<!--", "<script ", "<a b='", "=", " ", "/", "<a b" + " " * 9]
)
def test_hostile_pages_are_read_in_linear_time(piece: str) -> None:
    page = (piece * (200_000 // len(piece))).encode()
    try:
        assert links_of(page) == []
    except Unclear:
        assert piece == "<script "
