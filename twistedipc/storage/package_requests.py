"""
What people ask to be done with packages that are published: a tag moved, a version deprecated. One row each, written
before it is done and after. Functions for `Ledger.read` and `Ledger.write`; ``storage`` layer.

While a request is carried out its package is locked, as by an attempt that publishes it; not while it waits for a
person's one-time password.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, insert, select, update

from twistedipc.builds.attempt import Package
from twistedipc.builds.states import PublicationState, RequestState, check_request
from twistedipc.publish.targets.registry import TARGETS, find
from twistedipc.publish.targets.target import NotAllowed, Settings
from twistedipc.storage import attempts, audit, projects, publications, rings
from twistedipc.storage.columns import columns_of, integer, row_as, text
from twistedipc.storage.errors import NotFound, NotPossible
from twistedipc.storage.id_tokens import Claims
from twistedipc.storage.permits import claims_of
from twistedipc.storage.rings import Topic
from twistedipc.storage.rows import APISERVER, Actor, PackageRequestRow
from twistedipc.storage.tables import builds, package_locks, package_requests
from twistedipc.storage.tables import projects as projects_table
from twistedipc.storage.tables import publications as publications_table

_S = RequestState

#: How many requests of a project may be under way, or wait for a person.
MOST = 100

#: How the names of requests begin as holders of locks.
_HOLDER = "request-"

#: Milliseconds for which a request waits for a one-time password.
PATIENCE = 3600 * 1000


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """By which settings, and by which sealed secrets, a project's target is asked."""

    settings: Settings
    sealed: dict[str, bytes]
    claims: Claims | None  # of the attempt that has published last; None: there is none


def way_to(connection: Connection, project: str, target: str, packages: Sequence[str]) -> Way:
    """
    Return how a project's target is asked about packages. What is said to registries is said of the attempt that has
    published the first of them last. Raises `NotPossible`.
    """
    row = projects.get(connection, project)
    settings = None if row is None else find(row.targets, target)
    known = TARGETS.get(target)
    if row is None or settings is None or known is None:
        raise NotPossible(f"{project} doesn't publish to {target} any more")
    sealed: dict[str, bytes] = {}
    for secret in known.secrets_for(settings, packages):
        if secret.audience:
            continue  # it is signed when it is needed
        found = projects.sealed_secret(connection, project, secret.name)
        if found is None:
            raise NotPossible(
                f"project {project} has no {secret.name}: `twistedipc project secret set {project} {secret.name}`"
            )
        sealed[secret.name] = found
    return Way(settings=settings, sealed=sealed, claims=_claims(connection, row.id, target, packages))


def _claims(connection: Connection, project: int, target: str, packages: Sequence[str]) -> Claims | None:
    """Return what can be said of the attempt that has published the first of these packages last."""
    table = publications_table
    query = (
        select(table.c.build_id, table.c.number)
        .join(builds, builds.c.id == table.c.build_id)
        .where(builds.c.project_id == project, table.c.target == target, table.c.state == PublicationState.PUBLISHED)
        .where(table.c.name == text(packages[0] if packages else ""))
        .order_by(table.c.build_id.desc(), table.c.number.desc())
        .limit(1)
    )
    found = connection.execute(query).first()
    row = None if found is None else attempts.get(connection, f"{found.build_id}-{found.number}")
    return None if row is None else claims_of(connection, row)


def add(
    connection: Connection,
    *,
    project: str,
    package: str,
    kind: str,
    tag: str,
    version: str,
    message: str,
    by: Actor,
    now: int,
) -> PackageRequestRow:
    """
    Note a request, with its line in the audit. Raises `NotFound` if the project has published no such package by the
    apiserver, and `NotPossible` if it can't be done.
    """
    found = _target_of(connection, project, package)
    if found is None:
        raise NotFound(f"the apiserver has published no package {package} of {project}")
    number, target = found
    way = way_to(connection, project, target, [package])
    try:
        wanted = Package(file="", name=package, version=version or "0.0.0", integrity="")
        TARGETS.of(way.settings).allow(way.settings, [wanted], project)
    except NotAllowed as error:
        raise NotPossible(str(error)) from error
    going_on = select(package_requests.c.id).where(
        package_requests.c.project_id == number, package_requests.c.ended.is_(None)
    )
    if len(connection.execute(going_on.limit(MOST)).all()) >= MOST:
        raise NotPossible(f"{MOST} requests of {project} are under way: wait until some of them have ended")
    made = connection.execute(
        insert(package_requests)
        .values(
            project_id=number,
            target=target,
            package=text(package),
            kind=kind,
            tag=text(tag),
            version=text(version),
            message=text(message),
            state=_S.ASKED,
            reason="",
            registry="",
            before="",
            requested_by=text(by.name),
            created=now,
        )
        .returning(package_requests.c.id)
    ).scalar_one()
    rings.note(connection, Topic.DELIVERY)
    row = _existing(connection, made)
    audit.record(connection, by=by, action=f"package.{kind}", subject=project, project=project, detail=_detail(row),
                 now=now)  # fmt: skip
    return row


def get(connection: Connection, project: str, request: int) -> PackageRequestRow | None:
    """Return the project's request of this number."""
    query = _SELECT.where(projects_table.c.name == project, package_requests.c.id == integer(request))
    found = connection.execute(query).first()
    return None if found is None else _row(found)


def of_package(connection: Connection, project: str, package: str, limit: int) -> list[PackageRequestRow]:
    """Return the newest requests about a package of a project, newest first."""
    query = _SELECT.where(projects_table.c.name == project, package_requests.c.package == text(package))
    return [_row(row) for row in connection.execute(query.order_by(package_requests.c.id.desc()).limit(limit))]


