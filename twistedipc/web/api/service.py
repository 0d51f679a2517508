"""The service's own state. ``web.api``; ``routes`` has these functions."""

from __future__ import annotations

from twisted.internet.defer import Deferred, TimeoutError

from twistedipc.storage import tokens
from twistedipc.storage.errors import LedgerUnavailable
from twistedipc.web.api.call import Call, Reply, moment_or_none
from twistedipc.web.api.schemas import Health

#: Seconds for the ledger to answer before it counts as failing.
LEDGER_SECONDS = 3


async def show_health(call: Call[None, None]) -> Reply[Health]:
    """Show whether the service can do its work; the status is 503 if it can't."""
    context = call.context
    answered: Deferred[int] = context.ledger.read(tokens.count)
    try:
        await answered.addTimeout(LEDGER_SECONDS, context.clock)
        database = True
    except (LedgerUnavailable, TimeoutError):
        database = False
    draining = context.draining()
    return Reply(
        status=200 if database and not draining else 503,
        body=Health(
            status="degraded" if not database else "draining" if draining else "ok",
            version=context.version,
            builders=context.dispatch.linked,
            no_builder_since=moment_or_none(context.dispatch.no_builder_since),
            isolation=context.dispatch.isolations,
            database="ok" if database else "failing",
        ),
    )
