"""
What the ledger itself has seen of an attempt, by which its builder's word is judged (`builds.word`). A function for
`Ledger.read`; ``storage`` layer.
"""

from __future__ import annotations

from sqlalchemy import Connection

from twistedipc.builds.names import HEAD
from twistedipc.builds.word import Seen, must_be
from twistedipc.storage import artifacts, attempts, builds, permits, projects


def look(connection: Connection, attempt: str, lines: int, sha256: str, now: int) -> Seen | None:
    """
    Return what is known of an attempt; None if there is none.

    :param lines: how many records of its log have been committed
    :param sha256: their digest; "" if some are missing
    """
    row = attempts.get(connection, attempt)
    build = None if row is None else builds.get(connection, row.build)
    if row is None or build is None:
        return None
    project = projects.get(connection, row.project)
    uploaded = artifacts.get(connection, attempt)
    return Seen(
        builder=row.builder,
        since=row.created if row.offered is None else row.offered,
        now=now,
        commit=must_be(build.ref, row.commit),
        asked_head=project is not None and project.default_ref == HEAD,
        lines=lines,
        sha256=sha256,
        steps=row.steps,
        artifact=None if uploaded is None or not uploaded.complete else (uploaded.size, uploaded.sha256),
        permitted=permits.permitted(connection, row),
    )
