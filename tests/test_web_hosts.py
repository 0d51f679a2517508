"""Which hosts are the API's and which the releases': none is both, so that no release can touch a session."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.web.http.hosts import Hosts, host_of, spare_loopback


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("shop.localhost:8081", "shop.localhost"),
        ("SHOP.LocalHost.", "shop.localhost"),
        ("127.0.0.1:8081", "127.0.0.1"),
        ("[::1]:8081", "::1"),
        ("[0:0::1]", "::1"),
        ("[::ffff:127.0.0.1]:8081", "127.0.0.1"),
        ("", ""),
        ("[::1", ""),
        (":80", ""),
        ("evil.example@127.0.0.1", ""),
        ("evil.example:x@127.0.0.1:80", ""),
        ("[::1]evil.example", ""),
        ("127.0.0.1/evil.example", ""),
        ("127.0.0.1?.evil.example", ""),
        ("127.0.0.1\\.evil.example", ""),
    ],
)
def test_equal_hosts_are_equal_strings(authority: str, host: str) -> None:
    assert host_of(authority) == host


def test_by_default_releases_are_below_localhost_or_on_another_loopback_address() -> None:
    hosts = Hosts()
    assert hosts.project_of("shop.localhost:8081") == "shop"
    assert hosts.has_paths("127.0.0.2:8081")
    for host in (
        "127.0.0.1:8081",
        "localhost:8081",
        "[::1]:8081",
        "127.0.0.1.:8081",
        "LOCALHOST",
        "[::ffff:127.0.0.1]",
    ):
        assert not hosts.has_paths(host), host
        assert hosts.project_of(host) is None, host
        assert hosts.has_sessions(host), host
    for host in ("machine.lan", "10.0.0.1", "evil.example", "", "[", "127.0.0.2.evil.example"):
        assert not hosts.has_paths(host), f"{host}: a page whose name was bound to this address could read all releases"


def test_a_host_of_the_api_is_never_one_of_the_releases() -> None:
    """Also where the configuration says both: the API wins."""
    hosts = Hosts(
        api=["Builds.example.org:8080", "127.0.0.3"],
        domain="example.org",
        by_path=["builds.example.org", "pages.example.net:8081", "10.1.2.3"],
    )
    assert hosts.has_sessions("builds.example.org")
    assert hosts.project_of("builds.example.org") is None
    assert not hosts.has_paths("builds.example.org:8081")
    assert not hosts.has_paths("127.0.0.3:8081")
    assert hosts.has_paths("pages.example.net")
    assert hosts.has_paths("10.1.2.3:8081")
    assert hosts.project_of("shop.example.org") == "shop"


def test_a_release_is_where_the_public_address_says() -> None:
    """With ``releases.public_url`` alone, the address that was printed for a release was answered with 421."""
    hosts = Hosts(api=["builds.test"], template="{project}-Pages.test:8443")
    assert hosts.project_of("shop-pages.test") == "shop"
    assert hosts.project_of("SHOP-pages.test.:8443") == "shop"
    assert hosts.project_of("shop.localhost:8081") == "shop"
    assert not hosts.has_sessions("shop-pages.test")
    for host in ("-pages.test", "pages.test", "builds.test", "shop-pages.test.evil.example"):
        assert hosts.project_of(host) is None, host
    both = Hosts(domain="pages.test", template="www-{project}.pages.test")
    assert both.project_of("www-shop.pages.test") == "shop"
    assert both.project_of("shop.pages.test") == "shop"
    assert Hosts(api=["a.pages.test"], template="{project}.pages.test").project_of("a.pages.test") is None


def test_the_api_has_no_sessions_where_releases_are() -> None:
    """A release at shop.localhost:8081 shares its cookies with the API at shop.localhost:8080."""
    hosts = Hosts(by_path=["pages.example.org"])
    for host in ("shop.localhost:8080", "127.0.0.2:8080", "pages.example.org"):
        assert not hosts.has_sessions(host)
    assert hosts.has_sessions("machine.lan:8080"), "which is beyond this machine: any name may be the API's"
    assert not Hosts(only_known=True).has_sessions("machine.lan:8080")


_HOST = st.sampled_from(
    ["localhost", "127.0.0.1", "127.0.0.2", "[::1]", "a.test", "b.a.test", "c.b.a.test", "x.localhost"]
)


@given(
    api=st.lists(_HOST),
    domain=st.sampled_from(["localhost", "test", "a.test"]),
    template=st.sampled_from(["", "{project}.test", "c.{project}.a.test", "{project}"]),
    by_path=st.lists(_HOST),
    host=_HOST,
)
def test_no_host_is_both(api: list[str], domain: str, template: str, by_path: list[str], host: str) -> None:
    for only_known in (True, False):
        hosts = Hosts(api=api, domain=domain, template=template, by_path=by_path, only_known=only_known)
        assert not (hosts.has_sessions(host) and (hosts.has_paths(host) or hosts.project_of(host) is not None))


def test_addresses_that_the_api_has_not_by_itself() -> None:
    assert spare_loopback("127.0.0.2")
    for name in ("127.0.0.1", "localhost", "::1", "10.0.0.1", "", "::2"):
        assert not spare_loopback(name), name
