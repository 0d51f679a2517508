"""What answers to an address of a site: files, rules, redirects that go round, pages of applications."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.builds.site.headers import read_headers
from twistedipc.builds.site.redirects import read_redirects
from twistedipc.builds.site.rules import BadRules, Redirect, Serving
from twistedipc.builds.site.sources import read_source
from twistedipc.publish.site.answers import Address, Answer, File, Missing, OldAsset, Sent, Site
from twistedipc.publish.site.checking import check_site
from twistedipc.publish.site.matching import MAX_COST, Asked, Redirects, query_of


class Paths:
    """Files that are but paths. Implements `addresses.Files`."""

    def __init__(self, *paths: str) -> None:
        self._paths = set(paths)
        self._folders = {"".join(path.rpartition("/")[0]) for path in paths} | {""}
        for folder in list(self._folders):
            while folder:
                self._folders.add(folder)
                folder = folder.rpartition("/")[0]

    def has(self, path: str) -> bool:
        return path in self._paths

    def is_folder(self, path: str) -> bool:
        return path in self._folders

    def is_of_assets(self, path: str) -> bool:
        return path == "assets"


FILES = Paths(
    "index.html",
    "about.html",
    "docs/index.html",
    "docs/guide.html",
    "docs/404.html",
    "both.html",
    "both/index.html",
    "assets/app.js",
    "app.html",
    "404.html",
    "_redirects",
    "style.css",
)


def address(text: str, host: str = "shop.example.org", scheme: str = "https") -> Address:
    path, _, query = text.partition("?")
    return Address(tuple(map(unquote, path[1:].split("/"))), query, scheme, host)


def site(text: str = "", headers: str = "", **serving: object) -> Site:
    rules = Serving(redirects=read_redirects(text.encode()), headers=read_headers(headers.encode()), **serving)  # type: ignore[arg-type]
    return Site(rules)


def ask(of: Site, text: str, files: Paths = FILES, **more: str) -> Answer:
    answer = of.answer(files, address(text, **more))
    return Sent(answer.location, answer.status) if isinstance(answer, Sent) else answer


NOTHING = Missing("404.html")


@pytest.mark.parametrize(
    ("mode", "clean", "answers"),
    [
        (
            "auto",
            None,
            {
                "/": File("index.html"),
                "/index.html": File("index.html"),
                "/about": File("about.html"),
                "/about/": Sent("/about"),
                "/about.html": File("about.html"),
                "/docs": Sent("/docs/"),
                "/docs/": File("docs/index.html"),
                "/docs/guide?a=%20b": File("docs/guide.html"),
                "/docs/guide/?a=%20b": Sent("/docs/guide?a=%20b"),
                "/both": Sent("/both/"),
                "/both/": File("both/index.html"),
                "/style.css/": NOTHING,
            },
        ),
        (
            "always",
            None,
            {
                "/": File("index.html"),
                "/about": Sent("/about/"),
                "/about/": File("about.html"),
                "/about.html": File("about.html"),
                "/docs": Sent("/docs/"),
                "/docs/": File("docs/index.html"),
                "/both": Sent("/both/"),
                "/style.css": File("style.css"),
            },
        ),
        (
            "never",
            None,
            {
                "/": File("index.html"),
                "/about/": Sent("/about"),
                "/docs/?q": Sent("/docs?q"),
                "/docs": File("docs/index.html"),
                "/both": File("both/index.html"),
                "/both/": Sent("/both"),
            },
        ),
        (
            "auto",
            True,
            {
                "/index.html": Sent("/"),
                "/about.html?x": Sent("/about?x"),
                "/docs/index.html": Sent("/docs/"),
                "/docs/guide.html": Sent("/docs/guide"),
                "/both.html": File("both.html"),  # /both is another page
                "/both/index.html": Sent("/both/"),
                "/404.html": File("404.html"),
                "/docs/404.html": File("docs/404.html"),
            },
        ),
        ("always", True, {"/about.html": Sent("/about/"), "/docs/index.html": Sent("/docs/")}),
        ("never", True, {"/about.html": Sent("/about"), "/docs/index.html": Sent("/docs"), "/index.html": Sent("/")}),
        (
            "auto",
            False,
            {"/about": NOTHING, "/about/": NOTHING, "/about.html": File("about.html"), "/docs": Sent("/docs/")},
        ),
    ],
)
def test_slashes_and_clean_addresses(mode: str, clean: bool | None, answers: dict[str, Answer]) -> None:
    of = site(trailing_slash=mode, clean_urls=clean)
    assert {path: ask(of, path) for path in answers} == answers


@given(
    st.sets(st.lists(st.sampled_from(["a", "b", "index"]), min_size=1, max_size=3).map("/".join), max_size=8),
    st.sampled_from(["auto", "always", "never"]),
    st.sampled_from([None, True, False]),
    st.lists(st.sampled_from(["a", "b", "index", "index.html", "a.html", ""]), min_size=1, max_size=4),
)
def test_no_redirect_leads_to_another_one(stems: set[str], mode: str, clean: bool | None, segments: list[str]) -> None:
    """What an address is sent to is a file, by whatever modes and files."""
    files = Paths(*(f"{stem}.html" for stem in stems))
    of = site(trailing_slash=mode, clean_urls=clean)
    text = "/" + "/".join([each for each in segments[:-1] if each] + segments[-1:])
    answer = ask(of, text, files)
    if isinstance(answer, Sent):
        assert isinstance(ask(of, answer.location, files), File), answer


def test_the_index_can_have_another_name() -> None:
    files = Paths("home.htm", "docs/home.htm", "docs/index.html", "a/index.html")
    of = site(index="home.htm")
    assert ask(of, "/", files) == File("home.htm")
    assert ask(of, "/docs", files) == Sent("/docs/")
    assert ask(of, "/docs/", files) == File("docs/home.htm")
    assert ask(of, "/a/", files) == Missing(None)


def test_the_nearest_page_for_what_is_not_found() -> None:
    of = site()
    assert ask(of, "/nothing") == Missing("404.html")
    assert ask(of, "/docs/nothing") == Missing("docs/404.html")
    assert ask(of, "/docs/deeper/nothing") == Missing("docs/404.html")
    assert ask(of, "/docs" + "/a" * 2000) == Missing("docs/404.html")
    assert ask(of, "/docs", Paths("docs/404.html")) == Missing(None)


@pytest.mark.parametrize("path", ["/_redirects", "/_headers", "/.env", "/docs/.git/config"])
def test_rules_and_hidden_files_are_never_served(path: str) -> None:
    assert ask(site("/* /index.html 200!"), path, Paths("index.html", path[1:])) == Missing(None)


def test_a_file_goes_before_a_rule_that_is_not_forced() -> None:
    of = site("/about /docs/ 302\n/docs /x 302\n/style.css /x 302!\n/* /y/:splat 302")
    assert ask(of, "/about") == File("about.html")
    assert ask(of, "/docs") == Sent("/docs/")
    assert ask(of, "/style.css") == Sent("/x")
    assert ask(of, "/other/thing/") == Sent("/y/other/thing")


def test_the_first_rule_counts() -> None:
    of = site("/a/b /first\n/a/:x /second/:x\n/a/* /third/:splat\n/a/c /never")
    assert ask(of, "/a/b") == Sent("/first", 301)
    assert ask(of, "/a/c") == Sent("/second/c", 301)
    assert ask(of, "/a/c/d") == Sent("/third/c/d", 301)
    assert ask(of, "/a") == Sent("/third/", 301)
    assert ask(of, "/A/b") == NOTHING


def test_queries() -> None:
    of = site("/s id=:id tag=x /t/:id\n/s id=1 /one?from=s\n/s /none")
    assert ask(of, "/s?id=7&tag=x&keep=%C3%BC+y") == Sent("/t/7?keep=%C3%BC+y", 301)
    assert ask(of, "/s?id=1") == Sent("/one?from=s", 301)
    assert ask(of, "/s?id=2") == Sent("/none?id=2", 301)
    assert ask(of, "/s?id=..%2Fa&tag=x") == Sent("/t/..%2Fa", 301)
    assert ask(site("/s /t#end"), "/s?a=b") == Sent("/t?a=b#end", 301)


def test_hosts_and_schemes() -> None:
    of = site("http://www.example.org/* https://example.org/:splat 301!\n/* /x 404!")
    assert ask(of, "/a/b?c", host="www.example.org", scheme="http") == Sent("https://example.org/a/b?c", 301)
    assert ask(of, "/a/b", host="www.example.org", scheme="https") == NOTHING
    assert ask(of, "/a/b", host="shop.example.org", scheme="http") == NOTHING


def test_a_rule_that_leads_to_its_own_address_is_passed_over() -> None:
    of = site("/* https://www.example.org/:splat 301!\n")
    assert ask(of, "/style.css", host="shop.example.org") == Sent("https://www.example.org/style.css", 301)
    assert ask(of, "/style.css", host="www.example.org") == File("style.css")


@pytest.mark.parametrize(
    ("rule", "path", "answer"),
    [
        ("/x /about.html 200", "/x", File("about.html")),
        ("/x /about 200", "/x", File("about.html")),
        ("/x /docs 200", "/x", File("docs/index.html")),
        ("/x /docs/ 200", "/x", File("docs/index.html")),
        ("/x/* /docs/:splat 200", "/x/guide", File("docs/guide.html")),
        ("/x/* /docs/:splat 200", "/x/none", NOTHING),
        ("/x f=:f /:f 200", "/x?f=..%2F..%2Fetc%2Fpasswd", NOTHING),
        ("/x f=:f /:f 200", "/x?f=%00", NOTHING),
        ("/docs/x /404.html 404", "/docs/x", File("404.html", 404)),
        ("/gone/* 410", "/gone/a", Missing("404.html", 410)),
        ("/gone/* /docs/ 410", "/gone/a", File("docs/index.html", 410)),
    ],
)
def test_files_in_place_of_others(rule: str, path: str, answer: Answer) -> None:
    assert ask(site(rule), path) == answer


@pytest.mark.parametrize("how", [site("/* /index.html 200"), site(spa=True)])
def test_an_asset_never_becomes_a_page(how: Site) -> None:
    files = Paths("index.html", "assets/app.js")
    for page in ("/users/42", "/docs/v1.2", "/a.html", "/users/"):
        assert ask(how, page, files) == File("index.html"), page
    for asset in ("/app.4f2a9c1b.js", "/assets/chunk", "/_next/static/x", "/.well-known/x", "/logo.png"):
        assert ask(how, asset, files) == Missing(None), asset
    assert ask(site("/* /index.html 200!"), "/logo.png", files) == File("index.html")


def test_an_asset_of_an_earlier_release_goes_before_rules() -> None:
    of = site("/* /index.html 200")
    asked = address("/assets/app.4f2a9c1b.js")
    assert of.answer(FILES, asked, lambda path: path == "assets/app.4f2a9c1b.js") == OldAsset("assets/app.4f2a9c1b.js")


# -- the search, against one that tries all rules ----------------------------------------------------------------------

PARTS = st.sampled_from(["a", "b", ":x", ":y"])
SOURCES = st.tuples(st.lists(PARTS, max_size=4), st.sampled_from(["", "/*"])).map(
    lambda drawn: "/" + "/".join(drawn[0]) + drawn[1] if drawn[0] else drawn[1] or "/"
)


def holds(rule: Redirect, asked: Asked) -> bool:
    source = read_source(rule.source, globs=False)
    if source.host and (source.scheme, source.host) != (asked.scheme, asked.host):
        return False
    count = len(source.segments)
    if len(asked.segments) < count or (source.pieces is None and len(asked.segments) > count):
        return False
    if any(wanted not in (None, given) for wanted, given in zip(source.segments, asked.segments, strict=False)):
        return False
    return all(
        name in asked.query if value.startswith(":") else asked.query.get(name) == value
        for name, value in rule.query.items()
    )


@given(
    st.lists(
        st.tuples(
            SOURCES,
            st.dictionaries(st.sampled_from("pq"), st.sampled_from(["1", "2", ":v"]), max_size=2),
            st.sampled_from(["", "", "http://h.example", "https://h.example"]),
        ),
        max_size=12,
    ),
    st.lists(
        st.tuples(
            st.lists(st.sampled_from("abc"), max_size=5),
            st.dictionaries(st.sampled_from("pqr"), st.sampled_from("123")),
            st.sampled_from(["h.example", "other.example"]),
        ),
        max_size=8,
    ),
)
def test_the_search_finds_the_first_rule_that_holds(
    drawn: list[tuple[str, dict[str, str], str]], asked: list[tuple[list[str], dict[str, str], str]]
) -> None:
    rules = [
        Redirect(source=host + source, target="/t", query=query)
        for source, query, host in drawn
        if source.count(":x") < 2 and source.count(":y") < 2
    ]
    of = Redirects(rules)
    for segments, query, host in asked:
        request = Asked(tuple(segments), "http", host, query)
        wanted = next((rule for rule in rules if holds(rule, request)), None)
        found = of.find(request)
        assert (None if found is None else found.rule) is wanted
    for rule in of.unreached:
        assert any(rule is not other for other in rules)


GLOBS = st.lists(st.sampled_from(["a", "b", "/", "*"]), min_size=1, max_size=7).map(lambda parts: "/" + "".join(parts))


@given(GLOBS, st.text(alphabet="ab/", max_size=8))
def test_stars_of_headers_stand_for_anything(glob: str, path: str) -> None:
    if glob.startswith("//") or glob.count("*") > 3:
        return
    # By hand: all the ways to cut the text.
    pieces = "/".join(part for part in glob.split("/") if part).split("*")
    parts = tuple(part for part in path.split("/") if part)

    def fits(text: str) -> bool:
        if len(pieces) == 1:
            return text == pieces[0]
        cuts = itertools.combinations_with_replacement(range(len(text) + 1), 2 * len(pieces) - 2)
        for cut in cuts:
            if cut[0] == len(pieces[0]) and all(
                text[start:end] == piece
                for start, end, piece in zip((0, *cut[1::2]), (*cut[::2], len(text)), pieces, strict=True)
            ):
                return True
        return False

    found = site(headers=f"{glob}\n X-A: b").headers_of(Address(parts or ("",)))
    text = "/".join(parts)
    # A star that is all of the last part stands for the folder itself too.
    bare = len(pieces) > 1 and pieces[-1] == "" and pieces[-2].endswith("/") and fits(text + "/")
    assert bool(found) == (fits(text) or bare)


def test_headers_of_all_rules_hold() -> None:
    of = site(
        headers="""
        /*
          X-Frame-Options: DENY
          X-A: 1
        /docs/:page
          X-A: 2
          X-Page: at=":page"; :other
        /*.html
          ! X-Frame-Options
        https://old.example.org/*
          X-Robots-Tag: noindex
        """
    )
    headers = of.headers_of(address("/docs/gu%C3%BCde.html"))
    assert headers == {
        "x-frame-options": ("X-Frame-Options", None),
        "x-a": ("X-A", "1, 2"),
        "x-page": ("X-Page", 'at="gu%C3%BCde.html"; :other'),
    }
    assert of.headers_of(address("/", host="old.example.org", scheme="http"))["x-robots-tag"][1] == "noindex"


def test_headers_for_all_of_a_host_are_not_for_those_who_share_it() -> None:
    of = site(headers="/*\n Service-Worker-Allowed: /\n X-A: b")
    assert of.headers_of(address("/"), shared_host=True) == {"x-a": ("X-A", "b")}
    assert "service-worker-allowed" in of.headers_of(address("/"))


# -- what packing says -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "/a /b\n/b /a",
        "/a /b\n/b /c 302\n/c /a?x 308",
        "/* /x/:splat",
        "/a/* /b/:splat\n/b/* /a/:splat",
        "/docs/ /docs 301!",
        "/ /en/ 302!\n/en/* /:splat 302",
        "https://a.example/* https://a.example/x/:splat",
    ],
)
def test_redirects_that_go_round_fail_the_build(text: str) -> None:
    with pytest.raises(BadRules, match=r"_redirects, line 1: this redirect goes round without an end: /"):
        check_site(site(text), FILES)


@pytest.mark.parametrize(
    "text",
    [
        "/a /b\n/b /c",
        "/* /index.html 200",
        "/blog/ /blog 301!",
        "/about.html /about 301!",
        "/s q=:q /s?q=:q",
        "/old /old?x=1",  # is passed over where it leads to itself
        "/index /\n/home /index",
        "http://a.example/* https://a.example/:splat 301!",
        "/* https://elsewhere.example/:splat 301!",
        "/a/* /about",
    ],
)
def test_redirects_that_end_are_good(text: str) -> None:
    assert check_site(site(text), FILES) == []


def test_rules_that_do_nothing_are_told() -> None:
    of = site("/x /nowhere.html 200\n/x /y\n/z/:a /nowhere/:a 200")
    assert check_site(of, FILES) == [
        "These redirects never hold, since one before them is for the same: _redirects, line 2 (/x)",
        "The files to which these redirects lead aren't in the site: _redirects, line 1 (/x)",
    ]


def paths_of(parts: Sequence[Sequence[str]]) -> str:
    names = itertools.count()
    lines = ("/".join(part if part != ":" else f":n{next(names)}" for part in line) for line in parts)
    return "\n".join(f"/{line} /t" for line in lines)


def test_no_rules_make_a_request_expensive() -> None:
    for count, text in [
        (8192, paths_of([*itertools.product("a:", repeat=13)])),
        (1000, "".join(f"/a q{n}=:v /t\n" for n in range(1000))),
    ]:
        of = site(text)
        assert len(of.serving.redirects) == count
        assert of.redirects.cost > MAX_COST
        with pytest.raises(BadRules, match="too many redirects overlap"):
            check_site(of, FILES)
    with pytest.raises(BadRules, match="too many rules for headers overlap"):
        check_site(site(headers="".join(f"/*{n}\n X-A: b\n" for n in range(1000))), FILES)


def test_one_rule_of_many_headers_makes_no_request_expensive() -> None:
    with pytest.raises(BadRules, match="too many rules for headers overlap"):
        check_site(site(headers="/*\n" + "a: b\n" * 10_000), FILES)
    check_site(site(headers="/*\n" + "".join(f"x-{number}: b\n" for number in range(100))), FILES)


def test_ten_thousand_rules_cost_no_more_than_a_few() -> None:
    text = "".join(
        f"/old/{n}/* /new/{n}/:splat\n/p/{n % 50}/x-{n} /q/{n}\n/index.php id={n} /n/{n}\n/b{n}/:x/:y /c/:y\n"
        for n in range(2500)
    )
    of = site(text)
    assert len(of.serving.redirects) == 10_000
    assert of.redirects.cost < 20


def test_a_query_is_bounded() -> None:
    assert len(query_of("&".join(f"a{n}=1" for n in range(10_000)))) == 100
    assert query_of("a=1&a=2&&b&%C3%BC=+%20") == {"a": "1", "b": "", "ü": "  "}
