"""
`twistedipc project hook` and `twistedipc hook …`: messages of repositories' hosts, which make builds. ``cli``; the
first is used by ``projects``.
"""

from __future__ import annotations

from typing import Any

import click

from twistedipc.builds.hooks.settings import Concurrency, HookSettings
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import json_option, local_time, note, print_fields, print_json, print_table
from twistedipc.web.api.schemas import Hook, HookMessage, HookMessages, HookSecret

#: What is to be clicked at each kind of host.
CLICKS = (
    (
        "GitHub",
        "the repository's Settings > Webhooks > Add webhook: paste the address as Payload URL and the secret; choose "
        '"Let me select individual events": Pushes, Pull requests, Branch or tag deletion; Add webhook',
    ),
    (
        "GitLab",
        "the project's Settings > Webhooks > Add new webhook: paste the address as URL, and the secret as Signing "
        "token (or as Secret token, where there is no such field); tick Push, Tag push and Merge request events; Add "
        "webhook",
    ),
    (
        "Gitea, Forgejo",
        "the repository's Settings > Webhooks > Add webhook > Gitea (or Forgejo): paste the address as Target URL and "
        "the secret; choose Custom events: Push, Delete, Pull request, Pull request synchronized; Add webhook",
    ),
    ("a program", "see docs/hooks.md: a POST that is signed as the Standard Webhooks say"),
)

_CONCURRENCY = click.Choice(["cancel-older", "queue", "skip"])


@click.command("hook")
@with_client
@click.argument("name")
@click.option("--rotate", is_flag=True, help="Make another secret in the place of the one that there is.")
@click.option("--remove", is_flag=True, help="Erase the secret: no message is taken any more.")
@click.option("--deliveries", is_flag=True, help="List the last messages, with what came of each.")
@click.option(
    "--branch", "branches", multiple=True, metavar="PATTERN", help="Only these branches build; may be repeated."
)
@click.option("--all-branches", is_flag=True, help="All branches build.")
@click.option("--tag", "tags", multiple=True, metavar="PATTERN", help="These tags build, beside protected ones.")
@click.option("--pull-requests/--no-pull-requests", default=None, help="Whether pull requests build.")
@click.option(
    "--poll-pull-requests/--no-poll-pull-requests",
    default=None,
    help="Whether polling looks for pull requests, and has each wait for leave.",
)
@click.option("--previews", type=_CONCURRENCY, help="What becomes of older builds of a preview's ref.")
@click.option("--production", type=_CONCURRENCY, help="The same of production's.")
@json_option
def hook(
    client: Client,
    name: str,
    rotate: bool,
    remove: bool,
    deliveries: bool,
    branches: tuple[str, ...],
    all_branches: bool,
    tags: tuple[str, ...],
    pull_requests: bool | None,
    poll_pull_requests: bool | None,
    previews: Concurrency | None,
    production: Concurrency | None,
    as_json: bool,
) -> None:
    """Have pushes to the repository of the project NAME build it, or show how.

    Prints the address and the secret for the repository's host, and what to click there. The secret is shown when it is
    made, and not again: --rotate makes another.
    """
    if remove and rotate:
        raise Failure(ExitCode.USAGE, "give one of --rotate and --remove")
    if branches and all_branches:
        raise Failure(ExitCode.USAGE, "give one of --branch and --all-branches")
    changed = {
        "branches": list(branches) or ([] if all_branches else None),
        "tags": list(tags) or None,
        "pull_requests": pull_requests,
        "poll_pull_requests": poll_pull_requests,
        "previews": previews,
        "production": production,
    }
    if deliveries:
        _list(client, name, as_json)
    elif remove:
        client.delete(path("projects", name, "hook", "secret"))
        note(f"the hook of {name} takes no messages any more; remove it at the host too")
    else:
        _make_or_show(
            client, name, {key: value for key, value in changed.items() if value is not None}, rotate, as_json
        )


