"""The rules of the gate, without a network: which hosts a step may reach, what is asked of resolver and proxy."""

from __future__ import annotations

import asyncio
import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.builds.egress import MODES, narrower
from twistedipc.builds.host_rules import Address, BadRule, literal, rule
from twistedipc.isolation.network import gate, proxying, resolving
from twistedipc.isolation.network.contacts import MAX_CONTACTS, MAX_TOLD, Contacts
from twistedipc.isolation.network.gate import Gate
from twistedipc.isolation.network.hosts import (
    IS_LOCAL,
    IS_METADATA,
    IS_OURS,
    IS_PRIVATE,
    NOT_KNOWN,
    NOT_USED,
    PRIVATE,
    UNRESOLVED,
    Policy,
    Verdict,
    verdict,
    within,
)

PUBLIC = ipaddress.ip_address("93.184.216.34")
INSIDE = ipaddress.ip_address("10.1.2.3")
METADATA = ipaddress.ip_address("169.254.169.254")
LOOPBACK = ipaddress.ip_address("127.0.0.1")


def judged(policy: Policy, host: str, port: int, *addresses: Address, local: set[Address] | None = None) -> Verdict:
    return verdict(policy, host, port, addresses, ours={(None, 8080), (PUBLIC, 7000)}, local=local or set())


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("Registry.Example.org", "registry.example.org", 0),
        ("*.example.org:443", "*.example.org", 443),
        ("10.1.2.3:4873", "10.1.2.3", 4873),
        ("[::1]:4873", "::1", 4873),
        ("fe80::1", "fe80::1", 0),
        ("localhost:4873", "localhost", 4873),
    ],
)
def test_a_rule_names_a_host_and_maybe_a_port(text: str, host: str, port: int) -> None:
    assert rule(text) == (host, port)
    assert rule(str(rule(text))) == (host, port)


