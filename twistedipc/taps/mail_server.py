"""By which server mail is sent, as the operator has set it up. For ``config``, which builders read too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Security = Literal["starttls", "tls", "none"]

#: The ports that go without saying.
PORTS: Final[dict[Security, int]] = {"starttls": 587, "tls": 465, "none": 25}


@dataclass(frozen=True, kw_only=True)
class MailServer:
    """A server for mail. ``user``: "" if it wants no sign-in."""

    host: str
    port: int
    security: Security
    user: str
    password: str
    sender: str
