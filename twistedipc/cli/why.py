"""`twistedipc why`: why a build failed, on one screen. ``mcp`` shows the same."""

from __future__ import annotations

import click

from twistedipc.builds.states import AttemptState
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.naming import LATEST, BuildType
from twistedipc.cli.output import json_option, print_json
from twistedipc.web.api.mcp.failure import failure_text
from twistedipc.web.api.schemas import BuildDetail, BuildFailure


@click.command()
@with_client
@click.argument("build_id", metavar="[BUILD]", type=BuildType(), default=f"{LATEST}:{AttemptState.FAILED}")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="This attempt (else the newest).")
@json_option
def why(client: Client, build_id: int, attempt: int | None, as_json: bool) -> None:
    """Say why BUILD failed: the line that says what is wrong, what is around it, and what is new.

    Without BUILD it is the newest that failed. What is new is what the project's last success never printed. All of it
    is at most 8 KiB; each line has its number in the log, as `twistedipc logs` has it. Of a build that waits it says
    what for.
    """
    try:
        answer = client.get(path("builds", build_id, "failure"), {"attempt": attempt})
    except Failure as error:
        try:
            waiting = client.get(path("builds", build_id)).decode(BuildDetail).waiting
        except Failure:
            waiting = None
        if waiting is None:
            raise
        raise Failure(ExitCode(error.exit_code), f"build {build_id} waits: {waiting.text}") from error
    if as_json:
        print_json(answer)
    else:
        click.echo(failure_text(answer.decode(BuildFailure)))
