"""
A signed event for any program, after https://www.standardwebhooks.com: what it is signed with is in the headers
webhook-id, webhook-timestamp and webhook-signature. Pure.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final

import msgspec

from twistedipc.builds.names import BadValue
from twistedipc.outgoing import text
from twistedipc.outgoing.exchange import Exchange, Request, told_by
from twistedipc.outgoing.told import At, Destination, Told

#: What a secret begins with that is written in base64.
PREFIX: Final = "whsec_"


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a build. Fields may be added."""

    project: str
    build: int
    attempt: int
    state: str
    sentence: str
    reason: str
    ref: str
    commit: str
    title: str
    author: str
    requested_by: str
    pull_request: int
    environment: str
    started: int
    ended: int
    url: str
    site: str


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a request."""

    type: str  # "build.failed"
    timestamp: int  # when it happened, in milliseconds since the epoch
    data: Data


def new_secret(random: bytes) -> str:
    """Return a secret made of 24 or more unpredictable bytes."""
    return PREFIX + base64.b64encode(random).decode()


def key_of(secret: str) -> bytes:
    """Return the bytes with which is signed. Raises `BadValue`."""
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise BadValue(f"what comes after {PREFIX} in a secret is base64") from error


def signature(secret: str, delivery: str, timestamp: int, body: bytes) -> str:
    """Return the header webhook-signature: HMAC-SHA256 over "ID.TIMESTAMP.BODY"."""
    signed = f"{delivery}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key_of(secret), signed, "sha256")).decode()


def event(to: Destination, told: Told, at: At) -> Exchange:
    """Send the event. Told again, it has the same id."""
    body = msgspec.json.encode(
        Body(
            type=f"build.{told.event or told.phase}",
            timestamp=told.time,
            data=Data(
                project=told.project,
                build=told.build,
                attempt=told.attempt,
                state=told.phase,
                sentence=text.headline(told),
                reason=text.reason(told),
                ref=told.ref,
                commit=told.commit,
                title=told.title,
                author=told.author,
                requested_by=told.by,
                pull_request=told.number,
                environment=told.environment,
                started=told.started,
                ended=told.ended,
                url=at.build,
                site=at.site,
            ),
        )
    )
    headers = {
        "Content-Type": "application/json",
        "webhook-id": to.delivery,
        "webhook-timestamp": str(to.now),
        "webhook-signature": signature(to.secret, to.delivery, to.now, body),
    }
    return told_by(Request(method="POST", url=to.where, headers=headers, body=body))
