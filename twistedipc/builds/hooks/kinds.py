"""
Which kind of host sends a request, by its headers; what proves it; and who reads it. To add a kind: a module with a
`read`, a member of `origin.Kind`, and a row here. ``builds.hooks``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs

import msgspec

from twistedipc.builds.hooks import gitea, github, gitlab, plain, signing
from twistedipc.builds.hooks.events import HookEvent
from twistedipc.builds.hooks.reading import BadPayload
from twistedipc.builds.hooks.signing import Headers
from twistedipc.builds.origin import Kind

#: The most characters of a host's id of a message. A longer one is replaced by the body's digest.
MAX_DELIVERY = 200

#: Tells whether a message is signed: its headers, its body, the secret, and the time in milliseconds since the epoch.
Verify = Callable[[Headers, bytes, str, int], bool]


@dataclass(frozen=True, kw_only=True)
class KindOfHost:
    """How one kind of host sends its messages."""

    kind: Kind
    label: str  # its name for people
    event: tuple[str, ...]  # the headers that have the event's name; the first one that is there tells the kind
    delivery: tuple[str, ...]  # those that have the message's id
    verify: Verify
    read: Callable[[str, bytes], HookEvent]


def _github(header: Headers, body: bytes, secret: str, now: int) -> bool:
    return signing.by_body(header("x-hub-signature-256"), body, secret)


def _gitea(header: Headers, body: bytes, secret: str, now: int) -> bool:
    return signing.by_body(header("x-forgejo-signature") or header("x-gitea-signature"), body, secret)


def _gitlab(header: Headers, body: bytes, secret: str, now: int) -> bool:
    # Where there is a signature, it must be right: the token beside it proves nothing of the body.
    if header("webhook-signature"):
        return signing.by_standard(header, body, secret, now)
    return signing.by_token(header("x-gitlab-token"), secret)


#: In the order in which they are looked for: Gitea and Forgejo send GitHub's headers too.
KINDS: tuple[KindOfHost, ...] = (
    KindOfHost(
        kind="gitea",
        label="Gitea or Forgejo",
        event=("x-forgejo-event", "x-gitea-event"),
        delivery=("x-forgejo-delivery", "x-gitea-delivery"),
        verify=_gitea,
        read=gitea.read,
    ),
    KindOfHost(
        kind="gitlab",
        label="GitLab",
        event=("x-gitlab-event",),
        delivery=("webhook-id", "idempotency-key", "x-gitlab-event-uuid"),
        verify=_gitlab,
        read=gitlab.read,
    ),
    KindOfHost(
        kind="github",
        label="GitHub",
        event=("x-github-event",),
        delivery=("x-github-delivery",),
        verify=_github,
        read=github.read,
    ),
    KindOfHost(
        kind="plain",
        label="a program",
        event=("webhook-id",),
        delivery=("webhook-id",),
        verify=signing.by_standard,
        read=plain.read,
    ),
)

#: What people call where something comes from.
LABELS: dict[Kind, str] = {**{each.kind: each.label for each in KINDS}, "poll": "polling"}


def kind_of(header: Headers) -> KindOfHost | None:
    """Return which kind of host sends a request; None if it can't be told."""
    return next((each for each in KINDS if any(header(name) for name in each.event)), None)


def read(host: KindOfHost, header: Headers, body: bytes) -> HookEvent:
    """Return what a request tells whose signature was right. Raises `BadPayload`."""
    name = _first(header, host.event)
    if header("content-type").partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
        body = _of_form(body)
    told = host.read(name, body)
    delivery = _first(header, host.delivery)
    if not (0 < len(delivery) <= MAX_DELIVERY and delivery.isascii() and delivery.isprintable()):
        # An older GitLab gives no id: sending the same once more gives the same digest.
        delivery = hashlib.sha256(body).hexdigest()
    return msgspec.structs.replace(told, delivery=delivery)


def _first(header: Headers, names: tuple[str, ...]) -> str:
    return next((value for name in names if (value := header(name))), "")


def _of_form(body: bytes) -> bytes:
    """Return the JSON in a form, which is how GitHub sends where nothing else is chosen."""
    try:
        (found,) = parse_qs(body.decode("ascii"), strict_parsing=True, max_num_fields=10)["payload"]
    except (KeyError, ValueError) as error:
        raise BadPayload("the form has no field payload") from error
    return found.encode("utf-8", "replace")
