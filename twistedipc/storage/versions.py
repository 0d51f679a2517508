"""
Which versions the packages of a build get, by what the ledger knows. Functions for `Ledger.read`; ``storage`` layer.

Nothing is published without a permit, and a permit is written down before. So the versions of a build are fixed by the
first permit of one of its attempts: another attempt, after some packages were published, say, gives the same. And a
version for which any other build of the project had a permit isn't given again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from sqlalchemy import Connection, and_, or_, select

from twistedipc.builds.attempt import Package
from twistedipc.builds.environments import PREVIEW, Decided
from twistedipc.builds.names import HEAD
from twistedipc.builds.protection import may_be_protected
from twistedipc.builds.versions import Canary, Versioning, canary_of, is_canary
from twistedipc.publish.targets.registry import TARGETS, ProjectTargets
from twistedipc.storage.columns import to_json
from twistedipc.storage.projects import live_id
from twistedipc.storage.tables import attempts, builds, deliveries

#: How many permits are looked at, and how many versions are told: the newest.
MAX_PERMITS = 500
MAX_TAKEN = 5000


def canary(
    of: Decided,
    *,
    ref: str,
    build: int,
    publish: bool,
    may_publish: bool,
    patterns: Sequence[str],
    head: str,
    targets: ProjectTargets,
) -> Canary | None:
    """
    Return what the previews of packages are called that a build publishes; None if it publishes none.

    :param of: of which environment it is
    :param publish: it was asked to publish
    :param may_publish: the one who asked has the scope publish
    :param patterns: the project's protected refs
    :param head: the branch that the repository's HEAD stands for, as far as it is known
    :param targets: the project's
    """
    if not (publish and may_publish and of.preview and of.environment == PREVIEW):
        return None
    unknown = HEAD in patterns and not head  # it may turn out to be a protected one
    if unknown or may_be_protected(patterns, ref, head) or not TARGETS.with_canaries(targets):
        return None
    return canary_of(ref, build)


def has_releases(connection: Connection, project_id: int, tag: str) -> bool:
    """Return whether builds for the project's users had permits for packages with this tag."""
    query = (
        select(deliveries.c.package)
        .join(builds, builds.c.id == deliveries.c.build_id)
        .join(attempts, and_(attempts.c.build_id == deliveries.c.build_id, attempts.c.number == deliveries.c.number))
        .where(builds.c.project_id == project_id, or_(attempts.c.preview.is_(None), attempts.c.preview == ""))
        .where(deliveries.c.package.contains(f'"tag":{to_json(tag)}', autoescape=True))
    )
    return connection.execute(query.limit(1)).first() is not None


def why_not_removed(connection: Connection, project: str, tag: str, version: str) -> str:
    """
    Return why a project's tag isn't removed; "" if it can be, as one that canaries have had.

    :param version: to which it leads; "": to none any more
    """
    project_id = live_id(connection, project)
    if project_id is None:
        return f"there is no project {project}"
    if (version and not is_canary(tag, version)) or has_releases(connection, project_id, tag):
        leads = f" leads to {version}, and" if version else ""
        return f"{tag}{leads} isn't a tag of canaries: those alone are removed"
    return ""


def versioning(
    connection: Connection, *, project_id: int, build: int, bump: str, canary: Canary | None, asked: int
) -> Versioning:
    """
    Return which versions a build gives its packages.

    :param bump: as `builds.versions.check_bump` allows it; "": versions aren't raised
    :param asked: when the build was asked for, in milliseconds since the epoch
    """
    fixed: dict[str, str] = {}
    taken: dict[str, list[str]] = {}
    told = 0
    for number, package in _permitted(connection, project_id) if bump or canary is not None else ():
        if number == build:
            fixed.setdefault(package.name, package.version)
        elif told < MAX_TAKEN:
            taken.setdefault(package.name, []).append(package.version)
            told += 1
    return Versioning(bump=bump, canary=canary, fixed=fixed, taken=taken, asked=asked)


def _permitted(connection: Connection, project_id: int) -> Iterator[tuple[int, Package]]:
    """Yield the packages for which builds of the project had permits, each with the build's number, newest first."""
    query = (
        select(deliveries.c.build_id, deliveries.c.package)
        .join(builds, builds.c.id == deliveries.c.build_id)
        .where(builds.c.project_id == project_id, deliveries.c.package.is_not(None))
        .order_by(deliveries.c.build_id.desc(), deliveries.c.number.desc())
        .limit(MAX_PERMITS)
    )
    for row in connection.execute(query):
        found: Package | list[Package] = msgspec.json.decode(row.package, type=Package | list[Package])
        for package in found if isinstance(found, list) else [found]:
            yield row.build_id, package
