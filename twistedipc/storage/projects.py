"""
The ledger's projects and their sealed secrets. Functions for `Ledger.read` and `Ledger.write`; ``storage`` layer.

A deleted project's row stays, since its builds and their audit refer to it, but no query returns it, its builds or its
releases any more, and its name is free for another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select
from sqlalchemy import delete as delete_rows
from sqlalchemy import update as update_rows
from sqlalchemy.exc import IntegrityError

from twistedipc.builds import names
from twistedipc.builds.registries import Registry
from twistedipc.builds.secrets import Builds, Steps, why_for_none
from twistedipc.builds.settings import BuildSettings
from twistedipc.builds.states import TERMINAL, OnLost
from twistedipc.builds.variables import OfContexts
from twistedipc.publish.targets.registry import TARGETS, ProjectTargets, find
from twistedipc.publish.targets.target import Settings
from twistedipc.storage import access, audit, build_secrets, receivers, rings
from twistedipc.storage.columns import (
    environments_of,
    from_json,
    own_rules,
    project_settings,
    protected_refs,
    queue_rules,
    runs_on,
    text,
    to_json,
)
from twistedipc.storage.errors import NameTaken, NotFound, NotPossible
from twistedipc.storage.rings import Topic
from twistedipc.storage.rows import Hold, ProjectRow, builder_actor
from twistedipc.storage.tables import (
    builds,
    domains,
    hook_deliveries,
    hook_refs,
    hooks,
    idempotency,
    poll_refs,
    polls,
    preview_passwords,
    projects,
    schedules,
    secrets,
    token_projects,
)

#: What `update` may change.
CHANGEABLE = frozenset(
    {
        "repository",
        "default_ref",
        "targets",
        "settings",
        "environment",
        "of_contexts",
        "registries",
        "protected",
        "runs_on",
        "queue",
        "approval",
        "environments",
        "timeout",
        "idle_timeout",
        "on_lost",
        "retention",
    }
)


#: The columns that hold structures, and how they are written.
_FORMS: dict[str, Callable[[Any], str | None]] = {
    "targets": lambda targets: to_json(TARGETS.write(targets)),
    "settings": to_json,
    "environment": to_json,
    "of_contexts": to_json,
    "registries": to_json,
    "protected": lambda patterns: to_json(patterns) if patterns else None,
    "runs_on": to_json,
    "queue": to_json,
    "environments": lambda environments: to_json(environments) if environments else None,
    "retention": to_json,
}


def create(
    connection: Connection,
    *,
    name: str,
    repository: str,
    default_ref: str,
    targets: ProjectTargets,
    settings: BuildSettings | None = None,
    protected: list[str] | None = None,
    approval: int = 0,
    environment: dict[str, str],
    timeout: float,
    idle_timeout: float,
    on_lost: OnLost = "lost",
    now: int,
) -> ProjectRow:
    """Add a project. Raises `NameTaken`. The values have been checked by `builds.names`."""
    try:
        connection.execute(
            insert(projects).values(
                name=name,
                repository=repository,
                default_ref=default_ref,
                targets=to_json(TARGETS.write(targets)),
                settings=to_json(settings or BuildSettings()),
                protected=to_json(protected) if protected else None,
                approval=approval,
                environment=to_json(environment),
                timeout=timeout,
                idle_timeout=idle_timeout,
                on_lost=on_lost,
                created=now,
                updated=now,
            )
        )
    except IntegrityError as error:
        raise NameTaken(f"there is a project {name} already") from error
    rings.note(connection, Topic.PROJECT, name)
    return _existing(connection, name)


# Made once: what SQLAlchemy does to make a statement takes longer than SQLite takes for it, and a build asks for its
# project some twenty times.
_BY_NAME = select(projects).where(projects.c.name == bindparam("name"), projects.c.deleted.is_(None))
_SECRETS = select(secrets.c.project_id, secrets.c.name).order_by(secrets.c.name)
_SECRETS_OF = _SECRETS.where(secrets.c.project_id == bindparam("project"))


def get(connection: Connection, name: str) -> ProjectRow | None:
    """Return the project of this name, or None."""
    found = connection.execute(_BY_NAME, {"name": name}).first()
    return None if found is None else _rows(connection, [found])[0]


def list_all(connection: Connection, wanted: frozenset[str] | None) -> list[ProjectRow]:
    """Return all projects, or those of ``wanted`` that exist, by name."""
    query = select(projects).where(projects.c.deleted.is_(None)).order_by(projects.c.name)
    if wanted is not None:
        query = query.where(projects.c.name.in_(sorted(wanted)))
    return _rows(connection, connection.execute(query).all())


def all_numbers(connection: Connection) -> dict[str, int]:
    """Return the numbers of all projects by their names."""
    query = select(projects.c.name, projects.c.id).where(projects.c.deleted.is_(None))
    return {row.name: row.id for row in connection.execute(query)}


def all_names(connection: Connection) -> frozenset[str]:
    """Return the names of all projects."""
    return frozenset(connection.execute(select(projects.c.name).where(projects.c.deleted.is_(None))).scalars())


def binding_of(settings: Settings | None, repository: str, secret: str = "") -> str:
    """
    Where a secret for a target may go, and of what sources: it is set for both, and void when either becomes another.
    Equal exactly if the same is meant.

    :param settings: what the project says of the target; None: nothing, so that its secrets go nowhere yet.
    :param secret: its name; "": one that goes where the target says
    """
    return f"{_place_of(settings, secret) or ''} {names.place(repository)}"


def _place_of(settings: Settings | None, secret: str) -> str | None:
    """Return the place of a target to which a secret goes; None: to none."""
    if settings is None:
        return None
    target = TARGETS.of(settings)
    return target.secret_place(settings, secret) if secret else target.place(settings)


def update(connection: Connection, name: str, changes: dict[str, object], now: int) -> ProjectRow | None:
    """
    Set the columns of ``changes`` (of `CHANGEABLE`, else `ValueError`). None if there is no such project. Secrets that
    were set for another place or repository are erased.
    """
    if not changes.keys() <= CHANGEABLE:
        raise ValueError(f"these can't be changed: {', '.join(sorted(changes.keys() - CHANGEABLE))}")
    values = {key: _FORMS[key](value) if key in _FORMS else value for key, value in changes.items()}
    if "repository" in values:
        values["head"] = None  # it was another repository's, for all that is known
    changed = connection.execute(
        update_rows(projects).where(projects.c.name == name, projects.c.deleted.is_(None)).values(**values, updated=now)
    )
    if not changed.rowcount:
        return None
    rings.note(connection, Topic.PROJECT, name)
    if changes.keys() & {"queue", "runs_on"}:
        rings.note(connection, Topic.QUEUE)
    row = _existing(connection, name)
    gone = build_secrets.remove_void(connection, row.id, row.repository)
    gone += access.remove_void(connection, row.id, row.repository)
    for secret in row.secrets:
        binding = binding_of(_settings_for(row, secret), row.repository, secret)
        void = (secrets.c.project_id == row.id) & (secrets.c.name == secret) & (secrets.c.bound_to != binding)
        gone += connection.execute(delete_rows(secrets).where(void)).rowcount
    return _existing(connection, name) if gone else row


def _settings_for(project: ProjectRow, secret: str) -> Settings | None:
    """Return the project's settings of the target that has this secret."""
    known = TARGETS.secret(secret)
    return None if known is None else find(project.targets, known[0].name)


