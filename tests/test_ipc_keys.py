"""Named keys: which one a handshake goes by, what it proves, and what revoking one ends."""

from __future__ import annotations

import hmac
import json
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from tests.ipc_example import Recorders, apiserver, builder
from tests.properties import examples
from tests.test_ipc_service import CALCULATOR, Add, Calculator, Sum
from tests.test_ipc_session import NONCES, ConnectionPair, closed, listener
from twistedipc.ipc import (
    BadKey,
    Keys,
    LinkReactor,
    LinkRefused,
    NamedKey,
    NotConnected,
    dial,
    listen,
    make_named_key,
    read_key,
    read_named_key,
    write_key,
    write_named_key,
)
from twistedipc.ipc.testing import ConnectedPair, connected_pair
from twistedipc.ipc.wire import handshake
from twistedipc.ipc.wire.session import Closed, Ready, Session
from twistedipc.ipc.wire.settings import SessionSettings, Side

FIRST, SECOND, THIRD = (letter.encode() * 32 for letter in "abc")
SHARED, OTHER = b"s" * 32, b"o" * 32

#: The names of the two sides that the tests' settings have.
DIALLER, LISTENER = "builder-1", "apiserver-1"


def of_dialler(*ids: str, **changes: Any) -> Keys:
    """The listener's keys: some of the dialler's."""
    return Keys(*(_key(id_, DIALLER, "builder", **changes) for id_ in ids))


def of_listener(*ids: str, **changes: Any) -> Keys:
    """The dialler's keys, for the listener."""
    return Keys(*(_key(id_, LISTENER, "apiserver", **changes) for id_ in ids))


def _key(id_: str, name: str, role: str, **changes: Any) -> NamedKey:
    values: dict[str, Any] = {"secret": {"first": FIRST, "second": SECOND, "third": THIRD}[id_]}
    return NamedKey(id_, name=name, role=role, **(values | changes))


def outcome(dialler: SessionSettings, listener: SessionSettings) -> tuple[str, str]:
    """What both sides come to: the key's id, as both see it, or a code; and the dialler's reason."""
    pair = ConnectionPair(dialler, listener).exchange()
    ends = [pair.take(side)[-1] for side in (Side.DIALLER, Side.LISTENER)]
    if all(isinstance(end, Ready) for end in ends):
        keys = {end.peer.key for end in ends if isinstance(end, Ready)}
        assert len(keys) == 1
        return f"key {keys.pop()}".rstrip(), ""
    assert all(isinstance(end, Closed) for end in ends), ends
    first, second = (end for end in ends if isinstance(end, Closed))
    assert first.code == second.code
    return first.code, first.reason


