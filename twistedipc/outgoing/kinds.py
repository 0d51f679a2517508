"""All kinds of receivers: what each is told, and by what. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from twistedipc.outgoing import gitea, github, gitlab, slack, teams, webhook
from twistedipc.outgoing.exchange import Exchange
from twistedipc.outgoing.told import At, Destination, Part, Told

KindName = Literal["github", "gitlab", "gitea", "webhook", "slack", "teams", "mail"]

Telling = Callable[[Destination, Told, At], Exchange]


class Kind(NamedTuple):
    """
    A kind of receivers. ``host``: it is the project's repository's host, whose address follows from the repository's.
    ``quoted``: what it answers is shown to people.
    """

    parts: Mapping[Part, Telling | None]  # None: it isn't told by HTTP
    host: bool = False
    quoted: bool = False
    needs_secret: bool = False


KINDS: Final[Mapping[KindName, Kind]] = MappingProxyType(
    {
        "github": Kind(
            {"status": github.status, "deployment": github.deployment, "comment": github.comment, "tag": github.tag},
            host=True,
            quoted=True,
            needs_secret=True,
        ),
        "gitlab": Kind(
            {"status": gitlab.status, "deployment": gitlab.deployment, "comment": gitlab.comment, "tag": gitlab.tag},
            host=True,
            quoted=True,
            needs_secret=True,
        ),
        "gitea": Kind(
            {"status": gitea.status, "comment": gitea.comment, "tag": gitea.tag},
            host=True,
            quoted=True,
            needs_secret=True,
        ),
        "webhook": Kind({"event": webhook.event}),
        "slack": Kind({"event": slack.event}),
        "teams": Kind({"event": teams.event}),
        "mail": Kind({"event": None}),
    }
)
