"""`twistedipc releases` and `twistedipc rollback`: what is live, what was, and going back to it."""

from __future__ import annotations

import click

from twistedipc.builds.states import ReleaseState
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import json_option, local_time, note, print_json, print_table, size
from twistedipc.web.schemas import Release, Releases


@click.command()
@with_client
@click.argument("project")
@json_option
def releases(client: Client, project: str, as_json: bool) -> None:
    """List a project's static releases, newest first."""
    answer = client.get(path("projects", project, "releases"))
    if as_json:
        print_json(answer)
        return
    found = answer.decode(Releases)
    print_table(
        ("ID", "STATE", "BUILD", "COMMIT", "FILES", "SIZE", "MADE", "LAST LIVE SINCE"),
        [_row(release) for release in found.releases],
        empty=f"{project} has no releases yet",
    )
    if any(r.state is ReleaseState.LIVE for r in found.releases):
        note(f"live at {found.url}")


@click.command()
@with_client
@click.argument("project")
@click.argument("release", type=click.IntRange(min=1), required=False)
def rollback(client: Client, project: str, release: int | None) -> None:
    """Make an earlier RELEASE of PROJECT live again: the one with this id, else the one before the live one."""
    found = client.get(path("projects", project, "releases")).decode(Releases)
    if release is None:
        live = next((r for r in found.releases if r.state is ReleaseState.LIVE), None)
        if live is None:
            raise Failure(ExitCode.NOT_FOUND, f"{project} has no live release")
        # Newest first: the first one that is older than the live one and was live itself.
        once_live = (ReleaseState.SUPERSEDED, ReleaseState.ROLLED_BACK)
        earlier = next((r for r in found.releases if r.id < live.id and r.state in once_live), None)
        if earlier is None:
            raise Failure(ExitCode.NOT_FOUND, f"{project} has no release before the live one ({live.id})")
        release = earlier.id
    client.post(path("projects", project, "releases", release, "activate"))
    note(f"release {release} of {project} is live at {found.url}")


def _row(release: Release) -> list[object]:
    return [
        release.id,
        release.state.value,
        release.build,
        release.commit[:12],
        release.files,
        size(release.size),
        local_time(release.created),
        local_time(release.activated),
    ]
