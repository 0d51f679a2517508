"""`twistedipc mcp`. ``cli.mcp``."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import click

from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client
from twistedipc.cli.mcp.asking import AskingByClient
from twistedipc.cli.mcp.serving import Serving
from twistedipc.web.api.mcp.budget import FEWEST_TOKENS, MOST_TOKENS, TOKENS
from twistedipc.web.api.mcp.protocol import Protocol

_CHUNK = 1 << 16


@click.command()
@with_client
@click.option("--allow-changes", is_flag=True, help="Also offer to build, retry, cancel and promote.")
@click.option(
    "--max-tokens",
    type=click.IntRange(FEWEST_TOKENS, MOST_TOKENS),
    default=TOKENS,
    show_default=True,
    metavar="N",
    help="About so many tokens of one answer; what is left out is said.",
)
def mcp(client: Client, allow_changes: bool, max_tokens: int) -> None:
    """Serve builds, logs and releases to a program, by the Model Context Protocol on standard input and output.

    A program starts it by itself: see docs/mcp.md. It sees what your login sees, and changes nothing unless you allow
    it here.
    """
    # The descriptor itself: whatever prints to standard output by mistake must not reach the client.
    out = os.dup(1)
    os.dup2(2, 1)
    asking = AskingByClient(client, Path.cwd())
    protocol = Protocol(asking, allow="start with --allow-changes", allow_changes=allow_changes, tokens=max_tokens)
    serving = Serving(protocol, lambda: os.read(0, _CHUNK), lambda line: _write(out, line))
    if sys.stdin.isatty():
        click.echo("a program is to start this, and talk to it: see docs/mcp.md. Ctrl-D ends it.", err=True)
    serving.run()


def _write(descriptor: int, line: bytes) -> None:
    rest = memoryview(line)
    with contextlib.suppress(BrokenPipeError):  # the client has gone: standard input ends too
        while rest:
            rest = rest[os.write(descriptor, rest) :]
