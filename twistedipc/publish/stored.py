"""
What the apiserver's process is told that publishes stored packages, and what it says. The process is
``runner.from_store``; the apiserver starts it.

It is told one `Job` on its standard input. On its standard output it says `Lines` of the log, numbered from 1, and at
its end `Delivered`: one JSON object a line.
"""

from __future__ import annotations

from typing import Any

import msgspec

from twistedipc.builds.attempt import Package, Published
from twistedipc.builds.logs import Lines
from twistedipc.publish.compared import Compared


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be published."""

    attempt: str
    build: int
    project: str
    target: str
    settings: dict[str, Any]  # the target's, as `publish.targets.registry` writes them
    packages: list[Package]  # in their order; of each, `file` is the name that it is to have
    tarballs: list[str]  # their files in the store, in the same order
    secrets: dict[str, str]  # all that the target needs, by name
    folder: str  # which the process makes, and removes
    compare: bool = False  # publish nothing: say what would change
    hidden: list[str] = []  # what the step that publishes can't see
    environment: dict[str, str] = {}  # variables for that step, PATH among them


class Delivered(msgspec.Struct, frozen=True, kw_only=True, tag="delivered", tag_field="type"):
    """The end: what is published, and why the rest isn't."""

    published: list[Published] = []
    compared: list[Compared] = []  # what would change, if that was asked
    reason: str = ""  # "": all is published, or compared


#: A line of what the process says.
Said = Lines | Delivered
