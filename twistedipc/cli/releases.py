"""`twistedipc releases`, `rollback` and `release resume`: what is live, going back, and going on."""

from __future__ import annotations

import click

from twistedipc.builds.states import ReleaseState
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import Toned, json_option, local_time, note, print_json, print_table
from twistedipc.publish.targets.static.target import Static
from twistedipc.terminal.amounts import size
from twistedipc.web.api.schemas import Release, Releases, Resumed


@click.command()
@with_client
@click.argument("project")
@json_option
def releases(client: Client, project: str, as_json: bool) -> None:
    """List a project's releases, newest first."""
    answer = client.get(path("projects", project, "releases"))
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
    )
    for live in found.releases:
        if live.state is ReleaseState.LIVE and _address(found, live):
            note(f"live at {_address(found, live)}")
    _say_if_held(project, found)


@click.command()
@with_client
@click.argument("project")
@click.argument("release", type=click.IntRange(min=1), required=False)
@click.option("--target", help="The target to roll back, if several have a live release and no RELEASE is given.")
def rollback(client: Client, project: str, release: int | None, target: str | None) -> None:
    """Make an earlier RELEASE of PROJECT live again: the one with this id, else the one before the live one.

    After that no release of PROJECT goes live by itself, until `twistedipc release resume PROJECT`.
    """
    if release is None:
        found = client.get(path("projects", project, "releases")).decode(Releases)
        release = _before_the_live_one(project, found, target)
    activated = client.post(path("projects", project, "releases", release, "activate")).decode(Release)
    found = client.get(path("projects", project, "releases")).decode(Releases)
    address = _address(found, activated)
    note(f"release {release} of {project} is live" + (f" at {address}" if address else ""))
    _say_if_held(project, found)


@click.group()
def release() -> None:
    """Let a project's releases go live again after a rollback."""


@release.command()
@with_client
@click.argument("project")
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


def _before_the_live_one(project: str, found: Releases, target: str | None) -> int:
    live = [r for r in found.releases if r.state is ReleaseState.LIVE and target in (None, r.target)]
    if not live:
        raise Failure(ExitCode.NOT_FOUND, f"{project} has no live release" + (f" of {target}" if target else ""))
    if len(live) > 1:
        targets = ", ".join(sorted(r.target for r in live))
        raise click.UsageError(f"{project} has live releases of several targets: say --target, one of {targets}")
    return _before(project, found, live[0])


def _before(project: str, found: Releases, live: Release) -> int:
    # Only releases that were live: not those of other refs, nor those that never went live.
    once_live = [r for r in found.releases if r.activated is not None and r.target == live.target]
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
        local_time(release.created),
        local_time(release.activated),
        release.why,
    ]
