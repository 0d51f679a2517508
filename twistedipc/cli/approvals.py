"""`twistedipc changes`, `approve` and `refuse`: what another person's build has made, and whether it goes live."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import click
from msgspec import UNSET

from twistedipc.builds.counts import counted
from twistedipc.builds.states import STATES, AttemptState, PublicationState, Tone, Waits
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.naming import build_argument
from twistedipc.cli.output import json_option, note, print_json, print_table
from twistedipc.cli.passwords import Passwords, otp_option
from twistedipc.publish.compared import Level
from twistedipc.terminal import escapes
from twistedipc.terminal.amounts import size
from twistedipc.web.api.schemas import (
    Approval,
    BuildDetail,
    ChangedFile,
    Changes,
    ContactedHost,
    PackageChanges,
    Publication,
    Refusal,
)

#: How many files are listed.
MAX_LISTED = 50

#: Seconds between two looks how far the packages are.
PROGRESS_INTERVAL = 0.5


@click.command()
@with_client
@build_argument
@click.option("--yes", is_flag=True, help="Don't ask.")
@otp_option
def approve(client: Client, build_id: int, yes: bool, otp: str | None) -> None:
    """Approve what BUILD has made: it goes live, and its packages are published.

    What would change is shown first. Packages that are staged in a registry are approved there with your one-time
    password for it, one after the other; it is asked for again only if it is refused or runs out.
    """
    passwords = Passwords(otp)
    found = client.get(path("builds", build_id)).decode(BuildDetail)
    note(f"build {build_id} of {found.project}, {found.ref}: {found.commit[:12]} {found.subject}".rstrip())
    _show_changes(client, build_id)
    _show_staged(found.publications)
    if not yes:
        click.confirm(f"Approve it, asked for by {found.requested_by}?", abort=True, err=True)
    after = _approve(client, found, passwords)
    if not STATES[AttemptState(after.state)].delivers:
        note(f"build {build_id} is approved" + (f", but {after.reason}" if after.reason else ""))
        return
    if not after.publications:
        note(f"build {build_id} is approved, and its packages are being published: `twistedipc logs {build_id}`")
        return
    _follow(client, after, passwords)


def _approve(client: Client, found: BuildDetail, passwords: Passwords) -> BuildDetail:
    """Approve a build, with a password if something of it is staged."""
    otp = passwords.given
    if _staged(found.publications) and not otp:
        otp = passwords.next("the registry wants your one-time password to publish what is staged")
    passwords.given = ""
    return client.post(path("builds", found.id, "approve"), Approval(otp=otp or UNSET)).decode(BuildDetail)


def _follow(client: Client, found: BuildDetail, passwords: Passwords) -> None:
    """Show package by package what becomes of them, until the build has ended. Raises `Failure` unless it succeeds."""
    said: dict[int, str] = {}
    while True:
        for each in found.publications:
            if said.get(each.position) != each.state:
                said[each.position] = each.state
                note(f"{each.name}@{each.version}: {each.state}" + (f", {each.reason}" if each.reason else ""))
        info = STATES[AttemptState(found.state)]
        if info.ended:
            break
        if info.waits is Waits.FOR_APPROVAL:
            otp = passwords.next(found.reason or "the registry wants your one-time password")
            found = client.post(path("builds", found.id, "approve"), Approval(otp=otp)).decode(BuildDetail)
            continue
        client.sleep(PROGRESS_INTERVAL)
        found = client.get(path("builds", found.id)).decode(BuildDetail)
    words = f"build {found.id} {found.state.replace('_', ' ')}" + (f": {found.reason}" if found.reason else "")
    if found.tone is not Tone.GOOD:
        raise Failure(ExitCode.NOT_SUCCEEDED, words)
    note(words)


def _staged(publications: Sequence[Publication]) -> list[Publication]:
    return [each for each in publications if each.state is PublicationState.STAGED]


def _show_staged(publications: Sequence[Publication]) -> None:
    """Show which packages wait in a registry's stage, and which are past that."""
    staged = _staged(publications)
    if not staged:
        return
    for each in publications:
        note(f"{each.name}@{each.version}: {each.state}" + (f" at {each.registry}" if each in staged else ""))
    note("they can be approved at the registry itself too, which is noticed within a minute")