# -- which key ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "comes_to", "why"),
    [
        # of the dialler; of the listener
        ({"keys": of_listener("first")}, {"keys": of_dialler("first")}, "key first", ""),
        ({"keys": of_listener("first", "second")}, {"keys": of_dialler("first")}, "key first", ""),
        ({"keys": of_listener("first", "second")}, {"keys": of_dialler("first", "second")}, "key second", ""),
        ({"keys": of_listener("first")}, {"keys": of_dialler("first", "second")}, "key first", ""),
        ({"keys": of_listener("first")}, {"keys": of_dialler("second")}, "unauthorized", "the same key"),
        ({"keys": of_listener("first", secret=OTHER)}, {"keys": of_dialler("first")}, "unauthorized", "the same key"),
        ({"keys": of_listener("first")}, {"keys": Keys()}, "unauthorized", "the same key"),
        ({"keys": Keys()}, {"keys": of_dialler("first")}, "unauthorized", "no key here for apiserver-1"),
        (
            {"keys": Keys(_key("first", "apiserver-2", ""))},
            {"keys": of_dialler("first")},
            "unauthorized",
            "no key here",
        ),
        ({"keys": Keys(_key("first", "", "viewer"))}, {"keys": of_dialler("first")}, "unauthorized", "no key here"),
        ({"keys": Keys(_key("first", "", ""))}, {"keys": Keys(_key("first", "", ""))}, "key first", ""),
        # a name that is another's, a role that is another
        (
            {"name": "builder-2", "keys": of_listener("first")},
            {"keys": of_dialler("first")},
            "refused",
            "not for builder-2",
        ),
        (
            {"keys": of_listener("first")},
            {"keys": Keys(_key("first", "", "viewer"))},
            "refused",
            "is for any name (viewer)",
        ),
        # beside a shared key
        ({"key": SHARED}, {"key": SHARED, "keys": Keys()}, "key", ""),
        ({"key": SHARED}, {"key": SHARED, "keys": of_dialler("first")}, "refused", "a key of its own"),
        ({"key": SHARED}, {"key": SHARED, "keys": of_dialler("first", sole=False)}, "key", ""),
        ({"key": SHARED, "name": "builder-2"}, {"key": SHARED, "keys": of_dialler("first")}, "key", ""),
        ({"key": SHARED}, {"keys": of_dialler("first")}, "unauthorized", "the same key"),
        ({"key": SHARED, "keys": of_listener("first", sole=False)}, {"key": SHARED}, "key", ""),
        ({"key": SHARED, "keys": of_listener("first", sole=False)}, {"key": SHARED, "keys": Keys()}, "key", ""),
        ({"key": SHARED, "keys": of_listener("first")}, {"key": SHARED}, "unauthorized", "takes no named keys"),
        (
            {"key": SHARED, "keys": of_listener("first")},
            {"key": SHARED, "keys": Keys()},
            "unauthorized",
            "the same key",
        ),
        ({"key": SHARED, "keys": of_listener("first")}, {"key": SHARED, "keys": of_dialler("first")}, "key first", ""),
        # where nobody needs one
        ({"keys": Keys(), "keys_optional": True}, {"key": None}, "key", ""),
        ({"keys": of_listener("first"), "keys_optional": True}, {"key": None}, "unauthorized", "takes no named keys"),
        ({"key": None}, {"keys": Keys(), "keys_optional": True}, "key", ""),
        ({"key": None}, {"keys": of_dialler("first"), "keys_optional": True}, "refused", "a key of its own"),
        ({"keys": of_listener("first")}, {"keys": of_dialler("first"), "keys_optional": True}, "key first", ""),
        ({"keys": of_listener("second")}, {"keys": Keys(), "keys_optional": True}, "unauthorized", "is required here"),
        ({"key": SHARED}, {"keys": Keys(), "keys_optional": True}, "unauthorized", "none is set here"),
        # with a side that has none
        ({"keys": of_listener("first")}, {}, "unauthorized", "takes no named keys"),
        ({"keys": of_listener("first")}, {"key": None}, "unauthorized", "takes no named keys"),
        ({"key": None}, {"keys": of_dialler("first")}, "unauthorized", "a key is required here"),
        ({"key": None}, {"key": SHARED, "keys": of_dialler("first")}, "unauthorized", "a key is required here"),
    ],
)
def test_the_key_that_a_handshake_goes_by(
    ours: dict[str, Any], theirs: dict[str, Any], comes_to: str, why: str
) -> None:
    none: dict[str, Any] = {"key": None}
    settings = builder(**({**none, **ours})), apiserver(**({**none, **theirs}))
    if theirs == {}:
        settings = settings[0], apiserver()
    got, said = outcome(*settings)
    assert got == comes_to, said
    assert why in said


NAMES = ["builder-1", "builder-2"]
SECRETS = [FIRST, SECOND, THIRD]


@st.composite
def keyrings(draw: st.DrawFn, names: list[str]) -> Keys | None:
    if draw(st.booleans()):
        return None
    ids = draw(st.lists(st.sampled_from(["first", "second", "third"]), unique=True))
    return Keys(
        *(
            NamedKey(id_, draw(st.sampled_from(SECRETS)), draw(st.sampled_from(["", *names])), sole=draw(st.booleans()))
            for id_ in ids
        )
    )


@settings(max_examples=examples(100))
@given(
    keyrings(["apiserver-1", "apiserver-2"]),
    keyrings(NAMES),
    st.sampled_from([None, SHARED, OTHER]),
    st.sampled_from([None, SHARED, OTHER]),
    st.sampled_from(NAMES),
)
def test_both_sides_come_to_the_same_and_only_by_a_key_that_both_have(
    ours: Keys | None, theirs: Keys | None, our_key: bytes | None, their_key: bytes | None, name: str
) -> None:
    """A link is made if, and only if, some key says so that is for the peer on either side; and then by the newest."""
    got, _ = outcome(builder(name=name, key=our_key, keys=ours), apiserver(key=their_key, keys=theirs))
    offered = ours.of("apiserver-1", "apiserver") if ours is not None and theirs is not None else []
    known = [theirs.get(key.id) for key in offered] if theirs is not None else []
    common = [mine for mine, other in zip(offered, known, strict=True) if other and other.secret == mine.secret]
    if common:
        assert theirs is not None
        found = theirs.get(common[0].id)
        assert found is not None
        assert got == (f"key {found.id}" if found.is_for(name, "builder") else "refused")
        return
    ours_is_good = our_key is not None and not (ours is not None and ours.has_own("apiserver-1"))
    both_open = ours is None and theirs is None and our_key is None and their_key is None
    if not both_open and not (ours_is_good and our_key == their_key):
        assert got == "unauthorized"
    elif theirs is not None and theirs.has_own(name):
        assert got == "refused"
    else:
        assert got == "key"


