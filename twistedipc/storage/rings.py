"""
What a transaction changes of which others may want to know: topics, and which one of each. Noted by the queries, and
collected by ``ledger``, which has it told when the transaction is committed. ``storage`` layer.

A ring carries no truth. It wakes somebody who then looks into the ledger; without it they look a little later.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol, TypeAlias

from sqlalchemy import Connection


class Topic(StrEnum):
    """What something has happened to."""

    QUEUE = "queue"  # an attempt may be offered
    BUILDER = "builder"  # a builder, by its name
    LOG = "log"  # the log of an attempt, by the attempt's name
    STATE = "state"  # an attempt, by its build's number
    DELIVERY = "delivery"  # there is something for an apiserver to publish, or to ask of a registry
    TOKEN = "token"  # a token, by its number
    PROJECT = "project"  # what is set of a project, by its name


#: By topic, to which of it something has happened; "": to any.
Rings: TypeAlias = dict[Topic, set[str]]

_KEY = "twistedipc rings"


class Ringing(Protocol):
    """Who tells others what has been committed."""

    def carry(self, connection: Connection, rings: Rings) -> None:
        """
        Say it in this transaction, which is about to be committed, if it can be said there. In the writer's thread.
        """

    def committed(self, rings: Rings) -> None:
        """It is committed. In the reactor's thread, when those who wrote know."""


def note(connection: Connection, topic: Topic, hint: str = "") -> None:
    """Note that the transaction changes something of a topic. Outside of a ledger's writes nothing comes of it."""
    rings: Rings | None = connection.info.get(_KEY)
    if rings is not None:
        rings.setdefault(topic, set()).add(hint)


def collect(connection: Connection, rings: Rings) -> None:
    """Have what is noted from now on put into ``rings``."""
    connection.info[_KEY] = rings


def add(rings: Rings, more: Rings) -> None:
    """Put what is in ``more`` into ``rings`` too."""
    for topic, hints in more.items():
        rings.setdefault(topic, set()).update(hints)
