"""
`twistedipc project poll`: a project's repository is looked at, since its host can't send hooks. ``cli``; used by
``projects``.
"""

from __future__ import annotations

from typing import Any

import click
from msgspec import UNSET

from twistedipc.builds.hooks.settings import HookSettings
from twistedipc.builds.remotes import MAX_EVERY
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import json_option, local_time, note, print_fields, print_json
from twistedipc.web.api.schemas import Hook, NewPoll, Poll


@click.command("poll")
@with_client
@click.argument("name")
@click.option("--on", "turn_on", is_flag=True, help="Look at the repository, every 5 minutes.")
@click.option("--every", type=click.IntRange(1, MAX_EVERY), metavar="MINUTES", help="The same, so often.")
@click.option("--off", is_flag=True, help="Look no more.")
@click.option("--now", is_flag=True, help="Look now.")
@click.option(
    "--branch", "branches", multiple=True, metavar="PATTERN", help="Only these branches build; may be repeated."
)
@click.option("--all-branches", is_flag=True, help="All branches build.")
@click.option("--tag", "tags", multiple=True, metavar="PATTERN", help="These tags build, beside protected ones.")
@json_option
def poll(
    client: Client,
    name: str,
    turn_on: bool,
    every: int | None,
    off: bool,
    now: bool,
    branches: tuple[str, ...],
    all_branches: bool,
    tags: tuple[str, ...],
    as_json: bool,
) -> None:
    """Have the repository of the project NAME looked at for pushes, where its host can't send hooks; or show how.

    The first look only notes what is there. What moves after that builds as a push that a hook tells of: the filters
    are those of `twistedipc project hook`, and so is the list of what came of each (--deliveries).
    """
    if off and (turn_on or every is not None or now):
        raise Failure(ExitCode.USAGE, "--off goes with none of --on, --every and --now")
    if branches and all_branches:
        raise Failure(ExitCode.USAGE, "give one of --branch and --all-branches")
    changed: dict[str, Any] = {}
    if branches or all_branches:
        changed["branches"] = list(branches)
    if tags:
        changed["tags"] = list(tags)
    if changed:
        _filter(client, name, changed)
    where = path("projects", name, "poll")
    if off:
        client.delete(where)
        note(f"the repository of {name} isn't looked at any more")
        return
    answer = client.get(where)
    if turn_on or every is not None:
        answer = client.put(where, NewPoll(every=UNSET if every is None else every))
    if now:
        answer = client.post(path("projects", name, "poll", "look"), None)
    if as_json:
        print_json(answer)
    else:
        _show(name, answer.decode(Poll))


def _filter(client: Client, name: str, changed: dict[str, Any]) -> None:
    where = path("projects", name, "hook")
    settings = client.get(where).decode(Hook).settings
    before = {field: getattr(settings, field) for field in HookSettings.__struct_fields__}
    client.put(where, HookSettings(**{**before, **changed}))


def polling_of(client: Client, name: str) -> str | None:
    """Return how a project is polled, in a line; None: it isn't, or the apiserver is of a version that polls none."""
    try:
        found = client.get(path("projects", name, "poll")).decode(Poll)
    except Failure as error:
        if error.exit_code != ExitCode.NOT_FOUND:
            raise
        return None
    return _said(found) if found.on else None


def _said(found: Poll) -> str:
    """Return how a project is polled, and what came of it, in a line."""
    often = "every minute" if found.every == 1 else f"every {found.every} minutes"
    last = f"last seen {local_time(found.looked)}" if found.looked else "not seen yet"
    why = f"; {found.reason}" if found.reason else ""
    return f"{often}, {last}{why}"


def _show(name: str, found: Poll) -> None:
    if not found.on:
        note(f"the repository of {name} isn't looked at; `twistedipc project poll {name} --on` has that done")
        return
    failures = f" (failed {found.failures} times in a row)" if found.failures > 1 else ""
    print_fields(
        [
            ("polling", _said(found) + failures),
            ("next", local_time(found.due) if found.due else ""),
            ("refs", f"{found.refs} branches and tags" + (f", by builder {found.builder}" if found.builder else "")),
            ("branches", " ".join(found.settings.branches) or "all"),
            ("tags", " ".join([*found.settings.tags, "those that are protected"])),
            ("what moved", f"`twistedipc project hook {name} --deliveries`"),
        ]
    )
