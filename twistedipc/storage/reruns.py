"""
What becomes of a build whose attempt was lost: nothing will tell how it ended. And of a project's first one, which may
find out that it should have been production. Functions for `Ledger.write`; ``storage`` layer. On top of ``attempts``,
``builds`` and ``projects``.

Its project says: it stays lost, for a person to look at; or it is run again by itself, as a new attempt that everyone
can see. What an attempt had begun to publish isn't published blindly then: a package that is in the registry already is
compared, and a release is made of what the new attempt builds.
"""

from __future__ import annotations

from sqlalchemy import Connection

from twistedipc.builds.environments import Decided, decide
from twistedipc.builds.states import AttemptState
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.storage import attempts, builds, projects
from twistedipc.storage.rows import AttemptRow, Holder

#: How many attempts of a build may be lost in a row before it isn't run again by itself: it may be what kills builders.
MAX_LOST = 3


def lose(connection: Connection, attempt: str, holder: Holder, reason: str, now: int) -> list[AttemptRow]:
    """
    The attempt is lost, as `attempts.lose` has it. Its new row, and that of the attempt that was queued in its place,
    if its project wants that; nothing if the lease isn't valid any more.
    """
    lost = attempts.lose(connection, attempt, holder, reason, now)
    if lost is None:
        return []
    again = rerun(connection, lost, now)
    return [lost] if again is None else [lost, again]


def rerun(connection: Connection, lost: AttemptRow, now: int) -> AttemptRow | None:
    """Queue another attempt in the place of one that has just been lost, if its project wants that."""
    project = projects.get(connection, lost.project)
    if project is None or project.on_lost != "rerun" or lost.cancel_reason:
        return None
    newest = builds.attempts(connection, lost.build)[-MAX_LOST:]
    if newest[-1].number != lost.number:
        return None
    if len(newest) == MAX_LOST and all(row.state is AttemptState.LOST for row in newest):
        return None
    builder = f" with builder {lost.builder}" if lost.builder else ""
    return _again(connection, lost, f"on_lost, after attempt {lost.number} was lost{builder}", now)


def rerun_own(connection: Connection, preview: AttemptRow, now: int) -> AttemptRow | None:
    """
    Queue another attempt after a preview that has found out what the repository's HEAD stands for, if it was of that
    branch and was a preview only because nobody knew that yet. It got neither the secrets nor the variables of
    production, so what it has made can't be what the project's users get.
    """
    project, build = projects.get(connection, preview.project), builds.get(connection, preview.build)
    if project is None or build is None or build.attempt != preview.number or preview.cancel_reason:
        return None

    def of(head: str) -> Decided:
        return decide(
            project=project.name,
            ref=build.ref,
            default_ref=project.default_ref,
            patterns=project.protected,
            head=head,
            environments=project.environments,
            publish=build.publish,
            may_publish=preview.may_publish,
            live=preview.live,
            delivers=bool(TARGETS.delivered_by_runner(TARGETS.active(project.targets))),
        )

    if not preview.preview or preview.preview != of("").preview or not of(project.head).is_production:
        return None
    why = f"the apiserver, as attempt {preview.number} has found out that HEAD is {project.head}"
    return _again(connection, preview, why, now)


def _again(connection: Connection, row: AttemptRow, why: str, now: int) -> AttemptRow | None:
    return builds.retry(
        connection,
        row.build,
        why,
        now,
        may_publish=row.may_publish,
        asker=row.asker,
        asker_person=row.asker_person,
    )
