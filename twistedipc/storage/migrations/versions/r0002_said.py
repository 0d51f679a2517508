"""
What builds say of themselves, kept beside their logs: for the logs that there are, it is read from them.

Revision 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from twistedipc.builds.gist import Gist
from twistedipc.builds.logs import Lines, batch_decoder, event_of

revision = "0002"
down_revision = "0001"

#: What a chunk has in it that has anything to do with this. In a line of output the quotes would be escaped.
_SAID = (b'{"type":"progress"', b'{"type":"annotation"', b'{"type":"summary"')
_STEPS = (b'{"type":"step_started"', b'{"type":"step_ended"')

#: Chunks that are read at once. A log may have as many as there were commits while it was written.
_AT_ONCE = 16


def upgrade() -> None:
    """Make the table and fill it."""
    said = op.create_table(
        "said",
        sa.Column("build_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("progress", sa.Float(), nullable=True, comment="of the step that runs, 0 to 1; null: none"),
        sa.Column("label", sa.Text(), nullable=False, comment="the progress's"),
        sa.Column(
            "errors", sa.BigInteger(), nullable=False, comment="how many annotations of this level are in log_chunks"
        ),
        sa.Column("warnings", sa.BigInteger(), nullable=False, comment="likewise"),
        sa.Column("notices", sa.BigInteger(), nullable=False, comment="likewise"),
        sa.Column("summary", sa.Text(), nullable=False, comment="the last one, Markdown; may be empty"),
        sa.ForeignKeyConstraint(
            ["build_id", "number"],
            ["attempts.build_id", "attempts.number"],
            name=op.f("fk_said_build_id_number"),
        ),
        sa.PrimaryKeyConstraint("build_id", "number", name=op.f("pk_said")),
    )
    connection = op.get_bind()
    attempts = connection.execute(sa.text("SELECT build_id, number FROM attempts ORDER BY build_id, number")).all()
    for build, number in attempts:
        gist = _gist(connection, build, number)
        if gist.says_something:
            progress = gist.progress or None
            connection.execute(
                sa.insert(said).values(
                    build_id=build,
                    number=number,
                    progress=None if progress is None else float(progress.value),
                    label="" if progress is None else progress.label.replace("\0", "\ufffd"),
                    errors=gist.errors,
                    warnings=gist.warnings,
                    notices=gist.notices,
                    summary=(gist.summary or "").replace("\0", "\ufffd"),
                )
            )


def _gist(connection: sa.Connection, build: int, number: int) -> Gist:
    """Of an attempt's whole log, some chunks at a time; only those with events in them are decoded."""
    gist = Gist()
    chunks = connection.execute(
        sa.text("SELECT data FROM log_chunks WHERE build_id = :build AND number = :number ORDER BY first_record"),
        {"build": build, "number": number},
        execution_options={"yield_per": _AT_ONCE},
    )
    for chunk in chunks:
        data = bytes(chunk.data)
        kinds = (*_SAID, *_STEPS) if gist.says_something else _SAID
        if not any(kind in data for kind in kinds):
            continue
        for message in data.splitlines():
            batch = batch_decoder.decode(message)
            if isinstance(batch, Lines):
                for record in batch.lines:
                    if (event := event_of(record)) is not None:
                        gist.add(event)
    return gist
