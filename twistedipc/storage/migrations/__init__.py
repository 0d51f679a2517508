"""
How a database comes to have the schema of ``tables``: Alembic's revisions, run by the program itself when it opens
the ledger. Private to ``storage``.

Alembic runs ``env``. A new revision is written by hand into ``versions/`` (a test compares what they make with
``tables``). There is no way down: to go back is to restore a copy that was made before.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from twistedipc.storage.errors import SchemaTooNew

#: Of PostgreSQL's advisory locks, which are numbers that programs agree upon: the process that holds this one migrates.
_MIGRATING = 0x7477697374656469


def upgrade(connection: Connection) -> None:
    """
    Bring the database up to the newest revision, in the transaction that has begun. Of several programs that do this at
    once, one does it while the others wait. Raises `SchemaTooNew`.
    """
    if connection.dialect.name != "postgresql":
        _upgrade(connection)  # SQLite's BEGIN IMMEDIATE does what the lock does below
        return
    from twistedipc.storage.postgresql import without_hurry  # its driver is an extra

    with without_hurry(connection):
        # Two that create the same tables at once would both find them missing, and one would fail with a duplicate key
        # of the system's own tables. The lock ends with the transaction.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATING})
        _upgrade(connection)


def _upgrade(connection: Connection) -> None:
    if is_behind(connection):
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def is_behind(connection: Connection) -> bool:
    """Return whether there are newer revisions than the database has. Raises `SchemaTooNew`."""
    script = ScriptDirectory.from_config(_config())
    known = {revision.revision for revision in script.walk_revisions()}
    present = MigrationContext.configure(connection).get_current_heads()
    unknown = sorted(set(present) - known)
    if unknown:
        raise SchemaTooNew(
            f"the database was made by a later version of twistedipc (its schema is {', '.join(unknown)}); install "
            "that version, or restore a copy of the database from before"
        )
    return set(present) != set(script.get_heads())


def _config() -> Config:
    config = Config()
    # "%" is Alembic's own sign for what is to be put in.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