@click.command()
@with_client
@build_argument
@click.option("--reason", default="", help="Why, for the person who asked for it.")
@otp_option
def refuse(client: Client, build_id: int, reason: str, otp: str | None) -> None:
    """Refuse what BUILD has made: it never goes live, and the build is cancelled.

    What is staged of it in a registry is taken back, with a one-time password where the registry wants one (--otp -).
    """
    passwords = Passwords(otp)
    client.post(path("builds", build_id, "refuse"), Refusal(reason=reason, otp=passwords.given or UNSET))
    note(f"build {build_id} is refused")


@click.command()
@with_client
@build_argument
@json_option
def changes(client: Client, build_id: int, as_json: bool) -> None:
    """Show what BUILD would change: its release, and its packages, against what is live and published.

    Of packages: what is run where they are installed, new dependencies, what users can't ask for any more. What is
    dangerous comes first.
    """
    answer = client.get(path("builds", build_id, "changes"))
    if as_json:
        print_json(answer)
        return
    _show(answer.decode(Changes), lambda sentence: click.echo(escapes.plain(sentence)))


def _show_changes(client: Client, build_id: int) -> None:
    try:
        found = client.get(path("builds", build_id, "changes")).decode(Changes)
    except Failure as error:
        if error.exit_code != ExitCode.NOT_FOUND:
            raise
        note(f"what would change can't be shown: {error.message}")
        return
    _show(found, note)


def _show(found: Changes, say: Callable[[str], None]) -> None:
    if found.log is not None:
        proof = "complete, verified" if found.log.complete else "NOT VERIFIED: it may not be all that the build printed"
        say(f"log: {proof}; {found.log.records} records, SHA-256 {found.log.sha256 or 'not known'}")
    hosts = ", ".join(_host(each) for each in found.hosts[:MAX_LISTED])
    more = f"and {len(found.hosts) - MAX_LISTED} more" if len(found.hosts) > MAX_LISTED else ""
    if found.log is not None:
        said = "; ".join(each for each in (hosts, more, found.hosts_said) if each)
        say(f"hosts that the build contacted: {said or 'none'}")
    for package in found.packages:
        _show_package(package, say)
    if not found.release:
        return
    _show_files(found, "LIVE")
    live = "nothing is live" if found.live is None else f"release {found.live} is live"
    say(
        f"{live}; {counted(found.added_count, 'file is', 'files are')} new, {found.changed_count} changed, "
        f"{found.removed_count} gone: {size(found.size_before)} to {size(found.size)}"
    )


def _host(each: ContactedHost) -> str:
    name = f"[{each.host}]" if ":" in each.host else each.host
    name += f":{each.port}" if each.port else ""
    if each.refused:
        return f"{name} (refused: {each.refused})"
    return f"{name} (NEW: the build before didn't)" if each.new else name


def _show_package(package: PackageChanges, say: Callable[[str], None]) -> None:
    say(
        f"{package.name}@{package.version}, to be published to {package.target} as {package.tag}: "
        f"{size(package.size_packed)} packed, {size(package.size)} in all"
    )
    against = "what is published isn't known: " + package.unknown if package.unknown else "nothing is published yet"
    say(f"against {package.name}@{package.published}" if package.published else against)
    for remark in package.remarks:
        say(f"{_LEVELS[remark.level]}  {remark.text}")
    if package.more_remarks:
        say(f"and {package.more_remarks} more remarks")
    if package.publint_why:
        say(f"publint hasn't looked at it: {package.publint_why}")
    if not package.remarks:
        for sentence in package.notes:  # servers before 0.3 have nothing else
            say(f"package.json: {sentence}")
    _show_files(package, package.published or "BEFORE")


_LEVELS: Mapping[Level, str] = {"danger": "DANGER ", "warning": "warning", "info": "info   "}


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
