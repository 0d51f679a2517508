"""Builders' keys: the ledger's part, the apiserver's, what a builder's machine is given, and what is refused."""

from __future__ import annotations

import shutil
import tempfile
import tomllib
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import select
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.apiserver_world import Apiserver
from tests.instant import InstantLedger
from tests.storage_fixtures import NOW, add_build, add_project, database
from tests.test_server_builders import Builder, result
from tests.web_world import World
from twistedipc.builder.offers import why_no_uploads
from twistedipc.builds import messages as m
from twistedipc.builds.attempt import StoredTool
from twistedipc.builds.needs import lacked, said_by_itself
from twistedipc.cli.failures import Failure
from twistedipc.cli.joining import Files, Joined, read_pasted_key, with_link
from twistedipc.cli.setup import Setup
from twistedipc.ipc import BadKey, NamedKey, Peer, PeerInfo, make_named_key
from twistedipc.server.builders import LOOK_AT_KEY
from twistedipc.storage import builders, projects, queue
from twistedipc.storage.errors import NameTaken, NotFound
from twistedipc.storage.rows import Place, RunsOn
from twistedipc.storage.tables import audit
from twistedipc.taps.config import load_apiserver
from twistedipc.taps.joining import joining

# -- the ledger ------------------------------------------------------------------------------------------------------


def test_keys_in_the_ledger(tmp_path: Path) -> None:
    with database(tmp_path) as connection:
        row = builders.add(connection, name="one", pools=["b", "a"], shared=True, id="k1", sealed=b"1", now=NOW)
        assert (row.pools, row.shared, [key.id for key in row.keys]) == (["a", "b"], True, ["k1"])
        with pytest.raises(NameTaken):
            builders.add(connection, name="one", pools=[], shared=False, id="k2", sealed=b"2", now=NOW)
        with pytest.raises(NotFound):
            builders.add_key(connection, "two", id="k2", sealed=b"2", now=NOW)
        builders.add_key(connection, "one", id="k2", sealed=b"2", now=NOW + 1)
        builders.add(connection, name="two", pools=[], shared=False, id="k3", sealed=b"3", now=NOW)
        assert builders.sealed_keys(connection) == [("k1", "one", b"1"), ("k3", "two", b"3"), ("k2", "one", b"2")]
        # The use of the older one ends nothing; that of the newer one ends the older.
        assert builders.used(connection, "k1", NOW + 2) == []
        assert builders.used(connection, "k2", NOW + 3) == ["k1"]
        assert builders.used(connection, "k1", NOW + 4) == []
        one = builders.get(connection, "one")
        assert one is not None
        assert (one.shared, one.last_linked) == (False, NOW + 3)
        assert [key.revoked for key in one.keys] == [NOW + 3, None]
        assert builders.sealed_keys(connection) == [("k3", "two", b"3"), ("k2", "one", b"2")]
        assert [key.revoked for key in builders.revoke(connection, "one", NOW + 5).keys] == [NOW + 3, NOW + 5]
        again = builders.add(connection, name="one", pools=[], shared=False, id="k4", sealed=b"4", now=NOW + 6)
        assert [key.revoked is None for key in again.keys] == [False, False, True]
        assert builders.set_pools(connection, "one", ["x"]).pools == ["x"]
        for change in (lambda: builders.revoke(connection, "no", 1), lambda: builders.set_pools(connection, "no", [])):
            with pytest.raises(NotFound):
                change()
        assert [row.name for row in builders.list_all(connection)] == ["one", "two"]


def test_how_long_a_key_is_good(tmp_path: Path) -> None:
    with database(tmp_path) as connection:

        def ends(id_: str, **lifetime: Any) -> int | None:
            return builders.add_key(connection, "one", id=id_, sealed=b"", now=NOW, **lifetime).keys[-1].expires

        builders.add(connection, name="one", pools=[], shared=False, id="k1", sealed=b"", now=NOW)
        assert ends("k2") is None, "as long as the one before"
        assert ends("k3", lifetime=1000) == NOW + 2 + 1000
        assert ends("k4") == NOW + 3 + 1000
        assert ends("k5", lifetime=None) is None