def going_on(connection: Connection) -> list[PackageRequestRow]:
    """Return the requests that are to be carried out, or are being, oldest first."""
    query = _SELECT.where(package_requests.c.state.in_([_S.ASKED, _S.BEGUN])).order_by(package_requests.c.id)
    return [_row(row) for row in connection.execute(query)]


def begin(connection: Connection, request: int, registry: str, version: str, before: str, now: int) -> str:
    """
    asked → begun: it is done next. Lock its package. Return who has the lock, with nothing written, if somebody else
    has it; "" if it is locked now. Raises `NotPossible`.

    :param version: to which the tag is moved, or that is deprecated
    :param before: to which the tag leads, or the message that there is
    """
    row = _existing(connection, request)
    settings = way_to(connection, row.project, row.target, [row.package]).settings
    place = TARGETS.of(settings).package_place(settings, row.package)  # as those lock it who publish
    if who := publications.take_locks(connection, place, [row.package], holder(request), now):
        return who
    if row.state is not _S.BEGUN:
        check_request(row.state, _S.BEGUN)
    values = {"registry": text(registry), "version": text(version), "before": text(before)}
    connection.execute(
        update(package_requests)
        .where(package_requests.c.id == request)
        .values(state=_S.BEGUN, reason="", began=now, **values)
    )
    return ""


def wait(connection: Connection, request: int, reason: str, now: int) -> PackageRequestRow:
    """begun → waiting: a person is to give a one-time password."""
    return _change(connection, request, _S.WAITING, reason, now, ended=None)


def resume(connection: Connection, project: str, request: int, by: Actor, now: int) -> PackageRequestRow:
    """waiting → asked: somebody has given a password. Raises `NotFound`, `NotPossible`."""
    row = get(connection, project, request)
    if row is None:
        raise NotFound(f"{project} has no request {request}")
    if row.state is not _S.WAITING:
        raise NotPossible(f"request {request} waits for no one-time password: it is {row.state}")
    rings.note(connection, Topic.DELIVERY)
    audit.record(connection, by=by, action="package.password", subject=project, project=project, detail=_detail(row),
                 now=now)  # fmt: skip
    return _change(connection, request, _S.ASKED, "", now, ended=None)


def end(connection: Connection, request: int, state: RequestState, reason: str, now: int) -> PackageRequestRow:
    """→ done or failed."""
    row = _change(connection, request, state, reason, now, ended=now)
    detail = _detail(row) | ({"reason": row.reason} if row.reason else {})
    audit.record(connection, by=APISERVER, action=f"package.{state}", subject=row.project, project=row.project,
                 detail=detail, now=now)  # fmt: skip
    return row


def expire(connection: Connection, now: int) -> int:
    """Give up those that have waited too long for a one-time password. Return how many these were."""
    query = _SELECT.where(package_requests.c.state == _S.WAITING, package_requests.c.began < now - PATIENCE)
    found = [_row(row) for row in connection.execute(query)]
    for row in found:
        end(connection, row.id, _S.FAILED, "nobody has given a one-time password within an hour", now)
    return len(found)


def holder(request: int) -> str:
    """Return as who a request has its package's lock."""
    return f"{_HOLDER}{request}"


def free_locks_of_ended(connection: Connection) -> None:
    """Unlock what requests have locked that aren't carried out: their projects were deleted meanwhile."""
    going = {holder(row.id) for row in going_on(connection)}
    locked = select(package_locks.c.holder).where(package_locks.c.holder.startswith(_HOLDER))
    for each in set(connection.execute(locked).scalars()) - going:
        publications.free_locks(connection, each)


def _change(
    connection: Connection, request: int, after: RequestState, reason: str, now: int, *, ended: int | None
) -> PackageRequestRow:
    before = _existing(connection, request).state
    check_request(before, after)
    publications.free_locks(connection, holder(request))
    connection.execute(
        update(package_requests)
        .where(package_requests.c.id == request, package_requests.c.state == before)
        .values(state=after, reason=text(reason), ended=ended)
    )
    return _existing(connection, request)


def _target_of(connection: Connection, project: str, package: str) -> tuple[int, str] | None:
    """Return the project's number, and the target to which it has published a package last."""
    number = projects.live_id(connection, project)
    query = (
        select(publications_table.c.target)
        .join(builds, builds.c.id == publications_table.c.build_id)
        .where(builds.c.project_id == number, publications_table.c.name == text(package))
        .order_by(publications_table.c.build_id.desc(), publications_table.c.number.desc())
        .limit(1)
    )
    target = connection.execute(query).scalar()
    return None if target is None or number is None else (number, target)


def _detail(row: PackageRequestRow) -> dict[str, str]:
    detail = {"request": str(row.id), "package": row.package, "kind": row.kind, "tag": row.tag, "version": row.version,
              "message": row.message, "before": row.before, "registry": row.registry}  # fmt: skip
    return {name: value for name, value in detail.items() if value}


def _existing(connection: Connection, request: int) -> PackageRequestRow:
    return _row(connection.execute(_SELECT.where(package_requests.c.id == integer(request))).one())


_SELECT: Select[Any] = (
    select(*columns_of(PackageRequestRow, package_requests), projects_table.c.name.label("project"))
    .join(projects_table, projects_table.c.id == package_requests.c.project_id)
    .where(projects_table.c.deleted.is_(None))
)


def _row(row: Any) -> PackageRequestRow:
    return row_as(PackageRequestRow, row, state=RequestState(row.state))
