"""
The schema of the first release. ``tables`` says what each table is for.

Revision 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False, comment="the token's name, or the node's"),
        sa.Column("action", sa.Text(), nullable=False, comment='e.g. "project.create"'),
        sa.Column("subject", sa.Text(), nullable=False, comment="what it was done to"),
        sa.Column("detail", sa.Text(), nullable=False, comment="JSON: name -> value; never a secret"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_audit_time"), "audit", ["time"], unique=False)
    op.create_table(
        "projects",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "name", sa.Text(), nullable=False, comment="one label of a host name; unique among those not deleted"
        ),
        sa.Column("repository", sa.Text(), nullable=False, comment="an address for git"),
        sa.Column("default_ref", sa.Text(), nullable=False, comment="what is built if a request names no ref"),
        sa.Column("publish", sa.Text(), nullable=False, comment="JSON: builds.attempt.Publish"),
        sa.Column("environment", sa.Text(), nullable=False, comment="JSON: variable -> value, for the steps"),
        sa.Column("timeout", sa.Float(), nullable=False, comment="seconds for an attempt"),
        sa.Column("idle_timeout", sa.Float(), nullable=False, comment="seconds without output"),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column(
            "deleted", sa.BigInteger(), nullable=True, comment="null: it exists; else since when it doesn't, for anyone"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_projects_live_name",
        "projects",
        ["name"],
        unique=True,
        sqlite_where=sa.text("deleted IS NULL"),
        postgresql_where=sa.text("deleted IS NULL"),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="whose or what for; shown as who asked for a build"),
        sa.Column("secret_sha256", sa.Text(), nullable=False, comment="hexadecimal; the secret itself is nowhere"),
        sa.Column("scopes", sa.Text(), nullable=False, comment="JSON: list of read, build, admin"),
        sa.Column("all_projects", sa.Boolean(), nullable=False, comment="else those in token_projects"),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=True, comment="null: never"),
        sa.Column("revoked", sa.BigInteger(), nullable=True, comment="null: it is good"),
        sa.Column("last_used", sa.BigInteger(), nullable=True, comment="to the minute"),
        sa.Column(
            "parent",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=True,
            comment="of a browser's session: the token it stands on",
        ),
        sa.ForeignKeyConstraint(["parent"], ["tokens.id"], name=op.f("fk_tokens_parent")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_tokens_secret_sha256")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_tokens_parent"), "tokens", ["parent"], unique=False)
    op.create_table(
        "builds",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False, comment="never given twice"
        ),
        sa.Column("project_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("publish", sa.Boolean(), nullable=False, comment="false: only build, whatever the project publishes"),
        sa.Column("parameters", sa.Text(), nullable=False, comment="JSON: variable -> value, for the steps"),
        sa.Column("requested_by", sa.Text(), nullable=False, comment="the token's name"),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False, comment="the newest attempt's number, from 1"),
        sa.Column(
            "state",
            sa.Text(),
            nullable=False,
            comment="the newest attempt's, repeated here so that listings have an index",
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_builds_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_builds")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_builds_project_id_id"), "builds", ["project_id", "id"], unique=False)
    op.create_index(op.f("ix_builds_project_id_state_id"), "builds", ["project_id", "state", "id"], unique=False)
    op.create_index(op.f("ix_builds_state_id"), "builds", ["state", "id"], unique=False)
    op.create_table(
        "secrets",
        sa.Column("project_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="one of projects.SECRET_NAMES"),
        sa.Column(
            "sealed", sa.LargeBinary(), nullable=False, comment="encrypted by secrets.SecretBox, whose key isn't here"
        ),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_secrets_project_id")),
        sa.PrimaryKeyConstraint("project_id", "name", name=op.f("pk_secrets")),
    )
    op.create_table(
        "token_projects",
        sa.Column("token_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("project", sa.Text(), nullable=False, comment="by name: a project may come after its token"),
        sa.ForeignKeyConstraint(
            ["token_id"], ["tokens.id"], name=op.f("fk_token_projects_token_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("token_id", "project", name=op.f("pk_token_projects")),
    )
    op.create_index(op.f("ix_token_projects_project"), "token_projects", ["project"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("build_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False, comment="from 1"),
        sa.Column("state", sa.Text(), nullable=False, comment="builds.states.AttemptState"),
        sa.Column("reason", sa.Text(), nullable=False, comment="for people: why it is so; may be empty"),
        sa.Column("requested_by", sa.Text(), nullable=False, comment="the token's name"),
        sa.Column("lease", sa.Text(), nullable=False, comment="names the grant to a builder; empty: none"),
        sa.Column("builder", sa.Text(), nullable=False, comment="the builder's name; empty: none"),
        sa.Column(
            "cancel_reason", sa.Text(), nullable=False, comment="not empty: it is to be cancelled, for this reason"
        ),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("offered", sa.BigInteger(), nullable=True),
        sa.Column("started", sa.BigInteger(), nullable=True, comment="by the builder's clock"),
        sa.Column("ended", sa.BigInteger(), nullable=True, comment="by the builder's clock, if a builder said so"),
        sa.Column("commit_id", sa.Text(), nullable=False, comment="full; empty: not known yet"),
        sa.Column("subject", sa.Text(), nullable=False, comment="the commit message's first line"),
        sa.Column("author", sa.Text(), nullable=False, comment="the commit's"),
        sa.Column(
            "next_record", sa.BigInteger(), nullable=False, comment="the number after the last record in log_chunks"
        ),
        sa.Column("log_bytes", sa.BigInteger(), nullable=False, comment="the sum of log_chunks.size"),
        sa.Column("lines", sa.BigInteger(), nullable=True, comment="from the end on: how many records the log has"),
        sa.Column(
            "sha256",
            sa.Text(),
            nullable=False,
            comment="from the end on: builds.logs.LogDigest of the log; empty: unknown",
        ),
        sa.Column("complete", sa.Boolean(), nullable=False, comment="the log was verified against lines and sha256"),
        sa.Column("published", sa.Text(), nullable=False, comment="JSON: list of builds.attempt.Published"),
        sa.ForeignKeyConstraint(["build_id"], ["builds.id"], name=op.f("fk_attempts_build_id")),
        sa.PrimaryKeyConstraint("build_id", "number", name=op.f("pk_attempts")),
    )
    op.create_index(op.f("ix_attempts_builder_state"), "attempts", ["builder", "state"], unique=False)
    op.create_index(
        op.f("ix_attempts_state_created_build_id"), "attempts", ["state", "created", "build_id"], unique=False
    )
    op.create_table(
        "idempotency",
        sa.Column("project_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("token_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="the Idempotency-Key"),
        sa.Column("body_sha256", sa.Text(), nullable=False),
        sa.Column(
            "build_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            comment="what the first request made",
        ),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["build_id"], ["builds.id"], name=op.f("fk_idempotency_build_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_idempotency_project_id")),
        sa.ForeignKeyConstraint(["token_id"], ["tokens.id"], name=op.f("fk_idempotency_token_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project_id", "token_id", "key", name=op.f("pk_idempotency")),
    )
    op.create_index(op.f("ix_idempotency_created"), "idempotency", ["created"], unique=False)
    op.create_table(
        "artifacts",
        sa.Column("build_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False, comment="bytes of the archive"),
        sa.Column("sha256", sa.Text(), nullable=False, comment="of the archive; its name in the artifact store"),
        sa.Column("complete", sa.Boolean(), nullable=False, comment="all of it is there, and verified"),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["build_id", "number"], ["attempts.build_id", "attempts.number"], name=op.f("fk_artifacts_build_id_number")
        ),
        sa.PrimaryKeyConstraint("build_id", "number", name=op.f("pk_artifacts")),
    )
    op.create_table(
        "log_chunks",
        sa.Column("build_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first_record", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("records", sa.Integer(), nullable=False, comment="how many, without holes"),
        sa.Column("size", sa.Integer(), nullable=False, comment="bytes of data"),
        sa.Column(
            "data",
            sa.LargeBinary(),
            nullable=False,
            comment="batches (builds.logs.Lines) as JSON, each ended by a newline",
        ),
        sa.ForeignKeyConstraint(
            ["build_id", "number"], ["attempts.build_id", "attempts.number"], name=op.f("fk_log_chunks_build_id_number")
        ),
        sa.PrimaryKeyConstraint("build_id", "number", "first_record", name=op.f("pk_log_chunks")),
    )
    op.create_table(
        "releases",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("project_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("build_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, comment="the attempt's"),
        sa.Column("sha256", sa.Text(), nullable=False, comment="of its archive"),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False, comment="bytes, unpacked"),
        sa.Column("commit_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="builds.states.ReleaseState"),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("activated", sa.BigInteger(), nullable=True, comment="when it last became live"),
        sa.ForeignKeyConstraint(
            ["build_id", "number"], ["attempts.build_id", "attempts.number"], name=op.f("fk_releases_build_id_number")
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_releases_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_releases")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_releases_project_id_id"), "releases", ["project_id", "id"], unique=False)
    op.create_index("uq_releases_attempt", "releases", ["build_id", "number"], unique=True)
    op.create_index(
        "uq_releases_live",
        "releases",
        ["project_id"],
        unique=True,
        sqlite_where=sa.text("state = 'live'"),
        postgresql_where=sa.text("state = 'live'"),
    )
    op.create_table(
        "steps",
        sa.Column("build_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False, comment="from 0, in order"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False, comment="as a person would type it; may be empty"),
        sa.Column("outcome", sa.Text(), nullable=False, comment="running, succeeded, failed, cancelled or timed_out"),
        sa.Column("started", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=False, comment="0 while it is running"),
        sa.Column("exit_code", sa.BigInteger(), nullable=True, comment="null: it never ran, or runs"),
        sa.ForeignKeyConstraint(
            ["build_id", "number"], ["attempts.build_id", "attempts.number"], name=op.f("fk_steps_build_id_number")
        ),
        sa.PrimaryKeyConstraint("build_id", "number", "step", name=op.f("pk_steps")),
    )
