"""`twistedipc builder …`: the builders of an apiserver, and their keys."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from msgspec import UNSET

from twistedipc.cli.access import with_client
from twistedipc.cli.client import Answer, Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.joining import Files, Joined, read_pasted_key
from twistedipc.cli.output import expiry, json_option, local_time, note, print_json, print_table
from twistedipc.web.api.schemas import Builder, BuilderChange, Builders, BuilderTool, BuilderWithKey, NewBuilder, NewKey

#: Seconds in which the link must be made that `join` tries.
CHECK_SECONDS = 15.0

#: Seconds.
DAY = 86_400

pool_option = click.option(
    "--pool", "pools", multiple=True, help="A pool that the builder belongs to, such as trusted; may be repeated."
)


days_option = click.option(
    "--days",
    type=click.IntRange(min=1, max=3650),
    metavar="N",
    help="Until the key expires (else: never; of a rotated key, as long as the one before).",
)


@click.group()
def builder() -> None:
    """Add, list and revoke builders, each with a key of its own."""


@builder.command()
@with_client
@click.argument("name")
@pool_option
@days_option
@json_option
def add(client: Client, name: str, pools: tuple[str, ...], days: int | None, as_json: bool) -> None:
    """Make a key for the builder NAME, and print a line to run on its machine. The key isn't shown again."""
    body = NewBuilder(name=name, pools=sorted(set(pools)), expires_in=None if days is None else days * DAY)
    _print_key(client.post(path("builders"), body), as_json, "")


@builder.command()
@with_client
@click.argument("name")
@days_option
@json_option
def rotate(client: Client, name: str, days: int | None, as_json: bool) -> None:
    """Make another key for the builder NAME, and print a line to run on its machine.

    The key that it has stays good until it uses the new one: when it is restarted after that line. No build is
    interrupted.
    """
    body = NewKey(expires_in=UNSET if days is None else days * DAY)
    _print_key(client.post(path("builders", name, "keys"), body), as_json, " --force")


@builder.command()
@with_client
@click.argument("name")
def revoke(client: Client, name: str) -> None:
    """End all keys of the builder NAME, its link, and what it is building, at once."""
    client.delete(path("builders", name, "keys"))
    note(f"builder {name} is revoked; twistedipc builder add {name} gives it a new key")


@builder.command("set")
@with_client
@click.argument("name")
@pool_option
@click.option("--no-pool", is_flag=True, help="It belongs to none.")
def set_pools(client: Client, name: str, pools: tuple[str, ...], no_pool: bool) -> None:
    """Say which pools the builder NAME belongs to: all of them."""
    if no_pool == bool(pools):
        raise click.UsageError("say --pool, as often as needed, or --no-pool")
    changed = client.patch(path("builders", name), BuilderChange(pools=sorted(set(pools)))).decode(Builder)
    note(f"builder {name} is in {', '.join(changed.pools) or 'no pool'}")


@builder.command()
@with_client
@click.argument("name")
def drain(client: Client, name: str) -> None:
    """Offer the builder NAME nothing more, until `twistedipc builder undrain`. What it builds now goes on."""
    client.patch(path("builders", name), BuilderChange(drained=True))
    note(f"builder {name} is offered nothing more; twistedipc builder undrain {name} takes that back")


@builder.command()
@with_client
@click.argument("name")
def undrain(client: Client, name: str) -> None:
    """Offer the builder NAME builds again, after `twistedipc builder drain`."""
    client.patch(path("builders", name), BuilderChange(drained=False))
    note(f"builder {name} is offered builds again")


@builder.command("list")
@with_client
@json_option
def list_builders(client: Client, as_json: bool) -> None:
    """List the builders: whether they are linked, by which key, and what they have fetched (all of it with --json)."""
    answer = client.get(path("builders"))
    if as_json:
        print_json(answer)
        return
    found = answer.decode(Builders).builders
    print_table(
        "NAME,LINKED SINCE,FROM,VERSION,ISOLATION,SLOTS,TOOLS,POOLS,KEY,MADE,EXPIRES,LAST USED".split(","),
        [row for each in found for row in _rows(each)],
        empty="there are no builders",
    )
    for each in found:
        if each.link is not None and not each.link.key:
            note(
                f"warning: builder {each.name} has no key of its own, and the next release won't take the shared one: "
                f"twistedipc builder add {each.name}"
            )


