"""
The audit says more about who does something, and can only be appended to.

Revision 0014. Of lines from before it isn't known what did it; those that aren't about tokens and sessions are about
the project that they name.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_TRIGGERS = {
    "sqlite": [
        f"CREATE TRIGGER audit_{name} BEFORE {event} ON audit {when}"
        "BEGIN SELECT RAISE(ABORT, 'the audit is only appended to'); END"
        for name, event, when in (
            ("no_update", "UPDATE", ""),
            ("no_delete", "DELETE", ""),
            ("no_replace", "INSERT", "WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id) "),
        )
    ],
    "postgresql": [
        "CREATE FUNCTION audit_is_only_appended_to() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit is only appended to'; END $$",
        "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON audit "
        "FOR EACH ROW EXECUTE FUNCTION audit_is_only_appended_to()",
        "CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_only_appended_to()",
    ],
}


def upgrade() -> None:
    """Add the columns and the index, fill in the projects, and make the triggers."""
    for column in (
        sa.Column("kind", sa.Text(), comment="rows.ActorKind: what who names; null: not known"),
        sa.Column("token", sa.BigInteger(), comment="the number of the token; null: none, or not known"),
        sa.Column("request", sa.Text(), comment="the id of the HTTP request; null: none, or not known"),
        sa.Column("project", sa.Text(), comment="the name of the project that it is about; null: none"),
    ):
        op.add_column("audit", column)
    audit = sa.table("audit", sa.column("action"), sa.column("subject"), sa.column("project"))
    of_projects = sa.not_(sa.or_(audit.c.action.startswith("token."), audit.c.action.startswith("session.")))
    op.execute(audit.update().where(of_projects).values(project=audit.c.subject))
    op.create_index(op.f("ix_audit_project_id"), "audit", ["project", "id"])
    for statement in _TRIGGERS[op.get_bind().dialect.name]:
        op.execute(statement)