def test_what_a_build_needs_of_its_builder() -> None:
    assert RunsOn().needs == []
    bound = RunsOn(builders=["one", "two"], pools=["trusted"]).needs
    for features, missing in (
        ({"builder:one"}, False),
        ({"builder:two", "x"}, False),
        ({"pool:trusted"}, False),
        ({"builder:three", "pool:other"}, True),
        ({"builder:one|builder:two"}, True),
        (set(), True),
    ):
        assert bool(lacked(frozenset(features), bound)) is missing
    assert said_by_itself(["secrets", "builder:one", "pool:trusted"]) == frozenset(["secrets"])


# -- the apiserver ---------------------------------------------------------------------------------------------------


class KeyedBuilder(Builder):
    """A builder that has proven itself by a key of its own."""

    def __init__(self, apiserver: Apiserver, name: str, key: str, incarnation: str = "i1") -> None:
        self.heard, self.closed, self.complaints = [], [], []
        self.apiserver = apiserver
        info = PeerInfo(name, "builder", incarnation, 1, "memory", key)
        self.refused = apiserver.builders.refuse(info)
        self.link = apiserver.builders.application(Peer(info, cast(Any, self)))


class ServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.ledger = InstantLedger()
        self.addCleanup(self.ledger.let_go)
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.apiserver = Apiserver(self.folder, self.ledger, self.clock)

    def add(self, name: str, *pools: str, shared: bool = False) -> str:
        """A builder's key, as the API makes it; its id."""
        key = make_named_key(name, "builder")
        sealed = self.apiserver.secret_box.seal(key.secret.hex())
        row = self.ledger.now(
            builders.add, name=name, pools=pools, shared=shared, id=key.id, sealed=sealed, now=self.apiserver.now()
        )
        self.apiserver.builders.added(row, key)
        return key.id

    def test_a_name_that_has_a_key_of_its_own_is_not_had_by_the_shared_one(self) -> None:
        self.assertIsNone(Builder(self.apiserver, "one").refused)
        self.add("one", shared=True)
        self.assertIsNone(self.apiserver.builders.refuse(PeerInfo("one", "builder", "i1", 1, "memory")))
        key = self.add("two")
        self.assertIn("has a key of its own", Builder(self.apiserver, "two").refused or "")
        KeyedBuilder(self.apiserver, "two", key).lose()
        row = self.ledger.now(builders.revoke, "two", self.apiserver.now())
        self.apiserver.builders.revoked(row)
        self.assertIn("was revoked", Builder(self.apiserver, "two").refused or "")

    def test_the_first_use_of_its_own_key_ends_the_shared_one(self) -> None:
        key = self.add("one", shared=True)
        KeyedBuilder(self.apiserver, "one", key).lose()
        self.assertIn("has a key of its own", Builder(self.apiserver, "one").refused or "")
        known = self.apiserver.server.keys.keys.get(key)
        assert known is not None
        self.assertTrue(known.sole)

    def test_a_key_that_has_expired_is_refused_and_its_link_closed(self) -> None:
        key = make_named_key("one", "builder")
        sealed = self.apiserver.secret_box.seal(key.secret.hex())
        row = self.ledger.now(
            builders.add, name="one", pools=[], shared=False, id=key.id, sealed=sealed, now=self.apiserver.now(),
            lifetime=2 * 86_400_000,
        )  # fmt: skip
        self.apiserver.builders.added(row, key)
        one = KeyedBuilder(self.apiserver, "one", key.id)
        self.assertIsNone(one.refused)
        one.sync()
        self.clock.advance(LOOK_AT_KEY)
        self.assertEqual([], one.closed)
        self.apiserver.time += 2 * 86_400_000
        self.clock.advance(LOOK_AT_KEY)
        self.assertEqual(["unauthorized"], one.closed)
        again = KeyedBuilder(self.apiserver, "one", key.id)
        self.assertIn(f"the key {key.id} of builder one has expired on ", again.refused or "")
        self.assertIn("twistedipc builder rotate one", again.refused or "")
        self.assertIsNone(self.apiserver.builders.refuse(PeerInfo("two", "builder", "i1", 1, "memory", "other")))

    def test_a_builders_own_word_makes_it_no_other(self) -> None:
        key = self.add("one", "trusted")
        one, liar = KeyedBuilder(self.apiserver, "one", key), Builder(self.apiserver, "liar")
        liar.sync(features=[*m.FEATURES, "builder:one", "pool:trusted"])
        project(self.ledger, RunsOn(pools=["trusted"]))
        self.ledger.now(add_build)
        self.apiserver.dispatch.wake()
        self.assertEqual([], [said for said in liar.heard if isinstance(said, m.Offer)])
        waiting = self.apiserver.dispatch.why_waiting(self.apiserver.row("1-1"), self.ledger.now(queue.places, [1])[1])
        assert waiting is not None
        self.assertEqual(
            "builder one isn't linked, and no other builder has the pool trusted; position 1 in the queue of shop",
            waiting.text,
        )
        one.sync()
        self.assertEqual(1, len([said for said in one.heard if isinstance(said, m.Offer)]))

    def test_who_is_linked(self) -> None:
        one = KeyedBuilder(self.apiserver, "one", self.add("one"))
        one.call(m.Sync(slots=3, attempts=[], version="1.2" * 99, isolation="bubblewrap"), m.Orders)
        (linked,) = self.apiserver.builders.linked()
        self.assertEqual(("one", 3, "bubblewrap"), (linked.name, linked.slots, linked.program.isolation))
        self.assertEqual(40, len(linked.program.version))

    def test_the_builder_that_was_set_up_with_it_is_known_once(self) -> None:
        """Also after its key was revoked: that is no reason to take it again."""
        key = make_named_key("one", "builder")

        def start() -> None:
            self.apiserver = Apiserver(self.folder, self.ledger, Clock())
            keys = self.apiserver.server.keys
            self.successResultOf(Deferred.fromCoroutine(keys.take_first("one", lambda: key)))
            self.successResultOf(Deferred.fromCoroutine(keys.load()))

        for _ in range(2):
            start()
            one = KeyedBuilder(self.apiserver, "one", key.id)
            self.assertIsNone(one.refused)
            self.assertIn(key.id, self.apiserver.server.keys.keys)
            self.assertIn("has a key of its own", Builder(self.apiserver, "one").refused or "")
        self.apiserver.builders.revoked(self.ledger.now(builders.revoke, "one", self.apiserver.now()))
        start()
        self.assertNotIn(key.id, self.apiserver.server.keys.keys)
        added = select(audit.c.who).where(audit.c.action == "builder.add")
        self.assertEqual(["apiserver"], self.ledger.now(lambda connection: list(connection.execute(added).scalars())))

    def test_a_key_that_is_anothers_is_not_taken_and_the_start_goes_on(self) -> None:
        """The builder got another name after the first start, and keeps its key."""
        key = make_named_key("one", "builder")
        same = NamedKey(key.id, key.secret, "two", "builder")
        take = self.apiserver.server.keys.take_first
        self.successResultOf(Deferred.fromCoroutine(take("one", lambda: key)))
        for _ in range(2):
            refused = self.failureResultOf(Deferred.fromCoroutine(take("two", lambda: same)), BadKey)
            self.assertIn("the key in its file is builder one's already", str(refused.value))
            self.assertIsNone(self.ledger.now(builders.get, "two"))
            self.ledger.now(builders.revoke, "one", self.apiserver.now())

    def test_what_a_builder_has_fetched_is_kept_while_it_is_away(self) -> None:
        node, pnpm = StoredTool(name="node", version="22.11.0"), StoredTool(name="pnpm", version="9\x1b[31m" + "1" * 50)
        one, other = KeyedBuilder(self.apiserver, "one", self.add("one")), Builder(self.apiserver, "other")
        for builder in (one, other):
            self.assertIn(m.TOOLS, builder.sync().features)
            builder.say(m.Tools(tools=[node, pnpm]))
        shown = [node, StoredTool(name="pnpm", version="9\ufffd[31m" + "1" * 33 + "…")]
        self.assertEqual([shown, shown], [each.program.tools for each in self.apiserver.builders.linked()])
        writes = self.ledger.writes
        one.say(m.Tools(tools=[node, pnpm]))
        self.assertEqual(writes, self.ledger.writes, "nothing is new")
        row = self.ledger.now(builders.get, "one")
        assert row is not None
        self.assertEqual(shown, row.tools)
        self.assertIsNone(self.ledger.now(builders.get, "other"), "one without a key of its own has no row")
        # One that has said so of another version, and doesn't say it any more.
        one.lose()
        again = KeyedBuilder(self.apiserver, "one", row.keys[0].id, "i2")
        again.sync()
        self.assertIsNone(again.link.program.tools)

    def drain(self, name: str, drained: bool) -> None:
        """A person says so, as the API does."""
        self.apiserver.builders.changed(self.ledger.now(builders.set_drained, name, drained, self.apiserver.now()))

    def test_a_drained_builder_ends_what_it_has_and_is_offered_nothing_more(self) -> None:
        project(self.ledger, RunsOn())
        first, second = [self.ledger.now(add_build) for _ in range(2)]
        key = self.add("one")
        one = KeyedBuilder(self.apiserver, "one", key)
        one.sync(slots=1)
        (offer,) = one.take(m.Offer)
        one.run(offer)
        self.drain("one", True)
        held = m.HeldAttempt(attempt=offer.attempt, lease=offer.lease, phase="running", next=1)
        self.assertEqual(([], []), (one.take(m.Stop), one.take(m.CancelAttempt)))
        self.assertTrue(self.apiserver.builders.linked()[0].draining)
        # The apiserver is restarted, and the builder after it: what a person has said holds.
        one.lose()
        self.apiserver = Apiserver(self.folder, self.ledger, Clock())
        one = KeyedBuilder(self.apiserver, "one", key, "i2")
        (order,) = one.sync(held, slots=2).orders
        self.assertEqual("continue", order.order)
        one.say(m.Final(attempt=offer.attempt, lease=offer.lease, result=result()))
        self.assertEqual("succeeded", self.apiserver.row(f"{first.id}-1").state)
        self.assertEqual([], one.take(m.Offer))
        waiting = self.apiserver.dispatch.why_waiting(self.apiserver.row(f"{second.id}-1"), Place())
        assert waiting is not None
        self.assertEqual("draining", waiting.code)
        self.drain("one", False)
        self.assertEqual([f"{second.id}-1"], [offer.attempt for offer in one.take(m.Offer)])

    def test_one_that_has_not_used_its_own_key_yet_is_drained_too(self) -> None:
        project(self.ledger, RunsOn())
        self.add("one", shared=True)
        one = Builder(self.apiserver, "one")
        self.drain("one", True)
        one.sync()
        self.ledger.now(add_build)
        self.apiserver.dispatch.wake()
        self.assertEqual([], one.take(m.Offer))

    def test_what_waits_goes_to_another_builder_than_the_drained_one(self) -> None:
        project(self.ledger, RunsOn())
        one, two = (KeyedBuilder(self.apiserver, name, self.add(name)) for name in ("one", "two"))
        self.drain("one", True)
        for builder in (one, two):
            builder.sync(slots=2)
        self.ledger.now(add_build)
        self.apiserver.dispatch.wake()
        self.assertEqual((0, 1), (len(one.take(m.Offer)), len(two.take(m.Offer))))

    def test_what_is_bound_elsewhere_keeps_no_other_build_waiting(self) -> None:
        project(self.ledger, RunsOn(builders=["two"]))
        for _ in range(5):
            self.ledger.now(add_build)
        self.ledger.now(add_project, "other")
        self.ledger.now(add_build, "other")
        one = KeyedBuilder(self.apiserver, "one", self.add("one"))
        one.sync(slots=1)
        self.assertEqual(["6-1"], [said.attempt for said in one.heard if isinstance(said, m.Offer)])


