"""What a case is, and the list of all. Used by the modules of cases, which add theirs, and by ``running``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from twistedipc.conform.meeting import Meeting

#: What is tried: the end of a link of any application's, a builder, an apiserver, or a server of plain lines.
Subject = Literal["link", "builder", "apiserver", "plain"]

#: Which end of the connection it must be for the case: the one that dials, or that listens.
End = Literal["any", "dials", "listens"]

LINKS: tuple[Subject, ...] = ("link", "builder", "apiserver")


@dataclass(frozen=True)
class Case:
    """
    One thing that the document says, tried.

    :param rule: the document's words, as they stand there
    :param seconds: how long it takes, if it waits; such cases are only tried when it is asked for
    """

    number: str
    name: str
    section: str
    rule: str
    subjects: tuple[Subject, ...]
    end: End
    seconds: float
    run: Callable[[Meeting], None]


CASES: list[Case] = []


def case(
    number: str,
    section: str,
    rule: str,
    *,
    of: tuple[Subject, ...] = LINKS,
    end: End = "any",
    seconds: float = 0.0,
) -> Callable[[Callable[[Meeting], None]], Callable[[Meeting], None]]:
    """Add a case: the function, whose name is the case's. It raises `Failed` or `NotTried`, or passes."""

    def add(function: Callable[[Meeting], None]) -> Callable[[Meeting], None]:
        name = function.__name__.replace("_", " ")
        CASES.append(Case(number, name, section, rule, of, end, seconds, function))
        return function

    return add
