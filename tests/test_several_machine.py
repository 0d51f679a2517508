"""
Any story of apiservers on one ledger, by hypothesis: they start, write, are paused and wake, are killed, and the clock
of the database goes on. Builders link at any of them, move, and are lost. What each believes to have, the ledger lets
at most one of them write.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.instant import InstantLedger
from twistedipc.storage import apiservers, tenures
from twistedipc.storage.apiservers import DEAD_AFTER, Identity, Incarnation
from twistedipc.storage.errors import LedgerLost, TenureLost
from twistedipc.storage.tenures import Taken, Tenure

NAMES = ("one", "two", "three")
BUILDERS = ("a", "b")

names = st.sampled_from(NAMES)
which_builder = st.sampled_from(BUILDERS)


class One:
    """An apiserver's process, as it sees things. A killed one is only one that never wakes."""

    def __init__(self, me: Incarnation) -> None:
        self.me = me
        self.awake = True
        self.lost = False
        self.duty = False
        self.tenures: dict[str, Tenure] = {}


class Machine(RuleBasedStateMachine):
    """The world."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = InstantLedger()
        self.now = 1_000_000
        self.all: list[One] = []
        self.newest: dict[str, One] = {}
        #: By builder, the epoch of the newest tenure that was given.
        self.given: dict[str, int] = {}

    @initialize()
    def begin(self) -> None:
        """Two of them."""
        self.start("one")
        self.start("two")

    def write(self, one: One, query: Any, *args: Any, **kwargs: Any) -> Any:
        """A transaction of an apiserver that is awake. Returns None if it isn't one any more."""

        def checked(connection: Any) -> Any:
            apiservers.check(connection, one.me)
            return query(connection, *args, **kwargs)

        try:
            return self.ledger.now(checked)
        except LedgerLost:
            one.lost = True
            return None

    def active(self, name: str) -> One | None:
        """The newest process of this name, if it is awake and hasn't found out that it must end."""
        one = self.newest.get(name)
        return one if one is not None and one.awake and not one.lost else None

    # -- what happens

    @rule(name=names)
    def start(self, name: str) -> None:
        """A process starts in the place of the one before of its name, which has ended, or is cut off."""
        me = Identity(name=name, folder=name, files="all", url="", host="", pid=1)
        one = One(self.ledger.now(apiservers.register, me, self.now))
        self.all.append(one)
        self.newest[name] = one
        for tenure in self.write(one, tenures.adopt, one.me, self.now):
            self.was_given(one, tenure)

    @rule(name=names, awake=st.booleans())
    def pause(self, name: str, awake: bool) -> None:
        """It is stopped, or goes on."""
        if name in self.newest:
            self.newest[name].awake = awake

    @rule(name=names)
    def leave(self, name: str) -> None:
        """It ends well."""
        one = self.active(name)
        if one is not None:
            self.ledger.now(apiservers.leave, one.me, self.now)
            one.lost = True

    @rule(seconds=st.integers(1, 14), silent=st.sets(names))
    def pass_time(self, seconds: int, silent: set[str]) -> None:
        """The database's clock goes on. Those that are awake say that they live, but those that can't reach it."""
        for _ in range(seconds):
            self.now += 1000
            for name in NAMES:
                one = self.active(name)
                if one is not None and name not in silent:
                    try:
                        self.ledger.now(apiservers.renew, one.me, self.now)
                    except LedgerLost:
                        one.lost = True

    @rule(name=names)
    def look(self, name: str) -> None:
        """A round of an apiserver: it gives up, adopts, takes the duty."""
        one = self.active(name)
        if one is None:
            return
        alive = {row.name: row for row in self.ledger.now(apiservers.living)}
        for gone in self.write(one, apiservers.bury, one.me, self.now) or ():
            assert self.now - alive[gone.name].seen >= DEAD_AFTER
            assert self.now - alive[name].steady >= DEAD_AFTER
        for tenure in self.write(one, tenures.adopt, one.me, self.now) or ():
            self.was_given(one, tenure)
        one.duty = bool(self.write(one, apiservers.take_duty, "sealing", one.me, self.now)) or one.duty

    @rule(name=names, builder=which_builder, peer=st.sampled_from(["i1", "i2"]))
    def link(self, name: str, builder: str, peer: str) -> None:
        """A builder links."""
        one = self.active(name)
        if one is None:
            return
        before = self.ledger.now(tenures.get, builder)
        taken = self.write(one, tenures.take, builder, peer, one.me, self.now)
        if isinstance(taken, Taken):
            # Only by another that lives, has the link, and of another process of the builder.
            assert before is not None
            assert before.linked
            assert before.peer != peer
            assert before.apiserver != name
            assert self.ledger.now(apiservers.lives, Incarnation(before.apiserver, before.incarnation))
        elif taken is not None:
            self.was_given(one, taken)

    @rule(name=names, builder=which_builder)
    def lose_link(self, name: str, builder: str) -> None:
        """A builder's link is lost."""
        one = self.active(name)
        if one is not None and builder in one.tenures:
            self.under(one, one.tenures[builder], tenures.leave, one.tenures[builder], self.now)

    @rule(name=names, builder=which_builder)
    def give_up(self, name: str, builder: str) -> None:
        """A builder that was waited for is given up: nobody answers for it, and nobody adopts it."""
        one = self.active(name)
        if one is None or builder not in one.tenures:
            return
        tenure = one.tenures[builder]
        if self.under(one, tenure, tenures.give_up, tenure, self.now):
            adopted = self.write(one, tenures.adopt, one.me, self.now) or ()
            for each in adopted:
                self.was_given(one, each)
            assert builder not in [each.builder for each in adopted]

    @rule(which=st.integers(0, 30), builder=which_builder)
    def write_late(self, which: int, builder: str) -> None:
        """Any process that ever was, also one that was killed or has a successor, writes what it had still to say."""
        one = self.all[which % len(self.all)]
        tenure = one.tenures.get(builder)
        if tenure is not None and self.under(one, tenure, lambda connection: True):
            assert tenure.epoch == self.given[builder], "an old tenure has written"

    def under(self, one: One, tenure: Tenure, query: Any, *args: Any) -> bool:
        """Write under a tenure. Return whether it was good."""
        try:
            done = self.write(one, tenures.under, tenure, lambda connection: [query(connection, *args)])
        except TenureLost:
            return False
        return done is not None

    def was_given(self, one: One, tenure: Tenure) -> None:
        """An apiserver has a builder from now on: with an epoch that nobody had."""
        assert tenure.epoch > self.given.get(tenure.builder, 0)
        self.given[tenure.builder] = tenure.epoch
        one.tenures[tenure.builder] = tenure

    # -- what holds

    @invariant()
    def one_at_most_can_write_about_a_builder(self) -> None:
        """Of all processes that ever were."""
        for builder in BUILDERS:
            tenures_ = [(one, one.tenures[builder]) for one in self.all if builder in one.tenures]
            good = [tenure for one, tenure in tenures_ if self.can_write(one, tenure)]
            assert len(good) <= 1, good

    @invariant()
    def one_at_most_does_what_is_done_once(self) -> None:
        """Two may believe it; one of them can write."""
        assert sum(1 for one in self.all if one.duty and self.lives(one)) <= 1

    def lives(self, one: One) -> bool:
        """Whether its transactions would pass."""
        return bool(self.ledger.now(apiservers.lives, one.me))

    def can_write(self, one: One, tenure: Tenure) -> bool:
        """Whether a transaction under this tenure would pass."""
        if not self.lives(one):
            return False
        try:
            self.ledger.now(tenures.require, [tenure])
        except TenureLost:
            return False
        return True

    @invariant()
    def one_that_writes_all_the_time_is_not_given_up(self) -> None:
        """Whoever was heard in the last moment lives."""
        for row in (self.ledger.now(apiservers.get, name) for name in self.newest):
            one = None if row is None else self.active(row.name)
            if row is not None and one is not None and row.ended is not None and row.itself == one.me:
                assert self.now - row.seen >= DEAD_AFTER, row

    def teardown(self) -> None:
        """Let the database go."""
        self.ledger.engine.dispose()


TestSeveral = Machine.TestCase
TestSeveral.settings = settings(max_examples=30, stateful_step_count=40)
