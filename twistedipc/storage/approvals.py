"""
Who may approve what was built, and what follows. Functions for `Ledger.write`; ``storage`` layer. On top of
``attempts`` and ``releases``.

An attempt of a project with ``approval`` whose release would go live by itself waits once it is built. It holds
nothing meanwhile: what it built is stored. The rules of what goes live are applied when it is approved, so that an old
release that is approved late doesn't replace a newer one.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from twistedipc.builds.states import AttemptState, PublicationState
from twistedipc.storage import attempts, builds, previews, projects, publications, releases
from twistedipc.storage.columns import attempt_name
from twistedipc.storage.errors import NotAllowed, NotFound, NotPossible
from twistedipc.storage.rows import Actor, AttemptRow, Decision, ProjectRow, ReleaseRow
from twistedipc.storage.standing import note_standing

_P = PublicationState

#: Publications that have begun, and haven't ended.
_BEGUN = frozenset({_P.CHECKED, _P.STAGED, _P.APPROVED, _P.PRESENT})


def are_needed(
    project: ProjectRow | None,
    made: Iterable[ReleaseRow],
    protected: str | None,
    environment: str | None,
    *,
    packages: bool = False,
) -> bool:
    """
    Return whether what an attempt has made is to be approved: before it goes live or is published, or before it counts
    as built for an environment that asks for that.

    :param protected: as in its result
    :param environment: the attempt's
    :param packages: whether it has stored packages
    """
    named = None if project is None else next((e for e in project.environments if e.name == environment), None)
    if named is not None:
        return bool(named.approval and list(made))
    if project is None or not project.approval or protected == "":
        return False
    return packages or any(not each.preview and (each.may_go_live or releases.is_own(each, project)) for each in made)


def approve(connection: Connection, build: int, by: Actor, now: int) -> tuple[AttemptRow, list[ReleaseRow]]:
    """
    waiting_approval → succeeded, and its releases go live, if they are to. The attempt, and its releases. If it has
    stored packages, → delivering: its releases go live when these are published. Raises `NotFound`, `NotPossible`,
    `NotAllowed`.
    """
    attempt = _waiting(connection, build)
    decided = attempt.decision is not None and attempt.decision.approved  # what is staged needs a password, no more
    if has_asked(attempt, by) and not decided and not _only_staged(connection, attempt):
        raise NotAllowed(f"you have asked for build {build} yourself: another person must approve it")
    delivers = publications.stored(connection, attempt.name)
    decision = attempt.decision if decided and attempt.decision is not None else _decision(by, now, approved=True)
    approved = attempts.approve(connection, attempt.name, decision, delivers=delivers)
    if approved is None:
        raise NotPossible(f"build {build} doesn't wait for an approval any more")
    return (approved, []) if delivers else settled(connection, approved, now)


def settled(connection: Connection, attempt: AttemptRow, now: int) -> tuple[AttemptRow, list[ReleaseRow]]:
    """Have the releases of an attempt that has succeeded go live, if they are to. The attempt, and its releases."""
    made = [each for each in releases.of_build(connection, attempt.build) if each.attempt == attempt.name]
    waiting = releases.waiting(connection, attempt.project)
    gone_live = [releases.settle(connection, attempt.project, each.id, now) for each in made]
    for each in gone_live:
        previews.settle(connection, each, now)
    note_standing(connection, [*gone_live, *waiting], now)
    return attempts.get(connection, attempt.name) or attempt, gone_live


def _only_staged(connection: Connection, attempt: AttemptRow) -> bool:
    """Return whether an attempt waits only because its registry stages, and not because its project wants another."""
    project = projects.get(connection, attempt.project)
    return (
        project is not None
        and not project.approval
        and any(each.state in _BEGUN for each in publications.of_attempt(connection, attempt.name))
    )


def refuse(connection: Connection, build: int, by: Actor, reason: str, now: int) -> AttemptRow:
    """waiting_approval → cancelled. Raises `NotFound`, `NotPossible`."""
    attempt = _waiting(connection, build)
    refused = attempts.refuse(connection, attempt.name, _decision(by, now, approved=False, reason=reason))
    if refused is None:
        raise NotPossible(f"build {build} doesn't wait for an approval any more")
    publications.drop(connection, attempt.name, refused.reason, now)
    return refused


def _waiting(connection: Connection, build: int) -> AttemptRow:
    row = builds.get(connection, build)
    attempt = None if row is None else attempts.get(connection, attempt_name(build, row.attempt))
    if attempt is None:
        raise NotFound(f"there is no build {build}")
    if attempt.state is not AttemptState.WAITING_APPROVAL:
        raise NotPossible(f"build {build} doesn't wait for an approval: it is {attempt.state}")
    return attempt


def has_asked(attempt: AttemptRow, by: Actor) -> bool:
    """
    Return whether this one has asked for the attempt: the same person, with whichever of their tokens, or the same
    token. (What isn't known of the attempt is the same as nobody's.)
    """
    if attempt.asker_person is not None and attempt.asker_person == by.person:
        return True
    return attempt.asker is not None and attempt.asker == by.token


def _decision(by: Actor, now: int, *, approved: bool, reason: str = "") -> Decision:
    return Decision(who=by.name, token=by.token, person=by.person, time=now, approved=approved, reason=reason)
