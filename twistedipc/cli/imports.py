"""`twistedipc import`: what other hosts' configuration says of a project, as settings of this platform. ``cli``."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from msgspec import UNSET

from twistedipc.builds.settings import PLAN_FILE
from twistedipc.builds.variables import Change
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.environment import tell
from twistedipc.cli.importing.everything import import_all
from twistedipc.cli.importing.imported import Imported
from twistedipc.cli.importing.written import as_toml
from twistedipc.cli.output import note
from twistedipc.trees.folder import FolderTree
from twistedipc.web.api.schemas import Project, ProjectChange, Settings


@click.command("import")
@with_client
@click.argument("folder", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--write", is_flag=True, help=f"Write {PLAN_FILE} in FOLDER instead of printing it.")
@click.option("--project", metavar="NAME", help="Set it for this project instead, by the API.")
def import_settings(client: Client, folder: Path, write: bool, project: str | None) -> None:
    """Read how other hosts build the project in FOLDER, and print it as a .twistedipc.toml.

    It reads vercel.json, netlify.toml, _redirects, _headers and the workflows in .github. What
    can't be carried over is said on standard error, line by line.
    """
    if write and project is not None:
        raise click.UsageError("--write and --project can't be given together: the file would win over the project")
    imported = import_all(FolderTree(folder))
    for remark in imported.remarks:
        note(str(remark))
    if not imported.read:
        raise click.UsageError(f"{folder} has no vercel.json, netlify.toml, _redirects, _headers or .github/workflows")
    text = as_toml(imported)
    if project is not None:
        _set(client, project, imported)
    elif not text:
        note("nothing has to be said: what was found is what the platform does by itself")
    elif write:
        _write(folder / PLAN_FILE, text)
    else:
        click.echo(text, nl=False)
    note(f"read: {', '.join(imported.read)}")


def _write(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError as error:
        raise click.UsageError(
            f"{file} is there already: remove it first, or add what is printed without --write"
        ) from error
    note(f"wrote {file}")


def _set(client: Client, name: str, imported: Imported) -> None:
    """Set what was found, over what the project has; all else of it stays."""
    if imported.redirects or imported.headers:
        note(
            f"{len(imported.redirects)} redirects and headers for {len(imported.headers)} addresses are said by files "
            f"alone: print {PLAN_FILE} without --project, and put its tables [[site.redirects]] and [[site.headers]] "
            "into the repository"
        )
    if not imported.settings and not imported.environment:
        note(f"nothing of the project {name} has to be changed")
        return
    now = client.get(path("projects", name)).decode(Project)
    settings = Settings(**msgspec.structs.asdict(now.settings) | imported.settings)
    variables = [Change(name=key, value=value) for key, value in imported.environment.items()]
    body = ProjectChange(settings=settings if imported.settings else UNSET, variables=variables or UNSET)
    changed = client.patch(path("projects", name), body).decode(Project)
    note(f"project {name} changed: {', '.join([*imported.settings, *imported.environment])}")
    tell(changed)
