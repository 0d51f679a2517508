"""`twistedipc packages`: what the apiserver has published of a project's packages, how, and its tags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click
import msgspec
from msgspec import UNSET

from twistedipc.builds.states import RequestState
from twistedipc.builds.versions import canary_of
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import Toned, between, json_option, local_time, note, print_json, print_table
from twistedipc.cli.passwords import Passwords, otp_option
from twistedipc.terminal.amounts import size
from twistedipc.web.api.schemas import (
    NewPackageRequest,
    PackageHistory,
    PackageList,
    PackageRequest,
    Password,
    Projects,
    Publication,
    PublicationStep,
)

#: How many packages, and attempts with a package, are asked for at a time.
PAGE = 100

#: Seconds between two looks whether it is done.
POLL = 0.5


class Packages(click.Group):
    """The commands; without the name of one, it is the list."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take what isn't the name of a command for the arguments of the list."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Packages)
def packages() -> None:
    """List what the apiserver has published: `twistedipc packages [PROJECT] [NAME]`.

    The commands change what is published: which version a tag leads to, and what who installs a version is told. A
    version is never removed.
    """


@packages.command("list")
@with_client
@click.argument("project", required=False)
@click.argument("name", required=False)
@click.option("--before", metavar="ATTEMPT", help="Of NAME, only what attempts before this one (17-1) have published.")
@click.option("--limit", type=click.IntRange(1, PAGE), default=20, show_default=True, help="At most so many attempts.")
@json_option
def list_packages(
    client: Client, project: str | None, name: str | None, before: str | None, limit: int, as_json: bool
) -> None:
    """List the packages of PROJECT (else of all), or show the history of the package NAME, newest first."""
    if name is not None:
        assert project is not None
        _show_history(client, project, name, before, limit, as_json)
        return
    if before is not None:
        raise click.UsageError("--before is for the history of a package: say its NAME")
    if project is None and as_json:
        raise click.UsageError("--json needs a PROJECT")
    if as_json:
        print_json(client.get(path("projects", str(project), "packages"), {"limit": PAGE}))
        return
    found = [each.name for each in client.get(path("projects")).decode(Projects).projects] if project is None else []
    rows: list[Sequence[object]] = []
    for each in found if project is None else [project]:
        rows += _listed(client, each)
    empty = "the apiserver has published no package" + (f" of {project}" if project else "") + " yet"
    print_table(("PROJECT", "PACKAGE", "VERSION", "TAG", "STATE", "BUILD", "SIZE", "SINCE", "REGISTRY", "SAYS"), rows,
                empty=empty)  # fmt: skip


def _listed(client: Client, project: str) -> list[Sequence[object]]:
    """Return a row for each package of a project, with its newest publication."""
    rows: list[Sequence[object]] = []
    after: str | None = None
    while True:
        page = client.get(path("projects", project, "packages"), {"after": after, "limit": PAGE}).decode(PackageList)
        for package in page.packages:
            newest = package.publications[0]
            rows.append(
                [
                    project,
                    package.name,
                    newest.version,
                    newest.tag,
                    Toned(newest.state, newest.tone),
                    newest.build,
                    size(newest.size),
                    local_time(newest.updated),
                    newest.registry,
                    "; ".join(each.text for each in package.moved) or newest.reason or newest.notice,
                ]
            )
        if page.next is None:
            return rows
        after = page.next


def _show_history(client: Client, project: str, name: str, before: str | None, limit: int, as_json: bool) -> None:
    answer = client.get(path("projects", project, "packages", name), {"before": before, "limit": limit})
    if as_json:
        print_json(answer)
        return
    found = answer.decode(PackageHistory)
    print_table(
        ("VERSION", "TAG", "BEFORE", "STATE", "BUILD", "ASKED BY", "APPROVED BY", "SIZE", "SINCE", "MODE", "SAYS"),
        [_row(each) for each in found.publications],
        empty=f"there is nothing older of {name}",
    )
    if found.publications:
        show_steps(found.publications[0])
    if found.tags:
        note("tags: " + ", ".join(f"{tag} leads to {version}" for tag, version in found.tags.items()))
    for each in found.moved:
        note(f"{each.text} (noticed {local_time(each.noticed)})")
    if found.requests:
        print_table(
            ("REQUEST", "KIND", "TAG", "VERSION", "BEFORE", "STATE", "ASKED BY", "SINCE", "SAYS"),
            [_request_row(each) for each in found.requests],
            empty="",
        )
    if found.next is not None:
        note(f"there are older ones: add --before {found.next}")


def _row(each: Publication) -> Sequence[Any]:
    return [
        each.version,
        each.tag,
        each.tag_before,
        Toned(each.state, each.tone),
        f"{each.build}-{each.attempt}",
        each.asked_by,
        each.approved_by,
        size(each.size),
        local_time(each.updated),
        each.mode,
        each.reason or each.notice,
    ]


def _request_row(each: PackageRequest) -> Sequence[Any]:
    state = Toned(each.state, each.tone)
    since = local_time(each.ended or each.began or each.created)
    says = each.reason or each.message
    return [each.id, each.kind, each.tag, each.version, each.before, state, each.asked_by, since, says]


def show_steps(of: Publication) -> None:
    """Show what was done with a package, and when."""
    if not of.steps:
        return
    where = of.registry or of.target
    note(f"{of.name}@{of.version} to {where}, {of.integrity}:")
    print_table(("STEP", "WITH", "BEGAN", "TOOK", "OUTCOME", "DETAIL"), [_step(each) for each in of.steps], empty="")


