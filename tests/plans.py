"""How a database goes about a query: whether what it reads is found by an index, on either kind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Engine, event

#: PostgreSQL reads a small table as a whole, whatever indexes it has. So it is told that this costs more than all else:
#: where it still does so, or sorts, no index serves.
_DEAR = ("SET LOCAL enable_seqscan = off", "SET LOCAL enable_sort = off", "SET LOCAL enable_bitmapscan = off")


@contextlib.contextmanager
def explained(source: Engine | Connection) -> Iterator[list[str]]:
    """
    Note the plans of all queries and changes of ``source`` meanwhile, a step each: ``SCAN builds``, ``SEARCH builds
    USING INDEX ix_builds_…``, ``SORT``, each with its statement behind it. On PostgreSQL ``source`` reads by one
    connection after another.
    """
    steps: list[str] = []

    def noted(conn: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH", "UPDATE", "DELETE")):
            of = _of_postgresql if conn.dialect.name == "postgresql" else _of_sqlite
            steps.extend(f"{step}  <- {statement}" for step in of(cursor, statement, parameters))

    event.listen(source, "before_cursor_execute", noted)
    try:
        yield steps
    finally:
        event.remove(source, "before_cursor_execute", noted)


def _of_sqlite(cursor: Any, statement: str, parameters: Any) -> list[str]:
    rows = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
    return ["SORT" if row[3].startswith("USE TEMP B-TREE") else row[3] for row in rows]


def _of_postgresql(cursor: Any, statement: str, parameters: Any) -> list[str]:
    with cursor.connection.cursor() as asking:
        asking.execute("SAVEPOINT explained")
        for setting in _DEAR:
            asking.execute(setting)
        asking.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
        ((found,),) = asking.fetchall()
        asking.execute("ROLLBACK TO SAVEPOINT explained")
    return list(_steps(found[0]["Plan"]))


def _steps(node: dict[str, Any]) -> Iterator[str]:
    kind = node["Node Type"]
    if kind == "Seq Scan":
        yield f"SCAN {node['Relation Name']}"
    elif kind in ("Index Scan", "Index Only Scan", "Bitmap Index Scan"):
        verb = "SEARCH" if "Index Cond" in node else "SCAN"
        index = "COVERING INDEX" if kind == "Index Only Scan" else "INDEX"
        condition = node.get("Index Cond", "")
        yield f"{verb} {node.get('Relation Name', '')} USING {index} {node['Index Name']} ({condition})"
    elif kind == "Sort":  # an incremental one sorts only what is alike by an index, such as the attempts of one build
        yield "SORT"
    for child in node.get("Plans", []):
        yield from _steps(child)
