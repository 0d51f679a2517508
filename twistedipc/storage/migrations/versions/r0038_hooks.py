"""
Hooks of repository hosts: secrets and settings, messages, and where refs were by them; builds that replace one another.

Revision 0038.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0037"


def _id() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the columns, and make the tables."""
    comment = "full name of the ref whose builds replace one another; null: a person asked"
    op.add_column("builds", sa.Column("lane", sa.Text(), comment=comment))
    in_turn: sa.Column[bool] = sa.Column(
        "in_turn",
        sa.Boolean(),
        nullable=False,
        server_default=sa.false(),
        comment="waits for those before it in its lane",
    )
    op.add_column("builds", in_turn)
    op.create_index("ix_builds_project_id_lane_id", "builds", ["project_id", "lane", "id"])
    op.create_table(
        "hooks",
        sa.Column("project_id", _id(), autoincrement=False, nullable=False),
        sa.Column("secret", sa.LargeBinary(), comment="sealed by secrets.SecretBox; null: it takes no messages"),
        sa.Column("changed", sa.BigInteger(), comment="when the secret was made; null: there is none"),
        sa.Column("settings", sa.Text(), nullable=False, comment="JSON: builds.hooks.settings.HookSettings"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_hooks_project_id")),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_hooks")),
    )
    op.create_table(
        "hook_deliveries",
        sa.Column("id", _id(), nullable=False),
        sa.Column("project_id", _id(), nullable=False),
        sa.Column(
            "delivery", sa.Text(), nullable=False, comment="the kind of the host, and the id that it gave its message"
        ),
        sa.Column(
            "event", sa.Text(), nullable=False, comment="JSON: builds.hooks.events.HookEvent, without changed paths"
        ),
        sa.Column("lane", sa.Text(), nullable=False, comment="the ref that it is about; empty: none"),
        sa.Column("before", sa.Text(), nullable=False, comment="where that was before; empty: not known"),
        sa.Column("number", sa.BigInteger(), nullable=False, comment="of the pull request; 0: none"),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False, comment="built, ignored, waits or gone"),
        sa.Column("reason", sa.Text(), nullable=False, comment="for people; may be empty"),
        sa.Column("build_id", _id(), comment="that it has made, or that there was for it; null: none"),
        sa.Column("decided_by", sa.Text(), comment="who allowed it, or had it done again; null: nobody"),
        sa.Column("decided", sa.BigInteger(), comment="when"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_hook_deliveries_project_id")),
        sa.ForeignKeyConstraint(["build_id"], ["builds.id"], name=op.f("fk_hook_deliveries_build_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hook_deliveries")),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_hook_deliveries_delivery", "hook_deliveries", ["project_id", "delivery"], unique=True)
    op.create_index("ix_hook_deliveries_project_id_id", "hook_deliveries", ["project_id", "id"])
    op.create_index("ix_hook_deliveries_project_id_lane_id", "hook_deliveries", ["project_id", "lane", "id"])
    op.create_table(
        "hook_refs",
        sa.Column("project_id", _id(), autoincrement=False, nullable=False),
        sa.Column("lane", sa.Text(), nullable=False, comment="the full name of a ref at the host"),
        sa.Column(
            "commit_id", sa.Text(), nullable=False, comment="where it was, by the newest message; empty: not known"
        ),
        sa.Column("gone", sa.Boolean(), nullable=False, comment="it was deleted"),
        sa.Column("build_id", _id(), comment="of that commit; null: none"),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_hook_refs_project_id")),
        sa.ForeignKeyConstraint(["build_id"], ["builds.id"], name=op.f("fk_hook_refs_build_id")),
        sa.PrimaryKeyConstraint("project_id", "lane", name=op.f("pk_hook_refs")),
    )
