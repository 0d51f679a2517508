"""What another apiserver changes, as it ends here what tokens hold open; and what it must be asked itself."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.instant import InstantLedger
from twistedipc.server.boundaries import DELIVERING, REQUESTING
from twistedipc.storage import people, projects, tokens
from twistedipc.storage.rows import TokenRow
from twistedipc.web.access.auth import Authentication, Tickets
from twistedipc.web.access.held import Ending
from twistedipc.web.access.visits import Visits
from twistedipc.web.api.passwords import taken
from twistedipc.web.http.problems import ProblemError

NOW = 1_732_300_000_000


class Refreshed(SynchronousTestCase):
    """Some tokens that hold something, and a ledger that another apiserver writes."""

    def setUp(self) -> None:
        self.ledger = InstantLedger()
        self.tickets = Tickets(Clock(), os.urandom)
        self.auth = Authentication(
            Clock(),
            lambda: NOW,
            self.ledger.as_ledger(),
            self.tickets,
            Visits(lambda: NOW, os.urandom),
            cast(Any, None),
        )
        self.endings: dict[str, Ending] = {}
        self.refresh()

    def refresh(self) -> None:
        """Another apiserver has changed something."""
        self.successResultOf(Deferred.fromCoroutine(self.auth.refresh()))

    def token(self, name: str, **more: Any) -> TokenRow:
        """A token that holds something."""
        values: dict[str, Any] = {"scopes": ["read"], "projects": None, "expires": None, **more}
        token, _ = self.ledger.now(tokens.issue, name=name, random=os.urandom, now=NOW, **values)
        self.auth.held.hold(token).on_end(lambda why: self.endings.update({name: why}))
        return token

    def test_what_a_revoked_token_holds_ends(self) -> None:
        good, bad = self.token("good"), self.token("bad")
        self.token("session", parent=bad.id, session=True, expires=NOW + 1000)
        tickets = [self.tickets.issue(token) for token in (good, bad)]
        self.refresh()
        self.assertEqual({}, self.endings)
        self.ledger.now(tokens.revoke, bad.id, NOW)
        self.refresh()
        self.assertEqual({"bad": Ending.REVOKED, "session": Ending.REVOKED}, self.endings)
        self.assertEqual([good, None], [self.tickets.redeem(ticket) for ticket in tickets])

    def test_what_a_persons_tokens_hold_ends_when_they_may_something_else(self) -> None:
        ada = self.ledger.now(people.add, name="ada", email=None, role="member", now=NOW)
        bob = self.ledger.now(people.add, name="bob", email=None, role="member", now=NOW)
        self.token("of ada", person=ada.id)
        self.token("of bob", person=bob.id)
        self.ledger.now(people.change, ada.id, {"role": "admin"})
        self.ledger.now(people.disable, bob.id, NOW)
        self.refresh()
        self.assertEqual({"of ada": Ending.CHANGED, "of bob": Ending.DISABLED}, self.endings)

    def test_a_project_of_another_meaning_is_not_seen(self) -> None:
        self.ledger.project("shop")
        self.refresh()
        self.token("of shop", projects=["shop"])
        self.token("of all")
        self.refresh()
        self.assertEqual({}, self.endings)
        self.ledger.now(projects.delete, "shop", NOW)
        self.ledger.project("shop")
        self.refresh()
        self.assertEqual({"of shop": Ending.CHANGED}, self.endings)

    def test_a_one_time_password_is_taken_where_packages_are_published(self) -> None:
        def context(other: object) -> Any:
            return SimpleNamespace(does_elsewhere=lambda duty: succeed(other if duty == REQUESTING else None))

        other = SimpleNamespace(name="second", url="http://second.example")
        for given, found in (("123456\n", None), ("", other)):
            self.assertEqual(given.strip(), self.successResultOf(self.taken(context(found), given)))
        refused = self.failureResultOf(self.taken(context(other), "123456"), ProblemError).value
        self.assertIn("ask the same at http://second.example", str(refused))
        # The other one does what is asked about packages, and builds are published here.
        self.assertEqual("123456", self.successResultOf(self.taken(context(other), "123456", DELIVERING)))

    @staticmethod
    def taken(context: Any, given: str, duty: str = REQUESTING) -> Deferred[str]:
        """What a password is taken for."""
        return Deferred.fromCoroutine(taken(context, given, duty))
