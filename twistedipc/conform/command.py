"""`twistedipc conform`: the command."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import whole_json_option
from twistedipc.conform.cases import Subject
from twistedipc.conform.codes import Key, read_key
from twistedipc.conform.meeting import TLS, About, Meeting, NoAnswer, place_of
from twistedipc.conform.running import Outcome, chosen, try_all
from twistedipc.conform.wire import SOON

#: subject -> the role of this end
_ROLES: dict[Subject, str] = {"builder": "apiserver", "apiserver": "builder", "plain": "client"}


@click.command()
@click.argument("address", required=False)
@click.option(
    "--as",
    "subject",
    type=click.Choice(["link", "builder", "apiserver", "plain"]),
    default="link",
    show_default=True,
    help="What is tried there.",
)
@click.option("--listen", is_flag=True, help="Listen there, and have what is tried dial it. (Without: dial it.)")
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="The link's shared key, or a named one.")
@click.option("--certificate", type=click.Path(exists=True), metavar="PEM", help="This end's, for tls:.")
@click.option("--certificate-key", type=click.Path(exists=True), metavar="PEM", help="The key to it.")
@click.option(
    "--authority",
    type=click.Path(exists=True),
    metavar="PEM",
    help="The certificate of the authority that signs the other end's.",
)
@click.option("--role", metavar="ROLE", help="This end's role, such as calculator-client. Needed for a link.")
@click.option("--service", default="", metavar="ROLE", help="The service that is tried, if it isn't the end's first.")
@click.option("--name", default="conform", show_default=True, help="This end's name.")
@click.option("--only", multiple=True, metavar="NUMBER", help="Only this case, or this chapter (2). May be repeated.")
@click.option("--slow", is_flag=True, help="Also the cases that wait for some 10 to 30 seconds.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0.05),
    default=SOON,
    show_default=True,
    metavar="SECONDS",
    help="How long an answer may take that should come at once.",
)
@click.option("--stream", default="", metavar="NAME", help="A stream that it receives, for 5.2 to 5.5.")
@click.option("--item", default="", metavar="JSON", help="An item of that stream.")
@click.option("--items", default="", metavar="JSON", help="A request that it answers by many items, for 4.21 to 4.25.")
@click.option("--large", default="", metavar="JSON", help="A request whose reply has over 4096 bytes, for 4.26.")
@click.option("--wait", default="", metavar="SECONDS", help="How long an apiserver may take to offer a build.")
@click.option("--folder", default="", metavar="PATH", help="Where repositories are made that a builder can read.")
@click.option("--list", "lists", is_flag=True, help="Print the cases, and try none.")
@whole_json_option
def conform(address: str | None, subject: Subject, listen: bool, key: Path | None, **given: Any) -> None:
    """Try an implementation of either end of a link against docs/protocol.md.

    ADDRESS is tcp:HOST:PORT, tls:HOST:PORT or unix:PATH. Each case is passed, failed or not tried, with the
    section of the document that it is about. What is tried should be there for that alone: it
    is sent much that is wrong.

    \b
    Exit codes: 0 nothing failed, 1 a case failed, 2 bad options, 5 nothing can be connected to.
    """
    cases = chosen(subject, given["only"])
    if not cases:
        raise click.UsageError(f"no case of a {subject} has such a number: see --list")
    if given["lists"]:
        for case in cases:
            _print_case(case.number, case.name, case.section, as_json=given["as_json"])
        return
    if address is None:
        raise click.UsageError("ADDRESS is missing: tcp:HOST:PORT, tls:HOST:PORT or unix:PATH")
    role = given["role"] or _ROLES.get(subject)
    if not role:
        raise click.UsageError("--role is needed for a link: the one that the other end wants, as calculator-client")
    options = {name: given[name] for name in ("service", "stream", "item", "items", "large", "wait", "folder")}
    tls = TLS(*(given[name] or "" for name in ("certificate", "certificate_key", "authority")))
    about = About(address, listen, role, given["name"], _key(key), options, given["patience"], tls)
    outcomes = _run(about, subject, given)
    failed = sum(outcome.verdict == "failed" for outcome in outcomes)
    if not given["as_json"]:
        passed = sum(outcome.verdict == "passed" for outcome in outcomes)
        click.echo(f"{passed} passed, {failed} failed, {len(outcomes) - passed - failed} not tried")
    if failed:
        raise SystemExit(ExitCode.NOT_SUCCEEDED)


def _key(path: Path | None) -> Key | None:
    try:
        return None if path is None else read_key(path)
    except OSError as error:
        raise Failure(ExitCode.USAGE, f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise Failure(ExitCode.USAGE, str(error)) from error


def _run(about: About, subject: Subject, given: dict[str, Any]) -> list[Outcome]:
    try:
        place_of(about.address)
        meeting = Meeting(about)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        how = "listened at" if about.listens else "dialled"
        raise Failure(ExitCode.UNAVAILABLE, f"{about.address} can't be {how}: {error.strerror or error}") from error
    show = _print_json if given["as_json"] else _print
    try:
        return try_all(meeting, chosen(subject, given["only"]), slow=given["slow"], told=show)
    except NoAnswer as error:
        raise Failure(ExitCode.UNAVAILABLE, str(error)) from error
    finally:
        meeting.end()


def _print(outcome: Outcome) -> None:
    case = outcome.case
    click.echo(f"{outcome.verdict:9}  {case.number:5} {case.name}  ({case.section})")
    if outcome.why:
        click.echo(f"                 {outcome.why}")
    if outcome.verdict == "failed":
        click.echo(f"                 docs/protocol.md, {case.section}: “{' '.join(case.rule.split())}”")


def _print_json(outcome: Outcome) -> None:
    case = dataclasses.asdict(dataclasses.replace(outcome.case, run=_no_run))
    for name in ("run", "subjects", "end", "seconds"):
        del case[name]
    click.echo(json.dumps({**case, "verdict": outcome.verdict, "why": outcome.why}, ensure_ascii=False))


def _no_run(_: Meeting) -> None:
    """Stand in for what JSON can't have."""


def _print_case(number: str, name: str, section: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"number": number, "name": name, "section": section}))
    else:
        click.echo(f"{number:5} {name}  ({section})")
