"""
Retention: what builds leave isn't kept for ever, if there are rules that say so.

Revision 0045. The indexes find what is old enough, however much is kept; and what refers to a row that is deleted.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0045"
down_revision = "0044"

_INDEXES = {
    "ix_builds_with_log": (["project_id", "has_log", "id"], "has_log = true"),
    "ix_builds_with_archive": (["project_id", "publish", "has_archive", "id"], "has_archive = true"),
    "ix_builds_not_lasting": (["project_id", "lasting", "id"], "lasting = false"),
    "ix_builds_succeeded": (["project_id", "ref", "id"], "state = 'succeeded'"),
}

_TRIGGERS = {
    "sqlite": [
        "DROP TRIGGER audit_no_delete",
        "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit "
        "WHEN OLD.time >= COALESCE((SELECT since FROM audit_kept WHERE id = 1), 0) "
        "BEGIN SELECT RAISE(ABORT, 'the audit is only appended to'); END",
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION audit_is_only_appended_to() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF TG_OP = 'DELETE' AND TG_LEVEL = 'ROW' THEN "
        "IF OLD.time < COALESCE((SELECT since FROM audit_kept WHERE id = 1), 0) THEN RETURN OLD; END IF; END IF; "
        "RAISE EXCEPTION 'the audit is only appended to'; END $$",
    ],
}


def upgrade() -> None:
    """Add the columns, the tables and the indexes, and let the database delete lines of the audit that are too old."""
    op.add_column(
        "projects",
        sa.Column("retention", sa.Text(), comment="null: as the apiserver's; else JSON: builds.retention.Own"),
    )
    for column in (
        sa.Column("pinned", sa.BigInteger(), comment="since when a person wants all of it kept; null: nobody does"),
        _flag("has_log", sa.true(), "it may have one, as far as is known"),
        _flag("has_archive", sa.true(), "likewise, in artifacts"),
        _flag("lasting", sa.false(), "it is known to have to stay for ever"),
    ):
        op.add_column("builds", column)
    removed = sa.Column("log_removed", sa.BigInteger(), comment="since when its log isn't kept any more; null: it is")
    op.add_column("attempts", removed)
    op.add_column("attempts", sa.Column("log_rule", sa.Text(), comment="by which rule of retention; null: by none"))
    for name, (columns, condition) in _INDEXES.items():
        op.create_index(name, "builds", columns, sqlite_where=sa.text(condition), postgresql_where=sa.text(condition))
    for table, name in (
        ("artifacts", "sha256"),
        ("hook_deliveries", "build_id"),
        ("hook_refs", "build_id"),
        ("idempotency", "build_id"),
        ("previews", "release_id"),
    ):
        op.create_index(op.f(f"ix_{table}_{name}"), table, [name])
    op.create_table(
        "removed_files",
        sa.Column(
            "sha256",
            sa.Text(),
            nullable=False,
            comment="of a file in the artifact store that no row may need any more",
        ),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_removed_files")),
    )
    op.create_table(
        "audit_kept",
        sa.Column(
            "id",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="1: there is one row at most",
        ),
        sa.Column(
            "since",
            sa.BigInteger(),
            nullable=False,
            comment="lines from before may be deleted, since they are too old",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_kept")),
    )
    for statement in _TRIGGERS[op.get_bind().dialect.name]:
        op.execute(statement)


def _flag(name: str, default: sa.sql.elements.ColumnElement[bool], comment: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False, server_default=default, comment=comment)