# -- what it proves --------------------------------------------------------------------------------------------------


def said_by_dialler(keys: Keys, challenge: dict[str, Any]) -> dict[str, Any]:
    """The hello that answers this challenge."""
    session = Session(Side.DIALLER, builder(key=None, keys=keys), nonce=NONCES[Side.DIALLER], now=0.0)
    session.receive(json.dumps(challenge).encode() + b"\n", 0.0)
    hello: dict[str, Any] = json.loads(session.data_to_send())
    return hello


@pytest.mark.parametrize(
    "which", ["name", "incarnation", "nonce", "frame_limit", "an id", "another id", "order", "one less"]
)
def test_each_word_of_a_hello_is_authenticated(which: str) -> None:
    session, challenge = listener(apiserver(key=None, keys=of_dialler("first", "second")))
    hello = said_by_dialler(of_listener("first", "second"), challenge)
    match which:
        case "name":
            hello["name"] = "builder-2"
        case "incarnation":
            hello["incarnation"] = "x"
        case "nonce":
            hello["nonce"] = "0" * 64
        case "frame_limit":
            hello["frame_limit"] = 4096
        case "an id":
            hello["keys"][0]["id"] = "third"
        case "another id":
            hello["keys"][1]["id"] = "third"
        case "order":
            hello["keys"].reverse()
        case "one less":
            del hello["keys"][0]
    end = closed(session, session.receive(json.dumps(hello).encode() + b"\n", 0.0))
    assert end.code == "unauthorized"


def test_a_welcome_by_a_key_that_was_not_offered_or_not_proven() -> None:
    for key, mac in (("third", "0" * 64), ("first", "0" * 64), (msgspec.UNSET, ""), (msgspec.UNSET, "0" * 64)):
        session = Session(
            Side.DIALLER, builder(key=None, keys=of_listener("first", "second")), nonce=NONCES[Side.DIALLER], now=0.0
        )
        _, challenge = listener(apiserver(key=None, keys=of_dialler("first")))
        session.receive(json.dumps(challenge).encode() + b"\n", 0.0)
        session.data_to_send()
        welcome = handshake.Welcome(incarnation="i", heartbeat=1000, key=key, mac=mac)
        end = closed(session, session.receive(msgspec.json.encode(welcome) + b"\n", 0.0))
        assert end.code == "unauthorized"


def test_a_key_that_is_revoked_between_hello_and_welcome() -> None:
    keys = of_listener("first")
    pair = ConnectionPair(builder(key=None, keys=keys), apiserver(key=None, keys=of_dialler("first")))
    pair.dialler.receive(pair.listener.data_to_send(), 0.0)
    pair.listener.receive(pair.dialler.data_to_send(), 0.0)
    keys.revoke("first")
    end = closed(pair.dialler, pair.dialler.receive(pair.listener.data_to_send(), 0.0))
    assert end.code == "unauthorized"


@pytest.mark.parametrize("side", Side)
def test_a_key_that_is_revoked_before_the_peer_has_said_what_it_takes(side: Side) -> None:
    keys = {Side.DIALLER: of_listener("first"), Side.LISTENER: of_dialler("first")}
    made = Recorders()
    dialler = (builder(key=None, keys=keys[Side.DIALLER]), made)
    pair = ConnectedPair(Clock(), dialler, (apiserver(key=None, keys=keys[Side.LISTENER]), made))
    for each in (Side.LISTENER, Side.DIALLER):
        pair.carry(each)  # the challenge, the hello
    if side is Side.DIALLER:
        pair.carry(Side.LISTENER, pair.wire(Side.LISTENER).buffer.index(b"\n") + 1)  # it is welcome
    keys[side].revoke("first")
    pair.pump()
    assert "revoked" in pair.reason(side)
    # At most the other side has had a link.
    assert {each.peer.info.role for each in made} <= {"builder" if side is Side.DIALLER else "apiserver"}


