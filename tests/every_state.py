"""
What must be true of every state of an attempt, by its row in `builds.states.STATES`. Each check puts an attempt into
the state and asks one place of the platform that depends on states. ``test_every_state`` runs them on the tables as
they are, and on a copy with states that no code has heard of.

    python -m tests.every_state [STATE ...]    # all checks of these states (else of all); prints what is wrong
"""

from __future__ import annotations

import re
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import msgspec
from sqlalchemy import text
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

import twistedipc
from tests import draw_states
from tests.apiserver_world import Apiserver
from tests.frames import read
from tests.instant import InstantLedger
from twistedipc.builds import messages as m
from twistedipc.builds.attempt import Result
from twistedipc.builds.logs import Lines, encoder
from twistedipc.builds.states import STATES, AttemptState, Cancellation, LeaseStatus, Tone, Waits
from twistedipc.cli import output
from twistedipc.ipc import CallFailed, Peer, PeerInfo
from twistedipc.server.boundaries import GistChange, GistRound, StateChange
from twistedipc.server.builder_link import MISSING_DEADLINE
from twistedipc.storage import attempts, builds, logs, projects
from twistedipc.storage.errors import LogOrder, NotPossible
from twistedipc.storage.rows import Actor, AttemptRow, Holder, Place
from twistedipc.web.api import builds as api
from twistedipc.web.api import schemas

_T = TypeVar("_T")

PACKAGE = Path(twistedipc.__file__).parent
LEASE = "ab" * 16
ADA = Actor(who="ada")


class World:
    """An apiserver, and one attempt in a state, held by builder "one" if its row says that a builder has the lease."""

    def __init__(self, state: AttemptState, folder: Path) -> None:
        self.info = STATES[state]
        self.state = state
        self.ledger = InstantLedger()
        self.attempt = self.ledger.queue()
        self.build = int(self.attempt.split("-")[0])
        self.lease = "" if self.info.offerable else LEASE
        self.builder = "" if self.info.offerable else "one"
        self.apiserver = Apiserver(folder, self.ledger, Clock())
        self.put()

    def put(self) -> None:
        """Put the attempt into the state, whatever it was in."""
        values = {"state": self.state.value, "lease": self.lease, "builder": self.builder, "build": self.build}
        with self.ledger.engine.begin() as connection:
            connection.execute(
                text("UPDATE attempts SET state=:state, lease=:lease, builder=:builder WHERE build_id=:build"), values
            )
            connection.execute(text("UPDATE builds SET state=:state WHERE id=:build"), values)

    @property
    def row(self) -> AttemptRow:
        """The attempt now."""
        return self.apiserver.row(self.attempt)

    def wait(self, work: Any) -> Any:
        """The result of what ends at once."""
        results: list[Any] = []
        Deferred.fromCoroutine(work).addBoth(results.append)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]


class Builder:
    """Builder "one", linked."""

    def __init__(self, world: World) -> None:
        self.heard: list[msgspec.Struct] = []
        peer = SimpleNamespace(
            send=self.heard.append,
            close=lambda code, reason: None,
            pauseProducing=lambda: None,
            resumeProducing=lambda: None,
        )
        info = PeerInfo(name="one", role="builder", incarnation="i1", version=1, address="memory")
        self.world = world
        self.link = world.apiserver.builders.application(Peer(info, cast(Any, peer)))

    def sync(self, *held: m.HeldAttempt) -> m.Orders:
        """Say what is held."""
        orders = self.world.wait(self.link.call_received(m.Sync(slots=2, attempts=list(held))))
        assert isinstance(orders, m.Orders)
        return orders

    def told(self, kind: type[_T]) -> list[_T]:
        """The messages of this kind that the builder got."""
        return [message for message in self.heard if isinstance(message, kind)]


def _held(world: World) -> m.HeldAttempt:
    return m.HeldAttempt(attempt=world.attempt, lease=world.lease or LEASE, phase="running", next=1)


# -- the checks ------------------------------------------------------------------------------------------------------


def check_it_is_offered_if_it_is_offerable(world: World) -> None:
    assert (world.ledger.now(builds.position, world.build) is not None) == world.info.offerable
    queue = world.ledger.now(attempts.next_queued, 10)
    assert (world.attempt in [each.name for each in queue]) == world.info.offerable
    if world.info.lease is LeaseStatus.NONE:
        builder = Builder(world)
        builder.sync()
        assert bool(builder.told(m.Offer)) == world.info.offerable


