"""Releases by http: the way to https, and what an authority asks for that certifies a host."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from twisted.internet.defer import succeed

from tests.site_client import SiteClient
from twistedipc.builds.site.rules import HeaderRule, Serving
from twistedipc.publish.targets.static.target import StaticSettings
from twistedipc.storage.rows import DomainRow
from twistedipc.web.access.audience import Audience, Sought
from twistedipc.web.access.domains import Domains
from twistedipc.web.access.guests import Guests
from twistedipc.web.access.visits import Visits
from twistedipc.web.http.clients import Proxies
from twistedipc.web.http.hosts import Hosts
from twistedipc.web.releases.gate import PASSWORD, Gate
from twistedipc.web.releases.unencrypted import Unencrypted

PAGE = {"index.html": b"<h1>shop</h1>"}


def domain(name: str, *, main: bool) -> DomainRow:
    return DomainRow(project="shop", name=name, main=main, redirect=not main, created=0)


class Told(Audience):
    """Knows one thing, without a ledger."""

    def __init__(self, sought: Sought) -> None:
        self._sought = sought

    def known(self, name: str) -> Sought | None:
        return self._sought


def client(
    folder: Path,
    port: int | None = 443,
    webroot: Path | None = None,
    *,
    api: str = "api.test",
    by_path: Sequence[str] = (),
    audience: Audience | None = None,
) -> SiteClient:
    domains = Domains(Hosts(api=[api], by_path=by_path), lambda name: [f"https://{name}.localhost/"])
    domains.changed("shop", [domain("acme.example", main=True), domain("www.acme.example", main=False)])
    guests = Guests(lambda: 0, lambda function, *args: succeed(function(*args)), b"key")
    site = SiteClient(
        folder / "releases",
        audience,
        domains=domains,
        proxies=Proxies(["192.168.1.1"]),
        gate=Gate(Visits(lambda: 0, os.urandom), guests, "https://api.test", domains.urls_of),
        unencrypted=Unencrypted(port, webroot),
    )
    site.release(1, PAGE)
    return site


@pytest.mark.parametrize(
    ("host", "path", "location"),
    [
        ("shop.localhost", "/", "https://shop.localhost/"),
        ("SHOP.localhost.:8080", "/a/b?x=1&y=//c", "https://shop.localhost/a/b?x=1&y=//c"),
        ("acme.example", "/%C3%A4?q=%0D%0A", "https://acme.example/%C3%A4?q=%0D%0A"),
        ("www.acme.example", "/a?b", "https://acme.example/a?b"),
    ],
)
def test_what_comes_by_http_is_led_to_https(tmp_path: Path, host: str, path: str, location: str) -> None:
    for method in ("GET", "HEAD"):
        answer = client(tmp_path).get(path, host=host, method=method)
        assert (answer.status, answer.headers["Location"]) == (308, location)
        assert "Strict-Transport-Security" not in answer.headers


STRICT = "Strict-Transport-Security"


def strict(said: str | None = None, value: str = "max-age=99; includeSubDomains; preload") -> list[HeaderRule]:
    return [HeaderRule(source="/*", values=[(said or STRICT, value)])]


@pytest.mark.parametrize(
    ("host", "rules", "sent"),
    [
        ("acme.example", strict(), "max-age=99"),
        ("acme.example", strict("strict-transport-security"), "max-age=99"),
        ("acme.example", strict() + strict(value='INCLUDESUBDOMAINS ; max-age="7"'), "max-age=99"),
        ("acme.example", strict(value="includeSubDomains"), None),
        ("acme.example", [HeaderRule(source="/*", removed=[STRICT])], None),
        ("acme.example", [], "max-age=31536000"),
        ("shop.localhost", strict(), "max-age=99; includeSubDomains; preload"),
    ],
)
def test_no_site_decides_how_the_api_below_its_host_is_reached(
    tmp_path: Path, host: str, rules: list[HeaderRule], sent: str | None
) -> None:
    site = client(tmp_path, api="builds.acme.example")
    site.release(2, {**PAGE, "404.html": b"none"}, serving=Serving(headers=rules))
    for path in ("/", "/none"):
        assert site.get(path, ("X-Forwarded-Proto", "https"), host=host).headers[STRICT] == sent


def test_nor_does_its_project(tmp_path: Path) -> None:
    settings = StaticSettings(headers=[f"{STRICT}: max-age=99; includeSubDomains"])
    for api, sent in (("builds.acme.example", "max-age=99"), ("api.test", "max-age=99; includeSubDomains")):
        site = client(tmp_path / api, api=api, audience=Told(Sought("shop", settings)))
        assert site.get("/", ("X-Forwarded-Proto", "https"), host="acme.example").headers[STRICT] == sent


def test_an_ipv6_address_is_led_to_in_brackets(tmp_path: Path) -> None:
    site = client(tmp_path, by_path=["[2001:db8::1]"])
    answer = site.get("/shop/a", host="[2001:DB8:0::1]:80")
    assert (answer.status, answer.headers["Location"]) == (308, "https://[2001:db8::1]/shop/a")
    other = client(tmp_path / "other", 8443, by_path=["[2001:db8::1]"])
    assert other.get("/shop/", host="[2001:db8::1]").headers["Location"] == "https://[2001:db8::1]:8443/shop/"


def test_a_form_with_a_password_is_sent_again_by_https(tmp_path: Path) -> None:
    answer = client(tmp_path).get(PASSWORD.decode(), method="POST")
    assert (answer.status, answer.headers["Location"]) == (308, f"https://shop.localhost{PASSWORD.decode()}")
    assert client(tmp_path).get("/", method="POST").status == 405


def test_the_port_is_said_where_it_is_another(tmp_path: Path) -> None:
    assert client(tmp_path, 8443).get("/").headers["Location"] == "https://shop.localhost:8443/"


def test_what_a_trusted_proxy_got_by_https_is_answered(tmp_path: Path) -> None:
    site = client(tmp_path)
    assert site.get("/", ("X-Forwarded-Proto", "https")).body == b"<h1>shop</h1>"
    assert site.get("/", ("X-Forwarded-Proto", "http")).status == 308


def test_no_request_is_led_to_a_host_that_isnt_ours(tmp_path: Path) -> None:
    site = client(tmp_path)
    for host in ("evil.example", "acme.example.evil.example", "acme.example@evil.example", "api.test", "", "127.0.0.1"):
        answer = site.get("/", host=host)
        assert answer.status == 421, host
        assert "Location" not in answer.headers
    assert site.get("//evil.example/", host="acme.example").status == 404
    assert site.get("/shop/", host="127.0.0.2").body == b"<h1>shop</h1>", "no certificate is for an address"


def test_it_is_answered_where_nobody_wants_https(tmp_path: Path) -> None:
    assert client(tmp_path, None).get("/").body == b"<h1>shop</h1>"


def test_an_authority_gets_what_the_acme_client_has_put_there(tmp_path: Path) -> None:
    webroot = tmp_path / "www"
    folder = webroot / ".well-known" / "acme-challenge"
    folder.mkdir(parents=True)
    (folder / "tok-en_1").write_bytes(b"tok-en_1.thumbprint")
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")  # opened as a file is, it would wait for somebody that writes
    os.symlink(tmp_path / "secret", folder / "link")
    site = client(tmp_path, 443, webroot)
    for host in ("acme.example", "www.acme.example", "builds.example.org"):
        answer = site.get("/.well-known/acme-challenge/tok-en_1", host=host)
        assert (answer.status, answer.body) == (200, b"tok-en_1.thumbprint"), host
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for path in (
        "tok-en_2",
        "folder",
        "fifo",
        "link",
        "..%2f..%2f..%2fsecret",
        "%2e%2e/%2e%2e/%2e%2e/secret",
        "",
        "a%00b",
        "x" * 300,
    ):
        answer = site.get(f"/.well-known/acme-challenge/{path}", host="acme.example")
        assert answer.status in (308, 404), path
        assert b"secret" not in answer.body
    assert site.get("/.well-known/acme-challenge/none", host="evil.example").status == 404
