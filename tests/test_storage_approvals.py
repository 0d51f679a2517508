"""What is built waits for another person before it goes live, if its project wants that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection

from tests.storage_fixtures import HOLDER, LEASE, NOW, add_project, database
from twistedipc.builds.attempt import Result
from twistedipc.builds.environments import Decided, Environment
from twistedipc.builds.states import AttemptState, ReleaseState
from twistedipc.storage import approvals, attempts, builds, projects, releases
from twistedipc.storage.errors import NotAllowed, NotFound, NotPossible, NotProtected
from twistedipc.storage.rows import Actor, AttemptRow, ReleaseRow

ANN, BOB = Actor(who="ann", token=1), Actor(who="bob", token=2)
S = AttemptState


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Connection]:
    with database(tmp_path) as connection:
        add_project(connection)
        projects.update(connection, "shop", {"approval": 1}, NOW)
        yield connection


def built(
    connection: Connection,
    resolved: int,
    *,
    ref: str = "main",
    may_publish: bool = True,
    asker_person: int | None = None,
    environment: str = "production",
) -> AttemptRow:
    """A build that ann has asked for, as far as its builder knows; its ref led to its commit then."""
    build, _new = builds.create(
        connection, project="shop", ref=ref, publish=True, may_publish=may_publish,
        by=msgspec.structs.replace(ANN, person=asker_person), parameters={}, now=NOW, idempotency=None,
    )  # fmt: skip
    name = f"{build.id}-1"
    of = Decided(environment=environment, preview="" if may_publish else "no scope publish")
    assert attempts.offer(connection, name, LEASE, "one", NOW, of)
    assert attempts.accept(connection, name, HOLDER)
    made = releases.create(
        connection, attempt=name, target="static", project="shop", sha256="a" * 64, files=1, size=1, commit="c" * 40,
        now=NOW,
    )  # fmt: skip
    result = Result(outcome="succeeded", lines=0, sha256="", started=NOW, ended=NOW, commit="c" * 40)
    waits = approvals.are_needed(projects.get(connection, "shop"), [made], result.protected, environment)
    ended = attempts.finish(connection, name, HOLDER, result, True, NOW + 900, NOW + resolved, waits=waits)
    assert ended is not None
    if not waits:
        releases.settle(connection, "shop", made.id, NOW + 900)
    return ended


def release(connection: Connection, attempt: AttemptRow) -> ReleaseRow:
    return releases.of_build(connection, attempt.build)[0]


def test_another_person_approves_it(ledger: Connection) -> None:
    waiting = built(ledger, 10)
    assert waiting.state is S.WAITING_APPROVAL
    assert release(ledger, waiting).state is ReleaseState.PACKED
    with pytest.raises(NotAllowed, match="another person"):
        approvals.approve(ledger, waiting.build, ANN, NOW)
    with pytest.raises(NotProtected, match="nobody has approved"):
        releases.activate(ledger, "shop", release(ledger, waiting).id, NOW, who="bob")
    with pytest.raises(NotFound):
        approvals.approve(ledger, 99, BOB, NOW)
    approved, made = approvals.approve(ledger, waiting.build, BOB, NOW + 5)
    assert (approved.state, approved.reason, made[0].state) == (S.SUCCEEDED, "", ReleaseState.LIVE)
    assert approved.decision is not None
    assert (approved.decision.who, approved.decision.approved, approved.decision.time) == ("bob", True, NOW + 5)
    for again in (
        lambda: approvals.approve(ledger, waiting.build, BOB, NOW),
        lambda: approvals.refuse(ledger, waiting.build, BOB, "", NOW),
    ):
        with pytest.raises(NotPossible, match="doesn't wait for an approval"):
            again()


def of(person: int | None, token: int | None) -> Actor:
    return Actor(who="x", token=token, person=person, person_name=None if person is None else f"person {person}")


@pytest.mark.parametrize(
    ("asked", "decides", "same"),
    [
        (of(1, 10), of(1, 10), True),
        (of(1, 10), of(1, 11), True),  # another token of theirs
        (of(1, 10), of(2, 12), False),
        (of(1, 10), of(None, 13), False),  # a token that is no person's counts as itself
        (of(None, 13), of(None, 13), True),
        (of(None, 13), of(None, 14), False),
        (of(None, 13), of(1, 10), False),
        (of(None, None), of(None, None), False),  # of before it was written down
    ],
)
def test_who_has_asked_is_a_person_or_a_token_that_is_no_persons(
    ledger: Connection, asked: Actor, decides: Actor, same: bool
) -> None:
    waiting = built(ledger, 10)
    attempt = msgspec.structs.replace(waiting, asker=asked.token, asker_person=asked.person)
    assert approvals.has_asked(attempt, decides) is same


def test_a_person_can_not_approve_with_another_of_their_tokens(ledger: Connection) -> None:
    waiting = built(ledger, 10, asker_person=1)
    with pytest.raises(NotAllowed, match="another person"):
        approvals.approve(ledger, waiting.build, of(1, 99), NOW)
    approved, _made = approvals.approve(ledger, waiting.build, of(2, 98), NOW)
    assert approved.decision is not None
    assert (approved.decision.who, approved.decision.token, approved.decision.person) == ("person 2", 98, 2)


def test_what_is_approved_late_does_not_replace_what_is_newer(ledger: Connection) -> None:
    old, new = built(ledger, 10), built(ledger, 20)
    approvals.approve(ledger, new.build, BOB, NOW + 900)
    late, made = approvals.approve(ledger, old.build, BOB, NOW + 901)
    assert (late.state, made[0].state) == (S.SUCCEEDED, ReleaseState.SUPERSEDED)
    assert "is newer" in late.reason
    # It is approved: a person may go back to it.
    assert releases.activate(ledger, "shop", made[0].id, NOW + 902, who="bob").state is ReleaseState.LIVE
    # The project is held now: what is approved meanwhile waits.
    held, made = approvals.approve(ledger, built(ledger, 30).build, BOB, NOW + 903)
    assert (held.state, made[0].state) == (S.SUCCEEDED, ReleaseState.PACKED)
    assert "release resume shop" in held.reason


def test_what_is_refused_never_goes_live(ledger: Connection) -> None:
    waiting = built(ledger, 10)
    refused = approvals.refuse(ledger, waiting.build, ANN, "not on a Friday", NOW)
    assert (refused.state, refused.reason) == (S.CANCELLED, "ann refused that it is published: not on a Friday")
    with pytest.raises(NotProtected):
        releases.activate(ledger, "shop", release(ledger, refused).id, NOW, who="bob")
    again = builds.retry(ledger, waiting.build, "bob", NOW, asker=BOB.token)
    assert (again.state, again.asker, again.decision) == (S.QUEUED, BOB.token, None)


def test_while_it_waits_it_can_be_cancelled_and_not_be_tried_again(ledger: Connection) -> None:
    waiting = built(ledger, 10)
    with pytest.raises(NotPossible):
        builds.retry(ledger, waiting.build, "bob", NOW)
    with pytest.raises(NotPossible):
        projects.delete(ledger, "shop", NOW)
    assert builds.request_cancel(ledger, waiting.build, "no", NOW).state is S.CANCELLED


def test_previews_wait_for_nobody(ledger: Connection) -> None:
    assert built(ledger, 10, ref="feature").state is S.SUCCEEDED
    assert built(ledger, 10, may_publish=False).state is S.SUCCEEDED
    projects.update(ledger, "shop", {"approval": 0}, NOW)
    assert built(ledger, 10).state is S.SUCCEEDED


def test_an_environment_asks_for_it_by_itself(ledger: Connection) -> None:
    environments = [Environment(name="qa", refs=["qa"], approval=1), Environment(name="dev", refs=["dev"])]
    projects.update(ledger, "shop", {"environments": environments, "approval": 0}, NOW)
    assert built(ledger, 5, ref="dev", environment="dev").state is S.SUCCEEDED
    waiting = built(ledger, 10, ref="qa", environment="qa")
    assert waiting.state is S.WAITING_APPROVAL
    with pytest.raises(NotAllowed, match="another person"):
        approvals.approve(ledger, waiting.build, ANN, NOW + 1000)
    approved, made = approvals.approve(ledger, waiting.build, BOB, NOW + 1000)
    assert approved.state is S.SUCCEEDED
    assert [each.state for each in made] == [ReleaseState.PACKED], "only production goes live"
    assert "was built for the environment qa, and only production goes live" in approved.reason
