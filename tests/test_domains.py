"""Projects' own domains: which names can be one, whose they are, and where they lead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, update

from tests.storage_fixtures import NOW, add_project, database
from twistedipc.builds.domains import MAX_DOMAINS, domain, is_among, pattern, readable
from twistedipc.builds.names import BadValue
from twistedipc.storage import domains, projects
from twistedipc.storage.errors import NotFound, NotPossible
from twistedipc.storage.rows import DomainRow
from twistedipc.storage.tables import domains as table
from twistedipc.web.access.domains import Domains
from twistedipc.web.http.hosts import Hosts, host_of


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("www.acme.example", "www.acme.example"),
        ("WWW.Acme.Example.", "www.acme.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER。example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
        ("1.example", "1.example"),
    ],
)
def test_a_domain_is_kept_in_one_form(text: str, name: str) -> None:
    assert domain(text) == name
    assert domain(readable(name)) == name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "can't be the name of a host"),
        (".", "can't be the name of a host"),
        ("example", "one part only"),
        ("com.", "one part only"),
        ("localhost", "one part only"),
        ("shop.localhost", "the machine of the person who looks"),
        ("https://acme.example", "isn't a name alone"),
        ("acme.example:8080", "isn't a name alone"),
        ("acme.example/shop", "isn't a name alone"),
        ("ada@acme.example", "isn't a name alone"),
        ("acme.example\r\nSet-Cookie: a=b", "isn't a name alone"),
        ("acme .example", "isn't a name alone"),
        ("*.acme.example", "has a *"),
        ("192.0.2.1", "is an address"),
        ("2001:db8::1", "is an address"),
        ("[2001:db8::1]", "is an address"),
        ("１９２.0.2.1", "is an address"),
        ("127.1", "is an address to browsers"),
        ("a.0x7f", "is an address to browsers"),
        ("a..example", "can't be the name of a host"),
        ("a.example..", "can't be the name of a host"),
        ("-a.example", "can't be the name of a host"),
        ("a_b.example", "can't be the name of a host"),
        ("xn--a.example", "can't be the name of a host"),
        ("a" * 64 + ".example", "can't be the name of a host"),
        ("a." * 126 + "example", "has at most 253 characters"),
        ("ü." * 60 + "example", "can't be the name of a host"),
    ],
)
def test_what_is_no_domain_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(BadValue, match=said.replace("*", r"\*")):
        domain(text)


@given(st.text(max_size=300))
def test_whatever_is_a_domain_is_a_host_of_requests(text: str) -> None:
    try:
        name = domain(text)
    except BadValue:
        return
    assert host_of(name) == host_of(f"{name.upper()}.:443") == name == domain(name)


def test_which_domains_projects_may_have_is_said_by_patterns() -> None:
    patterns = [pattern(text) for text in ("*.Acme.example", "shop.example", "*.bücher.example")]
    for name in ("www.acme.example", "a.b.acme.example", "shop.example", "a.xn--bcher-kva.example"):
        assert is_among(name, patterns), name
    for name in ("acme.example", "evilacme.example", "www.shop.example", "acme.example.evil.example"):
        assert not is_among(name, patterns), name
    assert is_among("any.example", [pattern("*")])
    assert not is_among("any.example", [])
    for text in ("", "*acme.example", "*.", "*.*.example", "acme.*", "**", "*.com"):
        with pytest.raises(BadValue):
            pattern(text)


# -- whose they are --------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Connection]:
    with database(tmp_path) as connection:
        add_project(connection)
        add_project(connection, "blog")
        yield connection


def put(
    connection: Connection, name: str, project: str = "shop", *, main: bool = False, redirect: bool = False
) -> None:
    domains.put(connection, project, name, main=main, redirect=redirect, now=NOW)


def shown(connection: Connection, project: str = "shop") -> list[tuple[str, str]]:
    return [
        (row.name, "main" if row.main else "redirect" if row.redirect else "served")
        for row in domains.list_all(connection, project)
    ]


def test_the_first_domain_is_the_main_one_until_another_is(ledger: Connection) -> None:
    put(ledger, "a.example")
    put(ledger, "b.example")
    put(ledger, "www.a.example", redirect=True)
    assert shown(ledger) == [("a.example", "main"), ("b.example", "served"), ("www.a.example", "redirect")]
    put(ledger, "www.a.example", main=True)
    assert shown(ledger) == [("www.a.example", "main"), ("a.example", "served"), ("b.example", "served")]
    put(ledger, "a.example", redirect=True)
    put(ledger, "www.a.example")  # it stays what it is
    assert shown(ledger) == [("www.a.example", "main"), ("a.example", "redirect"), ("b.example", "served")]


def test_a_domain_can_only_lead_to_another_one(ledger: Connection) -> None:
    with pytest.raises(NotPossible, match=r"shop has no other domain to which a\.example could lead"):
        put(ledger, "a.example", redirect=True)
    put(ledger, "a.example")
    for main in (False, True):
        with pytest.raises(NotPossible, match=r"a\.example can't lead to the main domain of shop: it is that itself"):
            put(ledger, "a.example", main=main, redirect=True)
    assert shown(ledger) == [("a.example", "main")]


def test_what_is_removed_leaves_a_main_domain(ledger: Connection) -> None:
    put(ledger, "a.example")
    put(ledger, "www.a.example", redirect=True)
    with pytest.raises(NotPossible, match=r"www\.a\.example leads to a\.example: remove that first"):
        domains.remove(ledger, "shop", "a.example")
    put(ledger, "b.example")
    assert domains.remove(ledger, "shop", "a.example")
    assert shown(ledger) == [("b.example", "main"), ("www.a.example", "redirect")]
    assert not domains.remove(ledger, "shop", "a.example")
    assert domains.remove(ledger, "shop", "www.a.example")
    assert domains.remove(ledger, "shop", "b.example")
    assert shown(ledger) == []


def test_a_domain_is_one_projects_alone(ledger: Connection) -> None:
    put(ledger, "a.example")
    with pytest.raises(NotPossible, match=r"a\.example is a domain of another project"):
        put(ledger, "a.example", "blog")
    assert not domains.remove(ledger, "blog", "a.example")
    assert shown(ledger, "blog") == []
    with pytest.raises(NotFound):
        put(ledger, "b.example", "nowhere")
    assert projects.delete(ledger, "shop", NOW)
    assert domains.everything(ledger) == []
    put(ledger, "a.example", "blog")
    assert shown(ledger, "blog") == [("a.example", "main")]


def test_there_are_so_many_at_most(ledger: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(MAX_DOMAINS):
        put(ledger, f"s{number}.example")
    with pytest.raises(NotPossible, match="shop has 20 domains already"):
        put(ledger, "more.example")
    put(ledger, "s1.example", main=True)  # which is there
    monkeypatch.setattr(domains, "MOST", MAX_DOMAINS + 1)
    put(ledger, "a.example", "blog")
    with pytest.raises(NotPossible, match="all projects together have 21 domains already"):
        put(ledger, "b.example", "blog")


def test_what_the_database_holds_twice_is_refused_by_itself(ledger: Connection) -> None:
    put(ledger, "a.example")
    put(ledger, "b.example", "blog")
    with pytest.raises(Exception, match=r"(?i)unique"):
        ledger.execute(update(table).values(name="a.example"))


# -- where they lead -------------------------------------------------------------------------------------------------


def row(name: str, project: str = "shop", *, main: bool = False, redirect: bool = False) -> DomainRow:
    return DomainRow(project=project, name=name, main=main, redirect=redirect, created=NOW)


def known(hosts: Hosts, *rows: DomainRow, address: str = "https://{}.pages.example/") -> Domains:
    found = Domains(hosts, lambda name: [address.format(name)])
    for project in {each.project for each in rows}:
        found.changed(project, [each for each in rows if each.project == project])
    return found


def test_a_domain_names_its_project_at_once_and_no_longer_than_it_is_one() -> None:
    found = known(Hosts(api=["builds.example.org"], domain="pages.example"), row("acme.example", main=True))
    for host in ("acme.example", "ACME.example.:8443"):
        assert found.hosts.project_of(host) == "shop"
        assert not found.hosts.has_sessions(host)
        assert not found.hosts.is_api(host)
        assert not found.hosts.has_paths(host)
    for host in ("www.acme.example", "acme.example.evil.example", "ada@acme.example", "acme.example/x", "", "["):
        assert found.hosts.project_of(host) is None, host
    assert found.urls_of("shop") == ["https://acme.example/", "https://shop.pages.example/"]
    assert found.urls_of("fix--shop") == ["https://fix--shop.pages.example/"], "previews are at the platform's alone"
    found.changed("shop", [row("b.example", main=True), row("www.b.example", redirect=True)])
    assert found.hosts.project_of("acme.example") is None
    assert found.hosts.project_of("www.b.example") == "shop"
    assert (found.sent_to("www.b.example"), found.sent_to("b.example")) == ("b.example", "")
    assert found.url_of("shop") == "https://b.example/"
    found.changed("shop", ())
    assert found.hosts.project_of("b.example") is None
    assert found.url_of("shop") == "https://shop.pages.example/"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://{}.localhost:8081/", "http://acme.example:8081/"),
        ("https://pages.example/{}/", "https://acme.example/"),
        ("https://{}.pages.example:8443/", "https://acme.example:8443/"),
    ],
)
def test_scheme_and_port_are_those_of_the_platforms_addresses(address: str, expected: str) -> None:
    assert known(Hosts(), row("acme.example", main=True), address=address).url_of("shop") == expected


HOSTS = Hosts(
    api=["builds.acme.example", "machine", "127.0.0.1"],
    domain="pages.acme.example",
    template="www-{project}.acme.test",
    by_path=["shared.example"],
)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("builds.acme.example", "is a host of the API's"),
        ("evil.builds.acme.example", "is below builds.acme.example, a host of the API's"),
        ("pages.acme.example", "is at or below the domain of the platform's own addresses"),
        ("shop.pages.acme.example", "is at or below the domain of the platform's own addresses"),
        ("a.b.pages.acme.example", "is at or below the domain of the platform's own addresses"),
        ("www-blog.acme.test", "is an address that the platform gives to a project"),
        ("shared.example", "is at or below the host that the releases of all projects share"),
        ("a.shared.example", "is at or below the host that the releases of all projects share"),
        ("acme.example", ""),
        ("acme.test", ""),
        ("xpages.acme.example", ""),
    ],
)
def test_what_is_the_platforms_is_no_projects(name: str, said: str) -> None:
    assert HOSTS.why_not(name).startswith(said)
    assert bool(HOSTS.why_not(name)) == bool(said)


def test_a_name_that_has_become_the_platforms_isnt_a_projects_any_more() -> None:
    """A domain was added, and then the operator has given the name to the API, or to the releases."""
    rows = [row(name, main=not at) for at, name in enumerate(["builds.acme.example", "shared.example", "b.example"])]
    found = known(HOSTS, *rows, row("www.b.example", redirect=True), address="https://{}.pages.acme.example/")
    for name in ("builds.acme.example", "shared.example"):
        assert found.hosts.project_of(name) is None
        assert found.why_not_served(name)
    assert found.hosts.is_api("builds.acme.example")
    assert found.hosts.has_paths("shared.example")
    assert found.urls_of("shop") == ["https://b.example/", "https://shop.pages.acme.example/"]
    assert found.sent_to("www.b.example") == "", "to the API it must not lead"


_NAME = st.sampled_from(["localhost", "a.test", "b.a.test", "c.b.a.test", "shop.b.test", "www.shop.b.test", "d.test"])


@given(
    api=st.lists(_NAME),
    domain_=_NAME,
    template=st.sampled_from(["", "{project}.test", "c.{project}.a.test"]),
    by_path=st.lists(_NAME),
    own=st.lists(_NAME),
    host=_NAME,
)
def test_no_domain_is_taken_for_the_api(
    api: list[str], domain_: str, template: str, by_path: list[str], own: list[str], host: str
) -> None:
    for only_known in (True, False):
        without = Hosts(api=api, domain=domain_, template=template, by_path=by_path, only_known=only_known)
        hosts = known(without, *[row(name, main=True) for name in dict.fromkeys(own)]).hosts
        assert hosts.is_api(host) == without.is_api(host)
        project = hosts.project_of(host)
        assert not (project is not None and (hosts.is_api(host) or hosts.has_sessions(host)))
        if without.project_of(host) is not None or without.has_paths(host):
            assert project == without.project_of(host), "nor does it take an address of the platform's"
