"""
Previews: which release is found at an address beside the project's own. Functions for `Ledger.read` and
`Ledger.write`; ``storage`` layer, on top of ``releases``.

Each build that made a release has an address for it, for as long as its files are kept. A branch, and a pull request,
has one that leads to its newest build that succeeded; what is newer is decided as for what goes live. It ends with its
ref (`end`), or when nothing new has come for some days: the project's settings say how many.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select

from twistedipc.builds import labels, names
from twistedipc.builds.retention import Rules, Stays, Verdict, preview_verdict
from twistedipc.builds.states import AttemptState, ReleaseState
from twistedipc.publish.targets.registry import find as find_target
from twistedipc.publish.targets.static.target import OFF, Static, StaticSettings
from twistedipc.storage import releases
from twistedipc.storage.columns import row_as, text
from twistedipc.storage.projects import get as get_project
from twistedipc.storage.rows import PreviewRow, ProjectRow, ReleaseRow
from twistedipc.storage.tables import builds, previews
from twistedipc.storage.tables import releases as releases_table

_DAY = 86_400_000

#: No number of a release has so many digits: it would not fit into the ledger.
_DIGITS = 19


def settle(connection: Connection, release: ReleaseRow, now: int) -> None:
    """The build of a release has succeeded: from now on its ref's address leads to it, unless to a newer one."""
    project = get_project(connection, release.project)
    if project is None or release.target != Static.name or release.made_by is not AttemptState.SUCCEEDED:
        return
    forget(connection, project, Rules(), now)
    label = _label(project, release.ref)
    if not label:
        return
    there = _at(connection, project, label)
    if there is not None and not releases.newer(release, there, now):
        return
    which = (previews.c.project_id == project.id) & (previews.c.label == label)
    connection.execute(delete(previews).where(which))
    connection.execute(
        insert(previews).values(
            project_id=project.id,
            label=label,
            ref=text(_full(project, release.ref)),
            release_id=release.id,
            updated=now,
        )
    )


def end(connection: Connection, project: str, refs: Iterable[str]) -> list[str]:
    """These refs are gone, and their addresses lead nowhere: the labels of those that led anywhere."""
    about = get_project(connection, project)
    ended = []
    if about is not None:
        for label in dict.fromkeys(_label(about, ref) for ref in refs):
            which = (previews.c.project_id == about.id) & (previews.c.label == label)
            if connection.execute(delete(previews).where(which)).rowcount:
                ended.append(label)
    return ended


# -- looking ---------------------------------------------------------------------------------------------------------


def named(connection: Connection, project: str, name: str, now: int) -> ReleaseRow | None:
    """
    Return the static release that a name stands for: its number, ``live``, ``latest``, the label of a preview
    (``build-17``, ``pr-12``, ``fix-menu``), or a branch. None if there is none.
    """
    if name == "live":
        return releases.live(connection, project, Static.name)
    if name == "latest":
        return releases.latest(connection, project, Static.name)
    if name.isdecimal():
        found = releases.get(connection, project, int(name)) if len(name) < _DIGITS else None
        return found if found is not None and found.target == Static.name else None
    build = labels.build_of(name)
    if build is not None:  # also where previews have no addresses
        made = [each for each in releases.of_build(connection, build) if _is_shown(each, project)]
        return made[-1] if made else None
    at = find(connection, project, name, now) or find(connection, project, labels.of_ref(name, project), now)
    return None if at is None else at.release


class Found(NamedTuple):
    """What is at an address."""

    release: ReleaseRow
    ends: int | None  # when it isn't any more, if nothing new comes; None: that isn't known


def find(connection: Connection, project: str, label: str, now: int) -> Found | None:
    """Return what is at the address with this label; None if there is nothing (any more)."""
    about = get_project(connection, project)
    if about is None or settings_of(about).previews == OFF:
        return None
    build = labels.build_of(label)
    if build is not None:
        made = [each for each in releases.of_build(connection, build) if _is_shown(each, project)]
        return Found(made[-1], None) if made else None
    row = connection.execute(
        select(previews.c.release_id, previews.c.updated).where(
            previews.c.project_id == about.id, previews.c.label == label
        )
    ).first()
    release = None if row is None else releases.get(connection, project, row.release_id)
    if row is None or release is None:
        return None
    ends = _ends(about, row.updated)
    return None if ends is not None and ends <= now else Found(release, ends)


def of_release(project: ProjectRow, release: ReleaseRow) -> list[str]:
    """Return the labels of a release's addresses: its ref's first, which may lead to a newer one by now."""
    if settings_of(project).previews == OFF or not _is_shown(release, project.name):
        return []
    found = [_label(project, release.ref), labels.of_build(release.build)]
    return [label for label in found if labels.host_name(label, project.name)]