def tools_in_short(tools: Sequence[BuilderTool]) -> str:
    """Return the newest version of each tool, and of how many others there are: "node 22.11.0 +1, pnpm 9.12.3"."""
    versions: dict[str, list[str]] = {}
    for tool in tools:
        versions.setdefault(tool.name, []).append(tool.version)
    said = (f"{name} {each[-1]}{f' +{len(each) - 1}' if each[1:] else ''}" for name, each in versions.items())
    return ", ".join(said)


def _rows(each: Builder) -> list[tuple[str, ...]]:
    link = each.link
    about = (
        each.name,
        "not linked" if link is None else local_time(link.since),
        "" if link is None else link.address,
        "" if link is None else link.version,
        "" if link is None else link.isolation,
        "" if link is None else f"{link.slots}{' (draining)' if link.draining else ''}",
        tools_in_short(each.tools or ()),
        " ".join(each.pools),
    )
    keys = [
        (
            f"{key.id}{' (in use)' if link is not None and link.key == key.id else ''}",
            local_time(key.created),
            expiry(key.expires),
            local_time(key.last_used) or "never",
        )
        for key in each.keys
        if key.revoked is None
    ]
    if not keys:
        keys = [("revoked" if each.keys else "the shared one", "", "", "")]
    return [(*(about if index == 0 else ("",) * len(about)), *key) for index, key in enumerate(keys)]


def _print_key(answer: Answer, as_json: bool, more: str) -> None:
    if as_json:
        print_json(answer)
        return
    made = answer.decode(BuilderWithKey)
    where = [f"--dial {shlex.quote(endpoint)}" for endpoint in made.dial]
    if not where:
        where = [f"--listen {shlex.quote(endpoint)}" for endpoint in made.listen]
    note(
        f"a key for builder {made.builder.name}, {made.key.partition(':')[0]}. Run this line on its machine, as the "
        "builder's user; it isn't shown again:"
    )
    click.echo(f"echo {made.key} | twistedipc builder join {made.builder.name} {' '.join(where) or '--dial …'}{more}")
    if not made.dial:
        note(
            "The apiserver listens for no builders ([link] listen in apiserver.toml). If this one isn't among those "
            "that it dials, add it to `dial` there."
        )


@builder.command()
@click.argument("name")
@click.option("--dial", multiple=True, metavar="ENDPOINT", help="Where the apiserver is, such as tls:HOST:7000.")
@click.option("--listen", multiple=True, metavar="ENDPOINT", help="Where the apiserver dials this builder.")
@click.option("--certificate", metavar="FILE", default="", help="This builder's, in PEM, for tls:.")
@click.option("--private-key", metavar="FILE", default="", help="The certificate's.")
@click.option("--authority", metavar="FILE", default="", help="Who has signed the apiserver's certificate.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("builder.toml"),
    show_default=True,
    help="The builder's configuration: [link] is written into it, or all of it if there is none.",
)
@click.option("--force", is_flag=True, help="Write over a key and a [link] that are there.")
@click.option(
    "--check/--no-check", default=True, help="Whether to try the link first; then nothing is written if it fails."
)
def join(
    name: str,
    dial: tuple[str, ...],
    listen: tuple[str, ...],
    certificate: str,
    private_key: str,
    authority: str,
    config: Path,
    force: bool,
    check: bool,
) -> None:
    """Make this machine's builder the builder NAME of an apiserver, by the key on standard input.

    The line with it comes from `twistedipc builder add NAME`. Run it as the builder's user.
    """
    if not dial and not listen:
        raise click.UsageError("say where the apiserver is (--dial), or where it dials this builder (--listen)")
    key = read_pasted_key(
        click.prompt("the key", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline(256)
    )
    joined = Joined(
        name=name, dial=dial, listen=listen, certificate=certificate, private_key=private_key, authority=authority
    )
    files = Files(config, joined, key)
    if not force:
        files.check_free()
    try:
        draft = files.draft()
        if check:
            note("trying the link …")
            from twistedipc.taps.checking import check_link  # not above, since it takes the reactor

            if why := check_link(draft, CHECK_SECONDS):
                raise Failure(
                    ExitCode.UNAVAILABLE,
                    f"there is no link with the apiserver: {why}. Nothing was written (--no-check writes it untried)",
                )
        files.keep()
    except OSError as error:
        raise Failure(ExitCode.USAGE, f"{error.filename or config} can't be written: {error.strerror}") from error
    finally:
        files.close()
    note(f"written: {files.config} and {files.key}; start the builder, or restart it: no build is interrupted by that")