@pytest.mark.parametrize(
    "text", ["", "*", "a b", "https://a", "a:0", "a:65536", "300.1.2.3", "[x]", "a..b", "*.*.a", "-a"]
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(BadRule):
        rule(text)


def test_an_open_step_reaches_what_is_public_and_what_is_allowed() -> None:
    policy = Policy(open=True, allowed=[rule("git.corp:22"), rule("*.inside.corp")])
    assert judged(policy, "example.org", 443, PUBLIC).addresses == [PUBLIC]
    assert judged(policy, "rebound.example.org", 443, INSIDE).why == IS_PRIVATE
    assert judged(policy, "rebound.example.org", 443, INSIDE, PUBLIC).addresses == [PUBLIC]
    assert judged(policy, "git.corp", 22, INSIDE).addresses == [INSIDE]
    assert judged(policy, "git.corp", 23, INSIDE).why == IS_PRIVATE
    assert judged(policy, "a.inside.corp", 80, INSIDE).addresses == [INSIDE]
    assert judged(policy, "inside.corp", 80, INSIDE).why == IS_PRIVATE
    assert judged(policy, "example.org", 443, PUBLIC, local={PUBLIC}).why == IS_PRIVATE
    assert judged(policy, "nowhere.example.org", 443).why == UNRESOLVED


def test_a_closed_step_reaches_what_is_allowed_alone() -> None:
    policy = Policy(allowed=[rule("registry.example.org")])
    assert judged(policy, "registry.example.org", 443, PUBLIC).addresses == [PUBLIC]
    assert judged(policy, "example.org", 443, PUBLIC).why == NOT_KNOWN


def test_the_platform_itself_is_never_reached_and_metadata_only_if_the_operator_says_so() -> None:
    named = [rule("localhost"), rule("metadata.corp"), rule("api.corp")]
    by_project, by_operator = Policy(allowed=named), Policy(operators=named)
    for policy in (by_project, by_operator):
        assert judged(policy, "localhost", 8080, LOOPBACK).why == IS_OURS
        assert judged(policy, "127.0.0.1", 4873, LOOPBACK).addresses == [LOOPBACK]
        assert judged(policy, "api.corp", 7000, PUBLIC).why == IS_OURS
        assert judged(policy, "api.corp", 8080, PUBLIC, local={PUBLIC}).why == IS_OURS
    assert judged(by_project, "metadata.corp", 80, METADATA).why == IS_METADATA
    assert judged(by_operator, "metadata.corp", 80, METADATA).addresses == [METADATA]


def test_what_must_be_elsewhere_is_not_at_this_machine() -> None:
    named = [rule("git.example.org")]
    assert judged(Policy(allowed=named, elsewhere=True), "git.example.org", 22, LOOPBACK).why == IS_LOCAL
    assert judged(Policy(allowed=named, elsewhere=True), "git.example.org", 22, PUBLIC, local={PUBLIC}).why == IS_LOCAL
    assert judged(Policy(allowed=named, elsewhere=True), "git.example.org", 22, INSIDE).addresses == [INSIDE]
    assert judged(Policy(operators=named, elsewhere=True), "git.example.org", 22, LOOPBACK).addresses == [LOOPBACK]


def test_where_it_is_asked_a_host_that_was_not_used_is_refused() -> None:
    named = [rule("old.example.org"), rule("new.example.org")]
    policy = Policy(allowed=named, operators=[rule("always.example.org")], used={"old.example.org"})
    assert judged(policy, "old.example.org", 443, PUBLIC).addresses == [PUBLIC]
    assert judged(policy, "new.example.org", 443, PUBLIC).why == NOT_USED
    assert judged(policy, "always.example.org", 443, PUBLIC).addresses == [PUBLIC]


@given(st.ip_addresses())
def test_no_address_that_is_not_global_is_public(address: Address) -> None:
    plain = literal(str(address))
    assert plain is not None
    if judged(Policy(open=True), str(plain), 443, plain).addresses:
        assert plain.is_global
        assert not plain.is_multicast


def test_an_address_of_the_old_kind_in_one_of_the_new_is_the_same() -> None:
    assert literal("::ffff:10.1.2.3") == INSIDE
    assert within(ipaddress.ip_address("::7f00:1"), PRIVATE)
    assert within(ipaddress.ip_address("::ffff:0:7f00:1"), PRIVATE)


def test_an_address_with_a_zone_is_none() -> None:
    """The kernel connects to it as to the same address without, and this machine's own would be taken for another's."""
    assert literal("2a00::1%1") is None
    assert literal("::1%lo") is None


def test_the_narrower_of_two_modes_counts() -> None:
    assert [narrower(one, "registries") for one in MODES] == ["none", "registries", "registries"]


def query(name: bytes, kind: int, *, flags: int = 0x0100, count: int = 1) -> bytes:
    labels = b"".join(bytes([len(part)]) + part for part in name.split(b"."))
    return struct.pack("!6H", 77, flags, count, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", kind, 1)


def test_a_question_is_answered_with_the_addresses_of_its_kind() -> None:
    asked = resolving.question(query(b"Example.ORG", resolving.A))
    assert asked is not None
    assert asked.name == "example.org"
    answer = resolving.answer(asked, [PUBLIC, ipaddress.ip_address("2606::1")])
    assert answer[:12] == struct.pack("!6H", 77, 0x8180, 1, 1, 0, 0)
    assert answer.endswith(PUBLIC.packed)
    assert resolving.answer(asked, code=resolving.NXDOMAIN)[3] & 15 == resolving.NXDOMAIN


@given(st.binary(max_size=600) | st.builds(query, st.binary(min_size=1, max_size=60), st.integers(0, 65535)))
def test_no_bytes_break_the_resolver(data: bytes) -> None:
    asked = resolving.question(data)
    if asked is not None:
        assert resolving.answer(asked, [PUBLIC]).startswith(data[:2])


def test_answers_and_names_with_pointers_are_no_questions() -> None:
    assert resolving.question(query(b"a", resolving.A, flags=0x8100)) is None
    assert resolving.question(query(b"a", resolving.A, count=2)) is None
    assert resolving.question(struct.pack("!6H", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1") is None


def test_a_request_with_a_whole_address_is_passed_on_without_what_is_the_proxys() -> None:
    lines = ["GET http://Example.org/a?b=c HTTP/1.1", "Host: example.org", "Proxy-Authorization: x", "TE: x", "", ""]
    head = "\r\n".join(lines).encode()
    asked = proxying.asked(head)
    assert (asked.host, asked.port, asked.connect) == ("example.org", 80, False)
    assert asked.head == b"GET /a?b=c HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n"


def test_a_tunnel_is_asked_for_by_name_or_address() -> None:
    assert proxying.asked(b"CONNECT a.example.org.:443 HTTP/1.1\r\n\r\n")[:3] == ("a.example.org", 443, True)
    assert proxying.asked(b"CONNECT [::ffff:10.1.2.3]:443 HTTP/1.1\r\n\r\n")[:3] == ("10.1.2.3", 443, True)


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1",
        b"CONNECT a HTTP/1.1",
        b"CONNECT a:b HTTP/1.1",
        b"CONNECT a@b\xff:1 HTTP/1.1",
        b"x",
        b"GET ftp://a/ HTTP/1.1",
        b"CONNECT [2a00::1%1]:443 HTTP/1.1",
        b"GET http://[fe80::1%25eth0]/ HTTP/1.1",
    ],
)
def test_what_is_no_request_for_a_proxy_is_refused(line: bytes) -> None:
    with pytest.raises(proxying.BadRequest):
        proxying.asked(line + b"\r\n\r\n")


@given(st.binary(max_size=300))
def test_no_bytes_break_the_proxy(data: bytes) -> None:
    try:
        asked = proxying.asked(data)
    except proxying.BadRequest:
        return
    assert asked.host
    assert asked.port


def test_the_ledger_has_a_bound_and_counts_the_rest() -> None:
    contacts = Contacts()
    contacts.begin("install")
    for number in range(MAX_CONTACTS + 7):
        contacts.note(f"h{number}", 443, now=number + 1, why=NOT_KNOWN).sent += 1
    contacts.note("h0", 443, now=9, why=NOT_KNOWN).sent += 1
    report = contacts.report()
    assert (len(report["contacts"]), report["more"]) == (MAX_CONTACTS, 7)
    assert report["contacts"][0] == {
        "host": "h0",
        "port": 443,
        "why": NOT_KNOWN,
        "step": "install",
        "first": 1,
        "connections": 2,
        "sent": 2,
    }
    assert len(contacts.told()) == MAX_TOLD
    contacts.begin("build")
    assert contacts.told() == []


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        (b"Proxy-Authorization: Basic YnVpbGQ6c2VjcmV0", True),
        (b"proxy-authorization:Basic YnVpbGQ6c2VjcmV0 ", True),
        (b"Proxy-Authorization: Basic YnVpbGQ6c2VjcmVu", False),
        (b"Proxy-Authorization: Basic YnVpbGQ6c2VjcmV", False),
        (b"Proxy-Authorization: Basic", False),
        (b"Proxy-Authorization: Bearer YnVpbGQ6c2VjcmV0", False),
        (b"Authorization: Basic YnVpbGQ6c2VjcmV0", False),
        (b"Accept: */*", False),
    ],
)
def test_a_proxy_on_the_machines_loopback_asks_for_a_password(header: bytes, shown: bool) -> None:
    head = b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n" + header + b"\r\n\r\n"
    assert proxying.shows(head, "build:secret") is shown


