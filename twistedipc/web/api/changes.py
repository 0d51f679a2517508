"""What a build would change, for people who approve it. ``web.api``; ``routes`` has these functions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection

from twistedipc.builds.counts import counted
from twistedipc.builds.egress import Egress
from twistedipc.builds.lint import Linted
from twistedipc.builds.states import PublicationState
from twistedipc.publish.archive import ManifestFile, read_manifest
from twistedipc.publish.compared import LEVELS, Change, Compared, Level, Remark
from twistedipc.publish.members import BadArchive
from twistedipc.publish.targets.static.target import Static
from twistedipc.storage import attempts, publications, releases
from twistedipc.storage.rows import AttemptRow, PublicationRow, ReleaseRow
from twistedipc.web.api.call import Call, Reply
from twistedipc.web.api.context import WebContext
from twistedipc.web.api.schemas import ChangedFile, Changes, ContactedHost, LogProof, PackageChanges, PackageRemark
from twistedipc.web.http.problems import not_found

#: What somebody may have to approve.
_WAITS = frozenset({PublicationState.STORED, PublicationState.CHECKED, PublicationState.STAGED})

#: How many files of each kind are listed of what would change.
MAX_CHANGES = 500


async def show(call: Call[None, None]) -> Reply[Changes]:
    """
    Show what would change if the static release of the build's newest attempt went live now: files that it adds,
    changes and leaves out. At most 500 of each are listed. The same of each package that waits for an approval, against
    what its tag leads to in the registry: at most 100 files of each kind, and at most 200 remarks on what is in it,
    those on what is dangerous first. And whether the log is all that the build has printed, and which hosts it
    contacted.
    """
    context, build = call.context, call.build

    def look(connection: Connection) -> _Found:
        name = f"{build.id}-{build.attempt}"
        made = [each for each in releases.of_build(connection, build.id) if each.attempt == name]
        return _Found(
            mine=next((each for each in made if each.target == Static.name), None),
            live=releases.live(connection, build.project, Static.name),
            waiting=[each for each in publications.of_attempt(connection, name) if each.state in _WAITS],
            attempt=attempts.get(connection, name),
            hosts_before=attempts.hosts_used_before(connection, build.id),
        )

    found = await context.ledger.read(look)
    if found.mine is None and not found.waiting:
        raise not_found(f"build {build.id} has made no static release, and no package of it waits for an approval")
    changed = _NO_RELEASE if found.mine is None else await _of_release(context, found.mine, found.live)
    attempt = found.attempt
    linted = None if attempt is None else attempt.linted
    packages = await _of_packages(context, build.project, found.waiting, linted or _NOT_LINTED)
    if attempt is None:
        return Reply(body=msgspec.structs.replace(changed, packages=packages))
    return Reply(
        body=msgspec.structs.replace(
            changed,
            packages=packages,
            log=LogProof(records=attempt.lines or 0, sha256=attempt.sha256, complete=attempt.complete),
            hosts=_hosts(attempt.egress, found.hosts_before),
            hosts_said=_missing(attempt.egress),
        )
    )


class _Found(NamedTuple):
    """What the ledger has of it."""

    mine: ReleaseRow | None
    live: ReleaseRow | None
    waiting: list[PublicationRow]
    attempt: AttemptRow | None
    hosts_before: list[str] | None


def _hosts(egress: Egress | None, before: list[str] | None) -> list[ContactedHost]:
    """Return the hosts that were contacted: first those that are new, then those that were refused."""
    found = [
        ContactedHost(
            host=each.host,
            port=each.port,
            step=each.step,
            refused=each.why,
            new=None if before is None else each.host not in before,
        )
        for each in (egress.contacts if egress is not None else [])
    ]
    return sorted(found, key=lambda each: (not each.new or bool(each.refused), not each.refused))


def _missing(egress: Egress | None) -> str:
    if egress is None:
        return "nobody has looked which hosts the build contacted"
    more = [f"{counted(egress.more, 'more host')} found no room"] if egress.more else []
    lost = ["the process that noted them has died: it may not be all"] if egress.lost else []
    return "; ".join(more + lost)


async def _of_packages(
    context: WebContext, project: str, waiting: list[PublicationRow], linted: Linted
) -> list[PackageChanges]:
    found: list[PackageChanges] = []
    for target in dict.fromkeys(each.target for each in waiting):
        of_target = [each for each in waiting if each.target == target]
        compared = await context.comparing.compare(project, of_target)
        found += [_package(row, each, linted) for row, each in zip(of_target, compared, strict=True)]
    return found


#: Of attempts of builders before 0.3.
_NOT_LINTED = Linted(why="the builder is of an older version")

_LEVELS: Mapping[str, Level] = {"error": "danger", "warning": "warning", "suggestion": "info"}


def _package(row: PublicationRow, compared: Compared, linted: Linted) -> PackageChanges:
    of_package = linted.about(row.target, row.name, row.version)
    said = [
        Remark(level=_LEVELS[each.level], about="publint", text=f"publint: {each.text}") for each in of_package.messages
    ]
    remarks = sorted([*compared.remarks, *said], key=lambda each: LEVELS.index(each.level))
    return PackageChanges(
        target=row.target,
        name=row.name,
        version=row.version,
        tag=row.tag or "latest",
        integrity=row.integrity,
        size_packed=row.size,
        published=compared.published,
        unknown=compared.unknown,
        added_count=compared.added_count,
        removed_count=compared.removed_count,
        changed_count=compared.changed_count,
        size_before=compared.size_before,
        size=compared.size,
        added=_files(compared.added),
        removed=_files(compared.removed),
        changed=_files(compared.changed),
        notes=[each.text for each in compared.remarks],
        remarks=[PackageRemark(**msgspec.structs.asdict(each)) for each in remarks],
        more_remarks=compared.more_remarks + of_package.more,
        publint="" if of_package.why else linted.version,
        publint_why=of_package.why,
    )


def _files(changes: list[Change]) -> list[ChangedFile]:
    return [ChangedFile(path=each.path, before=each.before, after=each.after) for each in changes]


#: What would change if there is no release.
_NO_RELEASE = Changes(
    live=None,
    added_count=0,
    removed_count=0,
    changed_count=0,
    size_before=0,
    size=0,
    added=[],
    removed=[],
    changed=[],
    release=False,
)


async def _of_release(context: WebContext, mine: ReleaseRow, live: ReleaseRow | None) -> Changes:
    try:
        files = await context.in_thread(_files_of, context.artifact_store.path(mine.sha256))
        before = {} if live is None else await context.in_thread(_files_of, context.artifact_store.path(live.sha256))
    except (OSError, BadArchive) as error:
        raise not_found("the archives of what is to be compared are gone") from error
    return _compared(before, files, None if live is None else live.id)


def _files_of(archive: Path) -> dict[str, ManifestFile]:
    return {file.path: file for file in read_manifest(archive).files}


def _compared(before: dict[str, ManifestFile], now: dict[str, ManifestFile], live: int | None) -> Changes:
    added = sorted(now.keys() - before.keys())
    removed = sorted(before.keys() - now.keys())
    changed = sorted(path for path in now.keys() & before.keys() if now[path].sha256 != before[path].sha256)
    return Changes(
        live=live,
        added_count=len(added),
        removed_count=len(removed),
        changed_count=len(changed),
        size_before=sum(file.size for file in before.values()),
        size=sum(file.size for file in now.values()),
        added=[ChangedFile(path=path, before=None, after=now[path].size) for path in added[:MAX_CHANGES]],
        removed=[ChangedFile(path=path, before=before[path].size, after=None) for path in removed[:MAX_CHANGES]],
        changed=[
            ChangedFile(path=path, before=before[path].size, after=now[path].size) for path in changed[:MAX_CHANGES]
        ],
    )
