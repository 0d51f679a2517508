"""A message for SMTP. Pure: what a stranger has written can add no header and no receiver."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from twistedipc.outgoing import text
from twistedipc.outgoing.told import At, Told


def message(told: Told, at: At, *, sender: str, to: Sequence[str], delivery: str, now: int) -> bytes:
    """
    Return the message. Told again, it has the same Message-ID, so that a mailbox can tell.

    :param now: seconds since the epoch
    """
    mail = EmailMessage(policy=SMTP)
    mail["From"] = sender
    mail["To"] = ", ".join(to)
    mail["Subject"] = text.line(text.headline(told))
    mail["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
    mail["Message-ID"] = f"<{delivery}.twistedipc@{sender.rpartition('@')[2].strip('>')}>"
    mail["Auto-Submitted"] = "auto-generated"
    parts = [at.site, f"{text.headline(told)}.", at.build]
    if told.commit:
        parts.append(f"{told.commit[:12]} {text.line(told.title)} ({text.line(told.author)})")
    if told.reason:
        parts.append(text.reason(told))
    mail.set_content("\n\n".join(filter(None, parts)) + "\n")
    return mail.as_bytes()
