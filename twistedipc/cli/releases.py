"""`twistedipc releases`, `release diff`, `rollback` and `release resume`: what is live, going back, and going on."""

from __future__ import annotations

import click

from twistedipc.builds.counts import counted
from twistedipc.builds.states import ReleaseState
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.naming import build_argument, project_argument
from twistedipc.cli.output import Ago, Toned, json_option, local_time, note, print_json, print_table
from twistedipc.publish.targets.static.target import Static
from twistedipc.terminal.amounts import size
from twistedipc.web.api.schemas import (
    BuildDetail,
    FileDifference,
    FileSizes,
    KindTotal,
    Promoted,
    Release,
    ReleaseDifference,
    Releases,
    Resumed,
)

#: How many files are shown of what a release has other than another.
MAX_LISTED = 50

#: How many releases are listed at most, at a time.
MAX_PAGE = 200

#: The sizes of a file that isn't there.
NO_FILE = FileSizes(size=0, gzip=0, br=0)


@click.command()
@with_client
@project_argument
@click.option("--before", type=click.IntRange(min=1), metavar="ID", help="Only releases older than this one.")
@click.option(
    "--limit", type=click.IntRange(1, MAX_PAGE), default=50, show_default=True, help="At most so many releases."
)
@json_option
def releases(client: Client, project: str, before: int | None, limit: int, as_json: bool) -> None:
    """List a project's releases, newest first."""
    answer = client.get(path("projects", project, "releases"), {"before": before, "limit": limit})
    if as_json:
        print_json(answer)
        return
    found = answer.decode(Releases)
    print_table(
        (
            "ID",
            "TARGET",
            "STATE",
            "BUILD",
            "REF",
            "COMMIT",
            "FILES",
            "SIZE",
            "MADE",
            "LAST LIVE SINCE",
            "WHY IT ISN'T LIVE",
        ),
        [_row(release) for release in found.releases],
        empty=f"{project} has no releases yet",
        drop=("COMMIT", "TARGET", "FILES", "SIZE"),
    )
    if found.next is not None:
        note(f"there are older releases: add --before {found.next}")
    for live in found.live or [each for each in found.releases if each.state is ReleaseState.LIVE]:
        if _address(found, live):
            note(f"live at {_address(found, live)}")
    for each in found.previews:
        note(f"{each.ref.removeprefix('refs/heads/')} (build {each.build}) at {each.url}")
    if found.disk is not None:
        note(f"on disk: {size(found.disk.size)}, {found.disk.contents} contents of {found.disk.releases} releases")
    _say_if_held(project, found)


@click.command()
@with_client
@project_argument
@click.argument("release", type=click.IntRange(min=1), required=False)
@click.option("--target", help="The target to roll back, if several have a live release and no RELEASE is given.")
def rollback(client: Client, project: str, release: int | None, target: str | None) -> None:
    """Make an earlier RELEASE of PROJECT live again: the one with this id, else the one before the live one.

    After that no release of PROJECT goes live by itself, until `twistedipc release resume PROJECT`.
    """
    if release is None:
        release = _before_the_live_one(project, _all(client, project), target)
    activated = client.post(path("projects", project, "releases", release, "activate")).decode(Release)
    found = client.get(path("projects", project, "releases"), {"limit": 1}).decode(Releases)
    address = _address(found, activated)
    note(f"release {release} of {project} is live" + (f" at {address}" if address else ""))
    _say_if_held(project, found)


@click.command()
@with_client
@build_argument
@json_option
def promote(client: Client, build_id: int, as_json: bool) -> None:
    """Make what BUILD has made what users get: as it is, or built again for production.

    It goes live as it is if its commit was on a protected ref, and production is built with the same variables and
    secrets. Else its commit is built for production.
    """
    answer = client.post(path("builds", build_id, "promote"))
    if as_json:
        print_json(answer)
        return
    done = answer.decode(Promoted)
    if done.build is not None:
        note(
            f"build {done.build.id} builds {done.build.ref[:12]} for production, since {done.why}: "
            f"`twistedipc logs {done.build.id} --follow`"
        )
    elif done.release is not None:
        found = client.get(path("builds", build_id)).decode(BuildDetail)
        note(f"release {done.release.id} of {found.project} is live at {found.release_url}")


@click.group()
def release() -> None:
    """Compare a project's releases, and let them go live again after a rollback."""


@release.command()
@with_client
@project_argument
@click.argument("a", required=False, default="live")
@click.argument("b", required=False, default="latest")
@json_option
def diff(client: Client, project: str, a: str, b: str, as_json: bool) -> None:
    """Show what release B of PROJECT has other than release A: its files, and what they weigh.

    A and B are a release's number, live, latest, build-NUMBER, pr-NUMBER, or a branch that has a preview. Without
    them, the newest release is compared with the live one.
    """
    answer = client.get(path("projects", project, "releases", "diff"), {"from": a, "to": b})
    if as_json:
        print_json(answer)
        return
    found = answer.decode(ReleaseDifference)
    before = "nothing is live" if found.before is None else _named(found.before)
    note(f"{before} -> {_named(found.after)}")
    print_table(
        ("", "FILE", "BEFORE", "AFTER", "CHANGE", "GZIP", "CHANGE"),
        [_file_row(each) for each in found.files[:MAX_LISTED]],
        empty="they have the same files",
    )
    count = found.added + found.changed + found.removed
    if count > MAX_LISTED:
        listed = f"the first {len(found.files)}" if count > len(found.files) else "them"
        note(f"and {count - MAX_LISTED} more (--json lists {listed})")
    if count:
        print_table(("KIND", "FILES", "BEFORE", "AFTER", "CHANGE", "GZIP", "CHANGE"), _kind_rows(found), empty="")
        note(f"{counted(found.added, 'file is', 'files are')} new, {found.changed} changed, {found.removed} gone")


