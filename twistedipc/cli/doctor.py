"""
`twistedipc doctor`: what is wrong, or won't be right for long: with this machine and the server that the command talks
to, or in a service's configuration, on its own machine.
"""

from __future__ import annotations

import http.client
import os
import tomllib
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import msgspec
from sqlalchemy import Connection

from twistedipc.builds import labels
from twistedipc.builds.isolation import Isolation
from twistedipc.builds.names import open_road
from twistedipc.builds.scopes import WARNED_DAYS
from twistedipc.cli.access import with_client
from twistedipc.cli.checkup import of_machine, of_server
from twistedipc.cli.client import Client
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.hosting import look_at_hosting
from twistedipc.cli.ledger import milliseconds, read_beside
from twistedipc.cli.local import state_folder
from twistedipc.cli.output import local_time, note
from twistedipc.ipc import BadKey, read_key, read_named_key
from twistedipc.isolation.probe import Wanted, find_isolation
from twistedipc.publish.targets.npm.client import Client as Registry
from twistedipc.publish.targets.npm.registry import TokenFacts
from twistedipc.publish.targets.npm.target import NpmSettings
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.registries.connection import Connection as HTTPConnection
from twistedipc.registries.npmrc import Npmrc
from twistedipc.s3.bucket import Bucket
from twistedipc.s3.trying import why_unusable
from twistedipc.storage import endings, polls, projects
from twistedipc.storage.artifacts import KEPT_SINCE
from twistedipc.storage.errors import NotPossible
from twistedipc.storage.secrets import SecretBox, SecretUnreadable
from twistedipc.taps.config import ApiserverConfig, BuilderConfig, ConfigError, load_apiserver, load_builder
from twistedipc.taps.nodejs import npm_settings
from twistedipc.terminal import escapes
from twistedipc.web.access.oidc import ALGORITHMS, SignInFailed, discovery_of, discovery_url, keys_of
from twistedipc.web.http.outgoing import MAX_ANSWER, SECONDS

#: The tables that only an apiserver's file has.
_TABLES = {"http", "releases", "viewers", "database", "domains", "certificates", "retention", "stores"}

#: Milliseconds.
DAY = 86_400_000


