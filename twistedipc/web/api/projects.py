"""Projects and their secrets. ``web.api``; the functions are named in ``web.routes``."""

from __future__ import annotations

from urllib.parse import quote

import msgspec
from msgspec import UNSET
from sqlalchemy import Connection

from twistedipc.builds import names
from twistedipc.builds.attempt import Publish
from twistedipc.storage import audit, projects
from twistedipc.storage.rows import ProjectRow
from twistedipc.web.auth import forbidden, may_see
from twistedipc.web.call import Call, Reply, moment
from twistedipc.web.context import WebContext
from twistedipc.web.problems import not_found
from twistedipc.web.schemas import NewProject, NewSecret, Project, ProjectChange, Projects


async def list_all(call: Call[None, None]) -> Reply:
    """All projects that the caller may see."""
    rows = await call.context.ledger.read(projects.list_all, call.token.projects)
    return Reply(body=Projects(projects=[_project(call.context, row) for row in rows]))


async def add(call: Call[None, NewProject]) -> Reply:
    """Add a project."""
    body, context = call.body, call.context
    names.project(body.name)
    _check(context, body.repository, body.default_ref, body.publish, body.environment)
    if not may_see(call.token, body.name):
        raise forbidden(f"this token isn't good for a project named {body.name}")

    def change(connection: Connection, who: str, now: int) -> ProjectRow:
        row = projects.create(
            connection,
            name=body.name,
            repository=body.repository,
            default_ref=body.default_ref,
            publish=body.publish,
            environment=dict(body.environment),
            timeout=body.timeout,
            idle_timeout=body.idle_timeout,
            now=now,
        )
        detail = {"repository": body.repository}
        audit.record(connection, who=who, action="project.create", subject=row.name, detail=detail, now=now)
        return row

    row = await context.ledger.write(change, call.token.name, context.now())
    location = f"/api/v1/projects/{quote(row.name)}"
    return Reply(status=201, body=_project(context, row), headers={"Location": location})


async def show(call: Call[None, None]) -> Reply:
    """One project."""
    return Reply(body=_project(call.context, call.project))


async def change(call: Call[None, ProjectChange]) -> Reply:
    """Change what is given; what is left out stays."""
    context, before = call.context, call.project
    changes = {name: value for name, value in msgspec.structs.asdict(call.body).items() if value is not UNSET}
    after = msgspec.structs.replace(before, **changes)
    _check(context, after.repository, after.default_ref, after.publish, after.environment, before)

    def change(connection: Connection, who: str, now: int) -> ProjectRow | None:
        row = projects.update(connection, before.name, changes, now)
        if row is not None:
            detail = {"changed": ", ".join(sorted(changes))}
            audit.record(connection, who=who, action="project.change", subject=row.name, detail=detail, now=now)
        return row

    row = await context.ledger.write(change, call.token.name, context.now())
    if row is None:
        raise not_found()
    return Reply(body=_project(context, row))


async def remove(call: Call[None, None]) -> Reply:
    """Delete the project with its secrets and releases. Its builds must have ended."""
    context, name, who = call.context, call.project.name, call.token.name

    def delete(connection: Connection) -> bool:
        now = context.now()
        deleted = projects.delete(connection, name, now)
        if deleted:
            audit.record(connection, who=who, action="project.delete", subject=name, detail={}, now=now)
        return deleted

    if not await context.releasing.delete_project(name, delete):
        raise not_found()
    return Reply(status=204)


async def set_secret(call: Call[None, NewSecret]) -> Reply:
    """Set a secret. Its value is sealed, given to the one step that needs it, and never shown."""
    value, secret = call.body.value, str(call.path["secret"])
    names.secret(value)

    def change(connection: Connection, name: str, sealed: bytes, who: str, now: int) -> None:
        projects.set_secret(connection, name, secret, sealed, now)
        audit.record(connection, who=who, action="secret.set", subject=name, detail={"secret": secret}, now=now)

    context = call.context
    sealed = context.secret_box.seal(value)
    await context.ledger.write(change, call.project.name, sealed, call.token.name, context.now())
    return Reply(status=204)


async def remove_secret(call: Call[None, None]) -> Reply:
    """Erase a secret."""
    secret = str(call.path["secret"])

    def change(connection: Connection, name: str, who: str, now: int) -> bool:
        deleted = projects.delete_secret(connection, name, secret)
        if deleted:
            audit.record(connection, who=who, action="secret.delete", subject=name, detail={"secret": secret}, now=now)
        return deleted

    context = call.context
    if not await context.ledger.write(change, call.project.name, call.token.name, context.now()):
        raise not_found(f"project {call.project.name} has no {secret}")
    return Reply(status=204)


def _check(
    context: WebContext,
    repository: str,
    default_ref: str,
    publish: Publish,
    environment: dict[str, str],
    before: ProjectRow | None = None,
) -> None:
    # What doesn't change isn't held to a rule that may have become stricter since.
    if before is None or repository != before.repository:
        names.repository(repository, local=context.local_repositories)
    names.ref(default_ref)
    names.environment(environment)
    names.registry(publish.registry)


def _project(context: WebContext, row: ProjectRow) -> Project:
    return Project(
        name=row.name,
        repository=row.repository,
        default_ref=row.default_ref,
        publish=row.publish,
        environment=row.environment,
        timeout=row.timeout,
        idle_timeout=row.idle_timeout,
        secrets=row.secrets,
        release_url=context.release_url(row.name),
        created=moment(row.created),
        updated=moment(row.updated),
    )