def project(ledger: InstantLedger, runs_on: RunsOn) -> None:
    ledger.now(add_project)
    ledger.now(projects.update, "shop", {"runs_on": runs_on}, NOW)


# -- the API ---------------------------------------------------------------------------------------------------------


class ApiTests(World):
    async def test_a_builder_is_added_listed_changed_rotated_and_revoked(self) -> None:
        made = await self.ask("POST", "/api/v1/builders", {"name": "one", "pools": ["trusted"]})
        assert made.status == 201, made.raw
        id_, _, secret = made.json["key"].partition(":")
        assert len(bytes.fromhex(secret)) == 32
        assert (made.json["builder"]["pools"], made.json["builder"]["link"]) == (["trusted"], None)
        self.problem(await self.ask("POST", "/api/v1/builders", {"name": "one"}), 409, "has a key already")
        self.problem(await self.ask("POST", "/api/v1/builders", {"name": "-"}), 422, "a node's name")
        self.problem(await self.ask("POST", "/api/v1/builders", {"name": "x", "pools": ["A"]}), 422, "a pool's name")
        assert id_ in self.server.keys.keys
        at = "/api/v1/builders/one"
        assert (await self.ask("PATCH", at, {"pools": []})).json["pools"] == []
        rotated = await self.ask("POST", f"{at}/keys")
        assert (rotated.status, len(rotated.json["builder"]["keys"])) == (201, 2)
        assert [key["expires"] for key in rotated.json["builder"]["keys"]] == [None, None]
        (listed,) = (await self.ask("GET", "/api/v1/builders")).json["builders"]
        assert [key["id"] for key in listed["keys"]] == [id_, rotated.json["key"].partition(":")[0]]
        assert secret not in str(listed)
        assert (await self.ask("DELETE", f"{at}/keys")).status == 204
        assert len(self.server.keys.keys) == 0
        for method, path, body in (("POST", "/keys", None), ("PATCH", "", {"pools": []}), ("DELETE", "/keys", None)):
            self.problem(await self.ask(method, f"/api/v1/builders/no{path}", body), 404)

    async def test_a_builder_is_drained(self) -> None:
        await self.ask("POST", "/api/v1/builders", {"name": "one", "pools": ["trusted"]})
        at = "/api/v1/builders/one"
        drained = await self.ask("PATCH", at, {"drained": True})
        since = drained.json["drained"]
        assert (drained.status, since is not None, drained.json["pools"]) == (200, True, ["trusted"])
        # Said again, it is drained since then; other changes leave it so.
        assert (await self.ask("PATCH", at, {"drained": True})).json["drained"] == since
        assert (await self.ask("PATCH", at, {"pools": []})).json["drained"] == since
        (listed,) = (await self.ask("GET", "/api/v1/builders")).json["builders"]
        assert listed["drained"] == since
        assert (await self.ask("PATCH", at, {"drained": False})).json["drained"] is None
        lines = (await self.ask("GET", "/api/v1/audit?action=builder.change")).json["lines"]
        said = [line["detail"]["drained"] for line in reversed(lines) if "drained" in line["detail"]]
        assert said == ["yes", "no"]
        self.problem(await self.ask("PATCH", "/api/v1/builders/no", {"drained": True}), 404, "twistedipc builder add")

    async def test_a_key_with_an_end(self) -> None:
        made = await self.ask("POST", "/api/v1/builders", {"name": "one", "expires_in": 86400})
        (key,) = made.json["builder"]["keys"]
        assert key["expires"] is not None
        rotated = await self.ask("POST", "/api/v1/builders/one/keys", {"expires_in": None})
        assert [each["expires"] is None for each in rotated.json["builder"]["keys"]] == [False, True]
        lines = (await self.ask("GET", "/api/v1/audit")).json["lines"]
        assert ["expires" in line["detail"] for line in lines if line["action"].startswith("builder.")] == [False, True]

    async def test_a_project_is_bound(self) -> None:
        await self.project()
        at = "/api/v1/projects/shop"
        changed = await self.ask("PATCH", at, {"runs_on": {"builders": ["two", "one"], "pools": ["trusted"]}})
        assert changed.json["runs_on"] == {"builders": ["one", "two"], "pools": ["trusted"]}, changed.raw
        assert (await self.ask("PATCH", at, {"runs_on": {}})).json["runs_on"] == {"builders": [], "pools": []}
        self.problem(await self.ask("PATCH", at, {"runs_on": {"pools": ["no pool"]}}), 422, "a pool's name")