@click.command()
@with_client
@click.argument("files", metavar="[FILE…]", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
def doctor(client: Client, files: tuple[Path, ...]) -> None:
    """Look at this machine and at the server, and say what is wrong, and what to do. Ends with 1 if something is.

    With FILEs, look at them in place of that: apiserver.toml, builder.toml or both.
    """
    if not files:
        _look_around(client)
        return
    found = [f"{file}: {sentence}" for file in files for sentence in look_at(file)]
    for file in files:
        isolation = isolation_of(file)
        if isolation is not None and isolation.refused:
            found.append(f"{file}: {isolation.refused}")
        elif isolation is not None:
            click.echo(f"{file}: isolation: {isolation.said}")
    for sentence in found:
        click.echo(sentence)
    if found:
        raise Failure(ExitCode.NOT_SUCCEEDED, f"{len(found)} to be looked at")
    click.echo("nothing is wrong that can be seen from here")


def _look_around(client: Client) -> None:
    wrong = 0
    for each in (*of_machine(state_folder()), *of_server(client)):
        click.echo(f"{'✗' if each.todo else '✓'} {escapes.plain(f'{each.what}: {each.said}')}")
        if each.todo:
            click.echo(f"  {escapes.plain(each.todo)}")
            wrong += 1
    if wrong:
        raise Failure(ExitCode.NOT_SUCCEEDED, f"{wrong} to be looked at")
    click.echo("nothing is wrong that can be seen from here")


def look_at(file: Path) -> list[str]:
    """Return what is wrong in one configuration, in sentences. Which service's it is, its name or its tables say."""
    try:
        config = _load(file)
        return list(_of_apiserver(config) if isinstance(config, ApiserverConfig) else _of_builder(config))
    except ConfigError as error:
        return [str(error).removeprefix(f"{file}: ")]
    except tomllib.TOMLDecodeError as error:
        return [f"it isn't TOML: {error}"]
    except OSError as error:
        return [f"{error.filename} can't be read: {error.strerror}"]


def isolation_of(file: Path) -> Isolation | None:
    """Return what isolates builds on this machine, for its user; None if the configuration isn't a builder's."""
    try:
        config = _load(file)
    except (ConfigError, tomllib.TOMLDecodeError, OSError):
        return None
    if isinstance(config, ApiserverConfig):
        return None
    return find_isolation(
        Wanted(
            kind=config.isolation.kind,
            path=config.steps_path,
            environment=config.environment,
            data=str(config.data),
            readable=[str(path) for path in config.isolation.readable],
        )
    )


def _load(file: Path) -> ApiserverConfig | BuilderConfig:
    """Read a configuration. Raises ConfigError, TOMLDecodeError, OSError."""
    if "apiserver" in file.name or _TABLES & tomllib.loads(file.read_text("utf-8")).keys():
        return load_apiserver(file)
    return load_builder(file)


def _of_builder(config: BuilderConfig) -> Iterator[str]:
    if config.apiserver_url and open_road(config.apiserver_url):
        yield (
            f"apiserver_url = {config.apiserver_url!r}: archives are uploaded by http, where others on the way can "
            "read and change them"
            + ("" if config.allow_plain_http else ", so builds with a static release are declined")
        )
    if config.allow_plain_http and not (config.apiserver_url and open_road(config.apiserver_url)):
        yield "allow_plain_http = true: archives may be uploaded by http, where others can read and change them"
    if config.link.key is None:
        yield "link.key: this builder has no key of its own (twistedipc builder add, on the apiserver's side)"
        return
    try:
        read_named_key(config.link.key)
    except BadKey as error:
        try:
            read_key(config.link.key)
        except BadKey:
            yield f"link.key: {error}"
        else:
            yield (
                "link.key: it is the shared key, which the next release won't take: give this builder its own "
                f"(twistedipc builder add {config.name}, on the apiserver's side)"
            )


def _of_apiserver(config: ApiserverConfig) -> Iterator[str]:
    if config.link.key is not None:
        yield (
            "link.key: the shared key is taken for this release only, and any program that has it can be a builder of "
            "any name that has no key of its own: twistedipc builder list names them"
        )
    elsewhere = [text for text in [*config.link.listen, *config.link.dial] if text.startswith("tls:")]
    if elsewhere and open_road(config.api_url):
        yield (
            f"http.public_url: builders elsewhere would upload to {config.api_url} by http, and decline builds with a "
            "static release unless they allow it (allow_plain_http): give it an https address"
        )
    try:
        box = SecretBox(config.secret_key) if config.secret_key.exists() else None
    except SecretUnreadable as error:
        yield str(error)
    else:
        if box is not None and box.is_being_replaced:
            yield f"{config.secret_key} holds an old key too: twistedipc secrets rotate goes on with that"
    if (config.artifacts / KEPT_SINCE).exists():
        note(
            f"{config.artifacts / KEPT_SINCE}: the database was restored from an older copy, so archives and logs are "
            "kept that it doesn't name. Delete this file when nobody wants to go back to the newer database"
        )
    if config.retention is None:
        note(
            "retention: nothing that builds leave is ever deleted, so the disk fills up one day: say under [retention] "
            "how long logs, archives and builds are kept (docs/operating.md has what twistedipc init writes)"
        )
    if config.api_url.startswith("https:") and not config.tls_endpoints and not config.http.trusted_proxies:
        yield (
            f"http.trusted_proxies: {config.api_url} is answered by a proxy, and none is named here, so all people "
            "seem to be one: wrong passwords of one guest shut out all others. Name it, and have it say who the "
            "client is (docs/operating.md has the lines)"
        )
    yield from _bucket(config)
    yield from _provider(config)
    yield from _endings(config)
    yield from _registry_tokens(config)
    yield from _issuer(config)
    yield from _lacking(config)
    yield from _shadows(config)
    yield from look_at_hosting(config)
    yield from _polls(config)


def _bucket(config: ApiserverConfig) -> Iterator[str]:
    """Say why S3 can't be used, if it is to be: an object is put there, and removed."""
    place = config.s3()
    if place is not None and place.endpoint and open_road(place.endpoint):
        yield f"stores.s3.endpoint: logs go to {place.endpoint} by http, where others on the way can read them"
    why = "" if place is None else why_unusable(Bucket(place))
    if why:
        yield f"stores.s3: {why}"


def _registry_tokens(config: ApiserverConfig) -> Iterator[str]:
    """Say which tokens for npm registries expire soon, as far as the registries say so."""
    try:
        box = SecretBox(config.secret_key) if config.secret_key.exists() else None
        rows = read_beside(config, _sealed_tokens) if box is not None else None
    except (Failure, SecretUnreadable):
        return  # what the ledger and the key say can't be seen: that was said
    if box is None or not rows:
        return
    npmrc = npm_settings(os.environ, path=os.environ.get("PATH", os.defpath))
    connection = HTTPConnection(npmrc or Npmrc({}), os.environ)
    for name, secret, registry, sealed in rows:
        try:
            token = box.open(sealed)
        except SecretUnreadable:
            continue
        yield from _registry_token(name, secret, Registry(registry, token, connection, asking=SECONDS))


def _sealed_tokens(connection: Connection) -> list[tuple[str, str, str, bytes]]:
    """The projects that have a token for a registry, the secret's name, which that is, and the token."""
    found = []
    for row in projects.list_all(connection, None):
        for settings in row.targets:
            target = TARGETS.of(settings)
            if not isinstance(settings, NpmSettings) or settings.paused:
                continue
            for secret in target.secrets_for(settings):
                address = target.secret_place(settings, secret.name)
                if secret.audience or not address:
                    continue
                try:
                    sealed = projects.sealed_secret(connection, row.name, secret.name)
                except NotPossible:
                    continue  # it was set for another registry, so it goes nowhere
                if sealed is not None:
                    found.append((row.name, secret.name, address, sealed))
    return found


def _registry_token(project: str, secret: str, client: Registry) -> Iterator[str]:
    facts = client.token_facts()
    if not isinstance(facts, TokenFacts):
        return
    now, ends = datetime.now(UTC), facts.ends
    if ends is not None and ends - now <= timedelta(days=WARNED_DAYS):
        when = "has expired" if ends <= now else "expires"
        yield (
            f"the {secret} of project {project} {when} on {local_time(ends)}, says {client.address}: make another one "
            f"there, and give it to the project (twistedipc project secret set {project} {secret})"
        )
    if facts.bypasses_otp:
        note(
            f"the {secret} of project {project} publishes without a one-time password: {client.address} may come to "
            "take only stages with such a token, which a person approves"
        )


def _issuer(config: ApiserverConfig) -> Iterator[str]:
    """Say why registries can't check what the apiserver says of builds, if a project publishes by that."""
    try:
        rows = read_beside(config, lambda connection: projects.list_all(connection, None)) or []
    except Failure:
        return  # what the ledger says can't be seen: that was said
    address = config.api_url
    by_word = [
        (row.name, TARGETS.why_no_word(settings, address))
        for row in rows
        for settings in TARGETS.active(row.targets)
        if any(secret.audience for secret in TARGETS.of(settings).secrets_for(settings))
    ]
    for name, why in by_word:
        if why:
            yield f"project {name} publishes by OIDC: {why}"
    if not any(not why for _name, why in by_word):
        return
    try:
        found = msgspec.json.decode(_fetched(discovery_url(address)), type=dict[str, object])
        if found.get("issuer") != address:
            yield f"the issuer at {discovery_url(address)} is {found.get('issuer')}, not {address}: see http.public_url"
    except (SignInFailed, msgspec.DecodeError) as error:
        yield (
            f"registries check what this apiserver says of builds by {discovery_url(address)}, and it can't be had "
            f"here ({error}): let it run, and the proxy before it pass /.well-known/ on"
        )


def _lacking(config: ApiserverConfig) -> Iterator[str]:
    """Say what is missing here for the apiserver to publish what it stores, as far as this command's variables show."""
    try:
        rows = read_beside(config, lambda connection: projects.list_all(connection, None)) or []
    except Failure:
        return  # what the ledger says can't be seen: that was said
    needing: dict[str, list[str]] = {}
    for row in rows:
        for settings in TARGETS.stored(row.targets):
            if lacking := TARGETS.of(settings).lacks(settings, os.environ):
                needing.setdefault(lacking, []).append(row.name)
    for lacking, names in needing.items():
        yield (
            f"the apiserver can't publish the packages of {', '.join(names)}, if its variables are those of this "
            f"command: {lacking}"
        )


def _shadows(config: ApiserverConfig) -> Iterator[str]:
    """Say which projects have the addresses of others' previews: older versions let projects have such names."""
    try:
        known = {row.name for row in read_beside(config, lambda connection: projects.list_all(connection, None)) or []}
    except Failure:
        return  # what the ledger says can't be seen: that was said
    for name in sorted(known):
        preview = labels.parse(name)
        if preview is not None and preview[1] in known:
            yield (
                f"project {name} has the address of a preview: the releases of the branch {preview[0]} of project "
                f"{preview[1]}, if it has one, can't be seen there. Add it by a name without --, and delete this one"
            )


def _polls(config: ApiserverConfig) -> Iterator[str]:
    """Say which repositories that are polled can't be looked at."""
    try:
        rows = read_beside(config, polls.in_trouble) or []
    except Failure:
        return  # what the ledger says can't be seen: that was said
    for row in rows:
        since = f"since {local_time(datetime.fromtimestamp(row.looked / 1000, UTC))}" if row.looked else "at all"
        yield f"the repository of project {row.project} couldn't be looked at {since}: {row.reason}"


def _provider(config: ApiserverConfig) -> Iterator[str]:
    """Say what is wrong with the provider that signs people in: its documents are fetched."""
    settings = config.provider()
    if settings is None:
        return
    if open_road(config.api_url):
        yield f"http.public_url: a provider sends browsers back to {config.api_url}, by http: give it an https address"
    try:
        discovery = discovery_of(_fetched(discovery_url(settings.issuer)), settings.issuer)
        if not keys_of(_fetched(discovery.jwks_uri)):
            known = ", ".join(ALGORITHMS)
            yield f"sign_in.oidc: {discovery.jwks_uri} has no key for {known}: no sign-in can be believed"
    except SignInFailed as error:
        yield f"sign_in.oidc: {error}"


def _fetched(url: str) -> bytes:
    """Return a document of a provider, as the apiserver would fetch it. Raises `SignInFailed`."""
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=SECONDS) as response:
            body: bytes = response.read(MAX_ANSWER + 1)
    except (OSError, http.client.HTTPException) as error:
        raise SignInFailed("unreachable", f"{url} can't be had: {error}") from error
    if len(body) > MAX_ANSWER:
        raise SignInFailed("unreachable", f"{url} answers with more than {MAX_ANSWER} bytes")
    return body


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, as the apiserver doesn't: it is an error with a status of its own."""

    def redirect_request(self, *details: object) -> None:
        """Urllib calls this with what a redirect says."""
        return


def _endings(config: ApiserverConfig) -> Iterator[str]:
    """Say which tokens and builders' keys expire soon, as far as the ledger can be read by this user."""
    now = milliseconds()
    try:
        found = read_beside(config, lambda connection: endings.before(connection, now + WARNED_DAYS * DAY, now))
    except Failure as error:
        note(f"whether tokens or builders' keys expire soon can't be seen: {error.message}")
        return
    for each in found or ():
        day = local_time(datetime.fromtimestamp(each.expires / 1000, UTC))
        ends = f"has expired on {day}" if each.expires <= now else f"expires on {day}"
        if each.kind == "key":
            yield f"the key {each.id} of builder {each.of} {ends}: twistedipc builder rotate {each.of} makes another"
        else:
            yield f"the token {each.id} ({each.of}) {ends}: make another one (twistedipc token create)"