def check_it_can_be_cancelled_as_it_says(world: World) -> None:
    builder = Builder(world)
    if world.info.lease is LeaseStatus.HELD:
        builder.sync(_held(world))
        world.put()
    try:
        world.wait(world.apiserver.lifecycle.cancel_build(world.build, "no", ADA))
    except NotPossible:
        assert world.info.cancel is Cancellation.TOO_LATE
        assert world.row.state is world.state
        return
    match world.info.cancel:
        case Cancellation.TOO_LATE:
            raise AssertionError("it has ended, and was cancelled")
        case Cancellation.AT_ONCE:
            assert world.row.state is AttemptState.CANCELLED
            assert world.apiserver.changes[-1].state == "cancelled"
            assert world.row.ended is not None
        case Cancellation.BY_APISERVER:
            # Nothing is stored of it, so there is no process that must end first.
            assert (world.row.state, world.row.reason) == (AttemptState.CANCELLED, "no")
        case Cancellation.BY_BUILDER:
            assert (world.row.state, world.row.cancel_reason) == (world.state, "no")
            assert bool(builder.told(m.CancelAttempt)) == (world.info.lease is LeaseStatus.HELD)


def check_what_a_builder_has_of_it(world: World) -> None:
    leased = world.ledger.now(attempts.leased, "one")
    assert (world.attempt in [row.name for row in leased]) == (world.info.lease is not LeaseStatus.NONE)
    Builder(world).sync()  # it has nothing
    expected = {
        LeaseStatus.NONE: world.state,
        LeaseStatus.OFFERED: AttemptState.QUEUED,
        LeaseStatus.HELD: AttemptState.DISCONNECTED,
    }
    if world.info.offerable or world.info.lease is LeaseStatus.OFFERED:
        assert world.row.state is AttemptState.OFFERED  # again: the queue was looked at
    else:
        assert world.row.state is expected[world.info.lease]
    world.apiserver.clock.advance(MISSING_DEADLINE)
    if world.info.lease is LeaseStatus.HELD:
        assert world.row.state is AttemptState.LOST


def check_what_becomes_of_it_when_its_builder_goes(world: World) -> None:
    world.wait(world.apiserver.lifecycle.disconnect("one"))
    expected = {
        LeaseStatus.NONE: world.state,
        LeaseStatus.OFFERED: AttemptState.QUEUED,
        LeaseStatus.HELD: AttemptState.DISCONNECTED,
    }
    assert world.row.state is expected[world.info.lease]
    world.put()
    world.wait(world.apiserver.lifecycle.recover())
    assert world.row.state is expected[world.info.lease]


def check_what_a_builder_is_told_that_brings_it(world: World) -> None:
    (order,) = Builder(world).sync(_held(world)).orders
    going_on = world.info.lease is not LeaseStatus.NONE
    assert order.order == ("continue" if going_on else "stop")
    ended = msgspec.structs.replace(_held(world), phase="ended")
    world.put()
    world.lease = world.lease or LEASE
    (order,) = Builder(world).sync(ended).orders
    if world.info.builder_done:
        assert order.order == "forget"


def check_how_it_ends(world: World) -> None:
    result = Result(outcome="failed", lines=0, sha256="", started=1, ended=2)
    finished = world.ledger.now(attempts.finish, world.attempt, Holder(world.lease, world.builder), result, False, 9)
    if world.info.lease is LeaseStatus.HELD:
        assert finished is not None
        assert finished.state is AttemptState.FAILED
    else:
        assert world.row.state is world.state
    world.put()
    world.wait(world.apiserver.lifecycle.lose(world.row, "gone"))
    assert world.row.state is (AttemptState.LOST if world.info.lease is LeaseStatus.HELD else world.state)


def check_that_only_what_has_ended_is_over(world: World) -> None:
    for over in (
        lambda: world.ledger.now(builds.retry, world.build, "ann", 5),
        lambda: world.ledger.now(projects.delete, "hello", 5),
    ):
        try:
            over()
        except NotPossible:
            assert not world.info.ended
        else:
            assert world.info.ended
            world.put()


