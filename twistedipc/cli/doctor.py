"""`twistedipc doctor`: what is wrong, or won't be right for long, in a service's configuration, on its own machine."""

from __future__ import annotations

import http.client
import shutil
import tomllib
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from twistedipc.builds.isolation import Isolation
from twistedipc.builds.names import open_road
from twistedipc.builds.scopes import WARNED_DAYS
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.ledger import milliseconds, read_beside
from twistedipc.cli.output import local_time, note
from twistedipc.ipc import BadKey, read_key, read_named_key
from twistedipc.isolation.probe import Wanted, find_isolation
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.storage import endings, projects
from twistedipc.storage.secrets import SecretBox, SecretUnreadable
from twistedipc.taps.config import ApiserverConfig, BuilderConfig, ConfigError, load_apiserver, load_builder
from twistedipc.web.access.oidc import ALGORITHMS, SignInFailed, discovery_of, discovery_url, keys_of
from twistedipc.web.http.outgoing import MAX_ANSWER, SECONDS

#: The tables that only an apiserver's file has.
_TABLES = {"http", "releases", "viewers", "database"}

#: Milliseconds.
DAY = 86_400_000


@click.command()
@click.argument(
    "files", metavar="FILE…", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
def doctor(files: tuple[Path, ...]) -> None:
    """Look at apiserver.toml, builder.toml or both; say what is wrong. Ends with 1 if something is."""
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
    yield from _provider(config)
    yield from _endings(config)
    yield from _programs(config)


def _programs(config: ApiserverConfig) -> Iterator[str]:
    """Say which programs are missing here by which the apiserver is to publish what it has stored."""
    try:
        rows = read_beside(config, lambda connection: projects.list_all(connection, None)) or []
    except Failure:
        return  # what the ledger says can't be seen: that was said
    needing: dict[str, list[str]] = {}
    for row in rows:
        for settings in TARGETS.stored(row.targets):
            for program in TARGETS.of(settings).programs:
                if shutil.which(program) is None:
                    needing.setdefault(program, []).append(row.name)
    for program, names in needing.items():
        yield (
            f"the apiserver is to publish the packages of {', '.join(names)} (--publish-at apiserver), and there is "
            f"no {program} on this command's PATH: install it where the apiserver's PATH has it"
        )


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
