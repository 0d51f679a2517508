"""
What becomes of a build whose attempt was lost: nothing will tell how it ended. Functions for `Ledger.write`;
``storage`` layer. On top of ``attempts`` and ``builds``.

Its project says: it stays lost, for a person to look at; or it is run again by itself, as a new attempt that everyone
can see. What an attempt had begun to publish isn't published blindly then: a package that is in the registry already is
compared, and a release is made of what the new attempt builds.
"""

from __future__ import annotations

from sqlalchemy import Connection, select

from twistedipc.builds.states import AttemptState
from twistedipc.storage import attempts, builds
from twistedipc.storage.rows import AttemptRow, Holder
from twistedipc.storage.tables import projects

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
    wanted = connection.execute(
        select(projects.c.on_lost).where(projects.c.name == lost.project, projects.c.deleted.is_(None))
    ).scalar()
    if wanted != "rerun" or lost.cancel_reason:
        return None
    newest = builds.attempts(connection, lost.build)[-MAX_LOST:]
    if newest[-1].number != lost.number:
        return None
    if len(newest) == MAX_LOST and all(row.state is AttemptState.LOST for row in newest):
        return None
    builder = f" with builder {lost.builder}" if lost.builder else ""
    why = f"on_lost, after attempt {lost.number} was lost{builder}"
    return builds.retry(
        connection,
        lost.build,
        why,
        now,
        may_publish=lost.may_publish,
        asker=lost.asker,
        asker_person=lost.asker_person,
    )
