"""`twistedipc provenance`, `verify`: where releases and packages come from, and whether that is true."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec

from twistedipc.builds import names
from twistedipc.builds import provenance as form
from twistedipc.builds.provenance import Envelope, NotProvenance, Statement
from twistedipc.cli.access import chosen_client, server_option, token_option, url_option, with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import json_option, print_json
from twistedipc.publish.targets.npm.registry import Kind
from twistedipc.publish.targets.target import CantDeliver
from twistedipc.storage.signing import KeyUnusable, PublicKey
from twistedipc.terminal import escapes
from twistedipc.web.api.schemas import PackageProvenance, PackageStatement, SigningKey, Statements

#: The most bytes of a package that is fetched.
MAX_FETCHED = 512 << 20

_VERSION = re.compile(r"(?P<name>@?[^@\s]+)@(?P<version>[0-9][0-9A-Za-z.+-]{0,255})")

_file = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command()
@with_client
@click.argument("build_id", metavar="[BUILD]", type=click.IntRange(min=1), required=False)
@click.option("--key", "wants_key", is_flag=True, help="Print the public key by which the apiserver signs, in PEM.")
@json_option
def provenance(client: Client, build_id: int | None, wants_key: bool, as_json: bool) -> None:
    """Print what the apiserver has signed about the releases and packages of BUILD: a DSSE envelope a line."""
    if wants_key == (build_id is not None):
        raise click.UsageError("say either a build or --key")
    answer = client.get(path("signing-key") if build_id is None else path("builds", build_id, "provenance"))
    if as_json:
        print_json(answer)
        return
    if build_id is None:
        click.echo(answer.decode(SigningKey).pem, nl=False)
        return
    found = answer.decode(Statements).statements
    for each in found:
        click.echo(msgspec.json.encode(each.envelope))
    if not found:
        raise Failure(ExitCode.NOT_FOUND, f"build {build_id} has made nothing about which there is a statement")


class _Check:
    """One thing that was looked at."""

    def __init__(self, good: bool, sentence: str) -> None:
        self.good = good
        self.sentence = sentence


@click.command()
@click.argument("what", metavar="FILE|NAME@VERSION")
@click.option("--key", type=_file, metavar="FILE", help="The apiserver's public key (`twistedipc provenance --key`).")
@click.option(
    "--artifact",
    "--file",
    type=_file,
    metavar="FILE",
    help="What it should be about: a package's archive, say; of NAME@VERSION, in place of what its registry has.",
)
@click.option("--registry", metavar="ADDRESS", help="Of NAME@VERSION, the registry (else where it was published).")
@url_option
@token_option
@server_option
def verify(what: str, key: Path | None, artifact: Path | None, registry: str | None, **access: str | None) -> None:
    """
    Check a statement about a release or a package, offline: a sentence for each check. Exit with 0 only if all hold,
    and 1 if one doesn't, or if it can't be told who has signed it, since no --key was given.

    With NAME@VERSION, ask the apiserver for its statements about this package, and compare the package that its
    registry has with them. Without --key, the key is the one that the apiserver gives.
    """
    file = Path(what)
    wanted = None if os.path.exists(what) else _VERSION.fullmatch(what)
    if wanted is not None and names.is_package(wanted["name"]):
        found = of_package(chosen_client(**access), wanted["name"], wanted["version"], key, artifact, registry)
    elif os.path.isfile(what):
        found = checks(file, key, artifact)
    else:
        raise click.UsageError(f"{what} is neither a file nor the version of a package, such as @acme/ui@1.4.0")
    good = True
    for check in found:
        good = good and check.good
        click.echo(escapes.plain(f"{'ok ' if check.good else 'NOT'}  {check.sentence}").replace("\n", " "))
    if not good:
        raise Failure(ExitCode.NOT_SUCCEEDED, f"{what} proves nothing" if wanted is None else f"{what} isn't proven")


def of_package(
    client: Client, name: str, version: str, key: Path | None, artifact: Path | None, registry: str | None
) -> Iterator[_Check]:
    """Yield what was checked of a version of a package."""
    try:
        answer = client.get(path("provenance"), {"package": name, "version": version})
    except Failure as error:
        if error.exit_code != ExitCode.NOT_FOUND:
            raise
        yield _Check(False, f"The apiserver at {client.url} has signed something about it: no, {error.message}.")
        return
    found = answer.decode(PackageProvenance).statements
    public = _public_key(key)
    if public is None:
        public = PublicKey.read(client.get(path("signing-key")).decode(SigningKey).pem.encode())
        yield _Check(True, f"The key {public.keyid} is the one that {client.url} gives; --key compares with yours.")
    with tempfile.TemporaryDirectory(prefix="twistedipc-verify-") as folder:
        if artifact is None:
            address = registry or next((each.registry for each in found if each.registry), "")
            artifact = Path(folder) / "package.tgz"
            fetched = _fetch(address, name, version, artifact)
            yield fetched
            if not fetched.good:
                return
        yield from _of_content(found, name, version, public, artifact)


def _fetch(address: str, name: str, version: str, place: Path) -> _Check:
    """Fetch a package from its registry, with the credentials that npm has for it here."""
    from twistedipc.publish.targets.npm.opening import Registries  # not above: most commands need no registry
    from twistedipc.publish.targets.npm.places import only

    own = os.environ.get("NPM_CONFIG_USERCONFIG") or str(Path.home() / ".npmrc")
    try:
        registry = Registries(only(address), None, os.environ, own).of(name)
    except CantDeliver as error:
        return _Check(False, f"Its registry is known: no, {error}.")
    said = registry.fetch(name, version, place, MAX_FETCHED)
    if said.kind is not Kind.DONE:
        return _Check(False, f"{registry.address} has {name}@{version}: no, {said.said}.")
    return _Check(True, f"{registry.address} has {name}@{version}, and it is what the registry's own hash says.")


def _of_content(
    found: Sequence[PackageStatement], name: str, version: str, key: PublicKey, artifact: Path
) -> Iterator[_Check]:
    """Yield the checks of the statements that are about this content; if there is none, those of the newest."""
    about: list[tuple[Envelope, bytes, Statement]] = []
    others = 0
    for each in found:
        try:
            payload = form.payload_of(each.envelope)
            statement = form.read_statement(payload)
        except NotProvenance as error:
            yield _Check(False, f"It is provenance: no, {error}.")
            continue
        purl = form.package_name("npm", name, version)
        if any(subject.name == purl for subject in statement.subject) and _about(statement, artifact).good:
            about.append((each.envelope, payload, statement))
        else:
            others += 1
    if not about:
        yield _Check(False, f"One of the {others} statements about it is about this content: no, it is another.")
    for envelope, payload, statement in about:
        yield _signature(envelope, payload, key)
        yield from _content(statement, artifact)
        yield _people(statement)
        if others:
            yield _Check(True, f"{others} other statements are about other contents of this version, and don't count.")


def _people(statement: Statement) -> _Check:
    """Return who asked for it and who approved it, as the signed statement says."""
    definition = statement.predicate.buildDefinition
    said = definition.internalParameters
    approved = said.get("approvedBy")
    by = f"{approved} has approved it" if approved else "nobody had to approve it"
    project = definition.externalParameters.get("project")
    return _Check(True, f"It is of attempt {said.get('attempt')} of {project}: {said.get('requestedBy')} has asked for "
                  f"it, and {by}. {statement.predicate.runDetails.metadata.invocationId}")  # fmt: skip


def _public_key(key: Path | None) -> PublicKey | None:
    try:
        return None if key is None else PublicKey.read(key.read_bytes())
    except KeyUnusable as error:
        raise Failure(ExitCode.USAGE, f"{key}: {error}") from error


def checks(file: Path, key: Path | None, artifact: Path | None) -> Iterator[_Check]:
    """Yield what was checked. After one that doesn't hold there may be no other."""
    public = _public_key(key)
    try:
        envelopes = form.read_envelopes(file.read_bytes())
        for each in envelopes:
            payload = form.payload_of(each)
            yield _signature(each, payload, public)
            yield from _content(form.read_statement(payload), artifact)
    except NotProvenance as error:
        yield _Check(False, f"It is provenance: no, {error}.")