def test_the_welcome_says_which_key_was_proven_under_its_code() -> None:
    """Otherwise a listener that lies about it would have the dialler note another key than the one it went by."""
    challenge = handshake.Challenge(versions=[1], role="apiserver", name="a", nonce="1" * 64, keys=True)
    hello = handshake.Hello(version=1, role="builder", name="b", incarnation="i", nonce="2" * 64, mac="")
    codes = {
        handshake.welcome_mac(
            FIRST, challenge, hello, handshake.Welcome(incarnation="i", heartbeat=1000, key=key, mac="")
        )
        for key in (msgspec.UNSET, "first", "second")
    }
    assert len(codes) == 3


@pytest.mark.parametrize("ids", [("first",), ("first", "second")])
def test_an_unknown_id_costs_what_a_wrong_key_costs(ids: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can find out which ids there are: by the answer, nor by how many codes are worked out for it."""
    made: list[bytes] = []
    original = hmac.new

    def counted(key: bytes, *arguments: Any, **named: Any) -> Any:
        made.append(key)
        return original(key, *arguments, **named)

    answers, costs = set(), set()
    for known in (of_dialler(*ids), of_dialler("third"), Keys()):
        session, challenge = listener(apiserver(key=None, keys=known))
        hello = said_by_dialler(of_listener(*ids, secret=OTHER), challenge)
        monkeypatch.setattr(hmac, "new", counted)
        made.clear()
        end = closed(session, session.receive(json.dumps(hello).encode() + b"\n", 0.0))
        monkeypatch.undo()
        answers.add((end.code, end.reason))
        costs.add(len(made))
    assert len(answers) == 1
    assert costs == {len(ids) + 1}


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [{"id": "", "mac": ""}],
        [{"id": "a b", "mac": ""}],
        [{"id": "a"}],
        [{"id": "a", "mac": "x"}],
        "first",
        [{}] * 5,
    ],
)
def test_keys_that_cant_be_read(keys: object) -> None:
    session, challenge = listener(apiserver(keys=of_dialler("first")))
    hello = said_by_dialler(of_listener("first"), challenge) | {"keys": keys}
    assert closed(session, session.receive(json.dumps(hello).encode() + b"\n", 0.0)).code == "bad-handshake"


def test_most_keys_fit_into_a_hello() -> None:
    many = Keys(*(NamedKey(f"{number:0>64}", SHARED) for number in range(9)))
    assert [key.id[-1] for key in many.of("a", "b")] == ["8", "7", "6", "5"]
    got, _ = outcome(builder(key=None, keys=many), apiserver(key=None, keys=many))
    assert got == f"key {'8':0>64}"


# -- older peers -----------------------------------------------------------------------------------------------------


def test_an_older_listener_is_told_of_no_keys() -> None:
    pair = ConnectionPair(builder(keys=of_listener("first", sole=False)), apiserver()).exchange()
    assert b'"keys"' not in pair.said[Side.DIALLER] + pair.said[Side.LISTENER]
    assert isinstance(pair.take(Side.DIALLER)[-1], Ready)


def test_an_older_dialler_knows_nothing_of_it() -> None:
    session, challenge = listener(apiserver(keys=of_dialler("first", sole=False)))
    assert challenge.pop("keys") is True
    dialler = Session(Side.DIALLER, builder(), nonce=NONCES[Side.DIALLER], now=0.0)
    dialler.receive(json.dumps(challenge).encode() + b"\n", 0.0)
    assert session.receive(dialler.data_to_send(), 0.0) == []
    assert isinstance(dialler.receive(session.data_to_send(), 0.0)[0], Ready)
    assert isinstance(session.receive(dialler.data_to_send(), 0.0)[0], Ready)


# -- revoking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", Side)
def test_revoking_a_key_closes_the_links_that_were_made_with_it(side: Side) -> None:
    """On the side that revokes it; and no others."""
    dialler, listener_ = of_listener("first", "second"), of_dialler("first", "second")
    revoked = dialler if side is Side.DIALLER else listener_
    pairs = []
    for ours in (of_listener("first"), dialler, of_listener("second")):
        recorders = Recorders()
        ours = dialler if side is Side.DIALLER else ours
        pair = connected_pair(
            (builder(key=None, keys=ours), Recorders()), (apiserver(key=None, keys=listener_), recorders)
        )
        pairs.append((recorders[0].peer.info.key, pair))
    assert revoked.revoke("second") is True
    for key, pair in pairs:
        pair.pump()
        assert pair.lost is (key == "second")
        if pair.lost:
            assert "the key of this link was revoked [unauthorized]" in pair.reason(side)
    assert revoked.revoke("second") is False


def test_what_is_linked_is_watched_only_as_long_as_it_is() -> None:
    keys = of_dialler("first")
    pair = connected_pair(
        (builder(key=None, keys=of_listener("first")), Recorders()), (apiserver(key=None, keys=keys), Recorders())
    )
    pair.cut()
    assert keys.revoke("first") is True
    assert "revoked" not in pair.reason(Side.LISTENER)


# -- the objects -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"secret": b"short"}, "at least 16 bytes"),
        ({"secret": "s" * 32}, "bytes, not str"),
        ({"id": ""}, "can't be a key's id"),
        ({"id": "a,b"}, "can't be a key's id"),
        ({"name": "-"}, "can't be the name"),
        ({"role": "No"}, "can't be the role"),
    ],
)
def test_keys_that_cant_be(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(BadKey, match=why):
        NamedKey(**({"id": "a", "secret": SHARED} | changes))


def test_an_id_is_one_keys() -> None:
    keys = of_dialler("first", sole=False)
    assert not keys.has_own(DIALLER)
    keys.add(_key("first", DIALLER, "builder"))
    assert keys.has_own(DIALLER)
    for other in (_key("first", DIALLER, "builder", secret=OTHER), _key("first", "builder-2", "builder")):
        with pytest.raises(BadKey, match="another key with the id first"):
            keys.add(other)
    assert ("first" in keys, "second" in keys, len(keys)) == (True, False, 1)


def test_a_secret_is_not_shown() -> None:
    assert "secret" not in repr(NamedKey("a", SHARED, "b", "c"))


def test_files(tmp_path: Path) -> None:
    key = make_named_key("builder-1", "builder")
    assert (len(key.secret), make_named_key().id == key.id) == (32, False)
    write_named_key(tmp_path / "named", key)
    assert (tmp_path / "named").stat().st_mode & 0o777 == 0o600
    assert read_named_key(tmp_path / "named", role="apiserver") == NamedKey(key.id, key.secret, "", "apiserver")
    with pytest.raises(FileExistsError):
        write_named_key(tmp_path / "named", key)
    with pytest.raises(BadKey, match="holds a named key, and a shared one is expected"):
        read_key(tmp_path / "named")
    write_key(tmp_path / "shared")
    with pytest.raises(BadKey, match="doesn't hold a named key"):
        read_named_key(tmp_path / "shared")
    (tmp_path / "named").chmod(0o640)
    with pytest.raises(BadKey, match="can be used by others"):
        read_named_key(tmp_path / "named")


# -- services --------------------------------------------------------------------------------------------------------


class ServiceTests(TestCase):
    timeout = 180

    async def test_a_key_is_replaced_and_another_revoked(self) -> None:
        real = cast(LinkReactor, reactor)
        keys = Keys(NamedKey("old", FIRST, "shop"), NamedKey("of-another", SECOND, "stall"))
        listening = await listen(real, "tcp:0", Calculator(), keys=keys)
        self.addCleanup(listening.close)
        endpoint = f"tcp:127.0.0.1:{listening.port}"
        ours = Keys(NamedKey("old", FIRST))
        shop = dial(real, endpoint, CALCULATOR, name="shop", keys=ours)
        stall = dial(real, endpoint, CALCULATOR, name="stall", keys=Keys(NamedKey("of-another", SECOND)))
        self.addCleanup(shop.close)
        self.addCleanup(stall.close)
        thief = dial(
            real, endpoint, CALCULATOR, name="shop", keys=Keys(NamedKey("of-another", SECOND)), fail_on_refusal=True
        )
        self.addCleanup(thief.close)
        with self.assertRaisesRegex(LinkRefused, "the key of-another is for stall"):
            await thief.call(Add(a=1), timeout=30)
        assert await stall.call(Add(a=2, b=3), timeout=30) == Sum(5)
        peer = await shop.linked()
        assert peer.info.key == "old"
        # Both keys are good, then the new one alone; the other peer's link stays.
        keys.add(NamedKey("new", THIRD, "shop"))
        ours.add(NamedKey("new", THIRD))
        keys.revoke("old")
        with self.assertRaisesRegex(NotConnected, "the key of this link was revoked"):
            await self._lost(shop)
        assert await shop.call(Add(a=20, b=22), timeout=30) == Sum(42)
        assert (await shop.linked()).info.key == "new"
        assert [each.info.key for each in listening.peers if each.info.name == "stall"] == ["of-another"]
        keys.revoke("of-another")
        with self.assertRaises(NotConnected):
            await self._lost(stall)

    async def _lost(self, remote: Any) -> None:
        """Wait until the link of now has ended."""
        peer = await remote.linked()
        while True:
            await peer.drain()
            await peer.call(Add(a=1), timeout=30)
