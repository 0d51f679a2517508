"""
How values get into columns and out of them. Private to ``storage``.

Structures are stored as JSON text. Some values are a builder's word: a number that no database has room for, a
NUL or a lone surrogate in a text would make the same write fail for ever, so they are brought into range here.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from sqlalchemy import Row as SqlRow
from sqlalchemy import Table

from twistedipc.builds import names
from twistedipc.builds.environments import Environment
from twistedipc.builds.logs import Progress
from twistedipc.builds.origin import Origin
from twistedipc.builds.priorities import QueueRules
from twistedipc.builds.protection import patterns_of
from twistedipc.builds.retention import Own
from twistedipc.builds.settings import BuildSettings
from twistedipc.builds.states import BUILDER_DONE
from twistedipc.storage.rows import GistRow, Row, RunsOn
from twistedipc.storage.tables import said

_T = TypeVar("_T")
_R = TypeVar("_R", bound=Row)

#: Beyond any real count or time in milliseconds, within every database's integers and JavaScript's.
MAX_INTEGER = (1 << 53) - 1

MAX_TEXT = 4096


#: What `gist_row` takes from `tables.said`.
GIST = (said.c.progress, said.c.label, said.c.errors, said.c.warnings, said.c.notices)


def to_json(value: object) -> str:
    """Return the value as JSON text."""
    return msgspec.json.encode(value).decode()


def from_json(text: Any, kind: type[_T]) -> _T:
    """Return the ``kind`` that was stored as ``text``."""
    return msgspec.json.decode(text, type=kind)


def project_settings(text: Any) -> BuildSettings:
    """The settings in a project's column ``settings``; it is null in rows from before there was one."""
    return BuildSettings() if text is None else from_json(text, BuildSettings)


def protected_refs(project: Any) -> list[str]:
    """The patterns of a project's protected refs, of a row with its columns ``protected`` and ``default_ref``."""
    return patterns_of(
        None if project.protected is None else from_json(project.protected, list[str]), project.default_ref
    )


def environments_of(text: Any) -> list[Environment]:
    """A project's column ``environments``; null is none."""
    return [] if text is None else from_json(text, list[Environment])


def own_rules(text: Any) -> Own:
    """A project's column ``retention``; null is none of its own."""
    return Own() if text is None else from_json(text, Own)


def is_strangers(origin: Any) -> bool:
    """Whether a build with this column ``origin`` is of a stranger's pull request: it gets no secret, and no cache."""
    return origin is not None and from_json(origin, Origin).fork


def runs_on(text: Any) -> RunsOn:
    """A project's column ``runs_on``; null is any builder."""
    return RunsOn() if text is None else from_json(text, RunsOn)


def queue_rules(text: Any) -> QueueRules:
    """A project's column ``queue``; null is no rules."""
    return QueueRules() if text is None else from_json(text, QueueRules)


def integer(value: int) -> int:
    """``value``, or the nearest number that a column can hold; never negative."""
    return max(0, min(value, MAX_INTEGER))


def exit_code(value: int | None) -> int | None:
    """Return ``value`` if it can be an exit code at all, else None."""
    return value if value is not None and -(1 << 31) <= value < 1 << 31 else None


def text(value: str, limit: int = MAX_TEXT) -> str:
    """``value`` cut to ``limit`` characters, without what a database's text can't hold."""
    return value[:limit].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def gist_row(row: Any) -> GistRow:
    """
    The gist of an attempt, of a row of `tables.said` with the attempt's state. Its columns are null if that is
    nothing. How far it is is nothing to say of what has ended, however it ended.
    """
    if row.errors is None:
        return GistRow()
    over = row.progress is None or row.state in BUILDER_DONE
    return GistRow(
        progress=None if over else Progress(row.progress, row.label),
        errors=row.errors,
        warnings=row.warnings,
        notices=row.notices,
    )


def columns_of(kind: type[msgspec.Struct], *tables: Table) -> list[Any]:
    """
    The columns that a query needs for `row_as` this kind: for each field, the column of its name in the first of the
    tables that has one. Fields with another name in the tables are the caller's to select.
    """
    found = (next((table.c[name] for table in tables if name in table.c), None) for name in kind.__struct_fields__)
    return [column for column in found if column is not None]


def row_as(kind: type[_R], row: SqlRow[Any], **given: Any) -> _R:
    """The ``kind`` that a query's row holds: each field is the column of its name, unless it is given."""
    found = row._mapping
    return kind(**({name: found[name] for name in kind.__struct_fields__ if name in found} | given))


def split_attempt(name: str) -> tuple[int, int]:
    """The build and the number in an attempt's name. Raises `names.BadValue`."""
    build, _, number = names.attempt(name).partition("-")
    return int(build), int(number)


def attempt_name(build: int, number: int) -> str:
    """Return the attempt's name, "BUILD-N"."""
    return f"{build}-{number}"
