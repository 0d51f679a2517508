"""`twistedipc inspect`: what a project is and how it would be built, without building it. No apiserver is asked."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from twistedipc.builds import names
from twistedipc.builds.plan import Plan, make_plan
from twistedipc.builds.recognition.reading import BadPlan
from twistedipc.builds.recognition.tree import CantRead, Tree
from twistedipc.builds.settings import BuildSettings
from twistedipc.builds.site.budgets import Budgets, shown
from twistedipc.cli.client import Answer
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import json_option, note, print_fields, print_json, print_table
from twistedipc.cli.settings import settings_options, with_settings
from twistedipc.trees.folder import FolderTree
from twistedipc.trees.git import GitTree


@click.command()
@click.argument("where", metavar="[FOLDER | REPOSITORY]", default=".")
@click.option("--ref", default="", help="Branch, tag or commit of a repository (default: its HEAD).")
@settings_options
@json_option
def inspect(where: str, ref: str, as_json: bool, **options: Any) -> None:
    """Say what a project is and how it would be built, and why; build nothing.

    A FOLDER is looked at as it is (the current one if none is named). A REPOSITORY is cloned without its history into a
    temporary folder. The options are those of `project set`: try them here.
    """
    settings = with_settings(BuildSettings(), options)
    with _tree(where, ref) as tree:
        try:
            plan = make_plan(tree, settings)
        except (BadPlan, CantRead) as error:
            raise Failure(ExitCode.USAGE, str(error)) from error
    if as_json:
        print_json(Answer(msgspec.json.encode(_answer(plan))))
    else:
        _show(plan)


def _answer(plan: Plan) -> dict[str, Any]:
    recognised: dict[str, Any] = msgspec.to_builtins(plan.recognised)
    return {
        "recognised": recognised,
        "steps": msgspec.to_builtins(plan.steps),
        "outputs": list(plan.outputs),
        "no_site": plan.no_site,
        "budgets": msgspec.to_builtins(plan.budgets),
    }


def _show(plan: Plan) -> None:
    rows = [(finding.what, finding.value or "none", finding.place, finding.why) for finding in plan.recognised.findings]
    print_table(("WHAT", "VALUE", "WHERE", "WHY"), rows, empty="nothing is recognised of it")
    steps = [
        (f"step {step.name}", f"{step.run}{f'  (in {step.folder})' if step.folder else ''}") for step in plan.steps
    ]
    single = plan.spa if plan.spa is not None else plan.framework_spa
    click.echo("")
    print_fields(
        [
            *(steps or [("steps", "none: it is released as it is")]),
            ("output", ", ".join(plan.outputs[:3]) + (", …" if len(plan.outputs) > 3 else "")),
            ("single page", "yes" if single else "no"),
            ("budget", _budgets(plan.budgets)),
        ]
    )
    for sentence in (*plan.recognised.advice, plan.no_site):
        if sentence:
            note(f"note: {sentence}")


def _budgets(budgets: Budgets) -> str:
    said = ", ".join(f"{each.name} {shown(each.most)}" for each in budgets.of)
    return said and f"{said}, as sent with gzip: a build over it {'fails' if budgets.action == 'fail' else 'is warned'}"


@contextlib.contextmanager
def _tree(where: str, ref: str) -> Iterator[Tree]:
    if os.path.isdir(where) and not ref:
        yield _of_folder(Path(where))
        return
    try:
        names.repository(where if not os.path.isdir(where) else str(Path(where).resolve()), local=True)
        if ref:
            names.ref(ref)
    except names.BadValue as error:
        raise Failure(ExitCode.USAGE, f"{where} is no folder, and {error}") from error
    with tempfile.TemporaryDirectory(prefix="twistedipc-inspect-") as folder:
        clone = Path(folder) / "clone.git"
        _git("init", "--quiet", "--bare", "--template=", str(clone))
        _git("--git-dir", str(clone), "fetch", "--quiet", "--depth=1", "--no-tags", "--", where, ref or "HEAD")
        yield _of_git(clone, "FETCH_HEAD")


def _of_folder(folder: Path) -> Tree:
    bare = (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir()
    return _of_git(folder, "HEAD") if bare else FolderTree(folder)


def _of_git(repository: Path, commit: str) -> Tree:
    try:
        return GitTree(repository, commit)
    except CantRead as error:
        raise Failure(ExitCode.USAGE, str(error)) from error


def _git(*arguments: str) -> None:
    """Run git, which may ask for a password on the terminal. Raises `Failure` with its words."""
    environment = {**os.environ, "GIT_ALLOW_PROTOCOL": "https:http:ssh:git:file"}
    try:
        done = subprocess.run(["git", *arguments], env=environment, stderr=subprocess.PIPE, text=True, check=False)
    except FileNotFoundError as error:
        raise Failure(ExitCode.USAGE, "git isn't installed") from error
    if done.returncode != 0:
        raise Failure(ExitCode.NOT_FOUND, f"the repository can't be fetched: {done.stderr.strip()[:1000]}")