def delete(connection: Connection, name: str, now: int) -> bool:
    """
    Delete the project: its secrets are erased, tokens bound to its name lose it (the name may come to mean another
    project), its name becomes free. False if there is none. Raises `NotPossible` while one of its builds goes on.
    """
    project = live_id(connection, name)
    if project is None:
        return False
    going_on = connection.execute(
        select(builds.c.id).where(builds.c.project_id == project, builds.c.state.not_in(sorted(TERMINAL))).limit(1)
    ).scalar()
    if going_on is not None:
        raise NotPossible(f"build {going_on} of project {name} hasn't ended; cancel it first")
    connection.execute(delete_rows(secrets).where(secrets.c.project_id == project))
    build_secrets.remove_all(connection, project)
    access.remove_all(connection, project)
    receivers.remove_all(connection, project)
    for table in (hooks, hook_deliveries, hook_refs, polls, poll_refs, schedules, domains, preview_passwords):
        connection.execute(delete_rows(table).where(table.c.project_id == project))
    connection.execute(delete_rows(idempotency).where(idempotency.c.project_id == project))
    connection.execute(delete_rows(token_projects).where(token_projects.c.project == name))
    connection.execute(update_rows(projects).where(projects.c.id == project).values(deleted=now, updated=now))
    rings.note(connection, Topic.PROJECT, name)
    return True


