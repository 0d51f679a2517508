"""Polling: a project's repository is looked at, since its host can't send hooks. ``web.api``; ``routes`` has these."""

from __future__ import annotations

from typing import Any

from msgspec import UnsetType
from sqlalchemy import Connection

from twistedipc.builds.remotes import DEFAULT_EVERY
from twistedipc.storage import hooks, polls
from twistedipc.storage.rows import PollRow
from twistedipc.web.api.call import Call, Reply, moment, moment_or_none
from twistedipc.web.api.schemas import NewPoll, Poll
from twistedipc.web.http.problems import ProblemError, not_found


async def show(call: Call[None, None]) -> Reply[Poll]:
    """Show whether the project's repository is looked at, and what came of the last look."""
    return Reply(body=await _shown(call, await call.context.ledger.read(polls.get, call.project.id)))


async def put(call: Call[None, NewPoll]) -> Reply[Poll]:
    """
    Look at the project's repository every so many minutes. The first look only notes what is there; what moves after
    that builds as a push that a hook tells of. Which branches and tags build is said by the settings of the hook.
    """
    project, now = call.project, call.context.now()
    every = None if isinstance(call.body.every, UnsetType) else call.body.every

    def write(connection: Connection) -> PollRow:
        row = polls.put(connection, project.id, every, now)
        call.audit(connection, "poll.set", project.name, {"every": str(row.every)})
        return row

    row = await call.context.ledger.write(write)
    call.context.looks.wake()
    return Reply(body=await _shown(call, row))


async def remove(call: Call[None, None]) -> Reply[None]:
    """Look at the project's repository no more, and forget what was seen there. What was built goes on."""
    project = call.project

    def write(connection: Connection) -> bool:
        removed = polls.remove(connection, project.id)
        if removed:
            call.audit(connection, "poll.delete", project.name, {})
        return removed

    if not await call.context.ledger.write(write):
        raise not_found(f"project {project.name} isn't polled")
    return Reply(body=None)


async def look(call: Call[None, None]) -> Reply[Poll]:
    """Look at the project's repository now."""
    row = await call.context.ledger.write(polls.look_soon, call.project.id, call.context.now())
    if row is None:
        raise ProblemError(409, f"project {call.project.name} isn't polled: turn that on first")
    call.context.looks.wake()
    return Reply(body=await _shown(call, row))


async def _shown(call: Call[Any, Any], row: PollRow | None) -> Poll:
    settings = (await call.context.ledger.read(hooks.get, call.project.id)).settings
    return Poll(
        on=row is not None,
        every=DEFAULT_EVERY if row is None else row.every,
        due=None if row is None else moment(row.due),
        looked=None if row is None else moment_or_none(row.looked),
        refs=0 if row is None else row.refs,
        builder="" if row is None else row.builder,
        failures=0 if row is None else row.failures,
        reason="" if row is None else row.reason,
        settings=settings,
    )