def check_its_log(world: World) -> None:
    batch = Lines(1, 1, 0, ["x"])
    item = logs.ChunkItem(attempt=world.attempt, first=1, count=1, data=encoder.encode(batch) + b"\n", events=[])
    live = world.apiserver.logs.live(world.attempt)
    world.wait(world.apiserver.logs.load(live))
    assert live.ended == world.info.log_over
    try:
        world.ledger.now(logs.append, [item])
    except LogOrder:
        assert world.info.log_over
    else:
        assert not world.info.log_over


def check_its_permits_and_uploads(world: World) -> None:
    wanted = m.WantUpload(attempt=world.attempt, lease=world.lease or LEASE, size=1, sha256="a" * 64)
    builder = Builder(world)
    if world.info.lease is LeaseStatus.HELD:
        builder.sync(_held(world))
        world.put()
    allowed = world.info.lease is LeaseStatus.HELD and AttemptState.PUBLISHING in {*world.info.then, world.state}
    try:
        world.wait(builder.link.call_received(wanted))
    except CallFailed:
        assert not allowed
    else:
        assert allowed


def check_that_it_is_told(world: World) -> None:
    told: list[GistChange] = []

    def heard(news: GistRound) -> None:
        told.extend(msgspec.json.decode(message, type=GistChange) for message in read(news.frames))

    world.apiserver.gists.listen(heard)
    world.apiserver.clock.advance(1.0)
    assert bool(told) == world.info.talks
    change = StateChange.of(world.row, 9)
    assert (change.state, change.ended, change.tone) == (world.state, world.info.ended, world.info.tone)


def check_why_it_waits(world: World) -> None:
    with world.ledger.engine.begin() as connection:
        connection.execute(text("UPDATE attempts SET reason='slow'"))
    waiting = world.apiserver.dispatch.why_waiting(world.row, Place())
    assert (waiting is not None) == (world.info.waits is not None)
    if waiting is not None:
        codes = {
            Waits.FOR_BUILDER: "no_builder",
            Waits.FOR_ANSWER: "offered",
            Waits.FOR_LINK: "syncing",
            Waits.FOR_UPLOAD: "upload",
            Waits.FOR_APPROVAL: "approval",
        }
        assert world.info.waits is not None
        assert waiting.code == codes[world.info.waits]


def check_that_it_is_shown(world: World) -> None:
    row = world.ledger.now(builds.get, world.build)
    assert row is not None
    answer = msgspec.json.decode(msgspec.json.encode(api.shown_build(row)), type=schemas.Build)
    assert (answer.state, answer.tone) == (world.state, world.info.tone)
    listed = world.ledger.now(builds.list_page, projects=None, states=frozenset({world.state}), before=None, limit=10)
    assert [each.id for each in listed] == [world.build]
    assert str(output.cell(output.Toned(answer.state, answer.tone))) == world.state
    assert f"| `{world.state}` |" in draw_states.page()
    assert world.info.description


CHECKS: dict[str, Callable[[World], None]] = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}


def run(name: str, state: AttemptState) -> None:
    """One check of one state."""
    with tempfile.TemporaryDirectory() as folder:
        CHECKS[name](World(state, Path(folder)))


# -- what isn't about one state --------------------------------------------------------------------------------------


def places_that_name_states() -> list[str]:
    """Where the page or the command spells a state of an attempt that only the API's word should tell it."""
    found = []
    static = PACKAGE / "web/page/static"
    for path in [path for kind in ("js", "css") for path in static.rglob(f"*.{kind}") if "vendor" not in path.parts]:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            for state in STATES:
                if re.search(rf"(\.state\.{state}\b|\bstate\b[^\n]*[\"'`]{state}[\"'`])", line):
                    found.append(f"{path.name}:{number}: {state}")
    return found


def tones_without_a_look() -> list[Tone]:
    """The tones for which the page or the command has no colour."""
    css = "".join(path.read_text("utf-8") for path in PACKAGE.glob("web/page/static/styles/*.css"))
    plain = {Tone.WAITING}  # in the colour of all text
    return [tone for tone in Tone if (tone not in plain and f".state.{tone} " not in css) or tone not in output._STYLES]


def main(names: list[str]) -> int:
    """Run all checks of these states, and print what is wrong."""
    wrong = 0
    for state in [AttemptState(name) for name in names] or STATES:
        for name in CHECKS:
            try:
                run(name, state)
            except Exception:
                wrong += 1
                print(f"WRONG: {state}: {name}", flush=True)
                traceback.print_exc()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
