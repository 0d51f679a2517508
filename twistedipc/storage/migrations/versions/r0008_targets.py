"""
Targets: a project has a list of them, each with settings of its own, and a permit is for one of them.

Revision 0008. What was a flag for each target becomes the settings of those that are in use.
"""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


class _Publish(msgspec.Struct):
    static: bool = False
    npm: bool = False
    registry: str = ""
    packages: list[str] = []

    def targets(self) -> list[dict[str, Any]]:
        """As later versions have it."""
        npm: dict[str, Any] = {"type": "npm"}
        if not self.npm:
            npm["paused"] = True
        if self.registry:
            npm["registry"] = self.registry
        if self.packages:
            npm["packages"] = self.packages
        static = [{"type": "static"}] if self.static else []
        return static + ([npm] if self.npm or len(npm) > 2 else [])


def upgrade() -> None:
    """Convert the projects and the permits."""
    connection = op.get_bind()
    op.execute("ALTER TABLE projects RENAME COLUMN publish TO targets")
    for project, publish in connection.execute(sa.text("SELECT id, targets FROM projects")).all():
        targets = msgspec.json.decode(publish, type=_Publish).targets()
        connection.execute(
            sa.text("UPDATE projects SET targets = :targets WHERE id = :project"),
            {"targets": msgspec.json.encode(targets).decode(), "project": project},
        )
    deliveries = op.create_table(
        "deliveries",
        sa.Column("build_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("target", sa.Text(), nullable=False, comment="the name of one to which it was offered to publish"),
        sa.Column("lease", sa.Text(), nullable=False, comment="the attempt's, when it was offered"),
        sa.Column("settings", sa.Text(), nullable=False, comment="JSON: what its project said of the target then"),
        sa.Column("bound_to", sa.Text(), nullable=True, comment="projects.binding_of that; null: not known"),
        sa.Column("package", sa.Text(), nullable=True, comment="JSON: builds.attempt.Package; null: no permit yet"),
        sa.Column("given", sa.BigInteger(), nullable=True, comment="when it got its permit"),
        sa.ForeignKeyConstraint(
            ["build_id", "number"],
            ["attempts.build_id", "attempts.number"],
            name=op.f("fk_deliveries_build_id_number"),
        ),
        sa.PrimaryKeyConstraint("build_id", "number", "target", name=op.f("pk_deliveries")),
    )
    for row in connection.execute(
        sa.text(
            "SELECT permits.build_id, permits.number, permits.lease, permits.registry, permits.package, permits.given,"
            " attempts.target FROM permits JOIN attempts"
            " ON attempts.build_id = permits.build_id AND attempts.number = permits.number"
        )
    ).all():
        settings = _Publish(npm=True, registry=row.registry).targets()[0]
        connection.execute(
            sa.insert(deliveries).values(
                build_id=row.build_id,
                number=row.number,
                target="npm",
                lease=row.lease,
                settings=msgspec.json.encode(settings).decode(),
                bound_to=row.target,
                package=row.package,
                given=row.given,
            )
        )
    op.drop_table("permits")
    op.execute("ALTER TABLE attempts DROP COLUMN target")
    if connection.dialect.supports_comments:
        for table, column, comment in (
            ("projects", "targets", "JSON: as publish.targets.registry writes the settings of them"),
            ("secrets", "name", "one of those that the targets have"),
            ("secrets", "bound_to", "projects.binding_of what it was set for: it is given out for nothing else"),
        ):
            op.execute(f"COMMENT ON COLUMN {table}.{column} IS '{comment}'")
