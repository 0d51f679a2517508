"""Alembic's entry point: it runs this file, with the connection that ``migrations.upgrade`` gave it."""

from __future__ import annotations

from alembic import context

from twistedipc.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite can't change a table: Alembic makes a new one and copies the rows
    transactional_ddl=True,  # on SQLite too: the ledger says BEGIN itself
)
with context.begin_transaction():
    context.run_migrations()
