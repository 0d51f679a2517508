"""`twistedipc approve` and `refuse`: what another person's build has made, and whether it goes live."""

from __future__ import annotations

import click

from twistedipc.builds.states import STATES, AttemptState
from twistedipc.cli.access import with_client
from twistedipc.cli.builds import build_argument
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import note, print_table
from twistedipc.terminal.amounts import size
from twistedipc.web.api.schemas import BuildDetail, ChangedFile, Changes, PackageChanges, Refusal

#: How many files are listed.
MAX_LISTED = 50


@click.command()
@with_client
@build_argument
@click.option("--yes", is_flag=True, help="Don't ask.")
def approve(client: Client, build_id: int, yes: bool) -> None:
    """Approve what BUILD has made, which another person asked for: it goes live.

    What would change is shown first.
    """
    found = client.get(path("builds", build_id)).decode(BuildDetail)
    note(f"build {build_id} of {found.project}, {found.ref}: {found.commit[:12]} {found.subject}".rstrip())
    _show_changes(client, build_id)
    if not yes:
        click.confirm(f"Approve it, asked for by {found.requested_by}?", abort=True, err=True)
    after = client.post(path("builds", build_id, "approve")).decode(BuildDetail)
    if STATES[AttemptState(after.state)].delivers:
        note(f"build {build_id} is approved, and its packages are being published: `twistedipc logs {build_id}`")
        return
    note(f"build {build_id} is approved" + (f", but {after.reason}" if after.reason else ""))


@click.command()
@with_client
@build_argument
@click.option("--reason", default="", help="Why, for the person who asked for it.")
def refuse(client: Client, build_id: int, reason: str) -> None:
    """Refuse what BUILD has made: it never goes live, and the build is cancelled."""
    client.post(path("builds", build_id, "refuse"), Refusal(reason=reason))
    note(f"build {build_id} is refused")


def _show_changes(client: Client, build_id: int) -> None:
    try:
        found = client.get(path("builds", build_id, "changes")).decode(Changes)
    except Failure as error:
        if error.exit_code != ExitCode.NOT_FOUND:
            raise
        note(f"what would change can't be shown: {error.message}")
        return
    for package in found.packages:
        _show_package(package)
    if not found.release:
        return
    _show_files(found, "LIVE")
    live = "nothing is live" if found.live is None else f"release {found.live} is live"
    note(
        f"{live}; {found.added_count} files are new, {found.changed_count} changed, {found.removed_count} gone: "
        f"{size(found.size_before)} to {size(found.size)}"
    )


def _show_package(package: PackageChanges) -> None:
    note(
        f"{package.name}@{package.version}, to be published to {package.target} as {package.tag}: "
        f"{size(package.size_packed)} packed, {size(package.size)} in all"
    )
    against = "what is published isn't known: " + package.unknown if package.unknown else "nothing is published yet"
    note(f"against {package.name}@{package.published}" if package.published else against)
    _show_files(package, package.published or "BEFORE")
    for sentence in package.notes:
        note(f"package.json: {sentence}")


def _show_files(found: Changes | PackageChanges, before: str) -> None:
    rows = [_row(sign, file) for sign, files in (("+", found.added), ("~", found.changed), ("-", found.removed))
            for file in files]  # fmt: skip
    print_table(("", "FILE", before, "NEW"), rows[:MAX_LISTED], empty="no file would change")
    if len(rows) > MAX_LISTED:
        note(f"and {found.added_count + found.changed_count + found.removed_count - MAX_LISTED} more")


def _row(sign: str, file: ChangedFile) -> list[object]:
    return [sign, file.path, _size(file.before), _size(file.after)]


def _size(of: int | None) -> str:
    return "" if of is None else size(of)
