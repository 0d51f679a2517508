"""
How a database comes to have the schema of ``tables``: Alembic's revisions, run by the program itself when it opens
the ledger. Private to ``storage``.

A new revision is written by hand into ``versions/`` (a test compares what they make with ``tables``). There is no
way down: to go back is to restore a copy that was made before.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from twistedipc.storage.errors import SchemaTooNew


def upgrade(connection: Connection) -> None:
    """Bring the database up to the newest revision, in the transaction that has begun. Raises `SchemaTooNew`."""
    config = Config()
    # "%" is Alembic's own sign for what is to be put in.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    present = MigrationContext.configure(connection).get_current_heads()
    unknown = sorted(set(present) - known)
    if unknown:
        raise SchemaTooNew(
            f"the database was made by a later version of twistedipc (its schema is {', '.join(unknown)}); install "
            "that version, or restore a copy of the database from before"
        )
    if set(present) != set(script.get_heads()):
        command.upgrade(config, "head")