def name_of(connection: Connection, project: str, build: int, now: int) -> str:
    """
    Return the name at which a build's newest release can be looked at: of its ref, if that leads to it, else its own.
    "" if it can't.
    """
    about = get_project(connection, project)
    made = releases.of_build(connection, build)[-1:]
    for label in [label for release in made if about is not None for label in of_release(about, release)]:
        found = find(connection, project, label, now)
        if found is not None and found.release == made[0]:
            return labels.host_name(label, project)
    return ""


def list_all(connection: Connection, project: str, now: int) -> list[PreviewRow]:
    """Return a project's previews of branches and pull requests, the newest first."""
    about = get_project(connection, project)
    if about is None:
        return []
    newest_first = (previews.c.updated.desc(), previews.c.release_id.desc())
    query = (
        select(previews, builds.c.pinned)
        .join(releases_table, releases_table.c.id == previews.c.release_id)
        .join(builds, builds.c.id == releases_table.c.build_id)
        .where(previews.c.project_id == about.id)
        .order_by(*newest_first)
    )
    found = []
    for row in connection.execute(query).all():
        release = releases.get(connection, project, row.release_id)
        ends = _ends(about, row.updated)
        if release is not None and (ends is None or ends > now):
            stays = _stays(release.state, row.pinned)
            found.append(row_as(PreviewRow, row, project=project, release=release, days=_days(about), stays=stays))
    return found


def to_keep(connection: Connection, project: str, now: int) -> frozenset[int]:
    """The releases to which the addresses of branches and pull requests lead."""
    return frozenset(each.release.id for each in list_all(connection, project, now))


def settings_of(project: ProjectRow) -> StaticSettings:
    """Return what a project says of its releases; one that makes none any more still has those that it made."""
    found = find_target(project.targets, Static.name)
    return found if isinstance(found, StaticSettings) else StaticSettings()


def _at(connection: Connection, project: ProjectRow, label: str) -> ReleaseRow | None:
    query = select(previews.c.release_id).where(previews.c.project_id == project.id, previews.c.label == label)
    found = connection.execute(query).scalar()
    return None if found is None else releases.get(connection, project.name, found)


def _is_shown(release: ReleaseRow, project: str) -> bool:
    return release.project == project and release.target == Static.name and release.made_by is AttemptState.SUCCEEDED


class Judged(NamedTuple):
    """What becomes of a branch's preview."""

    label: str
    release: int
    verdict: Verdict


def judged(connection: Connection, project: ProjectRow, rules: Rules, now: int) -> list[Judged]:
    """Return what becomes of a project's previews, by what its target says and by the rules of retention."""
    query = (
        select(previews.c.label, previews.c.release_id, previews.c.updated, releases_table.c.state, builds.c.pinned)
        .join(releases_table, releases_table.c.id == previews.c.release_id)
        .join(builds, builds.c.id == releases_table.c.build_id)
        .where(previews.c.project_id == project.id)
        .order_by(previews.c.updated, previews.c.release_id)
    )
    found, days = [], _days(project)
    for row in connection.execute(query):
        verdict = preview_verdict(row.updated, _stays(row.state, row.pinned), days, rules, now)
        found.append(Judged(row.label, row.release_id, verdict))
    return found


def _stays(state: str, pinned: int | None) -> Stays | None:
    """Return what keeps a preview whose release is in this state, and whose build is pinned since then."""
    if state == ReleaseState.LIVE:
        return Stays.LIVE
    return None if pinned is None else Stays.PINNED


def kept(connection: Connection, project: ProjectRow, rules: Rules, now: int) -> frozenset[int]:
    """Return the releases of the previews that stay."""
    return frozenset(each.release for each in judged(connection, project, rules, now) if not each.verdict.goes)


def forget(connection: Connection, project: ProjectRow, rules: Rules, now: int) -> int:
    """Delete a project's previews that aren't kept any more: how many those are."""
    labels_gone = [each.label for each in judged(connection, project, rules, now) if each.verdict.goes]
    if not labels_gone:
        return 0
    which = (previews.c.project_id == project.id, previews.c.label.in_(labels_gone))
    return connection.execute(delete(previews).where(*which)).rowcount


def _ends(project: ProjectRow, updated: int) -> int | None:
    days = _days(project)
    return None if days is None else updated + days * _DAY


def _days(project: ProjectRow) -> int | None:
    """For how many days a preview stays to which nothing new comes; None: until its ref is gone."""
    return settings_of(project).preview_days or None


def _full(project: ProjectRow, ref: str) -> str:
    if ref == names.HEAD and project.head:
        return names.full_ref(project.head)
    return names.full_ref(ref)


def _label(project: ProjectRow, ref: str) -> str:
    return labels.of_ref(ref if ref != names.HEAD or not project.head else _full(project, ref), project.name)
