"""The doors: names by which the API is reached, connections of one client, and where repositories may be."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed

from tests.web_world import Answer, World, connect, eventually, say
from twistedipc.attempts.addresses import look_up
from twistedipc.builds.places import Place, is_named, place_of, problem_of
from twistedipc.web.api.route import Route
from twistedipc.web.api.routes import ROUTES
from twistedipc.web.http import channel
from twistedipc.web.http.channel import Connections
from twistedipc.web.http.clients import Proxies
from twistedipc.web.http.hosts import Hosts


class Names(World):
    hosts = Hosts(api=["api.test"], domain="pages.test")
    api_url = "https://api.test"

    async def get(self, path: str, *hosts: str) -> Answer:
        lines = "".join(f"Host: {host}\r\n" for host in hosts)
        asked = f"GET {path} HTTP/1.1\r\n{lines}Authorization: Bearer {self.admin}\r\nConnection: close\r\n\r\n"
        return Answer(await say(self.port, asked.encode()))

    async def test_a_name_that_a_page_gave_this_address_is_refused(self) -> None:
        """The token that is shown is good: a page of that name could have got it from the person."""
        for host in ("evil.example", "api.test.evil.example", "shop.pages.test", "evil.example:8080", "["):
            answer = await self.get("/api/v1/identity", host)
            self.problem(answer, 421, "http.hosts")
            assert "https://api.test" in answer.json["detail"]

    async def test_every_route_and_the_page(self) -> None:
        for path in ("/", "/static/page.js", "/nothing", *(route.rule for route in ROUTES if _plain(route))):
            self.problem(await self.get(path, "evil.example"), 421)

    async def test_known_names_and_addresses_are_served(self) -> None:
        for host in ("api.test", "API.test:443", "localhost", "127.0.0.1:9", "[::1]:80", "192.0.2.9:8080"):
            assert (await self.get("/api/v1/identity", host)).status == 200, host

    async def test_what_only_looks_like_a_known_host_is_none(self) -> None:
        for host in ("evil.example@localhost", "[::1]evil.example", "localhost/evil.example", "localhost?evil.example"):
            self.problem(await self.get("/api/v1/identity", host), 421)

    async def test_a_request_has_one_host(self) -> None:
        self.problem(await self.get("/api/v1/identity", "api.test", "evil.example"), 400)


def _plain(route: Route) -> bool:
    return route.method == "GET" and "<" not in route.rule


class Crowded(World):
    async def test_one_client_does_not_shut_out_the_others(self) -> None:
        self.patch(channel, "MAX_CONNECTIONS_OF_ONE", 3)
        mine = [await connect(self.port) for _ in range(3)]
        refused = await connect(self.port)
        await refused.closed
        other = socket.socket()
        self.addCleanup(other.close)
        other.bind(("127.0.0.5", 0))
        other.connect(("127.0.0.1", self.port))
        await eventually(lambda: len(self.site.connections) == 4)
        for client in mine:
            client.abort()
        await eventually(lambda: len(self.site.connections) == 1)
        assert (await self.ask("GET", "/api/v1/identity")).status == 200


@given(st.lists(st.sampled_from(["a", "b", "c", None])), st.integers(0, 60))
def test_connections_are_counted_by_whose_they_are(wanted: list[str | None], closed: int) -> None:
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(channel, "MAX_CONNECTIONS", 12)
        patching.setattr(channel, "MAX_CONNECTIONS_OF_ONE", 3)
        connections, held = Connections(), list[str | None]()
        for whose in wanted:
            allowed = connections.allow(whose)
            assert allowed == (len(held) < 12 and (whose is None or held.count(whose) < 3))
            if allowed:
                connections.add(whose)
                held.append(whose)
            if held and closed % 3 == 0:
                connections.remove(held.pop(0))
            closed += 1
            assert len(connections) == len(held)


def test_whose_a_connection_is() -> None:
    proxies = Proxies(["10.0.0.0/8", "unix"])
    assert proxies.neighbourhood_of("192.0.2.1") == "192.0.2.1"
    assert proxies.neighbourhood_of("2001:db8::1") == proxies.neighbourhood_of("2001:db8::2") == "2001:db8::/64"
    assert proxies.neighbourhood_of("10.1.2.3") is None, "a proxy has many clients"
    assert Proxies().neighbourhood_of("unix") is None


# -- where repositories are ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("127.0.0.1", "this machine itself"),
        ("127.9.9.9", "this machine itself"),
        ("::1", "this machine itself"),
        ("0.0.0.0", "this machine itself"),
        ("::", "this machine itself"),
        ("::ffff:127.0.0.1", "this machine itself"),
        ("64:ff9b::7f00:1", "this machine itself"),
        ("2002:7f00:1::1", "this machine itself"),
        ("169.254.169.254", "a link-local address"),
        ("::ffff:169.254.169.254", "a link-local address"),
        ("fe80::1%eth0", "a link-local address"),
        ("fd00:ec2::254", "metadata service"),
        ("100.100.100.200", "metadata service"),
        ("224.0.0.1", "no address of a host"),
        ("255.255.255.255", "no address of a host"),
    ],
)
def test_addresses_from_which_nothing_is_fetched(address: str, what: str) -> None:
    assert what in problem_of("git.example", [Place("192.0.2.1", own=False), Place(address, own=False)])


def test_other_addresses_are_fetched_from_unless_they_are_the_machines_own() -> None:
    for address in ("192.0.2.1", "10.0.0.5", "192.168.1.7", "2001:db8::5", "fd12::1"):
        assert problem_of("git.example", [Place(address, own=False)]) == ""
        assert "this machine itself" in problem_of("git.example", [Place(address, own=True)])
    assert problem_of("unknown.example", []) == ""


@pytest.mark.parametrize(
    ("repository", "place"),
    [
        ("https://git.example/a.git", ("git.example", "git.example")),
        ("https://user@GIT.example:8443/a.git", ("git.example", "git.example:8443")),
        ("ssh://git@git.example:2222/a.git", ("git.example", "git.example:2222")),
        ("git@git.example:team/a.git", ("git.example", "git.example")),
        ("http://[::1]:3000/a.git", ("::1", "::1:3000")),
        ("/srv/git/a.git", ("", "")),
        ("file:///srv/git/a.git", ("", "")),
    ],
)
def test_the_host_of_a_repository(repository: str, place: tuple[str, str]) -> None:
    assert place_of(repository) == place


def test_hosts_are_named_with_a_port_or_without() -> None:
    assert is_named("http://git.internal:3000/a.git", ["git.internal:3000"])
    assert is_named("http://git.internal:3000/a.git", ["git.internal"])
    assert not is_named("http://git.internal:3001/a.git", ["git.internal:3000"])
    assert not is_named("/srv/a.git", [""])


def test_every_spelling_of_the_loopback_is_found() -> None:
    for host in ("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::1]"):
        places = look_up(host)
        assert places, host
        assert problem_of(host, places), host
    assert look_up("no such host") == []
    assert look_up("a" * 300) == []


class Repositories(World):
    async def prepare(self) -> None:
        self.known = {"metadata.example": "169.254.169.254", "rebound.example": "127.0.0.1", "git.example": "192.0.2.1"}
        looked: list[str] = []
        self.looked = looked

        def look(host: str) -> Deferred[list[Place]]:
            looked.append(host)
            return succeed([Place(self.known.get(host, host), own=False)])

        object.__setattr__(self.context, "look_up", look)
        object.__setattr__(
            self.context, "elsewhere", lambda repository: not is_named(repository, ["rebound.example:3000"])
        )

    async def add(self, repository: str) -> Any:
        return await self.ask("POST", "/api/v1/projects", {"name": "shop", "repository": repository})

    async def test_this_machine_and_metadata_services_are_refused(self) -> None:
        for repository in (
            "http://127.0.0.1:8080/x.git",
            "http://metadata.example/latest.git",
            "git@rebound.example:x.git",
            "ssh://rebound.example:22/x.git",
        ):
            answer = await self.add(repository)
            self.problem(answer, 422, "from which nothing is fetched")
            assert "http.internal_repositories" in answer.json["detail"]
        assert (await self.add("https://git.example/x.git")).status == 201
        change = {"repository": "http://metadata.example/x.git"}
        self.problem(await self.ask("PATCH", "/api/v1/projects/shop", change), 422)
        self.looked.clear()
        assert (await self.ask("PATCH", "/api/v1/projects/shop", {"default_ref": "next"})).status == 200
        assert self.looked == [], "what stays isn't looked at again"

    async def test_what_the_operator_has_named_is_allowed(self) -> None:
        assert (await self.add("http://rebound.example:3000/x.git")).status == 201
