"""
The passwords by which people see previews who have no account. Functions for `Ledger.read` and `Ledger.write`;
``storage`` layer. Only their hashes are kept (``password_hashes``).
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from twistedipc.storage.columns import row_as
from twistedipc.storage.errors import NotFound
from twistedipc.storage.projects import live_id
from twistedipc.storage.rows import PreviewPasswordRow
from twistedipc.storage.tables import preview_passwords


def put(connection: Connection, project: str, hashed: str, now: int) -> None:
    """Have this password hold for a project's previews, in the place of an older one. Raises `NotFound`."""
    project_id = live_id(connection, project)
    if project_id is None:
        raise NotFound(f"there is no project {project}")
    remove(connection, project)
    connection.execute(insert(preview_passwords).values(project_id=project_id, hash=hashed, changed=now))


def remove(connection: Connection, project: str) -> bool:
    """Have no password hold for a project's previews. Return False if there was none."""
    which = preview_passwords.c.project_id == live_id(connection, project)
    return connection.execute(delete(preview_passwords).where(which)).rowcount > 0


def get(connection: Connection, project: str) -> PreviewPasswordRow | None:
    """Return the password that holds for a project's previews."""
    which = preview_passwords.c.project_id == live_id(connection, project)
    row = connection.execute(select(preview_passwords).where(which)).first()
    return None if row is None else row_as(PreviewPasswordRow, row)
