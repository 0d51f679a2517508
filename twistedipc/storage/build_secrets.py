"""
The secrets of projects' builds, sealed: who sets them, and which of them an attempt is given. Functions for
`Ledger.read` and `Ledger.write`; ``storage`` layer. (A target's secrets are ``projects``'.)

A secret is for the repository that its project had when it was set: other sources never see it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

import msgspec
from sqlalchemy import Connection, and_, bindparam, func, insert, not_, select
from sqlalchemy import delete as delete_rows
from sqlalchemy import update as update_rows

from twistedipc.builds import names
from twistedipc.builds.access import CHECKOUT
from twistedipc.builds.inputs import GivenSecret
from twistedipc.builds.secrets import (
    MAX_SECRETS,
    MAX_SECRETS_TOGETHER,
    Builds,
    Steps,
    are_for,
)
from twistedipc.builds.states import LEASED
from twistedipc.storage import access, audit
from twistedipc.storage.access import SealedAccess
from twistedipc.storage.columns import is_strangers, split_attempt
from twistedipc.storage.errors import NotPossible
from twistedipc.storage.rows import BuildSecretRow, builder_actor
from twistedipc.storage.tables import attempts, build_secrets, builds, projects, steps


class _ForBuilds(Protocol):
    """Something with a name that is for some builds."""

    @property
    def name(self) -> str:
        """The variable."""

    @property
    def builds(self) -> Builds:
        """For which builds it is."""


_S = TypeVar("_S", bound=_ForBuilds)


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that an attempt is to be given."""

    name: str
    steps: Steps
    sealed: bytes


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt is given; or why not, in a sentence."""

    secrets: list[Sealed] = []
    access: SealedAccess | None = None  # what its checkout is given
    void: bool = False  # the lease is not valid
    refused: str = ""


def put(
    connection: Connection,
    project: int,
    repository: str,
    name: str,
    sealed: bytes,
    *,
    characters: int,
    steps: Steps,
    builds: Builds,
    now: int,
) -> None:
    """
    Set a secret of the project with this id and ``repository``, sealed by `SecretBox.seal`. One for all builds takes
    the place of those of the same name for some; one for some stands beside that for all. Raises `NotPossible` if that
    were too many.
    """
    mine = and_(build_secrets.c.project_id == project, build_secrets.c.name == name)
    if builds == "all":
        connection.execute(delete_rows(build_secrets).where(mine, build_secrets.c.builds != builds))
    which = and_(mine, build_secrets.c.builds == builds)
    others = and_(build_secrets.c.project_id == project, not_(which))
    count, together = connection.execute(
        select(func.count(), func.coalesce(func.sum(build_secrets.c.characters), 0)).where(others)
    ).one()
    if count >= MAX_SECRETS:
        raise NotPossible(f"the project has {count} secrets already, and can have {MAX_SECRETS}")
    if together + characters > MAX_SECRETS_TOGETHER:
        raise NotPossible(
            f"the project's secrets would have {together + characters} characters together, and can have "
            f"{MAX_SECRETS_TOGETHER}"
        )
    values = {
        "sealed": sealed,
        "characters": characters,
        "steps": steps,
        "bound_to": names.place(repository),
        "updated": now,
    }
    if not connection.execute(update_rows(build_secrets).where(which).values(**values)).rowcount:
        connection.execute(insert(build_secrets).values(project_id=project, name=name, builds=builds, **values))


def remove(connection: Connection, project: int, name: str, builds: Builds | None) -> bool:
    """Erase a secret: all its values, or the one for these ``builds``. False if there was none."""
    which = and_(build_secrets.c.project_id == project, build_secrets.c.name == name)
    if builds is not None:
        which = and_(which, build_secrets.c.builds == builds)
    return connection.execute(delete_rows(build_secrets).where(which)).rowcount > 0


def remove_all(connection: Connection, project: int) -> None:
    """Erase all secrets of a project that is deleted."""
    connection.execute(delete_rows(build_secrets).where(build_secrets.c.project_id == project))


def remove_void(connection: Connection, project: int, repository: str) -> int:
    """Erase those that were set for another repository than the project has now. Return how many there were."""
    void = and_(build_secrets.c.project_id == project, build_secrets.c.bound_to != names.place(repository))
    return connection.execute(delete_rows(build_secrets).where(void)).rowcount


_ALL = select(*(build_secrets.c[name] for name in ("project_id", "name", "steps", "builds", "updated"))).order_by(
    build_secrets.c.name, build_secrets.c.builds
)
_OF_PROJECTS = _ALL.where(build_secrets.c.project_id.in_(bindparam("projects", expanding=True)))


def of_projects(connection: Connection, projects: Iterable[int] | None) -> dict[int, list[BuildSecretRow]]:
    """Return the secrets of these projects (None: of all), without their values, by name."""
    if projects is None:
        rows = connection.execute(_ALL)
    else:
        rows = connection.execute(_OF_PROJECTS, {"projects": sorted(set(projects))})
    found: dict[int, list[BuildSecretRow]] = {}
    for row in rows:
        secret = BuildSecretRow(name=row.name, steps=row.steps, builds=row.builds, updated=row.updated)
        found.setdefault(row.project_id, []).append(secret)
    return found


def any_for(secrets: Iterable[BuildSecretRow], environment: str) -> bool:
    """Return whether one of these secrets is for builds of this environment."""
    return any(are_for(secret.builds, environment) for secret in secrets)


def given(secrets: Iterable[BuildSecretRow], environment: str) -> list[GivenSecret]:
    """Return which of a project's secrets builds of this environment are given, by name: its own before all's."""
    return [GivenSecret(each.name, each.builds, each.updated) for each in _applying(secrets, environment)]


def _applying(secrets: Iterable[_S], environment: str) -> list[_S]:
    found = {each.name: each for each in secrets if each.builds == "all"}
    found |= {each.name: each for each in secrets if each.builds != "all" and are_for(each.builds, environment)}
    return [each for _, each in sorted(found.items(), key=lambda item: item[0])]


def give(
    connection: Connection, attempt: str, lease: str, builder: str, repository: str, uses: Iterable[str], now: int
) -> Answer:
    """
    The secrets for an attempt that has begun, with a line in the audit. The record of its log must show no step: once
    one has begun, it may be the build that asks.
    """
    build, number = split_attempt(attempt)
    row = connection.execute(
        select(
            attempts.c.state,
            attempts.c.lease,
            attempts.c.builder,
            attempts.c.environment,
            builds.c.origin,
            projects.c.id,
            projects.c.name,
            projects.c.deleted,
        )
        .join(builds, builds.c.id == attempts.c.build_id)
        .join(projects, projects.c.id == builds.c.project_id)
        .where(attempts.c.build_id == build, attempts.c.number == number)
    ).first()
    if (
        row is None
        or row.deleted is not None
        or (row.lease, row.builder) != (lease, builder)
        or row.state not in LEASED
    ):
        return Answer(void=True)
    begun = connection.execute(
        select(steps.c.name).where(steps.c.build_id == build, steps.c.number == number).limit(1)
    ).scalar()
    if begun is not None:
        return Answer(refused=f"the step {begun} has begun, and secrets are given before the first one")
    if row.environment is None:
        return Answer(refused="it was offered by an older version of the apiserver, which is gone. Try the build again")
    found = connection.execute(
        select(build_secrets)
        .where(build_secrets.c.project_id == row.id, build_secrets.c.bound_to == names.place(repository))
        .order_by(build_secrets.c.name)
    ).all()
    # Whatever the builder asks for: of a stranger's, only the checkout, which runs none of its code, gets any.
    given_to_it = [] if is_strangers(row.origin) else _applying(found, row.environment)
    secrets = [Sealed(name=each.name, steps=each.steps, sealed=each.sealed) for each in given_to_it]
    checkout = access.sealed(connection, row.id, repository) if CHECKOUT in uses else None
    if CHECKOUT in uses and checkout is None:
        return Answer(
            refused=f"the project has no credentials for {names.host(repository)} any more, since it has been changed "
            "meanwhile. Try the build again"
        )
    detail = {
        "attempt": attempt,
        "environment": row.environment,
        "secrets": ", ".join(secret.name for secret in secrets),
    }
    if checkout is not None:
        detail["repository"] = checkout.host
    audit.record(
        connection,
        by=builder_actor(builder),
        action="secrets.give",
        subject=row.name,
        project=row.name,
        detail=detail,
        now=now,
    )
    return Answer(secrets=secrets, access=checkout)