def set_secret(
    connection: Connection, name: str, secret_name: str, sealed: bytes, now: int, place: str | None = None
) -> None:
    """
    Set a secret, sealed by `SecretBox.seal`, for what the project is built from and published to now. Raises
    `NotFound`; `NotPossible` if that isn't the ``place`` that the person meant; `ValueError` unless a target has it.
    """
    if TARGETS.secret(secret_name) is None:
        raise ValueError(f"a project's secrets are: {', '.join(sorted(TARGETS.secrets))}")
    project = _existing(connection, name)
    settings = _settings_for(project, secret_name)
    now_place = _place_of(settings, secret_name)
    if now_place is None and settings is not None:
        raise NotPossible(f"project {name} has nothing that needs {secret_name}: see twistedipc project show {name}")
    now_place = now_place or ""
    if place is not None and now_place not in (place, names.place(place)):
        where = place_name(project, secret_name)
        raise NotPossible(f"project {name} publishes to {where} now: {secret_name} wasn't set")
    values = {"sealed": sealed, "updated": now, "bound_to": binding_of(settings, project.repository, secret_name)}
    which = (secrets.c.project_id == project.id) & (secrets.c.name == secret_name)
    if not connection.execute(update_rows(secrets).where(which).values(**values)).rowcount:
        connection.execute(insert(secrets).values(project_id=project.id, name=secret_name, **values))


def place_name(project: ProjectRow, secret_name: str) -> str:
    """Return where this secret of the project goes, as people read it."""
    settings = _settings_for(project, secret_name)
    place = _place_of(settings, secret_name)
    if settings is None or place is None:
        return "nowhere"
    target = TARGETS.of(settings)
    return target.place_name(settings) if place == target.place(settings) else place


def delete_secret(connection: Connection, name: str, secret_name: str) -> bool:
    """Erase a secret. Return False if there was none."""
    project = live_id(connection, name)
    which = (secrets.c.project_id == project) & (secrets.c.name == secret_name)
    return project is not None and connection.execute(delete_rows(secrets).where(which)).rowcount > 0


def sealed_secret(
    connection: Connection, project_name: str, secret_name: str, binding: str | None = None
) -> bytes | None:
    """
    A secret, as `set_secret` was given it, for what an attempt was offered with (`binding_of`; None: what the project
    says now). Raises `NotPossible` if it was set for something else.
    """
    project = get(connection, project_name)
    if project is None:
        return None
    which = (secrets.c.project_id == project.id) & (secrets.c.name == secret_name)
    found = connection.execute(select(secrets.c.sealed, secrets.c.bound_to).where(which)).first()
    if found is None:
        return None
    if found.bound_to != (binding or binding_of(_settings_for(project, secret_name), project.repository, secret_name)):
        raise NotPossible(
            f"the project's {secret_name} was set for another registry or repository than this attempt has: the "
            "project has been changed meanwhile. Try the build again"
        )
    sealed: bytes = found.sealed
    return sealed