def _named(release: Release) -> str:
    return f"release {release.id} (build {release.build}, {release.ref.removeprefix('refs/heads/')}, {release.state})"


def _file_row(each: FileDifference) -> list[object]:
    sign = "+" if each.before is None else "-" if each.after is None else "~"
    before, after = each.before or NO_FILE, each.after or NO_FILE
    return [
        sign,
        each.path + (f" (was {each.was.rpartition('/')[2]})" if each.was else ""),
        "" if each.before is None else size(before.size),
        "" if each.after is None else size(after.size),
        _change(before.size, after.size),
        "" if each.after is None or after.gzip is None else size(after.gzip),
        _change(before.gzip, after.gzip),
    ]


def _kind_rows(found: ReleaseDifference) -> list[list[object]]:
    rows: list[tuple[str, KindTotal, KindTotal]] = [(each.kind, each.before, each.after) for each in found.totals]
    if len(rows) > 1:
        rows.append(("total", _sum([row[1] for row in rows]), _sum([row[2] for row in rows])))
    return [
        [
            kind,
            after.files,
            size(before.size),
            size(after.size),
            _change(before.size, after.size),
            "" if after.gzip is None else size(after.gzip),
            _change(before.gzip, after.gzip),
        ]
        for kind, before, after in rows
    ]


def _sum(totals: list[KindTotal]) -> KindTotal:
    known = [each.gzip for each in totals if each.gzip is not None]
    return KindTotal(
        files=sum(each.files for each in totals),
        size=sum(each.size for each in totals),
        gzip=sum(known) if len(known) == len(totals) else None,
    )


def _change(before: int | None, after: int | None) -> str:
    """Return by how much something has grown or shrunk; "" if it is the same, or that isn't known."""
    if before is None or after is None or before == after:
        return ""
    return ("+" if after > before else "-") + size(abs(after - before))


@release.command()
@with_client
@project_argument
@json_option
def resume(client: Client, project: str, as_json: bool) -> None:
    """Let PROJECT's releases go live by themselves again. The newest one that waits goes live at once."""
    answer = client.post(path("projects", project, "releases", "resume"))
    if as_json:
        print_json(answer)
        return
    done = answer.decode(Resumed)
    if not done.was_held:
        note(f"the releases of {project} weren't held: nothing has changed")
    elif not (live := done.releases or [each for each in (done.release,) if each is not None]):
        note(f"releases of {project} go live by themselves again; none was waiting, so the live one stays")
    else:
        for each in live:
            note(
                f"releases of {project} go live by themselves again; release {each.id} "
                f"(build {each.build}), the newest that waited, is live now"
            )


def _address(found: Releases, release: Release) -> str:
    """Return where people find the live release of this one's target; "" if that isn't known."""
    return found.addresses.get(release.target, found.url if release.target == Static.name else "")


def _all(client: Client, project: str) -> list[Release]:
    """Return all releases of a project, newest first, page by page."""
    found: list[Release] = []
    before: int | None = None
    while True:
        answer = client.get(path("projects", project, "releases"), {"before": before, "limit": MAX_PAGE})
        page = answer.decode(Releases)
        found += page.releases
        before = page.next
        if before is None:
            return found


def _before_the_live_one(project: str, found: list[Release], target: str | None) -> int:
    live = [r for r in found if r.state is ReleaseState.LIVE and target in (None, r.target)]
    if not live:
        raise Failure(ExitCode.NOT_FOUND, f"{project} has no live release" + (f" of {target}" if target else ""))
    if len(live) > 1:
        targets = ", ".join(sorted(r.target for r in live))
        raise click.UsageError(f"{project} has live releases of several targets: say --target, one of {targets}")
    return _before(project, found, live[0])


def _before(project: str, found: list[Release], live: Release) -> int:
    # Only releases that were live: not those of other refs, nor those that never went live.
    once_live = [r for r in found if r.activated is not None and r.target == live.target]
    earlier = [r for r in once_live if _order(r) < _order(live)]
    if not earlier:
        raise Failure(ExitCode.NOT_FOUND, f"{project} has no release before the live one ({live.id})")
    return max(earlier, key=_order).id


def _order(release: Release) -> tuple[float, int, int]:
    """The later the ref led to its commit, the newer is a release; `storage.releases` has the same."""
    return (release.resolved or release.created).timestamp(), release.build, release.attempt


def _say_if_held(project: str, found: Releases) -> None:
    if found.held is not None:
        note(
            f"no release of {project} goes live by itself since {found.held.by} rolled it back to release "
            f"{found.held.release} ({local_time(found.held.since)}): `twistedipc release resume {project}` ends that"
        )


def _row(release: Release) -> list[object]:
    return [
        release.id,
        release.target,
        Toned(release.state, release.tone),
        release.build,
        release.ref,
        release.commit[:12],
        release.files,
        size(release.size),
        Ago(release.created),
        Ago(release.activated),
        release.why,
    ]
