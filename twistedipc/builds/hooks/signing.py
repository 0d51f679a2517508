"""
That a message comes from somebody who has a project's secret. ``builds.hooks``. All comparisons take the same time
whatever is right of what was sent.

One secret serves all kinds of hosts: ``whsec_`` and 32 random bytes in base64, which is the form that GitLab wants for
its signatures (and the Standard Webhooks, which it follows). GitHub, Gitea and Forgejo take its text as it is.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable

#: How a secret begins.
PREFIX = "whsec_"

#: Milliseconds by which the time of a message that is signed with a time may differ from ours.
TOLERANCE = 10 * 60 * 1000

#: The most signatures in a header (a sender that replaces its secret sends two).
_MOST = 8

#: Looks a header up by its name in small letters; "" if it isn't there.
Headers = Callable[[str], str]


def new_secret(random: Callable[[int], bytes]) -> str:
    """Return a new secret."""
    return PREFIX + base64.b64encode(random(32)).decode()


def by_body(header: str, body: bytes, secret: str) -> bool:
    """Return whether a signature (hexadecimal, perhaps with ``sha256=`` before it) is of this body."""
    right = hmac.digest(secret.encode(), body, "sha256").hex()
    return _same(header.removeprefix("sha256=").lower(), right)


def by_token(header: str, secret: str) -> bool:
    """Return whether the secret itself was sent."""
    return _same(header, secret)


def by_standard(header: Headers, body: bytes, secret: str, now: int) -> bool:
    """
    Return whether a message is signed as the Standard Webhooks say: ``webhook-signature`` has ``v1,`` and the HMAC in
    base64 of id, time and body, and the time is ours within `TOLERANCE`.

    :param now: milliseconds since the epoch
    """
    name, time = header("webhook-id"), header("webhook-timestamp")
    right = "v1," + base64.b64encode(_digest(name, time, body, secret)).decode()
    signed = [_same(each, right) for each in header("webhook-signature").split(" ")[:_MOST]]
    in_time = time.isascii() and time.isdigit() and len(time) < 16 and abs(int(time) * 1000 - now) <= TOLERANCE
    return any(signed) and in_time and bool(name)


def _digest(name: str, time: str, body: bytes, secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError:
        key = secret.encode()
    return hmac.digest(key, f"{name}.{time}.".encode() + body, "sha256")


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())
