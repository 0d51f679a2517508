"""
Where something that was built comes from: an in-toto statement (v1) with SLSA's provenance (v1), in a DSSE envelope.
Pure: what is signed and how it is read; ``storage.signing`` has the key.

https://in-toto.io/Statement/v1, https://slsa.dev/provenance/v1, and DSSE's protocol (secure-systems-lab/dsse).
"""

from __future__ import annotations

import base64
import re
from typing import Any

import msgspec

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
PAYLOAD = "application/vnd.in-toto+json"

#: What a build of this platform is, and which parameters it has: docs/provenance.md.
BUILD_TYPE = "urn:twistedipc:build:v1"


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What a statement is about."""

    name: str
    digest: dict[str, str]  # algorithm -> hexadecimal digits


class Resource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that went into a build, or came out of it beside the subjects (in-toto's ResourceDescriptor)."""

    name: str = ""
    uri: str = ""
    digest: dict[str, str] = {}
    annotations: dict[str, Any] = {}


class BuildDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """What was to be built, from what."""

    buildType: str
    externalParameters: dict[str, Any]
    internalParameters: dict[str, Any]
    resolvedDependencies: list[Resource]


class Builder(msgspec.Struct, frozen=True, kw_only=True):
    """Who has built it."""

    id: str
    version: dict[str, str] = {}


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """Which build it was, and when."""

    invocationId: str
    startedOn: str
    finishedOn: str


class RunDetails(msgspec.Struct, frozen=True, kw_only=True):
    """How it was built."""

    builder: Builder
    metadata: Metadata
    byproducts: list[Resource]


class Predicate(msgspec.Struct, frozen=True, kw_only=True):
    """SLSA's provenance."""

    buildDefinition: BuildDefinition
    runDetails: RunDetails


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A statement. Fields that aren't known are ignored."""

    type: str = msgspec.field(name="_type")
    subject: list[Subject]
    predicateType: str
    predicate: Predicate


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """A signature of an envelope."""

    sig: str  # base64
    keyid: str = ""


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A DSSE envelope."""

    payload: str  # base64
    payloadType: str
    signatures: list[Signature]


class NotProvenance(ValueError):
    """A file isn't what it should be. ``str()`` of it is a sentence."""


def signed_bytes(payload: bytes) -> bytes:
    """Return what is signed of a payload: DSSE's pre-authentication encoding."""
    kind = PAYLOAD.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def envelope(payload: bytes, keyid: str, signature: bytes) -> Envelope:
    """Return a payload and its signature as one."""
    return Envelope(
        payload=base64.b64encode(payload).decode(),
        payloadType=PAYLOAD,
        signatures=[Signature(sig=base64.b64encode(signature).decode(), keyid=keyid)],
    )


def read_envelopes(data: bytes) -> list[Envelope]:
    """Return the envelopes of a file: one, or one a line. Raises `NotProvenance`."""
    try:
        try:
            return [msgspec.json.decode(data, type=Envelope)]
        except msgspec.DecodeError:
            lines = [line for line in data.splitlines() if line.strip()]
            if len(lines) < 2:
                raise
            return [msgspec.json.decode(line, type=Envelope) for line in lines]
    except (msgspec.DecodeError, RecursionError) as error:
        raise NotProvenance(f"it is no DSSE envelope: {error}") from error


def payload_of(found: Envelope) -> bytes:
    """Return the bytes that an envelope's signatures are for. Raises `NotProvenance`."""
    if found.payloadType != PAYLOAD:
        raise NotProvenance(f"what is in it is {found.payloadType[:100]}, not an in-toto statement")
    return decoded(found.payload)


def decoded(text: str) -> bytes:
    """Return what is encoded in base64. Raises `NotProvenance`."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise NotProvenance("something in it isn't base64") from error


def read_statement(payload: bytes) -> Statement:
    """Return the statement. Raises `NotProvenance`."""
    try:
        statement = msgspec.json.decode(payload, type=Statement)
    except (msgspec.DecodeError, RecursionError) as error:
        raise NotProvenance(f"what is signed isn't a statement of provenance: {error}") from error
    if statement.type != STATEMENT or statement.predicateType != PREDICATE:
        raise NotProvenance(f"what is signed is a {statement.predicateType[:100]}, not SLSA's provenance v1")
    return statement


def digest_of_integrity(integrity: str) -> dict[str, str]:
    """Return a package's integrity (``sha512-BASE64``, of several the strongest) as a digest; {} if it isn't one."""
    for algorithm in ("sha512", "sha384", "sha256", "sha1"):
        for part in integrity.split():
            match = re.fullmatch(rf"{algorithm}-([A-Za-z0-9+/]+={{0,2}})(?:\?.*)?", part)
            if match is not None:
                try:
                    return {algorithm: base64.b64decode(match[1], validate=True).hex()}
                except ValueError:
                    continue
    return {}


def package_name(target: str, name: str, version: str) -> str:
    """Return a package's name as a purl, if its kind has one."""
    scope, _, plain = name.rpartition("/")
    kind = f"pkg:{target}/"
    return f"{kind}{scope.replace('@', '%40')}/{plain}@{version}" if scope else f"{kind}{plain}@{version}"
