"""`twistedipc token …`: who may use an apiserver."""

from __future__ import annotations

import os
import pwd
import re
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection

from twistedipc.builds import names
from twistedipc.builds.scopes import SCOPES, TOKEN_DAYS, Scope
from twistedipc.cli.access import chosen_client, server_option, token_option, url_option, with_client
from twistedipc.cli.client import Answer, Client, path
from twistedipc.cli.ledger import milliseconds, write_in_ledger
from twistedipc.cli.output import expiry, json_option, local_time, note, print_json, print_table
from twistedipc.storage import audit, tokens
from twistedipc.storage.errors import NameTaken
from twistedipc.storage.rows import Actor, TokenRow
from twistedipc.taps.config import ConfigError, load_apiserver
from twistedipc.web.api.schemas import CreatedToken, NewOwnToken, NewToken, Tokens, expiry_of


def _seconds(context: click.Context, parameter: click.Parameter, value: str | None) -> int | UnsetType | None:
    """Return ``30d``, ``12h``, ``90m`` or ``45s`` as seconds, and ``never`` as None."""
    if value is None:
        return UNSET
    if value == "never":
        return None
    match = re.match(r"([0-9]{1,9})([smhd])\Z", value)
    if match is None:
        raise click.BadParameter(f"{value!r} isn't a duration such as 30d, 12h or 90m, nor never")
    seconds = int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    if not 60 <= seconds <= 10 * 366 * 86400:
        raise click.BadParameter("a token is valid for a minute to ten years")
    return seconds


#: Where a person's own tokens are.
OWN = ("identity", "tokens")

own_option = click.option("--own", is_flag=True, help="One of your own, if you are a person: no admin is needed.")


@click.group()
def token() -> None:
    """Make, list and revoke tokens."""


@token.command()
@url_option
@token_option
@server_option
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(SCOPES),
    help="What the token allows: read, build, publish or admin, each of which includes those before it.",
)
@click.option("--project", "projects", multiple=True, help="Only for this project; may be repeated (else: all).")
@click.option(
    "--expires",
    callback=_seconds,
    metavar="DURATION",
    help=f"End after 30d, 12h, 90m…, or never (else: after {TOKEN_DAYS} days).",
)
@click.option("--service", is_flag=True, help="For a program: it is no person's, and no browser can sign in with it.")
@own_option
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="APISERVER.TOML",
    help="Make the token in this apiserver's database, on its machine, without a token: so the first one is made.",
)
@json_option
def create(
    url: str | None,
    token: str | None,
    server: str | None,
    name: str,
    scopes: tuple[Scope, ...],
    projects: tuple[str, ...],
    expires: int | UnsetType | None,
    service: bool,
    own: bool,
    config: Path | None,
    as_json: bool,
) -> None:
    """Make a token called NAME, and print it. It isn't shown again."""
    if own and (service or config is not None):
        raise click.UsageError("--own is for a token of yours: it can't be used with --service or --config")
    of, bound = list(dict.fromkeys(scopes)), sorted(set(projects)) or None
    body = NewToken(name=name, scopes=of, projects=bound, expires_in=expires, service=service)
    if own:
        wanted = NewOwnToken(name=name, scopes=of, projects=bound, expires_in=expires)
        answer = chosen_client(url, token, server).post(path(*OWN), wanted)
        made = answer.decode(CreatedToken)
    elif config is not None:
        made = create_in_ledger(config, body)
        answer = Answer(msgspec.json.encode(made))
    else:
        answer = chosen_client(url, token, server).post(path("tokens"), body)
        made = answer.decode(CreatedToken)
    if as_json:
        print_json(answer)
        return
    until = "and never expires" if made.expires is None else f"until {local_time(made.expires)}"
    note(f"token {made.id} ({made.name}) may {' '.join(made.scopes)} {until}; keep it safe, it isn't shown again:")
    click.echo(made.token)


@token.command("list")
@with_client
@own_option
@json_option
def list_tokens(client: Client, own: bool, as_json: bool) -> None:
    """List all tokens, without their secrets."""
    answer = client.get(path(*OWN) if own else path("tokens"))
    if as_json:
        print_json(answer)
        return
    print_table(
        ("ID", "NAME", "WHOSE", "SCOPES", "PROJECTS", "CREATED", "EXPIRES", "REVOKED", "LAST USED"),
        [
            (
                t.id,
                t.name,
                "service" if t.service else "-" if t.person is None else t.person.name,
                " ".join(t.scopes),
                "all" if t.projects is None else " ".join(t.projects),
                local_time(t.created),
                expiry(t.expires, over=t.revoked is not None),
                local_time(t.revoked),
                local_time(t.last_used),
            )
            for t in answer.decode(Tokens).tokens
        ],
        empty="there are no tokens",
    )


@token.command()
@with_client
@click.argument("token_id", metavar="ID", type=click.IntRange(min=1))
@own_option
def revoke(client: Client, token_id: int, own: bool) -> None:
    """Revoke the token with this ID, at once and for ever."""
    client.delete(path(*OWN, token_id) if own else path("tokens", token_id))
    note(f"token {token_id} is revoked")


def create_in_ledger(config: Path, body: NewToken) -> CreatedToken:
    """Make a token straight in the ledger of the apiserver that has this configuration."""
    try:
        loaded = load_apiserver(config)
        for name in body.projects or ():
            names.project(name)
    except (ConfigError, names.BadValue) as error:
        raise click.UsageError(str(error)) from error
    if not 1 <= len(body.name) <= 200:
        raise click.UsageError("a token's name has 1 to 200 characters")
    now = milliseconds()

    def issue(connection: Connection) -> tuple[TokenRow, str]:
        row, secret = tokens.issue(
            connection,
            name=body.name,
            scopes=body.scopes,
            projects=body.projects,
            expires=expiry_of(body.expires_in, now),
            service=body.service,
            random=os.urandom,
            now=now,
        )
        detail = {"name": row.name, "scopes": " ".join(sorted(row.scopes))}
        by = Actor(who=user_here(), kind="machine")
        audit.record(
            connection, by=by, action="token.create", subject=str(row.id), project=None, detail=detail, now=now
        )
        return row, secret

    try:
        return _created(*write_in_ledger(loaded, issue))
    except NameTaken as error:
        raise click.UsageError(str(error)) from error


def user_here() -> str:
    """Return the user of this machine that runs this process."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


def _created(row: TokenRow, secret: str) -> CreatedToken:
    """Return what the API would answer about a new token."""
    return CreatedToken(
        id=row.id,
        name=row.name,
        scopes=[scope for scope in SCOPES if scope in row.scopes],
        projects=None if row.projects is None else sorted(row.projects),
        created=_time(row.created),
        expires=None if row.expires is None else _time(row.expires),
        revoked=None,
        last_used=None,
        service=row.service,
        token=secret,
    )


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