def _make_or_show(client: Client, name: str, changed: dict[str, Any], rotate: bool, as_json: bool) -> None:
    """Change the settings, make a secret if there is none or another is wanted, or show what there is."""
    where = path("projects", name, "hook")
    answer = client.get(where)
    found = answer.decode(Hook)
    if changed:
        before = {field: getattr(found.settings, field) for field in HookSettings.__struct_fields__}
        answer = client.put(where, HookSettings(**{**before, **changed}))
        found = answer.decode(Hook)
    if rotate or (found.secret is None and not changed):
        answer = client.post(path("projects", name, "hook", "secret"), None)
    if as_json:
        print_json(answer)
    elif rotate or (found.secret is None and not changed):
        _show_secret(answer.decode(HookSecret))
    else:
        _show(name, found)


def _show_secret(made: HookSecret) -> None:
    print_fields([("address", made.url), ("secret", made.secret)])
    click.echo("\nThe secret isn't shown again. At the repository's host:\n")
    for host, clicks in CLICKS:
        click.echo(f"{host}: {clicks}")


def _show(name: str, found: Hook) -> None:
    settings = found.settings
    made = (
        "none: `--rotate` makes one"
        if found.secret is None
        else f"made {local_time(found.secret)}; --rotate makes another"
    )
    print_fields(
        [
            ("address", found.url),
            ("secret", made),
            ("branches", " ".join(settings.branches) or "all"),
            ("tags", " ".join([*settings.tags, "those that are protected"])),
            ("pull requests", _pull_requests(settings)),
            ("previews", settings.previews),
            ("production", settings.production),
            ("messages", f"`twistedipc project hook {name} --deliveries`"),
        ]
    )


def _pull_requests(settings: HookSettings) -> str:
    if not settings.pull_requests:
        return "no"
    return "yes, those that polling sees with a member's leave" if settings.poll_pull_requests else "yes"


def _list(client: Client, name: str, as_json: bool) -> None:
    answer = client.get(path("projects", name, "hook", "messages"))
    if as_json:
        print_json(answer)
        return
    found = answer.decode(HookMessages)
    print_table(
        ("MESSAGE", "RECEIVED", "FROM", "TELLS", "COMMIT", "OUTCOME", "BUILD", "DETAIL"),
        [
            (
                each.id,
                local_time(each.received),
                each.host,
                each.about,
                each.commit[:8],
                each.outcome,
                each.build or "",
                "; ".join(filter(None, [each.reason, f"by {each.decided_by}" if each.decided_by else ""])),
            )
            for each in found.messages
        ],
        empty="no message has come",
    )
    if any(each.outcome == "waits" for each in found.messages):
        note(f"what waits is a stranger's: look at it, then `twistedipc hook allow {name} MESSAGE`")


@click.group("hook")
def hook_group() -> None:
    """Messages of repositories' hosts: see `twistedipc project hook NAME --deliveries`."""


_message = click.argument("message", type=click.IntRange(min=1), metavar="MESSAGE")


@hook_group.command("allow")
@with_client
@click.argument("project")
@_message
@json_option
def allow(client: Client, project: str, message: int, as_json: bool) -> None:
    """Build the commit of a stranger's pull request that MESSAGE tells of.

    Read what it changes first: its code runs on your builder. It gets no secret, and nothing that other builds keep.
    """
    _decided(client, project, message, "allow", as_json)


@hook_group.command("repeat")
@with_client
@click.argument("project")
@_message
@json_option
def repeat(client: Client, project: str, message: int, as_json: bool) -> None:
    """Do once more what MESSAGE asks for, whatever the project's filters say."""
    _decided(client, project, message, "repeat", as_json)


def _decided(client: Client, project: str, message: int, how: str, as_json: bool) -> None:
    answer = client.post(path("projects", project, "hook", "messages", message, how), None)
    if as_json:
        print_json(answer)
        return
    made = answer.decode(HookMessage)
    if made.build is None:
        note(f"message {message}: {made.outcome} {made.reason}".rstrip())
    else:
        note(f"build {made.build} of {project}: {client.url}/#/builds/{made.build}")