def set_build_secret(
    connection: Connection,
    name: str,
    secret_name: str,
    sealed: bytes,
    *,
    characters: int,
    steps: Steps,
    builds: Builds,
    now: int,
) -> None:
    """
    Set a secret of the project's builds, for the repository that it has now. Raises `NotFound`, `NotPossible`.
    """
    project = _existing(connection, name)
    if why := why_for_none(builds, [each.name for each in project.environments]):
        raise NotPossible(why)
    build_secrets.put(
        connection,
        project.id,
        project.repository,
        secret_name,
        sealed,
        characters=characters,
        steps=steps,
        builds=builds,
        now=now,
    )


def delete_build_secret(connection: Connection, name: str, secret_name: str, builds: Builds | None = None) -> bool:
    """Erase a secret of the project's builds: all its values, or that for these ``builds``. False: there was none."""
    project = live_id(connection, name)
    return project is not None and build_secrets.remove(connection, project, secret_name, builds)


def note_head(connection: Connection, name: str, head: str, builder: str, now: int) -> None:
    """
    Note which branch the HEAD of a project's repository stands for, as a builder has found it. It decides what goes
    live, so a change is in the audit.
    """
    about = projects.c.name == name, projects.c.deleted.is_(None), projects.c.head.is_distinct_from(head)
    before = connection.execute(select(projects.c.head).where(*about)).first()
    if before is None:
        return
    connection.execute(update_rows(projects).where(*about).values(head=text(head), updated=now))
    detail = {"head": head, "before": before.head or ""}
    by = builder_actor(builder)
    audit.record(connection, by=by, action="project.head", subject=name, project=name, detail=detail, now=now)


def clear_caches(connection: Connection, name: str) -> int:
    """
    Have no build of the project that is offered from now on use what earlier ones have kept. How many times that was
    said, this included. Raises `NotFound`.
    """
    which = projects.c.name == name, projects.c.deleted.is_(None)
    changed = update_rows(projects).where(*which).values(caches=projects.c.caches + 1).returning(projects.c.caches)
    times: int | None = connection.execute(changed).scalar()
    if times is None:
        raise NotFound(f"there is no project {name}")
    return times


def live_id(connection: Connection, name: str) -> int | None:
    """The id of the project that has this name now. For the other query modules."""
    return connection.execute(
        select(projects.c.id).where(projects.c.name == name, projects.c.deleted.is_(None))
    ).scalar()


def _existing(connection: Connection, name: str) -> ProjectRow:
    project = get(connection, name)
    if project is None:
        raise NotFound(f"there is no project {name}")
    return project


def _rows(connection: Connection, found: Iterable[Row[Any]]) -> list[ProjectRow]:
    found = list(found)
    kept: dict[int, list[str]] = {}
    ids = [row.id for row in found] if len(found) == 1 else None
    names_of = connection.execute(_SECRETS) if ids is None else connection.execute(_SECRETS_OF, {"project": ids[0]})
    for project_id, secret_name in names_of:
        kept.setdefault(project_id, []).append(secret_name)
    of_builds = build_secrets.of_projects(connection, ids)
    accesses = access.of_projects(connection, ids)
    return [
        ProjectRow(
            id=row.id,
            name=row.name,
            repository=row.repository,
            default_ref=row.default_ref,
            targets=TARGETS.read_kept(from_json(row.targets, list[Any])),
            settings=project_settings(row.settings),
            environment=from_json(row.environment, dict[str, str]),
            of_contexts=OfContexts() if row.of_contexts is None else from_json(row.of_contexts, OfContexts),
            registries=[] if row.registries is None else from_json(row.registries, list[Registry]),
            protected=protected_refs(row),
            runs_on=runs_on(row.runs_on),
            approval=row.approval,
            environments=environments_of(row.environments),
            timeout=row.timeout,
            idle_timeout=row.idle_timeout,
            on_lost="rerun" if row.on_lost == "rerun" else "lost",
            secrets=kept.get(row.id, []),
            build_secrets=of_builds.get(row.id, []),
            access=accesses.get(row.id),
            head=row.head or "",
            hold=None if row.hold is None else from_json(row.hold, Hold),
            retention=own_rules(row.retention),
            queue=queue_rules(row.queue),
            created=row.created,
            updated=row.updated,
        )
        for row in found
    ]
