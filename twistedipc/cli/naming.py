"""
What people needn't type: the project of the folder in which they are, and the number of a build (`latest`). An argument
of these types may hold something that is `Asked` for; `access.with_client` finds it out before the command runs.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from twistedipc.builds import names
from twistedipc.builds.states import STATES, AttemptState
from twistedipc.cli.client import Client, path
from twistedipc.cli.contexts import client_for
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.folder import repository_of, said_project, same_repository
from twistedipc.web.api.schemas import Builds, Projects

#: What stands for the project of the folder, as a folder's own name does.
HERE = "."

LATEST = "latest"


class Asked(ABC):
    """What an argument leaves open, until a server, or a folder, can be asked."""

    @abstractmethod
    def found(self, client: Client) -> object:
        """Return what it is. Raises `Failure` if there is no such thing."""


def resolved(client: Client, arguments: dict[str, Any]) -> None:
    """Find out what arguments of a command leave open."""
    for name, value in arguments.items():
        if isinstance(value, Asked):
            arguments[name] = value.found(client)


@dataclass(frozen=True)
class ProjectHere(Asked):
    """The project whose repository the current folder is a working copy of."""

    def found(self, client: Client) -> str:
        """Return its name."""
        found = project_here(client, Path.cwd())
        if found is None:
            raise Failure(
                ExitCode.USAGE,
                f"{client.url} has no project of the repository in this folder: name a PROJECT, or write "
                'project = "NAME" into .twistedipc.toml',
            )
        return found


@dataclass(frozen=True)
class LatestBuild(Asked):
    """The newest build, or the newest in a state: of the folder's project, if there is one, else of all."""

    state: AttemptState | None = None

    def found(self, client: Client) -> int:
        """Return its number."""
        project = project_here(client, Path.cwd())
        answer = client.get(path("builds"), {"project": project, "state": self.state, "limit": 1})
        for build in answer.decode(Builds).builds:
            return build.id
        which = f" that is {self.state.replace('_', ' ')}" if self.state else ""
        raise Failure(ExitCode.NOT_FOUND, f"there is no build{f' of {project}' if project else ''}{which}")


def project_here(client: Client, folder: Path) -> str | None:
    """
    Return the project that a folder is of: the one that its `.twistedipc.toml` names, or else the one whose repository
    it is, or was cloned from. None if there is none. Raises `Failure` if there are several.
    """
    repository = repository_of(folder)
    if repository is None:
        return None
    if said := said_project(folder, repository.top):
        return said
    projects = client.get(path("projects")).decode(Projects).projects
    for address in (repository.address, repository.origin):
        found = [each for each in projects if address and same_repository(each.repository, address)]
        # Of the projects of one repository, the one whose root this folder is in, the innermost.
        inside = [each for each in found if _is_in(folder, repository.top / each.settings.root)]
        deepest = max((len(Path(each.settings.root).parts) for each in inside), default=0)
        nearest = [each.name for each in inside if len(Path(each.settings.root).parts) == deepest]
        if len(nearest) > 1:
            raise Failure(ExitCode.USAGE, f"this folder is of the projects {', '.join(nearest)}: name one of them")
        if nearest:
            return nearest[0]
    return None


def _is_in(folder: Path, root: Path) -> bool:
    here, there = folder.resolve(), root.resolve()
    return here == there or there in here.parents


class ProjectType(click.ParamType[object]):
    """A project's name, or `.` for the project of the current folder."""

    name = "project"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> object:
        """Return the name, or who finds it out."""
        return ProjectHere() if value == HERE else value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the projects whose names begin so."""
        try:
            given = (ctx.params.get(name) for name in ("url", "token", "server"))
            found = client_for(*given).get(path("projects")).decode(Projects).projects
        except Failure:
            return []  # nobody wants an error in the middle of what is being typed
        return [CompletionItem(each.name) for each in found if each.name.startswith(incomplete)]


class BuildType(click.ParamType[object]):
    """A build's number, or `latest`, or `latest:STATE`."""

    name = "build"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> object:
        """Return the number, or who finds it out."""
        if isinstance(value, int | Asked):
            return value
        text = str(value)
        if re.fullmatch("[0-9]{1,15}", text) and int(text) > 0:
            return int(text)
        word, colon, state = text.partition(":")
        if word == LATEST and (not colon or state in STATES):
            return LatestBuild(AttemptState(state) if state else None)
        said = f"no build is {state!r}: it is one of {', '.join(AttemptState)}"
        if word != LATEST:
            said = f"{text!r} is no build: give its number, or latest, or latest:failed"
        return self.fail(said, parameter, context)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the words that begin so."""
        words = [LATEST, *(f"{LATEST}:{state}" for state in AttemptState)]
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]


build_argument = click.argument("build_id", metavar="BUILD", type=BuildType())
project_argument = click.argument("project", metavar="[PROJECT]", type=ProjectType(), default=HERE)


def name_from(text: str) -> str:
    """Return a project's name that is like a folder's or a repository's."""
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:50].strip("-")
    return words if words and re.fullmatch(names.NEW_PROJECT, words) else "project"
