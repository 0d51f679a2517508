"""A message for Slack's incoming webhooks, and for what takes the same (Mattermost, Rocket.Chat). Pure."""

from __future__ import annotations

import msgspec

from twistedipc.outgoing import text
from twistedipc.outgoing.exchange import Exchange, Request, told_by
from twistedipc.outgoing.told import At, Destination, Told


def escaped(said: str) -> str:
    """Return text in which nothing has a meaning to Slack: no mention, no link."""
    return said.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def event(to: Destination, told: Told, at: At) -> Exchange:
    """Send the message."""
    head = escaped(text.headline(told))
    lines = [f"<{at.build}|{head.replace('|', '¦')}>"]
    if at.site:
        lines.insert(0, f"<{at.site}>")
    if told.title:
        lines.append(escaped(f"{told.commit[:12]} {text.line(told.title)}".strip()))
    blocks: list[object] = [{"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(lines)}}]
    if told.reason:
        why = {"type": "plain_text", "text": text.reason(told), "emoji": False}
        blocks.append({"type": "section", "text": why})
    body = msgspec.json.encode({"text": head, "blocks": blocks})
    headers = {"Content-Type": "application/json"}
    return told_by(Request(method="POST", url=to.where, headers=headers, body=body))