def test_the_password_isnt_taken_from_the_address_that_is_asked_for() -> None:
    head = b"GET http://Proxy-Authorization:Basic@example.org/ HTTP/1.1\r\n\r\n"
    assert not proxying.shows(head, "build:secret")


def test_the_password_isnt_passed_on() -> None:
    head = b"GET http://example.org/ HTTP/1.1\r\nProxy-Authorization: Basic YnVpbGQ6c2VjcmV0\r\n\r\n"
    assert b"YnVpbGQ6c2VjcmV0" not in proxying.asked(head).head


def test_who_asks_the_proxy_for_nothing_keeps_a_bounded_number_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "MAX_CONNECTIONS", 3)

    async def silent_ones() -> None:
        proxy = Gate({}, engine="gate", program="", ours=[], credentials="build:secret")
        port = (await proxy.do_loopback())["proxy"]

        async def answered() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"CONNECT a.example:443 HTTP/1.1\r\n\r\n")
            try:
                return await asyncio.wait_for(reader.readline(), 10)
            except ConnectionResetError:
                return b""
            finally:
                writer.close()

        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        assert await answered() == b""
        silent[0][1].close()
        while not (answer := await answered()):
            pass  # the gate hasn't seen yet that it was closed
        assert answer.startswith(b"HTTP/1.1 407 ")
        for _reader, writer in silent:
            writer.close()

    asyncio.run(silent_ones())
