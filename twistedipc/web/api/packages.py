"""The packages of projects, as the ledger has them. ``web.api``; ``routes`` has these functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import UnsetType
from sqlalchemy import Connection

from twistedipc.builds import names
from twistedipc.builds.names import BadValue
from twistedipc.builds.states import PUBLICATION_TONES, REQUEST_TONES
from twistedipc.server.boundaries import REQUESTING
from twistedipc.storage import package_requests, package_tags, packages
from twistedipc.storage.columns import attempt_name, split_attempt
from twistedipc.storage.rows import LedgerEntry, MovedTagRow, PackageRequestRow, PublicationStepRow
from twistedipc.web.api import schemas
from twistedipc.web.api.call import Call, Reply, moment, moment_or_none
from twistedipc.web.api.passwords import taken
from twistedipc.web.api.queries import ListPackages, ShowPackage
from twistedipc.web.api.schemas import (
    MovedTag,
    NewPackageRequest,
    PackageHistory,
    PackageInBrief,
    PackageList,
    PackageRequest,
    Password,
    Publication,
)
from twistedipc.web.http.problems import not_found

#: How many requests about a package are shown.
MAX_REQUESTS = 20


async def list_page(call: Call[ListPackages, None]) -> Reply[PackageList]:
    """
    List the packages that the apiserver publishes for the project, by name, each with its newest publications.
    ``next`` is the ``after`` of the next page.
    """
    project, query = call.project.name, call.query
    after = query.after if isinstance(query.after, str) else ""

    def look(connection: Connection) -> tuple[list[str], dict[str, list[LedgerEntry]], dict[str, list[MovedTagRow]]]:
        found = packages.names(connection, project, after=after, limit=query.limit + 1)
        newest = packages.newest(connection, project, found[: query.limit])
        moved = {name: package_tags.moved(connection, name, _registries(each)) for name, each in newest.items()}
        return found, newest, moved

    found, newest, moved = await call.context.ledger.read(look)
    return Reply(
        body=PackageList(
            packages=[
                PackageInBrief(
                    name=name,
                    publications=[publication(each) for each in entries],
                    moved=[_moved(each) for each in moved[name]],
                )
                for name, entries in newest.items()
            ],
            next=found[query.limit - 1] if len(found) > query.limit else None,
        )
    )


async def show(call: Call[ShowPackage, None]) -> Reply[PackageHistory]:
    """
    Show what became of each publication of a package, newest first, with its steps. ``next`` is the ``before`` of the
    next page. The slash of a scoped name may be written as it is, or as %2F.
    """
    project, name, query = call.project.name, call.path["package"], call.query
    before = split_attempt(query.before.strip()) if isinstance(query.before, str) else None

    def look(
        connection: Connection,
    ) -> tuple[list[LedgerEntry], tuple[int, int] | None, dict[str, str], list[MovedTagRow], list[PackageRequestRow]]:
        found, last = packages.history(connection, project, name, before=before, limit=query.limit)
        registries = _registries(found)
        known = {
            tag: each.version for one in registries for tag, each in package_tags.known(connection, one, name).items()
        }
        requests = package_requests.of_package(connection, project, name, MAX_REQUESTS)
        return found, last, known, package_tags.moved(connection, name, registries), requests

    found, last, known, moved, requests = await call.context.ledger.read(look)
    if not found and before is None:
        raise not_found(f"the apiserver has published no package {name} of {project}")
    return Reply(
        body=PackageHistory(
            name=name,
            publications=[publication(each) for each in found],
            next=None if last is None else attempt_name(*last),
            tags={tag: version for tag, version in sorted(known.items()) if version},
            moved=[_moved(each) for each in moved],
            requests=[_request(each) for each in requests],
        )
    )


async def request(call: Call[None, NewPackageRequest]) -> Reply[PackageRequest]:
    """
    Ask for a tag to be moved, or for a version to be deprecated. The answer comes once that is written down; what
    becomes of it is in the request. Where the registry wants a one-time password, and none was given or it is refused,
    the request waits for one. A version is never removed.
    """
    body, project = call.body, call.project.name
    version = "" if isinstance(body.version, UnsetType) else body.version.strip()  # a pattern's $ lets a newline pass
    tags = body.kind in ("promote", "rollback", "untag")
    message = names.shown(body.message.strip(), 1000)
    if not version and body.kind not in ("rollback", "untag"):
        raise BadValue(f"a version is needed to {body.kind}")
    if version and body.kind == "untag":
        raise BadValue("a tag is removed wherever it leads: there is no version to say")
    if (body.kind == "deprecate") != bool(message):
        raise BadValue("a deprecation, and nothing else, has a message")
    row = await call.context.packages.request(
        project=project,
        package=call.path["package"],
        kind=body.kind,
        tag=body.tag.strip() if tags else "",
        version=version,
        message=message,
        otp=await taken(call.context, body.otp, REQUESTING),
        by=call.actor,
    )
    location = {"Location": f"/api/v1/projects/{project}/package-requests/{row.id}"}
    return Reply(body=_request(row), headers=location)


async def show_request(call: Call[None, None]) -> Reply[PackageRequest]:
    """Show what became of a request about a package."""
    project, number = call.project.name, call.path["request"]
    row = await call.context.ledger.read(package_requests.get, project, number)
    if row is None:
        raise not_found(f"{project} has no request {number}")
    return Reply(body=_request(row))


async def give_password(call: Call[None, Password]) -> Reply[PackageRequest]:
    """Give a one-time password to a request that waits for one. It is used once, and nothing keeps it."""
    project, number = call.project.name, call.path["request"]
    otp = await taken(call.context, call.body.otp, REQUESTING)
    row = await call.context.packages.give_password(project, number, otp, call.actor)
    return Reply(body=_request(row))


def _registries(entries: Iterable[LedgerEntry]) -> list[str]:
    """Return the registries to which a package was published, the newest first."""
    return list(dict.fromkeys(each.publication.registry for each in entries if each.publication.registry))


def _moved(row: MovedTagRow) -> MovedTag:
    how = f"was moved from {row.before} to {row.version}" if row.version else f"was removed; it led to {row.before}"
    return MovedTag(
        registry=row.registry,
        tag=row.tag,
        version=row.version,
        before=row.before,
        noticed=moment(row.noticed),
        text=f"the tag {row.tag} {how}, and not from here",
    )


def _request(row: PackageRequestRow) -> PackageRequest:
    return PackageRequest(
        id=row.id,
        package=row.package,
        kind=row.kind,
        tag=row.tag,
        version=row.version,
        before=row.before,
        message=row.message,
        state=row.state,
        tone=REQUEST_TONES[row.state],
        reason=row.reason,
        registry=row.registry,
        asked_by=row.requested_by,
        created=moment(row.created),
        began=moment_or_none(row.began),
        ended=moment_or_none(row.ended),
    )


def publication(entry: LedgerEntry) -> Publication:
    """Return a publication as the API shows it."""
    row = entry.publication
    return Publication(
        build=entry.build,
        attempt=entry.number,
        target=row.target,
        position=row.position,
        name=row.name,
        version=row.version,
        state=row.state,
        tone=PUBLICATION_TONES[row.state],
        reason=row.reason,
        notice=row.notice,
        status=row.status,
        registry=row.registry,
        mode=row.mode,
        integrity=row.integrity,
        size=row.size,
        tag=row.tag or "latest",
        tag_before=row.tag_before,
        set_tag=row.set_tag,
        stage=row.stage,
        asked_by=entry.asked_by,
        approved_by=row.approved_by,
        approved=moment_or_none(row.approved),
        created=moment(entry.created),
        updated=moment(row.updated),
        steps=[_step(each) for each in entry.steps],
    )


def _step(row: PublicationStepRow) -> schemas.PublicationStep:
    outcome: Any = "" if row.outcome is None else row.outcome.value
    return schemas.PublicationStep(
        step=row.step.value,
        detail=row.detail,
        began=moment(row.began),
        ended=moment(row.ended) if row.ended else None,
        outcome=outcome,
        reason=row.reason,
    )