# -- a builder's machine ---------------------------------------------------------------------------------------------

LINK = Joined(name="one", dial=["tls:ci.example.org:7000"], listen=[], authority="/ca.pem")


@pytest.mark.parametrize(
    "text",
    [
        "",
        Setup().builder_toml(),
        Setup(builder_name="other").builder_toml(),
        'data = "d"\n[link]\nlisten = ["unix:x"]\nkey = "k"\n[link.tls]\nauthority = "a"\n[limits]\ngrace = 1\n',
        'data = "d"\n[link.tls]\nauthority = "a"\n',
        'data = "d"\n\n[limits]\ngrace = 1 # name = "x"\n',
    ],
)
def test_the_link_is_written_and_all_else_stays(text: str) -> None:
    before = tomllib.loads(text)
    after = tomllib.loads(with_link(text, LINK, "builder.key"))
    assert after.pop("name") == "one"
    assert after.pop("link") == {
        "listen": [],
        "dial": ["tls:ci.example.org:7000"],
        "key": "builder.key",
        "tls": {"authority": "/ca.pem"},
    }
    assert after == {key: value for key, value in before.items() if key not in ("name", "link")}
    assert tomllib.loads(with_link(with_link(text, LINK, "k"), LINK, "builder.key")) == tomllib.loads(
        with_link(text, LINK, "builder.key")
    )


