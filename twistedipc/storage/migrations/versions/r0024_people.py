"""
People: accounts, the projects that they are members of, and whose tokens and sessions are.

Revision 0024. The tokens that there are belong to no person, and go on working by their own scopes. That a token's
person is in ``people`` isn't a constraint, since SQLite would have to copy the table for it; people are never removed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"

# As in `tables`: SQLite gives numbers by itself only to a column that is exactly INTEGER.
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the tables and the columns, and say of each token whether it is a session."""
    _add_people()
    _add_what_belongs_to_them()
    op.add_column("tokens", sa.Column("person", sa.BigInteger(), comment="whose it is; null: no person's"))
    op.create_index(op.f("ix_tokens_person"), "tokens", ["person"])
    op.add_column(
        "tokens",
        sa.Column("session", sa.Boolean(), nullable=False, server_default=sa.false(), comment="a browser's"),
    )
    op.execute(sa.text("UPDATE tokens SET session = true WHERE parent IS NOT NULL"))
    op.drop_index("uq_tokens_name", "tokens")
    good = sa.text("revoked IS NULL AND NOT session")
    op.create_index("uq_tokens_name", "tokens", ["name"], unique=True, sqlite_where=good, postgresql_where=good)
    comment = "the number of the person who asked for it; null: none, or not known"
    op.add_column("attempts", sa.Column("asker_person", sa.BigInteger(), comment=comment))
    comment = "the number of the person whose token it was; null: none, or not known"
    op.add_column("audit", sa.Column("person", sa.BigInteger(), comment=comment))
    op.add_column("audit", sa.Column("person_name", sa.Text(), comment="the person's name then; null likewise"))


def _add_people() -> None:
    op.create_table(
        "people",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="as others read it; never given to another"),
        sa.Column("email", sa.Text(), comment="verified: by an admin, or by who signs people in; null: not known"),
        sa.Column("role", sa.Text(), nullable=False, comment="builds.roles.PlatformRole, as an admin has said"),
        sa.Column(
            "group_role", sa.Text(), comment="likewise, by the groups of their last sign-in; null: these say nothing"
        ),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("joined", sa.BigInteger(), comment="when they signed in first; null: never yet"),
        sa.Column("disabled", sa.BigInteger(), comment="null: active; else since when they may nothing"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_people")),
        sa.UniqueConstraint("name", name=op.f("uq_people_name")),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_people_email", "people", ["email"], unique=True)


def _add_what_belongs_to_them() -> None:
    op.create_table(
        "invitations",
        sa.Column("person_id", _ID, nullable=False, comment="whose first sign-in it is good for"),
        sa.Column("secret_sha256", sa.Text(), nullable=False, comment="hexadecimal; the code itself is nowhere"),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_invitations_person_id")),
        sa.PrimaryKeyConstraint("person_id", name=op.f("pk_invitations")),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_invitations_secret_sha256")),
    )
    op.create_table(
        "identities",
        sa.Column("issuer", sa.Text(), nullable=False, comment="of OpenID Connect"),
        sa.Column("subject", sa.Text(), nullable=False, comment="who it is there, for ever"),
        sa.Column("person_id", _ID, nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_identities_person_id")),
        sa.PrimaryKeyConstraint("issuer", "subject", name=op.f("pk_identities")),
    )
    op.create_index(op.f("ix_identities_person_id"), "identities", ["person_id"])
    op.create_table(
        "members",
        sa.Column("project_id", _ID, nullable=False),
        sa.Column("person_id", _ID, nullable=False),
        sa.Column(
            "source", sa.Text(), nullable=False, comment='"added" by name; "groups": by those of their last sign-in'
        ),
        sa.Column("role", sa.Text(), nullable=False, comment="builds.roles.Role"),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_members_project_id")),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_members_person_id")),
        sa.PrimaryKeyConstraint("project_id", "person_id", "source", name=op.f("pk_members")),
    )
    op.create_index(op.f("ix_members_person_id"), "members", ["person_id"])
