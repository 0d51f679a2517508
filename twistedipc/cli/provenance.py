"""`twistedipc provenance`, `verify`: where releases and packages come from, and whether that is true."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from twistedipc.builds import provenance as form
from twistedipc.builds.provenance import Envelope, NotProvenance, Statement
from twistedipc.cli.access import with_client
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import json_option, print_json
from twistedipc.storage.signing import KeyUnusable, PublicKey
from twistedipc.terminal import escapes
from twistedipc.web.api.schemas import SigningKey, Statements

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
@click.argument("file", type=_file)
@click.option("--key", type=_file, metavar="FILE", help="The apiserver's public key (`twistedipc provenance --key`).")
@click.option("--artifact", type=_file, metavar="FILE", help="What it should be about: a package's archive, say.")
def verify(file: Path, key: Path | None, artifact: Path | None) -> None:
    """
    Check a statement about a release or a package, offline: a sentence for each check. Exit with 0 only if all hold,
    and 1 if one doesn't, or if it can't be told who has signed it, since no --key was given.
    """
    good = True
    for check in checks(file, key, artifact):
        good = good and check.good
        click.echo(escapes.plain(f"{'ok ' if check.good else 'NOT'}  {check.sentence}").replace("\n", " "))
    if not good:
        raise Failure(ExitCode.NOT_SUCCEEDED, f"{file} proves nothing")


def checks(file: Path, key: Path | None, artifact: Path | None) -> Iterator[_Check]:
    """Yield what was checked. After one that doesn't hold there may be no other."""
    try:
        public = None if key is None else PublicKey.read(key.read_bytes())
    except KeyUnusable as error:
        raise Failure(ExitCode.USAGE, f"{key}: {error}") from error
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