def _step(each: PublicationStep) -> Sequence[Any]:
    took = between(each.began, each.ended)
    return [each.step, each.detail, local_time(each.began), took, each.outcome or "not known", each.reason]


# -- what is published is changed ------------------------------------------------------------------------------------


def changes_packages(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command that changes a package."""
    for option in (otp_option, click.option("--yes", is_flag=True, help="Don't ask."), json_option):
        command = option(command)
    return command


tag_option = click.option("--tag", default="latest", show_default=True, metavar="TAG", help="The tag that is moved.")


@packages.command()
@with_client
@click.argument("project")
@click.argument("name")
@click.argument("version")
@tag_option
@changes_packages
def promote(
    client: Client, project: str, name: str, version: str, tag: str, yes: bool, otp: str | None, as_json: bool
) -> None:
    """Have a tag of the package NAME lead to VERSION."""
    body = NewPackageRequest(kind="promote", tag=tag, version=version)
    _ask(client, project, name, body, f"Move {tag} of {name} to {version}?", yes, otp, as_json)


@packages.command()
@with_client
@click.argument("project")
@click.argument("name")
@tag_option
@click.option("--to", "version", metavar="VERSION", help="To this version, else to where the tag was before.")
@changes_packages
def rollback(
    client: Client,
    project: str,
    name: str,
    tag: str,
    version: str | None,
    yes: bool,
    otp: str | None,
    as_json: bool,
) -> None:
    """Have a tag of the package NAME lead to the version again to which it led before.

    The next build that publishes the package moves it on.
    """
    body = NewPackageRequest(kind="rollback", tag=tag, version=UNSET if version is None else version)
    where = version or "the version before"
    _ask(client, project, name, body, f"Move {tag} of {name} back to {where}?", yes, otp, as_json)


@packages.command()
@with_client
@click.argument("project")
@click.argument("name")
@click.argument("version")
@click.option("--message", help="What who installs it is told.")
@click.option("--undo", is_flag=True, help="Take the deprecation back.")
@changes_packages
def deprecate(
    client: Client,
    project: str,
    name: str,
    version: str,
    message: str | None,
    undo: bool,
    yes: bool,
    otp: str | None,
    as_json: bool,
) -> None:
    """Deprecate VERSION of the package NAME: who installs it is told the message. It stays where it is."""
    if undo == bool(message):
        raise click.UsageError("say either --message or --undo")
    body = NewPackageRequest(kind="undeprecate" if undo else "deprecate", version=version, message=message or "")
    what = f"Take the deprecation of {name}@{version} back?" if undo else f"Deprecate {name}@{version}?"
    _ask(client, project, name, body, what, yes, otp, as_json)


@packages.command()
@with_client
@click.argument("project")
@click.argument("ref")
@changes_packages
def tidy(client: Client, project: str, ref: str, yes: bool, otp: str | None, as_json: bool) -> None:
    """Remove the tags of the canaries of REF, of all packages of PROJECT: the branch, or pull request, is gone.

    REF is as the builds had it: a branch, or refs/pull/12/head. The versions stay.
    """
    tag = canary_of(ref, 0).tag
    if not yes:
        click.confirm(f"Remove the tag {tag} of the packages of {project}?", abort=True, err=True)
    for name in _names(client, project):
        _ask(client, project, name, NewPackageRequest(kind="untag", tag=tag), "", True, otp, as_json)


def _names(client: Client, project: str) -> list[str]:
    """Return the names of a project's packages."""
    names: list[str] = []
    after: str | None = None
    while True:
        page = client.get(path("projects", project, "packages"), {"after": after, "limit": PAGE}).decode(PackageList)
        names += [package.name for package in page.packages]
        if page.next is None:
            return names
        after = page.next


def _ask(
    client: Client,
    project: str,
    name: str,
    body: NewPackageRequest,
    question: str,
    yes: bool,
    otp: str | None,
    as_json: bool,
) -> None:
    """Ask for it, and wait until it is done. Raises `Failure` if it isn't."""
    passwords = Passwords(otp)
    if not yes:
        click.confirm(question, abort=True, err=True)
    where = path("projects", project, "packages", name, "requests")
    answer = client.post(where, msgspec.structs.replace(body, otp=passwords.given or UNSET))
    found = answer.decode(PackageRequest)
    at = path("projects", project, "package-requests", found.id)
    while found.state not in (RequestState.DONE, RequestState.FAILED):
        if found.state is RequestState.WAITING:
            client.post(f"{at}/password", Password(otp=passwords.next(found.reason)))
        client.sleep(POLL)
        answer = client.get(at)
        found = answer.decode(PackageRequest)
    if as_json:
        print_json(answer)
    if found.state is RequestState.FAILED:
        raise Failure(ExitCode.NOT_SUCCEEDED, f"request {found.id}: {found.reason}")
    if not as_json:
        note(_done(found))


def _done(found: PackageRequest) -> str:
    if not found.tag:
        how = "deprecated" if found.kind == "deprecate" else "no longer deprecated"
        return f"{found.package}@{found.version} is {how}" + (f": {found.reason}" if found.reason else "")
    if found.kind == "untag":
        return f"{found.package} has no tag {found.tag} any more" + (f": {found.reason}" if found.reason else "")
    before = f"; it led to {found.before} before" if found.before and found.before != found.version else ""
    return f"{found.tag} of {found.package} leads to {found.version}" + (
        f": {found.reason}" if found.reason else before
    )
