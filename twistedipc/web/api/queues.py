"""Queues of projects: what is said of them, and all of one cancelled. ``web.api``; ``routes`` has `cancel`."""

from __future__ import annotations

from msgspec import UnsetType
from msgspec.structs import replace

from twistedipc.builds import protection
from twistedipc.builds.priorities import PriorityRule, QueueRules
from twistedipc.web.api.call import Call, Reply, moment_or_none
from twistedipc.web.api.schemas import Queue, QueueCancelled, QueueChange


async def cancel(call: Call[None, None]) -> Reply[QueueCancelled]:
    """Cancel all builds of the project that are queued. What has begun goes on."""
    reason = f"cancelled by {call.token.who}, with all that was queued"
    count = await call.context.requests.cancel_queued(call.project.name, reason, call.actor)
    return Reply(body=QueueCancelled(cancelled=count))


def changed(before: QueueRules, body: QueueChange, now: int) -> QueueRules:
    """Return what a project says of its queue after a change. Raises `BadValue`."""
    rules = before
    if not isinstance(body.at_once, UnsetType):
        rules = replace(rules, at_once=body.at_once)
    if not isinstance(body.paused, UnsetType):
        rules = replace(rules, paused=(before.paused or now) if body.paused else None)
    if not isinstance(body.priorities, UnsetType):
        protection.check([each.ref for each in body.priorities])
        some = [PriorityRule(ref=each.ref, priority=each.priority) for each in body.priorities]
        rules = replace(rules, priorities=some)
    return rules


def shown(rules: QueueRules) -> Queue:
    """Return what a project says of its queue, as an answer has it."""
    return Queue(at_once=rules.at_once, paused=moment_or_none(rules.paused), priorities=rules.priorities)


def audited(rules: QueueRules) -> dict[str, str]:
    """Return the same for the audit."""
    return {
        "queue.at_once": str(rules.at_once or "—"),
        "queue.paused": "no" if rules.paused is None else "yes",
        "queue.priorities": ", ".join(f"{each.ref} {each.priority}" for each in rules.priorities) or "—",
    }