def _signature(envelope: Envelope, payload: bytes, key: PublicKey | None) -> _Check:
    said = envelope.signatures[0].keyid if envelope.signatures else ""
    if key is None:
        return _Check(
            False,
            f"It can't be told who has signed it: it says the key {said[:64]}. Give the apiserver's key by --key, from "
            "`twistedipc provenance --key` or its file signing.pub.",
        )
    signed = form.signed_bytes(payload)
    if any(key.has_signed(signed, form.decoded(each.sig)) for each in envelope.signatures):
        return _Check(True, f"It is signed by the key {key.keyid}, and was not changed since.")
    return _Check(False, f"It isn't signed by the key {key.keyid}, or was changed since.")


def _content(statement: Statement, artifact: Path | None) -> Iterator[_Check]:
    definition, run = statement.predicate.buildDefinition, statement.predicate.runDetails
    if definition.buildType != form.BUILD_TYPE:
        yield _Check(False, f"It is about a build of this platform: no, one of the type {definition.buildType[:100]}.")
        return
    yield _Check(True, "It is an in-toto statement v1 with SLSA's provenance v1, about a build of this platform.")
    for subject in statement.subject:
        digests = ", ".join(f"{name}:{value}" for name, value in subject.digest.items())
        yield _Check(bool(subject.digest), f"It is about {subject.name}, {digests or 'without a digest'}.")
    sources = [each for each in definition.resolvedDependencies if each.digest.get("gitCommit")]
    if sources:
        yield _Check(True, f"It was built from {sources[0].uri}, commit {sources[0].digest['gitCommit']}.")
    else:
        yield _Check(False, "It says from which commit it was built: no.")
    yield _Check(bool(run.builder.id), f"It was built by {run.builder.id}, from {run.metadata.startedOn} on.")
    logs = [each for each in run.byproducts if each.name == "log" and each.digest.get("sha256")]
    complete = bool(logs) and logs[0].annotations.get("complete") is True
    said = f"sha256:{logs[0].digest['sha256']}" if logs else "none"
    yield _Check(complete, f"Its log was verified complete: {said}.")
    if artifact is not None:
        yield _about(statement, artifact)


def _about(statement: Statement, artifact: Path) -> _Check:
    """Whether a file is one of the subjects."""
    for subject in statement.subject:
        for algorithm in ("sha512", "sha384", "sha256", "sha1"):
            if algorithm in subject.digest:
                with artifact.open("rb") as opened:
                    found = hashlib.file_digest(opened, algorithm).hexdigest()
                if found == subject.digest[algorithm]:
                    return _Check(True, f"{artifact.name} is what it is about: its {algorithm} is the same.")
    return _Check(False, f"{artifact.name} isn't what it is about: its digest is another.")