def test_nothing_is_written_over(tmp_path: Path) -> None:
    key = read_pasted_key(f"k1:{'0' * 64}\n")
    config = tmp_path / "builder.toml"
    files = Files(config, LINK, key)
    files.check_free()
    files.draft()
    assert not config.exists()
    files.keep()
    files.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["builder.key", "builder.toml"]
    assert (tmp_path / "builder.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(Failure, match=r"builder\.key is there already"):
        Files(config, LINK, key).check_free()
    (tmp_path / "builder.key").unlink()
    with pytest.raises(Failure, match="has a link already"):
        Files(config, LINK, key).check_free()
    for wrong in ("", "k1", f"k1:{'0' * 63}", "a b:" + "0" * 64):
        with pytest.raises(Failure, match="no key was given"):
            read_pasted_key(wrong)


def test_where_a_builder_meets_its_apiserver(tmp_path: Path) -> None:
    path = tmp_path / "apiserver.toml"
    for link, dial, listen in (
        ('listen = ["tcp:7000:interface=127.0.0.1"]', ["tcp:127.0.0.1:7000"], []),
        (
            'listen = ["tls:7000:interface=0.0.0.0"]\ntls.certificate = "c"\ntls.private_key = "k"',
            ["tls:ci.example:7000"],
            [],
        ),
        (
            'dial = ["tls:b.example:7001", "tcp:127.0.0.1:7002"]',
            [],
            ["tls:7001:interface=0.0.0.0", "tcp:7002:interface=127.0.0.1"],
        ),
        ('listen = ["systemd:"]\ndial = ["unix:/run/x.sock"]', [], ["unix:/run/x.sock"]),
        ('listen = ["unix:/run/x.sock:mode=0660"]', ["unix:/run/x.sock"], []),
    ):
        path.write_text(f'data = "d"\n[http]\npublic_url = "https://ci.example"\n[link]\n{link}\n')
        found = joining(load_apiserver(path))
        assert (list(found.dial), list(found.listen)) == (dial, listen)


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("https://ci.example.org", False),
        ("http://ci.example.org", True),
        ("http://10.0.0.1:8080", True),
        ("http://127.0.0.1:8080", False),
        ("http://localhost:8080", False),
    ],
)
def test_archives_are_not_uploaded_in_the_open(url: str, refused: bool) -> None:
    assert bool(why_no_uploads(url, allow_plain_http=False)) is refused
    assert not why_no_uploads(url, allow_plain_http=True)
