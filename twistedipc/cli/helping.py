"""`twistedipc help` and `completion`: what the command says of itself, to people and to their shells."""

from __future__ import annotations

import difflib

import click
from click.shell_completion import get_completion_class

from twistedipc.cli.failures import ExitCode, Failure

#: What is about no single command.
TOPICS = {
    "exit-codes": """\
0    ok
1    the followed build did not succeed, or nothing was found
2    bad options or bad input
3    not signed in, or not allowed
4    not found
5    the server can't be reached, or can't answer now
6    the log is incomplete
7    the output can't be written
8    the followed build waits for another person's approval
130  interrupted: the build goes on
""",
    "names": """\
A PROJECT that isn't named is the one of the folder: the one whose repository it is, or was cloned from (its
origin), or that `project = "NAME"` in its .twistedipc.toml names. `.` is the same, where another argument
follows: twistedipc rollback . 12

A BUILD is a number, or `latest`, or the newest in a state: `latest:failed`, `latest:running`. In the folder of
a project it is one of this project's.
""",
    "output": """\
Results go to standard output, and everything else to standard error.

A table in a terminal has the columns that fit; in a pipe it has all, with tabs between them.
--json          the API's answer, exactly
--json a,b.c    some of its fields; of a listing, those of each entry (one alone: --json=a)
--field a       the values of one field, as text, each on a line

NO_COLOR, FORCE_COLOR, CLICOLOR_FORCE and CLICOLOR=0 say, in this order, whether there are colours; else there
are if it is a terminal.
""",
    "servers": """\
twistedipc login NAME   signs in to a server, and keeps it under this name
twistedipc use NAME     has the commands talk to it; without a name, lists those that are kept
twistedipc whoami       says which it is, and who one is there
twistedipc logout NAME  forgets it

--server NAME (TWISTEDIPC_SERVER) is for one command. --url and --token (TWISTEDIPC_URL, TWISTEDIPC_TOKEN) need
nothing that is kept; a token is sent only to the server that it was kept for.
""",
}

_HOW = {
    "bash": 'eval "$(twistedipc completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(twistedipc completion zsh)"    # in ~/.zshrc',
    "fish": "twistedipc completion fish > ~/.config/fish/completions/twistedipc.fish",
}


@click.command("help")
@click.argument("words", metavar="[COMMAND… | TOPIC]", nargs=-1)
@click.pass_context
def help_command(context: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command, as --help does, or of a topic: exit-codes, names, output, servers."""
    if len(words) == 1 and words[0] in TOPICS:
        click.echo(TOPICS[words[0]], nl=False)
        return
    parent = context.parent
    assert parent is not None, "it is one of the commands"
    found, at = parent.command, parent
    for word in words:
        inner = found.get_command(at, word) if isinstance(found, click.Group) else None
        if inner is None:
            known = [*TOPICS, *(found.list_commands(at) if isinstance(found, click.Group) else ())]
            near = difflib.get_close_matches(word, known, 3)
            hint = f"; there is {' or '.join(near)}" if near else f"; topics are {', '.join(TOPICS)}"
            raise Failure(ExitCode.USAGE, f"there is no command and no topic {' '.join(words)}{hint}")
        at = click.Context(inner, info_name=word, parent=at)
        found = inner
    click.echo(found.get_help(at))
    if not words:
        click.echo(f"\nTopics of `twistedipc help TOPIC`: {', '.join(TOPICS)}")


@click.command(epilog="\b\n" + "\n".join(f"{shell:5} {how}" for shell, how in _HOW.items()))
@click.argument("shell", type=click.Choice(list(_HOW)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what has SHELL complete commands, options, projects and builds by the Tab key."""
    root = context.find_root()
    kind = get_completion_class(shell)
    assert kind is not None, "click knows all of them"
    click.echo(kind(root.command, {}, "twistedipc", "_TWISTEDIPC_COMPLETE").source())
