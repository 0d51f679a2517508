"""All commands, and the process around them: the entry point `twistedipc`."""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import sys
from typing import Any, NoReturn

import click

from twistedipc import __version__
from twistedipc.cli.failures import ExitCode
from twistedipc.cli.output import with_fields_joined

#: command -> the module that it is in, and its name there
COMMANDS = {
    "up": ("twistedipc.cli.up", "up"),
    "down": ("twistedipc.cli.up", "down"),
    "status": ("twistedipc.cli.up", "status"),
    "demo": ("twistedipc.cli.demo", "demo"),
    "init": ("twistedipc.cli.setup", "init"),
    "login": ("twistedipc.cli.login", "login"),
    "use": ("twistedipc.cli.login", "use"),
    "whoami": ("twistedipc.cli.login", "whoami"),
    "logout": ("twistedipc.cli.login", "logout"),
    "token": ("twistedipc.cli.tokens", "token"),
    "people": ("twistedipc.cli.people", "people"),
    "sessions": ("twistedipc.cli.sessions", "sessions"),
    "doctor": ("twistedipc.cli.doctor", "doctor"),
    "secrets": ("twistedipc.cli.sealing", "secrets"),
    "builder": ("twistedipc.cli.builders", "builder"),
    "inspect": ("twistedipc.cli.inspect", "inspect"),
    "project": ("twistedipc.cli.projects", "project"),
    "import": ("twistedipc.cli.imports", "import_settings"),
    "build": ("twistedipc.cli.builds", "build"),
    "builds": ("twistedipc.cli.builds", "builds"),
    "show": ("twistedipc.cli.builds", "show"),
    "logs": ("twistedipc.cli.builds", "logs"),
    "why": ("twistedipc.cli.why", "why"),
    "watch": ("twistedipc.cli.watch", "watch"),
    "open": ("twistedipc.cli.watch", "open_command"),
    "download": ("twistedipc.cli.downloading", "download"),
    "cancel": ("twistedipc.cli.builds", "cancel"),
    "retry": ("twistedipc.cli.builds", "retry"),
    "replay": ("twistedipc.cli.replay", "replay"),
    "changes": ("twistedipc.cli.approvals", "changes"),
    "approve": ("twistedipc.cli.approvals", "approve"),
    "refuse": ("twistedipc.cli.approvals", "refuse"),
    "hook": ("twistedipc.cli.hooks", "hook_group"),
    "pin": ("twistedipc.cli.prune", "pin"),
    "prune": ("twistedipc.cli.prune", "prune"),
    "ledger": ("twistedipc.cli.compacting", "ledger"),
    "releases": ("twistedipc.cli.releases", "releases"),
    "promote": ("twistedipc.cli.releases", "promote"),
    "rollback": ("twistedipc.cli.releases", "rollback"),
    "release": ("twistedipc.cli.releases", "release"),
    "packages": ("twistedipc.cli.packages", "packages"),
    "audit": ("twistedipc.cli.audit", "audit"),
    "provenance": ("twistedipc.cli.provenance", "provenance"),
    "verify": ("twistedipc.cli.provenance", "verify"),
    "caches": ("twistedipc.cli.caches", "caches"),
    "toolchains": ("twistedipc.cli.toolchains", "toolchains"),
    "plan": ("twistedipc.cli.plan", "plan"),
    "mcp": ("twistedipc.cli.mcp.command", "mcp"),
    "completion": ("twistedipc.cli.helping", "completion"),
    "help": ("twistedipc.cli.helping", "help_command"),
    "chaos": ("twistedipc.chaos.command", "chaos"),
    "conform": ("twistedipc.conform.command", "conform"),
}


class ReaderGone(Exception):
    """The reader of standard output has gone (`| head`)."""


class Commands(click.Group):
    """All commands, each imported when it is called: most need neither Twisted nor a database, and so start at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the command line apart. Which words are fields of `--json` is seen before anything else."""
        return super().parse_args(ctx, with_fields_joined(args))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. (Click itself would exit with 1 for a broken pipe, which here means that a build failed.)"""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGone from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="twistedipc")
def commands() -> None:
    """Build front-end projects, watch their logs, publish and roll back releases.

    \b
    Exit codes: 0 ok, 1 the followed build did not succeed, 2 bad options or input, 3 not
    signed in or not allowed, 4 not found, 5 server unreachable or unavailable, 6 the log
    is incomplete, 7 the output can't be written, 8 the followed build waits for another
    person's approval, 130 interrupted.
    """


def _drop_output() -> None:
    """
    Discard what standard output still holds, since the interpreter would complain if it couldn't flush it at exit.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command and exit. ``arguments``: those of the process, if None."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A log may hold characters that the terminal's encoding doesn't have, and must be shown all the same.
            stream.reconfigure(errors="replace")
    try:
        # Not standalone: click would exit with 1 for Ctrl-C, which here means that a build failed.
        code = commands.main(arguments, prog_name="twistedipc", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = ExitCode.INTERRUPTED
    except (ReaderGone, BrokenPipeError):
        # End as a program that SIGPIPE ended.
        _drop_output()
        code = 128 + 13
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else "the output can't be written: "
        _drop_output()
        with contextlib.suppress(OSError):  # standard error may be on the same disk
            click.echo(f"Error: {where}{error.strerror or error}", err=True)
        code = ExitCode.NOT_WRITTEN
    gc.freeze()  # else the interpreter looks through all that was imported once more: a third of a short command's time
    sys.exit(code if isinstance(code, int) else ExitCode.OK)
