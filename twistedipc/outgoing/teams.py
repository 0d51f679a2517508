"""A message for Microsoft Teams: an adaptive card, as the webhooks of its Workflows take it. Pure."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from twistedipc.builds.states import Phase
from twistedipc.outgoing import text
from twistedipc.outgoing.exchange import Answer, Exchange, NotTold, Request, ask
from twistedipc.outgoing.told import At, Destination, Told

_COLOURS: Final[dict[Phase, str]] = {
    Phase.SUCCEEDED: "good",
    Phase.FAILED: "attention",
    Phase.TIMED_OUT: "attention",
    Phase.LOST: "attention",
    Phase.WAITING: "warning",
}

#: What an older connector says, with the status 200, if Teams itself was asked too often.
_TOO_OFTEN: Final = b"HTTP error 429"


def escaped(said: str) -> str:
    """Return text in which nothing has a meaning in the Markdown of cards: no link, no emphasis."""
    return re.sub(r"([\\\[\]()*_~`#<>])", r"\\\1", said)


def event(to: Destination, told: Told, at: At) -> Exchange:
    """Send the card."""
    head = {
        "type": "TextBlock",
        "text": escaped(text.headline(told)),
        "weight": "bolder",
        "wrap": True,
        "color": _COLOURS.get(told.phase, "default"),
    }
    body: list[object] = [head]
    if told.title:
        title = escaped(f"{told.commit[:12]} {text.line(told.title)}".strip())
        body.append({"type": "TextBlock", "text": title, "wrap": True, "isSubtle": True})
    if told.reason:
        body.append({"type": "TextBlock", "text": escaped(text.reason(told)), "wrap": True})
    actions = [{"type": "Action.OpenUrl", "title": f"Build {told.build}", "url": at.build}]
    if at.site:
        actions.insert(0, {"type": "Action.OpenUrl", "title": "Open the site", "url": at.site})
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
        "actions": actions,
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    answer = yield from ask(
        Request(
            method="POST",
            url=to.where,
            headers={"Content-Type": "application/json"},
            body=msgspec.json.encode({"type": "message", "attachments": [attachment]}),
        )
    )
    if _TOO_OFTEN in answer.body:
        raise NotTold(Answer(status=429, headers=answer.headers))
    return ""
