"""
What ends when a branch, a tag or a pull request is gone. Functions for `Ledger.write`; ``storage`` layer.

Each part that has something of a ref's own is called by `gone`, in the transaction that writes the message down: so
what is to be done is as durable as the message itself.
"""

from __future__ import annotations

import re

from sqlalchemy import Connection, select

from twistedipc.builds.versions import canary_of, is_canary
from twistedipc.storage import package_requests, previews, versions
from twistedipc.storage.errors import NotFound, NotPossible
from twistedipc.storage.projects import live_id
from twistedipc.storage.rows import APISERVER
from twistedipc.storage.tables import builds
from twistedipc.storage.tables import publications as publications_table

#: The most packages of a project from which a tag is taken at once.
_MOST = 50


def gone(connection: Connection, project: str, ref: str, number: int, now: int) -> list[str]:
    """
    A ref of a project is gone. Return what follows from it, in words for people.

    :param ref: its full name
    :param number: of the pull request that is closed; 0: it is a branch or a tag
    """
    ended = previews.end(connection, project, [ref])
    return [f"the preview {label} is gone" for label in ended] + _tags(connection, project, ref, now)


def _tags(connection: Connection, project: str, ref: str, now: int) -> list[str]:
    """Ask that the tags be removed under which canaries of this ref were published."""
    project_id = live_id(connection, project)
    tag = canary_of(re.sub(r"^refs/heads/", "", ref), 0).tag
    p = publications_table
    query = (
        select(p.c.name, p.c.version)
        .join(builds, builds.c.id == p.c.build_id)
        .where(builds.c.project_id == project_id, p.c.tag == tag)
        .distinct()
    )
    packages = {row.name for row in connection.execute(query) if is_canary(tag, row.version)}
    if not packages or versions.why_not_removed(connection, project, tag, ""):
        return []
    asked = []
    for package in sorted(packages)[:_MOST]:
        try:
            package_requests.add(
                connection,
                project=project,
                package=package,
                kind="untag",
                tag=tag,
                version="",
                message="",
                by=APISERVER,
                now=now,
            )
        except (NotFound, NotPossible):
            continue  # it doesn't publish there any more
        asked.append(package)
    return [f"the tag {tag} of {', '.join(asked)} is being removed"] if asked else []
