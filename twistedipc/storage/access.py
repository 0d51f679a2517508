"""
How projects' private repositories are read: sealed credentials, and the host's keys. Functions for `Ledger.read` and
`Ledger.write`; ``storage`` layer.

All of it is for the host that the repository had when it was set: when a project gets a repository of another host,
it is erased in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, insert, select
from sqlalchemy import delete as delete_rows
from sqlalchemy import update as update_rows

from twistedipc.builds import names
from twistedipc.builds.access import MAX_KNOWN_HOSTS, known_hosts
from twistedipc.builds.names import BadValue
from twistedipc.storage import audit
from twistedipc.storage.columns import from_json, to_json
from twistedipc.storage.rows import AccessRow, builder_actor
from twistedipc.storage.tables import projects, repository_access


class SealedAccess(msgspec.Struct, frozen=True, kw_only=True):
    """What the checkout of an attempt is to be given."""

    host: str
    deploy_key: bytes | None
    git_token: bytes | None
    known_hosts: list[str]


_ALL = select(repository_access)
_OF_PROJECTS = _ALL.where(repository_access.c.project_id.in_(bindparam("projects", expanding=True)))


def of_projects(connection: Connection, ids: Iterable[int] | None) -> dict[int, AccessRow]:
    """Return what these projects (None: all) have, without what is secret."""
    if ids is None:
        rows = connection.execute(_ALL)
    else:
        rows = connection.execute(_OF_PROJECTS, {"projects": sorted(set(ids))})
    return {
        row.project_id: AccessRow(
            host=row.host,
            public_key=row.public_key,
            token=row.git_token is not None,
            known_hosts=from_json(row.known_hosts, list[str]),
        )
        for row in rows
    }


def serves(access: AccessRow | None, repository: str) -> bool:
    """Return whether a project has credentials that its repository is read with."""
    host = names.host(repository)
    if access is None or access.host != host:
        return False
    return bool(access.public_key) if host.startswith("ssh://") else access.token


def sealed(connection: Connection, project: int, repository: str) -> SealedAccess | None:
    """Return what the checkout of an attempt with this repository is given; None: nothing that is for its host."""
    row = connection.execute(select(repository_access).where(repository_access.c.project_id == project)).first()
    host = names.host(repository)
    if row is None or row.host != host:
        return None
    return SealedAccess(
        host=host,
        deploy_key=row.deploy_key if host.startswith("ssh://") else None,
        git_token=None if host.startswith("ssh://") else row.git_token,
        known_hosts=from_json(row.known_hosts, list[str]),
    )


def set_key(connection: Connection, project: int, repository: str, private: bytes, public: str, now: int) -> None:
    """Give a project a deploy key, sealed by `SecretBox.seal`, for the host of its repository."""
    _set(connection, project, repository, {"deploy_key": private, "public_key": public}, now)


def set_token(connection: Connection, project: int, repository: str, token: bytes, now: int) -> None:
    """Give a project a token, sealed by `SecretBox.seal`, for the host of its repository."""
    _set(connection, project, repository, {"git_token": token}, now)


def set_known_hosts(connection: Connection, project: int, repository: str, lines: list[str], now: int) -> None:
    """Set the keys that the host of a project's repository may show; none: the next one that it shows is pinned."""
    _set(connection, project, repository, {"known_hosts": to_json(lines)}, now)


def remove_key(connection: Connection, project: int) -> bool:
    """Erase a project's deploy key. Return False if there was none."""
    which = (repository_access.c.project_id == project) & repository_access.c.deploy_key.is_not(None)
    gone = update_rows(repository_access).where(which).values(deploy_key=None, public_key="")
    return connection.execute(gone).rowcount > 0


def remove_token(connection: Connection, project: int) -> bool:
    """Erase a project's token. Return False if there was none."""
    which = (repository_access.c.project_id == project) & repository_access.c.git_token.is_not(None)
    return connection.execute(update_rows(repository_access).where(which).values(git_token=None)).rowcount > 0


def pin(connection: Connection, project: str, lines: list[str], builder: str, now: int) -> None:
    """
    Pin the keys that a host has shown at the first contact, as a builder tells: if it is the host of the project's
    repository, and none is pinned yet.
    """
    row = connection.execute(
        select(repository_access)
        .join(projects, projects.c.id == repository_access.c.project_id)
        .where(projects.c.name == project, projects.c.deleted.is_(None))
    ).first()
    if row is None or from_json(row.known_hosts, list[str]):
        return
    try:
        found = known_hosts("\n".join(lines[:MAX_KNOWN_HOSTS]), row.host)
    except BadValue:  # also where the host isn't one that has keys
        return
    which = repository_access.c.project_id == row.project_id
    connection.execute(update_rows(repository_access).where(which).values(known_hosts=to_json(found), updated=now))
    detail = {"host": row.host, "keys": "; ".join(found)}
    audit.record(
        connection,
        by=builder_actor(builder),
        action="known_hosts.pin",
        subject=project,
        project=project,
        detail=detail,
        now=now,
    )


def remove_void(connection: Connection, project: int, repository: str) -> int:
    """Erase all of it if it is for another host than this repository's. Return how many rows that were."""
    void = (repository_access.c.project_id == project) & (repository_access.c.host != names.host(repository))
    return connection.execute(delete_rows(repository_access).where(void)).rowcount


def remove_all(connection: Connection, project: int) -> None:
    """Erase all of it of a project that is deleted."""
    connection.execute(delete_rows(repository_access).where(repository_access.c.project_id == project))


def _set(connection: Connection, project: int, repository: str, values: Mapping[str, Any], now: int) -> None:
    remove_void(connection, project, repository)
    which = repository_access.c.project_id == project
    if connection.execute(update_rows(repository_access).where(which).values(**values, updated=now)).rowcount:
        return
    nothing = {"deploy_key": None, "public_key": "", "git_token": None, "known_hosts": "[]"}
    new = nothing | dict(values)
    connection.execute(
        insert(repository_access).values(project_id=project, host=names.host(repository), updated=now, **new)
    )
